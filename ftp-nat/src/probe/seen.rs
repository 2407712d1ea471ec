//! What was seen: facts only, from which [`super::diagnosis`] concludes.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::{dial::Dial, path::Path, server::Server};
use crate::model::address::{is_private, is_shared};

/// How a data connection comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Mode {
    /// The client connects where a 227 says.
    Pasv,
    /// The client connects to the port that a 229 says.
    Epsv,
    /// The server connects where PORT says.
    Port,
    /// The server connects where EPRT says.
    Eprt,
}

impl Mode {
    /// The command.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::Pasv => "PASV",
            Self::Epsv => "EPSV",
            Self::Port => "PORT",
            Self::Eprt => "EPRT",
        }
    }

    /// Whether the client connects.
    #[must_use]
    pub fn is_passive(self) -> bool {
        matches!(self, Self::Pasv | Self::Epsv)
    }
}

/// How a session is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Encryption {
    /// Not at all.
    #[default]
    None,
    /// By AUTH TLS.
    Explicit,
    /// From the first byte on.
    Implicit,
}

/// An announced address beside the one that was dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// The same.
    Same,
    /// 0.0.0.0, or ::.
    Zero,
    /// This machine's own loopback.
    Loopback,
    /// Of one link only.
    LinkLocal,
    /// Private (RFC 1918, RFC 4193), and the one dialled is not.
    Private,
    /// A provider's inner address (RFC 6598), and the one dialled is not.
    Shared,
    /// Of many: multicast or broadcast.
    Multicast,
    /// Just another one.
    Other,
}

impl Relation {
    /// What `announced` is to who dialled `dialled`.
    #[must_use]
    pub fn of(announced: IpAddr, dialled: IpAddr) -> Self {
        let (announced, dialled) = (announced.to_canonical(), dialled.to_canonical());
        if announced == dialled {
            return Self::Same;
        }
        match announced {
            _ if announced.is_unspecified() => Self::Zero,
            _ if announced.is_loopback() => Self::Loopback,
            _ if announced.is_multicast() => Self::Multicast,
            IpAddr::V4(v4) if v4.is_broadcast() => Self::Multicast,
            IpAddr::V4(v4) if v4.is_link_local() => Self::LinkLocal,
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Self::LinkLocal,
            _ if is_shared(announced) && !is_shared(dialled) => Self::Shared,
            _ if is_private(announced) && !is_private(dialled) => Self::Private,
            _ => Self::Other,
        }
    }

    /// In words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Same => "the address dialled",
            Self::Zero => "no address at all",
            Self::Loopback => "the server's own loopback",
            Self::LinkLocal => "an address of one link only",
            Self::Private => "a private address, not the one dialled",
            Self::Shared => "a provider's inner address (100.64.0.0/10), not the one dialled",
            Self::Multicast => "no host's address",
            Self::Other => "another address than the one dialled",
        }
    }
}

/// What came of a listing over a data connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Listing {
    /// It came, to its end.
    Complete,
    /// The server refused it for reasons of its own (450, 550 ..): the connection was there.
    Declined,
    /// The server says that it has no data connection, or that it ended (425, 426).
    NoConnection,
    /// The server says that it will not serve over this connection (522 and the like).
    Rejected,
    /// The connection ended before the server said that all was sent.
    Cut,
    /// Nothing more came in time.
    Stalled,
    /// The data connection could not be encrypted.
    NotEncrypted,
    /// The control connection broke.
    ControlLost,
}

/// A listing over a data connection.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Transfer {
    /// What came of it.
    pub listing: Listing,
    /// The server's last word.
    pub reply: String,
    /// How much came.
    pub bytes: u64,
    /// How long it took.
    pub ms: f64,
}

impl Transfer {
    /// Whether the data connection did what it is for.
    #[must_use]
    pub fn works(&self) -> bool {
        matches!(self.listing, Listing::Complete | Listing::Declined)
    }
}

