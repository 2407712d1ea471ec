//! The stations in order: what a packet is, what flow it belongs to, what happens to it.

use crate::control;
use crate::count;
use crate::flow::Net;
use crate::forward;
use crate::interest;
use crate::kernel::{Skb, jiffies};
use crate::mapping;
use crate::maps;
use crate::packet::{self, Packet, Reading, tcp};
use crate::publish;
use crate::translate;
use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use ftp_nat_common::abi::{Flow, Settings, event, flow_flag, kind, port, side};
use ftp_nat_common::counter::Counter;

/// The packet goes on as it would without us.
pub const NEXT: i32 = TC_ACT_UNSPEC;
/// The packet goes no further.
pub const DROP: i32 = TC_ACT_SHOT;

/// The note on a packet that was translated already and only passes the WAN's egress hook.
pub const TRANSLATED: u32 = 0xf7a7;

/// Where a program is attached.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// Coming in from outside.
    WanIngress = 0,
    /// Leaving for the outside.
    WanEgress = 1,
    /// Coming from the inside.
    LanIngress = 2,
}

impl Hook {
    /// Which way packets at this hook go.
    #[inline(always)]
    pub const fn side(self) -> u32 {
        match self {
            Self::WanIngress => side::INBOUND,
            _ => side::OUTBOUND,
        }
    }
}

const IPV4: u32 = 0x0800_u16.to_be() as u32;
const IPV6: u32 = 0x86dd_u16.to_be() as u32;

/// A packet enters; gives TC's verdict.
#[inline(always)]
pub fn enter(skb: &Skb, hook: Hook) -> i32 {
    let protocol = skb.protocol();
    if protocol == IPV4 {
        let Some((ports, tcp)) = packet::ports4(skb) else { return NEXT };
        if interest::of(ports) == 0 || is_translated(skb, hook) {
            return NEXT;
        }
        read(skb, hook, packet::read4(skb, ports, tcp))
    } else if protocol == IPV6 {
        let Some((ports, tcp)) = packet::ports6(skb) else { return NEXT };
        if interest::of(ports) == 0 || is_translated(skb, hook) {
            return NEXT;
        }
        read(skb, hook, packet::read6(skb, ports, tcp))
    } else {
        NEXT
    }
}

/// Takes our own note off a packet that we redirected here.
#[inline(always)]
fn is_translated(skb: &Skb, hook: Hook) -> bool {
    if hook != Hook::WanEgress || skb.note() != TRANSLATED {
        return false;
    }
    skb.set_note(0);
    true
}

#[inline(always)]
fn read<N: Net>(skb: &Skb, hook: Hook, reading: Reading<N>) -> i32 {
    match reading {
        Reading::Tcp(mut packet) => {
            packet.key = packet.key.on(hook.side());
            known(skb, hook, &packet)
        }
        Reading::Fragment => {
            count::add(Counter::PassedFragment, skb.len());
            NEXT
        }
        Reading::Truncated => {
            count::add(Counter::PassedTruncated, skb.len());
            NEXT
        }
        Reading::Foreign => NEXT,
    }
}

/// A packet on a port of FTP.
#[inline(always)]
fn known<N: Net>(skb: &Skb, hook: Hook, packet: &Packet<N>) -> i32 {
    let Some(settings) = maps::SETTINGS.get(0) else { return NEXT };
    let mut flow = packet.key.find();
    if packet.flags & (tcp::SYN | tcp::ACK_FLAG) == tcp::SYN {
        match opening(skb, hook, packet, settings, flow) {
            Opening::Fresh => flow = packet.key.find(),
            Opening::Again => {}
            Opening::Refused => return NEXT,
        }
    }
    let Some(flow) = flow else {
        if hook == Hook::WanIngress {
            count::add(Counter::PassedNoFlow, packet.total);
        }
        return NEXT;
    };
    through(skb, hook, packet, settings, flow)
}

/// What a SYN is.
enum Opening {
    /// The first one: its flow was made just now.
    Fresh,
    /// A repetition: its flow is there.
    Again,
    /// Nobody announced it.
    Refused,
}

#[inline(always)]
fn opening<N: Net>(
    skb: &Skb,
    hook: Hook,
    packet: &Packet<N>,
    settings: &Settings,
    flow: Option<*mut Flow>,
) -> Opening {
    if mapping::use_for(skb, hook, &packet.key, settings, packet.total) {
        return Opening::Fresh;
    }
    if let Some(flow) = flow {
        // SAFETY: the map is not preallocated, so the entry lives on while it is read.
        let flow = unsafe { &*flow };
        let again = if flow.kind == kind::CONTROL {
            control::is_same_start(flow, packet.seq)
        } else {
            // A connection that got further than its SYN does not start again unannounced.
            flow.tcp_flags & (tcp::ACK_FLAG | tcp::RST) == 0
        };
        if again {
            return Opening::Again;
        }
    }
    match hook {
        Hook::WanIngress => {
            if publish::publish(skb, hook, &packet.key, packet.seq) {
                return Opening::Fresh;
            }
            count::add(Counter::DeniedUnannounced, packet.total);
            let (peer, public) = (packet.key.source(), packet.key.destination());
            count::tell(count::stray(event::DENIED, Counter::DeniedUnannounced, peer, public));
        }
        Hook::WanEgress => {
            let marks = interest::marks(packet.key.destination().port);
            if marks & port::MASQUERADED != 0 && publish::masquerade(skb, hook, &packet.key, packet.seq) {
                return Opening::Fresh;
            }
        }
        Hook::LanIngress => {}
    }
    Opening::Refused
}

/// A packet of a known flow.
#[inline(always)]
fn through<N: Net>(skb: &Skb, hook: Hook, packet: &Packet<N>, settings: &Settings, flow: *mut Flow) -> i32 {
    // SAFETY: the map is not preallocated, so the entry lives on while it is used; a direction's
    // packets seldom run on two CPUs, and what that loses are counts.
    let flow = unsafe { &mut *flow };
    let exit = forward::exit(skb, hook, packet, flow);
    // What the stack forwards is translated on the WAN's side of it, like all that it sees; and it
    // answers what is too big or too old with an ICMP error that names the sender's own packet.
    if hook == Hook::LanIngress && !exit.is_redirect() {
        return NEXT;
    }
    note(flow, packet.flags, packet.total);
    let mut len = packet.total;
    if flow.kind == kind::CONTROL {
        match control::segment(skb, packet, settings, flow) {
            Some(total) => len = total,
            None => return DROP,
        }
    }
    if flow.flags & flow_flag::NO_NAT != 0 {
        return NEXT;
    }
    if !translate::translate(skb, packet, flow, hook.side(), exit.is_redirect()) {
        count::add(Counter::PassedNoRoom, 0);
        return NEXT;
    }
    forward::forward(skb, hook, settings, flow, exit, len)
}

/// Notes the packet in its flow.
#[inline(always)]
fn note(flow: &mut Flow, flags: u8, bytes: u32) {
    flow.packets = flow.packets.wrapping_add(1);
    flow.bytes = flow.bytes.wrapping_add(u64::from(bytes));
    let now = jiffies();
    if flow.last_seen != now {
        flow.last_seen = now;
    }
    if flow.tcp_flags | flags != flow.tcp_flags {
        flow.tcp_flags |= flags;
    }
}
