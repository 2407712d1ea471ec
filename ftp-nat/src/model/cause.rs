//! The six classic causes that break FTP's data connections: `doctor` and `probe` name them, and
//! troubleshooting is sorted by them.

use serde::Serialize;

/// The classic causes that break FTP's data connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The NAT does not translate the data port.
    Nat,
    /// A firewall blocks the data connection.
    Firewall,
    /// The server announces a wrong or inner address.
    Address,
    /// The passive port range is too small, unforwarded or collides.
    Ports,
    /// The client's own side blocks the data connection.
    Client,
    /// There is a second NAT, or a 1:1 address.
    DoubleNat,
}

impl Cause {
    /// Its number: troubleshooting is sorted by it.
    pub const fn number(self) -> u8 {
        match self {
            Self::Nat => 1,
            Self::Firewall => 2,
            Self::Address => 3,
            Self::Ports => 4,
            Self::Client => 5,
            Self::DoubleNat => 6,
        }
    }

    /// As a phrase.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Nat => "the NAT does not translate the data port",
            Self::Firewall => "a firewall blocks the data connection",
            Self::Address => "the server announces a wrong or inner address",
            Self::Ports => "the passive port range is too small, unforwarded or collides",
            Self::Client => "the client's own side blocks the data connection",
            Self::DoubleNat => "a second NAT, or a 1:1 address",
        }
    }
}