/// One passive data connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Passive {
    /// The reply's code; 0: none came, or no FTP.
    pub code: u16,
    /// The reply, or why there is none.
    pub reply: String,
    /// The address in it.
    pub announced: Option<SocketAddr>,
    /// What that is.
    pub relation: Option<Relation>,
    /// Connecting there.
    pub dial: Option<Dial>,
    /// The listing over it.
    pub transfer: Option<Transfer>,
    /// Connecting to the same port at the dialled address, where the announced one failed.
    pub instead: Option<Dial>,
    /// The listing over that.
    pub instead_transfer: Option<Transfer>,
}

impl Passive {
    /// Whether a client that believes the reply gets its data.
    #[must_use]
    pub fn works(&self) -> bool {
        self.transfer.as_ref().is_some_and(Transfer::works)
    }

    /// Whether a client that connects to the dialled address, whatever the reply says, gets its
    /// data.
    #[must_use]
    pub fn works_instead(&self) -> bool {
        self.instead_transfer.as_ref().is_some_and(Transfer::works)
    }
}

/// One active data connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Active {
    /// Where this machine listened.
    pub offered: Option<SocketAddr>,
    /// The code of the reply to PORT or EPRT; 0: none came, or no FTP.
    pub code: u16,
    /// That reply, or why there is none.
    pub reply: String,
    /// An address in it that is not the one that was sent.
    pub echoed: Option<SocketAddr>,
    /// Who connected.
    pub came_from: Option<SocketAddr>,
    /// The listing over it.
    pub transfer: Option<Transfer>,
}

impl Active {
    /// Whether it brought data.
    #[must_use]
    pub fn works(&self) -> bool {
        self.transfer.as_ref().is_some_and(Transfer::works)
    }
}

/// What a mode is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It works, each time.
    Works,
    /// It does not, or not each time.
    Broken,
    /// The server does not know it.
    NotOffered,
    /// There was no session to try it in.
    NotTried,
}

/// A mode, with all that was tried.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attempt {
    /// Which.
    pub mode: Mode,
    /// What came of it.
    pub verdict: Verdict,
    /// Passive data connections.
    pub passive: Vec<Passive>,
    /// The active one.
    pub active: Option<Active>,
}

impl Attempt {
    /// A mode that could not be tried.
    #[must_use]
    pub fn not_tried(mode: Mode) -> Self {
        Self {
            mode,
            verdict: Verdict::NotTried,
            passive: Vec::new(),
            active: None,
        }
    }
}

/// All that was seen of a server that let somebody in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Seen {
    /// The address that was dialled.
    pub address: SocketAddr,
    /// This end of the control connection.
    pub local_address: SocketAddr,
    /// How it is encrypted.
    pub encryption: Encryption,
    /// What is known of the server.
    pub server: Server,
    /// The modes.
    pub modes: Vec<Attempt>,
    /// How far packets get, if that had to be found out.
    pub path: Option<Path>,
    /// What the server announces when it is asked by TLS, if that had to be found out.
    pub announced_in_tls: Option<IpAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announced_addresses_are_told_apart() {
        for (announced, dialled, relation) in [
            ("198.51.100.1", "198.51.100.1", Relation::Same),
            ("::ffff:198.51.100.1", "198.51.100.1", Relation::Same),
            ("0.0.0.0", "198.51.100.1", Relation::Zero),
            ("127.0.0.1", "198.51.100.1", Relation::Loopback),
            ("169.254.3.4", "198.51.100.1", Relation::LinkLocal),
            ("10.0.0.5", "198.51.100.1", Relation::Private),
            ("172.31.0.5", "198.51.100.1", Relation::Private),
            ("192.168.0.5", "10.0.0.1", Relation::Other),
            ("100.64.0.9", "198.51.100.1", Relation::Shared),
            ("100.128.0.9", "198.51.100.1", Relation::Other),
            ("224.0.0.5", "198.51.100.1", Relation::Multicast),
            ("255.255.255.255", "198.51.100.1", Relation::Multicast),
            ("203.0.113.9", "198.51.100.1", Relation::Other),
            ("fd00:10::5", "2001:db8::1", Relation::Private),
            ("fe80::5", "2001:db8::1", Relation::LinkLocal),
        ] {
            let found = Relation::of(announced.parse().unwrap(), dialled.parse().unwrap());
            assert_eq!(found, relation, "{announced}");
        }
    }
}
