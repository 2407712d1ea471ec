//! Changing a packet's addresses and ports.
//!
//! Checksums change by the differences that the flow carries. The TCP checksum goes through the
//! kernel's helper, which alone knows whether the hardware still has to finish it, and the address
//! and port differences separately: an unfinished checksum covers the addresses only. The rest is
//! one write: addresses lie beside the time to live.

use crate::flow::Net;
use crate::kernel::Skb;
use crate::packet::{IP, Packet, tcp};
use ftp_nat_common::abi::{Flow, side};
use ftp_nat_common::checksum;

/// Translates the packet; `forwarded`: it does not go through the stack, which would count its
/// time to live down.
#[inline(always)]
pub fn translate<N: Net>(
    skb: &Skb,
    packet: &Packet<N>,
    flow: &Flow,
    side: u32,
    forwarded: bool,
) -> bool {
    let check = packet.tcp + tcp::CHECKSUM;
    if !skb.add_to_checksum(check, flow.addr_diff, true) {
        return false;
    }
    // 0xffff is zero's other face: the port is kept.
    if flow.port_diff != 0 && flow.port_diff != 0xffff {
        let at = if side == side::INBOUND {
            packet.tcp + 2
        } else {
            packet.tcp
        };
        if !skb.add_to_checksum(check, flow.port_diff, false) || !skb.store(at, &flow.port) {
            return false;
        }
    }
    if N::V4 {
        ipv4(skb, packet, flow, side, forwarded)
    } else {
        ipv6(skb, packet, flow, side, forwarded)
    }
}

/// From the time to live to the destination: twelve bytes.
#[inline(always)]
fn ipv4<N: Net>(skb: &Skb, packet: &Packet<N>, flow: &Flow, side: u32, forwarded: bool) -> bool {
    let Some(mut header) = skb.load::<[u16; 6]>(IP + 8) else {
        return false;
    };
    let word = flow.to.v4();
    let halves: [u16; 2] = bytemuck::cast(word);
    if side == side::INBOUND {
        header[4] = halves[0];
        header[5] = halves[1];
    } else {
        header[2] = halves[0];
        header[3] = halves[1];
    }
    header[1] = checksum::apply(header[1], flow.addr_diff);
    if forwarded {
        let old = header[0];
        let new = u16::from_ne_bytes([packet.ttl.wrapping_sub(1), old.to_ne_bytes()[1]]);
        header[0] = new;
        header[1] = checksum::apply(
            header[1],
            checksum::difference(u64::from(old), u64::from(new)),
        );
    }
    skb.store(IP + 8, &header)
}

/// The address, and the hop limit that lies before both.
#[inline(always)]
fn ipv6<N: Net>(skb: &Skb, packet: &Packet<N>, flow: &Flow, side: u32, forwarded: bool) -> bool {
    let at = if side == side::INBOUND {
        IP + 24
    } else {
        IP + 8
    };
    if forwarded && !skb.store(IP + 7, &packet.ttl.wrapping_sub(1)) {
        return false;
    }
    skb.store(at, &flow.to)
}
