//! What may break FTP, and a finding that one of these does.

use serde::Serialize;

use crate::{model::cause::Cause, probe::seen::Mode};

/// What breaks FTP here: the six classic causes, in their order, and what else may be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The NAT does not translate the data port.
    NatNotTranslating,
    /// A firewall blocks the data port.
    FirewallBlocks,
    /// The server announces a wrong or inner address.
    AnnouncedAddress,
    /// The range of passive ports is too small, or only a part of it is open.
    PassiveRange,
    /// The client's own side blocks it.
    ClientSide,
    /// Two NATs, or a 1:1 address, or different addresses for control and data.
    DoubleNat,
    /// Something in between speaks FTP itself, or pretends to.
    Intercepted,
    /// TLS on the data connection.
    Tls,
    /// The server itself.
    Server,
}

impl Fault {
    /// Which of the six it is.
    #[must_use]
    pub fn cause(self) -> Option<Cause> {
        Some(match self {
            Self::NatNotTranslating => Cause::Nat,
            Self::FirewallBlocks => Cause::Firewall,
            Self::AnnouncedAddress => Cause::Address,
            Self::PassiveRange => Cause::Ports,
            Self::ClientSide => Cause::Client,
            Self::DoubleNat => Cause::DoubleNat,
            Self::Intercepted | Self::Tls | Self::Server => return None,
        })
    }

    /// Its number among the six.
    #[must_use]
    pub fn number(self) -> Option<u8> {
        self.cause().map(Cause::number)
    }

    /// It, in words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match (self.cause(), self) {
            (Some(cause), _) => cause.text(),
            (None, Self::Intercepted) => "something in between interferes with the conversation",
            (None, Self::Tls) => "TLS on the data connection does not come about",
            (None, _) => "the server itself does not serve",
        }
    }
}

/// How sure that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// Nothing else explains what was seen.
    Certain,
    /// It is the usual reason for what was seen.
    Likely,
    /// It cannot be ruled out.
    Possible,
}

impl Certainty {
    /// It, in words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Certain => "certain",
            Self::Likely => "likely",
            Self::Possible => "possible",
        }
    }
}

/// Whose side has to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The server's.
    Server,
    /// This machine's.
    Client,
}

/// A cause, and what speaks for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// What breaks it.
    pub cause: Fault,
    /// How sure that is.
    pub certainty: Certainty,
    /// Whose side has to do something.
    pub side: Side,
    /// The modes that it breaks.
    pub modes: Vec<Mode>,
    /// What speaks for it.
    pub evidence: Vec<String>,
}

/// All findings, with the mode that is being looked at.
#[derive(Debug, Default)]
pub(super) struct Findings(pub(super) Vec<Finding>);

impl Findings {
    pub(super) fn add(
        &mut self,
        mode: Mode,
        cause: Fault,
        certainty: Certainty,
        side: Side,
        evidence: impl Into<String>,
    ) {
        let evidence = evidence.into();
        let same = |found: &&mut Finding| found.cause == cause && found.side == side;
        if let Some(found) = self.0.iter_mut().find(same) {
            found.certainty = found.certainty.min(certainty);
            if !found.modes.contains(&mode) {
                found.modes.push(mode);
            }
            if !found.evidence.contains(&evidence) {
                found.evidence.push(evidence);
            }
            return;
        }
        self.0.push(Finding {
            cause,
            certainty,
            side,
            modes: vec![mode],
            evidence: vec![evidence],
        });
    }
}
