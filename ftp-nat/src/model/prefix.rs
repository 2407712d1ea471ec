//! A network: an address and how many of its bits count.

use std::{fmt, net::IpAddr, str::FromStr};

/// A network: an address and how many of its bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    /// Its first address.
    pub address: IpAddr,
    /// The bits that count.
    pub bits: u8,
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| format!("{address:?} is not an IP address"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => bits
                .parse::<u8>()
                .ok()
                .filter(|bits| *bits <= most)
                .ok_or_else(|| format!("{bits:?} is not a prefix length: 0 to {most}"))?,
        };
        Ok(Self::of(address.to_canonical(), bits))
    }
}

impl Prefix {
    /// The network that an address is in; at most all of its bits count.
    pub fn of(address: IpAddr, bits: u8) -> Self {
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.min(most);
        let hosts = u32::from(most - bits);
        let address = match address {
            IpAddr::V4(v4) => {
                IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(hosts).unwrap_or(0)).into())
            }
            IpAddr::V6(v6) => {
                IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(hosts).unwrap_or(0)).into())
            }
        };
        Self { address, bits }
    }

    /// Whether another network is a part of this one, or the same.
    pub fn contains(&self, other: &Self) -> bool {
        self.address.is_ipv4() == other.address.is_ipv4()
            && self.bits <= other.bits
            && Self::of(other.address, self.bits) == *self
    }

    /// An address that a host of it may have.
    pub fn first_host(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(v4) if self.bits < 31 => IpAddr::V4((v4.to_bits() | 1).into()),
            IpAddr::V6(v6) if self.bits < 127 => IpAddr::V6((v6.to_bits() | 1).into()),
            other => other,
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl serde::Serialize for Prefix {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Prefix {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
