//! Changing a packet's addresses and ports.
//!
//! Checksums change by the differences that the flow carries. The TCP checksum goes through the
//! kernel's helper, which alone knows whether the hardware still has to finish it, and the address
//! and port differences separately: an unfinished checksum covers the addresses only. The rest is
//! written straight into the packet.

use crate::kernel::skb::Skb;
use crate::packet::headers::{IP, Ipv4, Ipv6};
use crate::packet::segment::{Headers, Packet};
use ftp_nat_common::abi::{Flow, side};
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
pub fn translate<N: Headers>(
    skb: &Skb,
    packet: &Packet<N>,
    flow: &Flow,
    side: u32,
    forwarded: bool,
) -> bool {
    let check = packet.tcp + offset::CHECKSUM;
    if !skb.add_to_checksum(check, flow.addr_diff, true) {
        return false;
    }
    // 0 and 0xffff are both zero in ones' complement: the port is kept.
    if flow.port_diff != 0 && flow.port_diff != 0xffff {
        if !skb.add_to_checksum(check, flow.port_diff, false) {
            return false;
        }
        let ports = if side == side::INBOUND {
            packet.ports.to(flow.port)
        } else {
            packet.ports.from(flow.port)
        };
        if !write_ports(skb, packet, ports) {
            return false;
        }
    }
    if N::V4 {
        ipv4(skb, flow, side, forwarded)
    } else {
        ipv6(skb, flow, side, forwarded)
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
fn ipv4(skb: &Skb, flow: &Flow, side: u32, forwarded: bool) -> bool {
    skb.change(IP as usize, |ip| header4(ip, flow, side, forwarded))
}

/// Addresses, time to live, and the header's own checksum.
#[inline(always)]
pub fn header4(ip: &mut Ipv4, flow: &Flow, side: u32, forwarded: bool) {
    let mut change = flow.addr_diff;
    if side == side::INBOUND {
        ip.dst = flow.to.v4();
    } else {
        ip.src = flow.to.v4();
    }
    if forwarded {
        ip.ttl = ip.ttl.wrapping_sub(1);
        change = fold(u64::from(change) + u64::from(ONE_HOP));
    }
    ip.checksum = apply(ip.checksum, change);
}

/// No checksum of the header's own makes up for its changes in a sum that the hardware took.
#[inline(always)]
fn ipv6(skb: &Skb, flow: &Flow, side: u32, forwarded: bool) -> bool {
    let mut change = flow.addr_diff;
    if forwarded {
        change = fold(u64::from(change) + u64::from(ONE_HOP_V6));
    }
    skb.add_to_hardware_sum(change);
    skb.change(IP as usize, |ip| header6(ip, flow, side, forwarded))
}

/// Addresses and hop limit.
#[inline(always)]
pub fn header6(ip: &mut Ipv6, flow: &Flow, side: u32, forwarded: bool) {
    if side == side::INBOUND {
        ip.dst = flow.to.0;
    } else {
        ip.src = flow.to.0;
    }
    if forwarded {
        ip.hop_limit = ip.hop_limit.wrapping_sub(1);
    }
}
