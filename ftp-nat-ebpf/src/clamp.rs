//! The segment size that a redirected connection agrees on: its SYNs bypass the firewall's rule for
//! that, and the ICMP errors of a path that is narrower further on are often lost.

use crate::control::Scratch;
use crate::count;
use crate::flow::Net;
use crate::kernel::{Skb, repeat};
use crate::maps;
use crate::packet::{IP, Packet, tcp};
use ftp_nat_common::abi::{Flow, mss};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::checksum::difference;

/// The option of the maximum segment size (RFC 9293 section 3.2), and its length.
const MSS: [u8; 2] = [2, 4];

/// Where the walk through a SYN's options is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Clamping {
    /// Where the next option starts.
    at: u32,
    /// Where the options end.
    end: u32,
    /// The largest segment to allow.
    most: u32,
    /// Where the segment size stands; 0: not found.
    found: u32,
}

/// Cuts the segment size that a SYN offers; false: the packet could not be written to.
#[inline(always)]
pub fn clamp<N: Net>(skb: &Skb, packet: &Packet<N>, flow: &Flow) -> bool {
    let (Some(scratch), Some(settings)) = (maps::SCRATCH.get_ptr_mut(0), maps::SETTINGS.get(0))
    else {
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
    // SAFETY: this CPU's own scratch; programs on one CPU do not interrupt each other.
    unsafe {
        (*scratch).clamping = Clamping {
            at: packet.tcp + tcp::OPTIONS,
            end: packet.payload,
            most,
            found: 0,
        };
    }
    let check = packet.tcp + tcp::CHECKSUM;
    shrink(skb, scratch, check)
}

/// Finds the option and writes the size over it.
#[inline(never)]
fn shrink(skb: &Skb, scratch: *mut Scratch, check: u32) -> bool {
    let mut walk = Walk { skb, scratch };
    // As many options as fit into 40 bytes.
    repeat(40, &mut walk, step);
    // SAFETY: this CPU's own scratch; programs on one CPU do not interrupt each other.
    let clamping = unsafe { &(*scratch).clamping };
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
    count::add(Counter::MssClamped, 0);
    skb.store(clamping.found, &new) && skb.add_to_checksum(check, change, false)
}

/// What [`step`] works on.
#[repr(C)]
struct Walk<'a> {
    skb: &'a Skb,
    scratch: *mut Scratch,
}

/// One option; 1 ends the loop.
unsafe extern "C" fn step(_index: u64, walk: *mut Walk<'_>) -> i64 {
    // SAFETY: `repeat` hands over what `shrink` has; the scratch outlives the loop.
    let (skb, clamping) = unsafe { ((*walk).skb, &mut (*(*walk).scratch).clamping) };
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
