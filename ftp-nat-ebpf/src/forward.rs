//! Sending a translated packet on.

use crate::count;
use crate::flow::Net;
use crate::gateway::{Hook, NEXT, TRANSLATED};
use crate::kernel::{Skb, redirect};
use crate::maps;
use crate::packet::Packet;
use ftp_nat_common::abi::Flow;
use ftp_nat_common::counter::Counter;

/// How a packet leaves.
#[derive(Clone, Copy)]
pub enum Exit {
    /// Straight to the other interface.
    Redirect,
    /// Through the stack.
    Stack,
}

impl Exit {
    /// Whether it leaves straight.
    #[inline(always)]
    pub fn is_redirect(self) -> bool {
        matches!(self, Self::Redirect)
    }
}

/// How this packet leaves. What cannot be redirected goes to the stack, which sends the ICMP error
/// that is due: before its forward chain, so no rule of a firewall has a say in it. `counts`: it is
/// counted so; a control segment is looked at twice.
#[inline(always)]
pub fn exit<N: Net>(skb: &Skb, hook: Hook, packet: &Packet<N>, flow: &Flow, counts: bool) -> Exit {
    if flow.out_ifindex == 0 || hook == Hook::WanEgress {
        return Exit::Stack;
    }
    if packet.ttl <= 1 {
        if counts {
            count::add(Counter::PassedTtl, packet.total);
        }
        return Exit::Stack;
    }
    // A super-packet is sent as segments of this size.
    let segment = skb.gso_size();
    let longest = if segment == 0 {
        packet.total
    } else {
        packet.payload - crate::packet::IP + segment
    };
    if longest > flow.out_mtu {
        if counts {
            count::add(Counter::PassedTooBig, packet.total);
        }
        return Exit::Stack;
    }
    Exit::Redirect
}

/// Sends it; gives TC's verdict.
#[inline(always)]
pub fn forward(skb: &Skb, hook: Hook, flow: &Flow, exit: Exit, len: u32) -> i32 {
    let inbound = hook == Hook::WanIngress;
    if exit.is_redirect() {
        count::add(
            if inbound {
                Counter::InboundRedirected
            } else {
                Counter::OutboundRedirected
            },
            len,
        );
        if !inbound {
            // It comes by the WAN's egress hook, translated already.
            skb.set_note(TRANSLATED);
        }
        return redirect(flow.out_ifindex, &flow.next_hop);
    }
    count::add(
        if inbound {
            Counter::InboundStack
        } else {
            Counter::OutboundStack
        },
        len,
    );
    if let Some(settings) = maps::SETTINGS.get(0) {
        skb.add_mark(settings.mark);
    }
    NEXT
}
