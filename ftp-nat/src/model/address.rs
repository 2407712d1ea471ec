//! What kind of network an address belongs to.

use std::net::IpAddr;

/// Whether an address is of a private network (RFC 1918, RFC 4193).
#[must_use]
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private(),
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

/// Whether an address is of a provider's own network (RFC 6598).
#[must_use]
pub fn is_shared(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64,
        IpAddr::V6(_) => false,
    }
}

/// Whether an address can only be of an inner network: private, shared, of one link, or of the
/// machine itself.
#[must_use]
pub fn is_inner(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    is_private(address) || is_shared(address) || link_local || address.is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_addresses_are_known() {
        for (ip, inner) in [
            ("10.1.2.3", true),
            ("172.16.0.1", true),
            ("172.32.0.1", false),
            ("100.64.0.1", true),
            ("100.128.0.1", false),
            ("198.51.100.1", false),
            ("fd00::1", true),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_inner(ip.parse().unwrap()), inner, "{ip}");
        }
    }
}
