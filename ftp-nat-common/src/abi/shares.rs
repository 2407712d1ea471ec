//! SHARES and HALF_OPEN_LEVELS: how much of the tables each client has.
//!
//! Everything here can be derived from the other tables: the daemon's sweep counts what each client
//! really has and sets the counts right, so that none drifts.

use super::sessions::{Session, role};
use crate::wire::addr::Addr;
use bytemuck::{Pod, Zeroable};

/// What one client has, and what it was refused. Made when its first handshake is finished; its key
/// is [`share_of`] the client's address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Share {
    /// Its entries in SESSIONS.
    pub sessions: u32,
    /// Its data connections: pairs of entries in FLOWS4 and FLOWS6.
    pub connections: u32,
    /// When its allowance of announcements will be whole again ([`crate::bucket`]).
    pub announced: u64,
    /// SYNs and announcements that were refused because it had its share.
    pub refused: u64,
    /// When that was last, in jiffies; 0: never.
    pub refused_at: u64,
}

/// How many unfinished handshakes one address has caused; the address may be forged.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct HalfOpenLevel {
    /// When its allowance will be whole again ([`crate::bucket`]).
    pub until: u64,
}

/// The key of a client's share: an IPv4 address, or the network of an IPv6 address (a /64, all of
/// which one host may use by itself: RFC 4291 section 2.5.4).
#[inline(always)]
pub const fn share_of(client: &Addr) -> Addr {
    if client.is_v4() {
        *client
    } else {
        Addr([client.0[0], client.0[1], 0, 0])
    }
}

/// The key of the share that a session counts for: its client's own, or, where a masqueraded
/// client's own address is not known, its server's.
#[inline(always)]
pub const fn share_of_session(session: &Session) -> Addr {
    let is_known = session.role == role::MASQUERADE && !session.inside.addr.is_none();
    if is_known {
        share_of(&session.inside.addr)
    } else {
        share_of(&session.outside.addr)
    }
}

const _: () = assert!(size_of::<Share>() == 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_is_one_client_and_an_address_of_ipv4_is() {
        let share = |text: &str| share_of(&Addr::from(text.parse::<std::net::IpAddr>().unwrap()));
        assert_eq!(share("2001:db8:0:7::1"), share("2001:db8:0:7:ffff::2"));
        assert_ne!(share("2001:db8:0:7::1"), share("2001:db8:0:8::1"));
        assert_ne!(share("192.0.2.1"), share("192.0.2.2"));
        assert_eq!(share("192.0.2.1").to_string(), "192.0.2.1");
    }

    #[test]
    fn a_session_counts_for_its_client_wherever_that_is() {
        let [inside, outside] = ["10.0.0.9", "192.0.2.1"]
            .map(|text| Addr::from(text.parse::<std::net::IpAddr>().unwrap()));
        for (role, inside, wanted) in [
            (role::PUBLISH, inside, outside),
            (role::MASQUERADE, inside, inside),
            (role::MASQUERADE, Addr::default(), outside),
        ] {
            let mut session = Session::zeroed();
            session.role = role;
            session.inside.addr = inside;
            session.outside.addr = outside;
            assert_eq!(share_of_session(&session), wanted);
        }
    }
}
