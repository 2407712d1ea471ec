//! The segment size that a redirected connection agrees on: its SYNs bypass the firewall's rule for
//! that, and the ICMP errors of a path that is narrower further on are often lost.

use crate::kernel::helpers::repeat;
use crate::kernel::skb::Skb;
use crate::packet::headers::IP;
use crate::packet::segment::{Headers, Packet};
use crate::state::scratch::{self, Clamping};
use crate::state::{counters, maps};
use ftp_nat_common::abi::{Flow, mss};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::checksum::difference;
use ftp_nat_common::wire::tcp::offset;

/// The option of the maximum segment size (RFC 9293 section 3.2), and its length.
const MSS: [u8; 2] = [2, 4];

/// Cuts the segment size that a SYN offers; false: the packet could not be written to.
#[inline(always)]
pub fn clamp<N: Headers>(skb: &Skb, packet: &Packet<N>, flow: &Flow) -> bool {
    let (Some(walk), Some(settings)) = (scratch::clamping(), maps::SETTINGS.get(0)) else {
        return true;
    };
    let most = match settings.mss_clamp {
        mss::OFF => return true,
        mss::AUTO => {
            // SAFETY: a map's entry stays in its place while a program runs.
            let here = unsafe { maps::INTERFACES.get(skb.ifindex()) }.map_or(u32::MAX, |it| it.mtu);
            let headers = if N::V4 { 40 } else { 60 };
            here.min(flow.out_mtu).saturating_sub(headers)
        }
        size => u32::from(size),
    };
    // SAFETY: see `scratch`.
    unsafe {
        *walk = Clamping {
            at: packet.tcp + offset::OPTIONS,
            end: packet.payload,
            most,
            found: 0,
        };
    }
    let check = packet.tcp + offset::CHECKSUM;
    shrink(skb, walk, check)
}

/// Finds the option and writes the size over it.
#[inline(never)]
fn shrink(skb: &Skb, clamping: *mut Clamping, check: u32) -> bool {
    let mut walk = Walk { skb, clamping };
    // As many options as fit into 40 bytes.
    repeat(40, &mut walk, step);
    // SAFETY: see `scratch`; the loop is over.
    let clamping = unsafe { &*clamping };
    if clamping.found == 0 {
        return true;
    }
    let Some(old) = skb.load::<u16>(clamping.found) else {
        return false;
    };
    if u32::from(u16::from_be(old)) <= clamping.most {
        return true;
    }
    let new = (clamping.most as u16).to_be();
    let mut change = difference(u64::from(old), u64::from(new));
    // Options need not be aligned.
    if clamping.found.wrapping_sub(check) % 2 == 1 {
        change = change.swap_bytes();
    }
    counters::add(Counter::MssClamped, 0);
    skb.store(clamping.found, &new) && skb.add_to_checksum(check, change, false)
}

/// What [`step`] works on.
#[repr(C)]
struct Walk<'a> {
    skb: &'a Skb,
    clamping: *mut Clamping,
}

/// One option; 1 ends the loop.
unsafe extern "C" fn step(_index: u64, walk: *mut Walk<'_>) -> i64 {
    // SAFETY: `repeat` hands over what `shrink` has; the scratch outlives the loop.
    let (skb, clamping) = unsafe { ((*walk).skb, &mut *(*walk).clamping) };
    if clamping.at < IP || clamping.at.wrapping_add(4) > clamping.end {
        return 1;
    }
    let Some(option) = skb.load::<[u8; 2]>(clamping.at) else {
        return 1;
    };
    let [kind, len] = option;
    if option == MSS {
        clamping.found = clamping.at.wrapping_add(2);
        return 1;
    }
    let len = if kind == 1 { 1 } else { u32::from(len.max(2)) };
    clamping.at = clamping.at.wrapping_add(len);
    i64::from(kind == 0)
}
