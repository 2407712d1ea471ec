//! Changing a packet's addresses and ports.
//!
//! Checksums change by the differences that the flow carries. The TCP checksum goes through the
//! kernel's helper, which alone knows whether the hardware still has to finish it, and the address
//! and port differences separately: an unfinished checksum covers the addresses only. The rest is
//! written straight into the packet.

use crate::kernel::skb::Skb;
use crate::packet::headers::{IP, Ipv4, Ipv6};
use crate::packet::segment::{Headers, Packet};
use ftp_nat_common::abi::Flow;
use ftp_nat_common::wire::addr::PortPair;
use ftp_nat_common::wire::checksum::{apply, fold};
use ftp_nat_common::wire::tcp::offset;

/// What a word changes by whose first byte counts down by one: an IPv4 header's time to live.
pub const ONE_HOP: u16 = 0xfeff_u16.to_be();
/// The same for the second byte of a word: an IPv6 header's hop limit.
pub const ONE_HOP_V6: u16 = 0xfffe_u16.to_be();

/// Translates the packet; `forwarded`: it does not go through the stack, which would count its
/// time to live down.
#[inline(always)]
pub fn translate<N: Headers>(skb: &Skb, packet: &Packet<N>, flow: &Flow, forwarded: bool) -> bool {
    let check = packet.tcp + offset::CHECKSUM;
    if !skb.add_to_checksum(check, flow.addr_diff, true) {
        return false;
    }
    if flow.ports != packet.ports
        && !(skb.add_to_checksum(check, flow.port_diff, false)
            && write_ports(skb, packet, flow.ports))
    {
        return false;
    }
    if N::V4 {
        ipv4(skb, flow, forwarded)
    } else {
        ipv6(skb, flow, forwarded)
    }
}

/// Straight into the packet where they nearly always are, behind an IP header without options.
#[inline(always)]
fn write_ports<N: Headers>(skb: &Skb, packet: &Packet<N>, ports: PortPair) -> bool {
    let usual = IP as usize + N::LEN;
    if packet.tcp as usize != usual {
        return skb.store(packet.tcp, &ports);
    }
    skb.change::<PortPair>(usual, |there| *there = ports)
}

#[inline(always)]
fn ipv4(skb: &Skb, flow: &Flow, forwarded: bool) -> bool {
    skb.change(IP as usize, |ip| header4(ip, flow, forwarded))
}

/// Addresses, time to live, and the header's own checksum.
#[inline(always)]
pub fn header4(ip: &mut Ipv4, flow: &Flow, forwarded: bool) {
    let mut change = flow.addr_diff;
    ip.set_addresses(flow.src.v4(), flow.dst.v4());
    if forwarded {
        ip.count_hop();
        change = fold(u64::from(change) + u64::from(ONE_HOP));
    }
    ip.set_checksum(apply(ip.checksum(), change));
}

/// No checksum of the header's own makes up for its changes in a sum that the hardware took.
#[inline(always)]
fn ipv6(skb: &Skb, flow: &Flow, forwarded: bool) -> bool {
    let mut change = flow.addr_diff;
    if forwarded {
        change = fold(u64::from(change) + u64::from(ONE_HOP_V6));
    }
    skb.add_to_hardware_sum(change);
    skb.change(IP as usize, |ip| header6(ip, flow, forwarded))
}

/// Addresses and hop limit.
#[inline(always)]
pub fn header6(ip: &mut Ipv6, flow: &Flow, forwarded: bool) {
    ip.set_addresses(flow.src, flow.dst);
    if forwarded {
        ip.count_hop();
    }
}
