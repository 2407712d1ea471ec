//! ICMP and ICMPv6 errors.

use crate::kernel::skb::Skb;

/// Length of the ICMP header of errors, in bytes: the quoted packet stands behind it.
pub const HEADER: u32 = 8;

/// Whether an ICMP message is an error: for IPv4 unreachable, time exceeded or parameter problem
/// (RFC 792), for IPv6 one of RFC 4443's four.
#[inline(always)]
pub fn is_error(skb: &Skb, v4: bool, at: u32) -> bool {
    match skb.load::<u8>(at) {
        Some(kind) if v4 => kind == 3 || kind == 11 || kind == 12,
        Some(kind) => (1..=4).contains(&kind),
        None => false,
    }
}
