//! From what was seen to what is wrong: no network here, only conclusions.

mod active;
mod address;
mod passive;
mod port;

use serde::Serialize;

use super::seen::{Mode, Seen, Verdict};

/// What breaks FTP. The first six are the classic ones, with their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// 1: the NAT does not translate the data port.
    NatNotTranslating,
    /// 2: a firewall blocks the data port.
    FirewallBlocks,
    /// 3: the server announces a wrong or inner address.
    AnnouncedAddress,
    /// 4: the range of passive ports is too small, or only a part of it is open.
    PassiveRange,
    /// 5: the client's own side blocks it.
    ClientSide,
    /// 6: two NATs, or a 1:1 address, or different addresses for control and data.
    DoubleNat,
    /// Something in between speaks FTP itself, or pretends to.
    Intercepted,
    /// TLS on the data connection.
    Tls,
    /// The server itself.
    Server,
}

impl Cause {
    /// Its number among the six.
    #[must_use]
    pub fn number(self) -> Option<u8> {
        match self {
            Self::NatNotTranslating => Some(1),
            Self::FirewallBlocks => Some(2),
            Self::AnnouncedAddress => Some(3),
            Self::PassiveRange => Some(4),
            Self::ClientSide => Some(5),
            Self::DoubleNat => Some(6),
            Self::Intercepted | Self::Tls | Self::Server => None,
        }
    }

    /// It, in words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::NatNotTranslating => "a NAT does not translate the data connection's port",
            Self::FirewallBlocks => "a firewall blocks the data connection's port",
            Self::AnnouncedAddress => "the server announces a wrong or inner address",
            Self::PassiveRange => "the passive port range is used up, or only a part of it is open",
            Self::ClientSide => "this client's own side blocks the data connection",
            Self::DoubleNat => "double NAT, or a 1:1 address: an outer address is missing",
            Self::Intercepted => "something in between interferes with the FTP conversation",
            Self::Tls => "TLS on the data connection does not come about",
            Self::Server => "the server itself does not serve",
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
    pub cause: Cause,
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
struct Findings(Vec<Finding>);

impl Findings {
    fn add(
        &mut self,
        mode: Mode,
        cause: Cause,
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

/// What is wrong, the surest first; nothing when all that was tried works.
#[must_use]
pub fn diagnose(seen: &Seen) -> Vec<Finding> {
    let mut findings = Findings::default();
    for attempt in &seen.modes {
        match attempt.verdict {
            Verdict::Broken if attempt.mode.is_passive() => {
                passive::diagnose(seen, attempt, &mut findings);
            }
            Verdict::Broken => active::diagnose(seen, attempt, &mut findings),
            Verdict::NotOffered => {
                let verb = attempt.mode.verb();
                if seen.server.offers(verb) == Some(true) {
                    findings.add(
                        attempt.mode,
                        Cause::Intercepted,
                        Certainty::Likely,
                        Side::Server,
                        format!(
                            "the server lists {verb} among its features, but {verb} is answered \
                             as unknown: something in between refuses it"
                        ),
                    );
                }
            }
            Verdict::Works | Verdict::NotTried => {}
        }
    }
    if seen.server.is_proxy && !findings.0.is_empty() {
        let mode = findings.0[0].modes[0];
        findings.add(
            mode,
            Cause::Intercepted,
            Certainty::Possible,
            Side::Server,
            format!(
                "the greeting is a proxy's or a firewall's: {:?}",
                seen.server.greeting
            ),
        );
    }
    findings
        .0
        .sort_by_key(|finding| (finding.certainty, finding.cause));
    findings.0
}

#[cfg(test)]
mod tests;
