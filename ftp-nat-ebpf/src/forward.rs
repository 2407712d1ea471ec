//! Sending a translated packet on.

use crate::count;
use crate::flow::{Net, redirectable};
use crate::gateway::{DROP, Hook, NEXT};
use crate::interest::{IPV4, TRANSLATED};
use crate::kernel::{Skb, jiffies, redirect, redirect_by_route, redirect_to, route};
use crate::maps;
use crate::packet::{IP, Ipv4, Ipv6, Packet};
use ftp_nat_common::abi::{Flow, flow_flag, interface_flag};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::addr::Addr;

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
        packet.payload - IP + segment
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
pub fn forward<N: Net>(
    skb: &Skb,
    hook: Hook,
    packet: &Packet<N>,
    flow: &mut Flow,
    exit: Exit,
) -> i32 {
    let inbound = hook == Hook::WanIngress;
    if exit.is_redirect() {
        count::add(
            if inbound {
                Counter::InboundRedirected
            } else {
                Counter::OutboundRedirected
            },
            packet.total,
        );
        if !inbound {
            // It comes by the WAN's egress hook, translated already.
            skb.set_note(TRANSLATED);
        }
        if is_fresh(flow) {
            return if skb.change::<[u16; 6]>(0, |macs| *macs = flow.macs) {
                redirect(flow.out_ifindex)
            } else {
                DROP
            };
        }
        return refresh(skb, flow, inbound);
    }
    count::add(
        if inbound {
            Counter::InboundStack
        } else {
            Counter::OutboundStack
        },
        packet.total,
    );
    if let Some(settings) = maps::SETTINGS.get(0) {
        skb.add_mark(settings.mark);
    }
    NEXT
}

/// Whether the flow's next hop was looked up within the last second, and by today's routes.
#[inline(always)]
pub fn is_fresh(flow: &Flow) -> bool {
    let epoch = maps::SETTINGS.get(0).map_or(0, |it| it.route_epoch);
    let left = flow.fresh_until.wrapping_sub(jiffies() as u32);
    flow.route_epoch == epoch && (left as i32) > 0
}

/// Looks the way of the translated packet up again, for it and for those of the next second. The
/// packet itself goes by the stack's neighbour, which so learns that it is in use, and asks for it
/// when it must.
#[inline(never)]
fn refresh(skb: &Skb, flow: &mut Flow, inbound: bool) -> i32 {
    let (Some(scratch), Some(settings)) = (maps::SCRATCH.get_ptr_mut(0), maps::SETTINGS.get(0))
    else {
        return redirect_by_route(flow.out_ifindex);
    };
    // SAFETY: this CPU's own scratch; programs on one CPU do not interrupt each other.
    let (hop, ends) = unsafe { (&mut (*scratch).hop, &mut (*scratch).way) };
    if !addresses(skb, ends) {
        return redirect_by_route(flow.out_ifindex);
    }
    // A reply leaves by the WAN that its connection came by, as long as there is a way.
    let found = if inbound {
        route(skb, &ends[0], &ends[1], 0, hop)
    } else {
        route(skb, &ends[0], &ends[1], flow.out_ifindex, hop)
            || route(skb, &ends[0], &ends[1], 0, hop)
    };
    let role = if inbound {
        interface_flag::LAN
    } else {
        interface_flag::WAN
    };
    let exit = if found {
        redirectable(hop.ifindex, role)
    } else {
        None
    };
    let Some(exit) = exit else {
        count::add(Counter::PassedNoRoute, 0);
        return redirect_by_route(flow.out_ifindex);
    };
    flow.out_ifindex = hop.ifindex;
    flow.out_mtu = exit.mtu;
    flow.flags = if exit.flags & interface_flag::XDP != 0 {
        flow.flags | flow_flag::XDP
    } else {
        flow.flags & !flow_flag::XDP
    };
    if hop.is_resolved != 0 {
        flow.macs = hop.macs;
        flow.route_epoch = settings.route_epoch;
        flow.fresh_until = (jiffies() as u32).wrapping_add(settings.hz);
    }
    redirect_to(hop)
}

/// The packet's addresses, source first.
#[inline(always)]
fn addresses(skb: &Skb, ends: &mut [Addr; 2]) -> bool {
    if skb.protocol() == IPV4 {
        let Some(ip) = skb.view::<Ipv4>(IP as usize) else {
            return false;
        };
        *ends = [Addr::from_v4(ip.src), Addr::from_v4(ip.dst)];
    } else {
        let Some(ip) = skb.view::<Ipv6>(IP as usize) else {
            return false;
        };
        *ends = [Addr(ip.src), Addr(ip.dst)];
    }
    true
}
