//! The segment size that a redirected connection agrees on: its SYNs bypass the firewall's rule for
//! that, and the ICMP errors of a path that is narrower further on are often lost.

use crate::kernel::skb::Skb;
use crate::packet::options::{MSS_LEN, find, kind};
use crate::packet::segment::{Headers, Packet};
use crate::state::{counters, maps};
use ftp_nat_common::abi::{Flow, mss};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::checksum::difference;
use ftp_nat_common::wire::tcp::offset;

/// Cuts the segment size that a SYN offers; false: the packet could not be written to.
#[inline(always)]
pub fn clamp<N: Headers>(skb: &Skb, packet: &Packet<N>, flow: &Flow) -> bool {
    let Some(settings) = maps::SETTINGS.get(0) else {
        return true;
    };
    let most = match settings.mss_clamp {
        mss::OFF => return true,
        mss::AUTO => {
            // SAFETY: a map's entry stays in its place while a program runs.
            let here = unsafe { maps::INTERFACES.get(skb.ifindex()) }.map_or(u32::MAX, |it| it.mtu);
            let headers = if N::V4 { 40 } else { 60 };
            here.min(flow.out_mtu.into()).saturating_sub(headers)
        }
        size => u32::from(size),
    };
    shrink(skb, packet.tcp, packet.payload, most)
}

/// Finds the option and writes the size over it. The TCP header is at `tcp`, its options end at `end`,
/// in bytes from the Ethernet header on; `most` is the largest size to allow, in bytes.
#[inline(never)]
fn shrink(skb: &Skb, tcp: u32, end: u32, most: u32) -> bool {
    let Some(size) = find(skb, tcp.wrapping_add(offset::OPTIONS), end, kind::MSS) else {
        return true;
    };
    if size.len != MSS_LEN {
        return true;
    }
    let Some(old) = skb.load::<u16>(size.at) else {
        return false;
    };
    if u32::from(u16::from_be(old)) <= most {
        return true;
    }
    let check = tcp.wrapping_add(offset::CHECKSUM);
    let new = (most as u16).to_be();
    let mut change = difference(u64::from(old), u64::from(new));
    // Options need not be aligned.
    if size.at.wrapping_sub(check) % 2 == 1 {
        change = change.swap_bytes();
    }
    counters::add(Counter::MssClamped, 0);
    skb.store(size.at, &new) && skb.add_to_checksum(check, change, false)
}
