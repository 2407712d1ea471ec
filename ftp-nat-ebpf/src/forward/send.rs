//! Sending a translated packet on.

use super::exit::{is_bare, is_fresh, keep, redirectable};
use super::return_path;
use crate::kernel::hook::{DROP, Hook, NEXT, WAN_EGRESS_BARE};
use crate::kernel::route::{Hop, LOOPBACK, redirect, redirect_by_route, redirect_to, route};
use crate::kernel::skb::{Skb, TRANSLATED};
use crate::packet::headers::{IP, IPV4, Ipv4, Ipv6};
use crate::packet::segment::{Headers, Packet};
use crate::state::flows::Table;
use crate::state::{counters, maps, scratch};
use ftp_nat_common::abi::{Flow, flow_flag, interface_flag};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::addr::Addr;

/// How a packet leaves.
#[derive(Clone, Copy)]
pub enum Way {
    /// Straight to the other interface.
    Redirect,
    /// Through the stack.
    Stack,
}

impl Way {
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
pub fn way<N: Headers>(
    skb: &Skb,
    hook: Hook,
    packet: &Packet<N>,
    flow: &Flow,
    counts: bool,
) -> Way {
    if flow.out_ifindex == 0 || hook == Hook::WanEgress {
        return Way::Stack;
    }
    if packet.ttl <= 1 {
        if counts && flow.flags & flow_flag::NO_STACK == 0 {
            counters::add(Counter::PassedTtl, packet.total);
        }
        return Way::Stack;
    }
    // A super-packet is sent as segments of this size.
    let segment = skb.gso_size();
    let longest = if segment == 0 {
        packet.total
    } else {
        packet.payload - IP + segment
    };
    if longest > u32::from(flow.out_mtu) {
        if counts && flow.flags & flow_flag::NO_STACK == 0 {
            counters::add(Counter::PassedTooBig, packet.total);
        }
        return Way::Stack;
    }
    Way::Redirect
}

/// Sends it; gives TC's verdict. `is_believed`: a segment of a control connection that TCP believes, or
/// one of a data connection.
#[inline(always)]
pub fn forward<N: Table>(
    skb: &Skb,
    hook: Hook,
    packet: &Packet<N>,
    key: &N,
    entry: *mut Flow,
    way: Way,
    is_believed: bool,
) -> i32 {
    // SAFETY: the entry stays in its place while the program runs.
    let flow = unsafe { &*entry };
    let inbound = hook == Hook::WanIngress;
    if way.is_redirect() {
        counters::add(
            if inbound {
                Counter::InboundRedirected
            } else {
                Counter::OutboundRedirected
            },
            packet.total,
        );
        if leaves_by_wan(flow) {
            // It comes by the WAN's egress hook, translated already.
            skb.set_note(TRANSLATED);
        }
        if is_fresh(flow) {
            return straight(skb, flow);
        }
        if inbound && is_believed {
            return_path::learn(skb, key, packet.seq, entry);
        }
        return refresh(skb, entry);
    }
    counters::add(
        if inbound {
            Counter::InboundStack
        } else {
            Counter::OutboundStack
        },
        packet.total,
    );
    mark(skb);
    through_stack(skb, hook, packet, key, entry, is_believed)
}

/// Keeps a connection's return path where the stack forwards it: gives the verdict on its packet, which is
/// at one of the WAN's hooks.
#[inline(always)]
pub fn through_stack<N: Table>(
    skb: &Skb,
    hook: Hook,
    packet: &Packet<N>,
    key: &N,
    entry: *mut Flow,
    is_believed: bool,
) -> i32 {
    if hook != Hook::WanIngress {
        return return_path::leave(skb, entry);
    }
    // SAFETY: the entry stays in its place while the program runs.
    let flow = unsafe { &mut *entry };
    // Of a redirected flow this would mean that it has a next hop.
    if is_believed && flow.out_ifindex == 0 && !is_fresh(flow) {
        return_path::learn(skb, key, packet.seq, entry);
        if let Some(settings) = maps::SETTINGS.get(0) {
            keep(flow, settings);
        }
    }
    NEXT
}

/// Sends the packet to the next hop that its flow has; gives TC's verdict.
#[inline(always)]
fn straight(skb: &Skb, flow: &Flow) -> i32 {
    if skb.change::<[u16; 6]>(0, |macs| *macs = flow.macs) {
        redirect(flow.out_ifindex)
    } else {
        DROP
    }
}

/// Sends another packet the way of a redirected flow's: an ICMP error about it. Gives TC's verdict.
#[inline(always)]
pub fn along(skb: &Skb, entry: *mut Flow) -> i32 {
    // SAFETY: the entry stays in its place while the program runs.
    let flow = unsafe { &*entry };
    if leaves_by_wan(flow) {
        skb.set_note(TRANSLATED);
    }
    if is_fresh(flow) {
        straight(skb, flow)
    } else {
        refresh(skb, entry)
    }
}

/// Marks a packet that was let in, for a rule of the firewall. The mark's other bits stay.
#[inline(always)]
pub fn mark(skb: &Skb) {
    if let Some(settings) = maps::SETTINGS.get(0) {
        skb.add_mark(settings.mark);
    }
}

/// Whether a redirected flow's packets leave by a WAN interface, whose egress hook they meet.
#[inline(always)]
pub fn leaves_by_wan(flow: &Flow) -> bool {
    flow.flags & (flow_flag::OUTBOUND | flow_flag::HAIRPIN) == flow_flag::OUTBOUND
}

/// Sends the packet out of an interface by the stack's own routes and neighbours, where it has those;
/// gives TC's verdict.
#[inline(always)]
pub fn by_route(ifindex: u32) -> i32 {
    // SAFETY: a map's entry stays in its place while a program runs.
    if unsafe { maps::INTERFACES.get(ifindex) }.is_some_and(is_bare) {
        // The kernel takes the Ethernet header off (`__bpf_redirect_no_mac`).
        return redirect(ifindex);
    }
    redirect_by_route(ifindex)
}

/// What a station's verdict comes to. A packet that would leave as it is by an interface without an
/// Ethernet header has one now: it is sent there anew, which takes that off, and passes this hook once
/// more with a note.
#[inline(always)]
pub fn leave(skb: &Skb, verdict: i32) -> i32 {
    if verdict == NEXT && skb.hook() == WAN_EGRESS_BARE {
        skb.set_note(TRANSLATED);
        return redirect(skb.ifindex());
    }
    verdict
}

/// Looks the way of the translated packet up again, for it and for those of the next second. The
/// packet itself goes by the stack's neighbour, which so learns that it is in use, and asks for it
/// when it must.
#[inline(never)]
fn refresh(skb: &Skb, flow: *mut Flow) -> i32 {
    // SAFETY: the entry stays in its place while the program runs.
    let (out_ifindex, inbound, by_wan) = unsafe {
        let flow = &*flow;
        (flow.out_ifindex, !flow.is_outbound(), leaves_by_wan(flow))
    };
    let (Some(part), Some(settings)) = (scratch::route(), maps::SETTINGS.get(0)) else {
        return by_route(out_ifindex);
    };
    // SAFETY: see `scratch`.
    let scratch::Route { hop, ends, back } = unsafe { &mut *part };
    if out_ifindex == LOOPBACK {
        // No lookup finds this machine itself, and no other way leads there. It comes by that interface's
        // ingress hook, translated already.
        skb.set_note(TRANSLATED);
        if skb.protocol() == IPV4 {
            // The kernel finds it a local route on the way out, which the loopback device leaves to it: so
            // nobody asks how a packet with an address of this machine's own comes in.
            return redirect_by_route(LOOPBACK);
        }
        // SAFETY: as above.
        return straight(skb, unsafe { &*flow });
    }
    if !addresses(skb, ends) {
        return by_route(out_ifindex);
    }
    // A reply leaves by the WAN that its connection came by, as long as there is a way.
    let found = if inbound {
        route(skb, &ends[0], &ends[1], 0, hop)
    } else {
        by_wan && return_path::next_hop(skb, flow, ends, back, hop)
            || route(skb, &ends[0], &ends[1], out_ifindex, hop)
            || route(skb, &ends[0], &ends[1], 0, hop)
    };
    let role = if by_wan {
        interface_flag::WAN
    } else {
        interface_flag::LAN
    };
    let exit = if found {
        redirectable(hop.ifindex, role)
    } else {
        None
    };
    let Some(exit) = exit else {
        counters::add(Counter::PassedNoRoute, 0);
        return by_route(out_ifindex);
    };
    // SAFETY: the entry stays in its place while the program runs. Two packets that do this at once
    // write the same; a reader in between may send one packet to the old next hop.
    unsafe {
        (*flow).out_ifindex = hop.ifindex;
        (*flow).out_mtu = exit.longest();
        if exit.flags & interface_flag::XDP != 0 {
            (*flow).flags |= flow_flag::XDP;
        } else {
            (*flow).flags &= !flow_flag::XDP;
        }
        if hop.is_resolved != 0 || is_bare(exit) {
            (*flow).macs = hop.macs;
            keep(&mut *flow, settings);
        }
        if is_bare(exit) || hop.is_resolved == Hop::GIVEN {
            return straight(skb, &*flow);
        }
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
        *ends = [Addr::from_v4(ip.src()), Addr::from_v4(ip.dst())];
    } else {
        let Some(ip) = skb.view::<Ipv6>(IP as usize) else {
            return false;
        };
        *ends = [ip.src(), ip.dst()];
    }
    true
}
