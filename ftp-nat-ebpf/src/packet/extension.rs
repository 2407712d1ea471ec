//! IPv6 extension headers (RFC 8200 section 4): what stands behind them. No packet with any is
//! translated; but a receiver takes them, so that TCP behind them must not pass unread.

use super::headers::TCP;
use crate::kernel::helpers::repeat;
use crate::kernel::skb::{Context, Skb};
use ftp_nat_common::wire::addr::PortPair;

/// Protocol numbers of extension headers.
mod kind {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION: u8 = 60;
    pub(super) const MOBILITY: u8 = 135;
    pub(super) const HOST_IDENTITY: u8 = 139;
    pub(super) const SHIM6: u8 = 140;
}

/// As many headers are followed. Each kind stands at most once (RFC 8200 section 4.1), but for one.
const MOST: u32 = 9;
/// The bits of a fragment header's offset.
const OFFSET: u16 = 0xfff8;

/// What stands behind a packet's extension headers.
#[derive(Clone, Copy)]
pub enum Behind {
    /// No TCP header that can be read.
    Other,
    /// TCP, whole or a first fragment, on these ports.
    Tcp(PortPair),
    /// More headers than are followed.
    More,
}

/// Whether a header of this kind is an extension header.
#[inline(always)]
pub const fn is_one(header: u8) -> bool {
    matches!(
        header,
        kind::HOP_BY_HOP
            | kind::ROUTING
            | kind::FRAGMENT
            | kind::AUTHENTICATION
            | kind::DESTINATION
            | kind::MOBILITY
            | kind::HOST_IDENTITY
            | kind::SHIM6
    )
}

/// Follows the extension headers, the first of which is of this kind and stands at `at`, in bytes from the
/// start of the packet on.
#[inline(always)]
pub fn follow(skb: &Skb, header: u8, at: u32) -> Behind {
    let found = ftp_nat_follow_extensions(skb.context(), header.into(), at);
    match (found >> 32) as u32 {
        FOUND => Behind::Tcp(PortPair(found as u32)),
        GOES_ON => Behind::More,
        _ => Behind::Other,
    }
}

/// [`Walk::state`]: another extension header follows.
const GOES_ON: u32 = 0;
/// TCP does.
const FOUND: u32 = 1;
/// Something else does.
const OTHER: u32 = 2;

/// Where the walk is.
struct Walk<'a> {
    skb: &'a Skb,
    at: u32,
    header: u32,
    state: u32,
    ports: u32,
}

/// [`follow`], its answer in one register: the state, and the ports in the lower half.
///
/// A global function: the verifier checks it once and by itself.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ftp_nat_follow_extensions(context: Context, header: u32, at: u32) -> u64 {
    let skb = Skb::of(context);
    let mut walk = Walk {
        skb: &skb,
        at,
        header,
        state: GOES_ON,
        ports: 0,
    };
    repeat(MOST, &mut walk, step);
    u64::from(walk.state) << 32 | u64::from(walk.ports)
}

/// One header; 1 ends the loop.
unsafe extern "C" fn step(_index: u64, walk: *mut Walk<'_>) -> i64 {
    // SAFETY: `repeat` hands over what `ftp_nat_follow_extensions` has, which outlives the loop.
    let walk = unsafe { &mut *walk };
    let header = walk.header as u8;
    if header == TCP {
        let ports = walk.skb.load::<u32>(walk.at);
        walk.state = if ports.is_some() { FOUND } else { OTHER };
        walk.ports = ports.unwrap_or(0);
        return 1;
    }
    // The first four bytes of each: what follows, and its length; of a fragment its offset.
    let start = walk.skb.load::<[u8; 4]>(walk.at);
    let (true, Some([next, units, high, low])) = (is_one(header), start) else {
        walk.state = OTHER;
        return 1;
    };
    let len = match header {
        kind::FRAGMENT => {
            if u16::from_be_bytes([high, low]) & OFFSET != 0 {
                walk.state = OTHER;
                return 1;
            }
            8
        }
        kind::AUTHENTICATION => u32::from(units).wrapping_add(2).wrapping_mul(4),
        _ => u32::from(units).wrapping_add(1).wrapping_mul(8),
    };
    walk.at = walk.at.wrapping_add(len);
    walk.header = next.into();
    0
}
