//! TCP on a port of FTP: what flow a packet belongs to, and what happens to it.

use crate::clamp;
use crate::control;
use crate::control::Syn;
use crate::count;
use crate::flow::{self, Net};
use crate::forward;
use crate::interest::{self, IPV4};
use crate::kernel::{Context, Skb, jiffies};
use crate::mapping;
use crate::maps;
use crate::packet::{IP, Packet, Reading, tcp};
use crate::publish;
use crate::translate;
use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use ftp_nat_common::abi::{Flow, FlowKey4, FlowKey6, event, flow_flag, kind, port, side};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::addr::Endpoint;

/// The packet goes on as it would without us.
pub const NEXT: i32 = TC_ACT_UNSPEC;
/// The packet goes no further.
pub const DROP: i32 = TC_ACT_SHOT;

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
    /// From its number.
    #[inline(always)]
    pub(crate) const fn of(number: u32) -> Self {
        match number {
            0 => Self::WanIngress,
            1 => Self::WanEgress,
            _ => Self::LanIngress,
        }
    }

    /// Which way packets at this hook go.
    #[inline(always)]
    pub const fn side(self) -> u32 {
        match self {
            Self::WanIngress => side::INBOUND,
            _ => side::OUTBOUND,
        }
    }
}

/// [`known`]'s answer: a SYN, which may open something.
const OPENS: i32 = 0x1000;
/// [`known`]'s answer: a control segment, which must be read.
const CONTROL: i32 = 0x1001;

/// How often a packet was looked at: what its stations change, the next look sees.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Look {
    /// Nothing is known of it.
    First = 0,
    /// Its flow was made just now, or is there.
    Opened = 1,
    /// It was read.
    Read = 2,
}

impl Look {
    /// From its number.
    #[inline(always)]
    const fn of(number: u32) -> Self {
        match number {
            0 => Self::First,
            1 => Self::Opened,
            _ => Self::Read,
        }
    }
}

/// A packet on a port of FTP; gives TC's verdict.
///
/// Each station looks at the packet afresh and nothing is carried from one to the next but the
/// packet itself (and what [`Scratch`](crate::control::Scratch) holds): so the stack stays small,
/// and the verifier sees each station once.
#[inline(always)]
pub fn enter(skb: &Skb) -> i32 {
    let hook = Hook::of(skb.hook());
    let mut answer = look(skb, hook, Look::First);
    if answer == OPENS {
        if !opening(skb, hook) {
            return NEXT;
        }
        answer = look(skb, hook, Look::Opened);
    }
    if answer == CONTROL {
        if !control::read(skb) {
            return DROP;
        }
        answer = look(skb, hook, Look::Read);
    }
    answer
}

#[inline(always)]
fn look(skb: &Skb, hook: Hook, look: Look) -> i32 {
    if skb.protocol() == IPV4 {
        ftp_nat_known4(skb.context(), hook as u32, look as u32)
    } else {
        ftp_nat_known6(skb.context(), hook as u32, look as u32)
    }
}

/// The flow of a packet over IPv4, and what follows from it. A global function, as the steps of
/// reading are: the verifier checks it once for all looks and hooks.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ftp_nat_known4(context: Context, hook: u32, look: u32) -> i32 {
    known::<FlowKey4>(&Skb::of(context), Hook::of(hook), Look::of(look))
}

/// The same over IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ftp_nat_known6(context: Context, hook: u32, look: u32) -> i32 {
    known::<FlowKey6>(&Skb::of(context), Hook::of(hook), Look::of(look))
}

#[inline(always)]
fn known<N: Net>(skb: &Skb, hook: Hook, look: Look) -> i32 {
    let packet = match N::headers(skb) {
        Reading::Tcp(packet) => packet,
        Reading::Fragment => {
            count::add(Counter::PassedFragment, skb.len().wrapping_sub(IP));
            return NEXT;
        }
        Reading::Truncated => {
            count::add(Counter::PassedTruncated, skb.len().wrapping_sub(IP));
            return NEXT;
        }
    };
    if look == Look::First && packet.flags & (tcp::SYN | tcp::ACK_FLAG) == tcp::SYN {
        return if prepare_opening(&packet) {
            OPENS
        } else {
            NEXT
        };
    }
    // On its own, so that only the key has to lie in memory.
    let key = packet.key;
    let Some(flow) = key.find(hook.side()) else {
        if hook == Hook::WanIngress {
            count::add(Counter::PassedNoFlow, packet.total);
        }
        return NEXT;
    };
    // SAFETY: a map's entry stays in its place while a program runs; a direction's
    // packets seldom run on two CPUs, and what that loses are counts.
    let flow = unsafe { &mut *flow };
    let is_last = look == Look::Read || flow.kind != kind::CONTROL || hook == Hook::LanIngress;
    let exit = forward::exit(skb, hook, &packet, flow, is_last);
    // What the stack forwards is translated on the WAN's side of it, like all that it sees; and it
    // answers what is too big or too old with an ICMP error that names the sender's own packet.
    if hook == Hook::LanIngress && !exit.is_redirect() {
        return NEXT;
    }
    if look != Look::Read {
        let mut flags = packet.flags;
        if flags & (tcp::FIN | tcp::RST) != 0 && !is_in_window(&key, packet.seq, flow) {
            count::add(Counter::PassedOutOfWindow, packet.total);
            flags &= !(tcp::FIN | tcp::RST);
        }
        note(flow, flags, packet.ack, packet.total);
        // One that goes by the stack for want of room or time to live is counted at its last look.
        let is_usual =
            is_last || hook == Hook::WanEgress || exit.is_redirect() || flow.out_ifindex == 0;
        if flow.kind == kind::CONTROL
            && !(is_usual && control::is_quiet(&packet, flow))
            && control::prepare(&packet, flow)
        {
            return CONTROL;
        }
    }
    if flow.flags & flow_flag::NO_NAT != 0 {
        return NEXT;
    }
    if !translate::translate(skb, &packet, flow, hook.side(), exit.is_redirect()) {
        count::add(Counter::PassedNoRoom, 0);
        return NEXT;
    }
    if packet.flags & tcp::SYN != 0 && exit.is_redirect() && !clamp::clamp(skb, &packet, flow) {
        count::add(Counter::PassedNoRoom, 0);
        return DROP;
    }
    forward::forward(skb, hook, &packet, flow, exit)
}

/// Leaves what [`opening`] must know of a SYN.
#[inline(always)]
fn prepare_opening<N: Net>(packet: &Packet<N>) -> bool {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's own scratch; programs on one CPU do not interrupt each other.
    unsafe {
        (*scratch).syn = Syn {
            source: packet.key.source(),
            destination: packet.key.destination(),
            seq: packet.seq,
            total: packet.total,
        };
    }
    true
}

/// A SYN: whether it has a flow now.
#[inline(never)]
fn opening(skb: &Skb, hook: Hook) -> bool {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's own scratch; programs on one CPU do not interrupt each other.
    let syn = unsafe { &(*scratch).syn };
    if mapping::use_for(skb, hook) {
        return true;
    }
    if let Some(flow) = flow::find(&syn.source, &syn.destination, hook.side()) {
        // SAFETY: a map's entry stays in its place while a program runs.
        let flow = unsafe { &*flow };
        let again = if flow.kind == kind::CONTROL {
            control::is_same_start(flow, syn.seq)
        } else {
            // A connection that got further than its SYN does not start again unannounced.
            flow.tcp_flags & (tcp::ACK_FLAG | tcp::RST) == 0
        };
        if again {
            return true;
        }
    }
    match hook {
        Hook::WanIngress => {
            if publish::publish(skb, hook) {
                return true;
            }
            count::add(Counter::DeniedUnannounced, syn.total);
            count::tell(|told| {
                told.what = event::DENIED;
                told.reason = Counter::DeniedUnannounced as u16;
                told.peer = syn.source;
                told.public = syn.destination;
            });
            false
        }
        Hook::WanEgress => {
            let marks = interest::marks(syn.destination.port);
            marks & port::MASQUERADED != 0 && publish::masquerade(skb, hook)
        }
        Hook::LanIngress => {
            if interest::marks(syn.destination.port) & port::MASQUERADED != 0 {
                publish::note_client();
            }
            false
        }
    }
}

/// How far before what the other end waits for an end of the connection may stand: something that
/// is repeated.
const BEHIND: u32 = 1 << 16;
/// How far beyond: what is on its way and not acknowledged yet.
const AHEAD: u32 = 1 << 22;

/// Whether a FIN or RST can be of its connection. Somebody who cannot see that has to guess the
/// number: else a forged one would have an idle connection forgotten here within seconds. (The ends
/// judge for themselves, and more strictly, RFC 5961.)
#[inline(never)]
fn is_in_window<N: Net>(key: &N, seq: u32, flow: &Flow) -> bool {
    let end = Endpoint::new(flow.to, flow.port);
    let other = if flow.side() == side::INBOUND {
        N::key(&end, &key.source())
    } else {
        N::key(&key.destination(), &end)
    };
    let Some(other) = other.look_up() else {
        return true;
    };
    // SAFETY: a map's entry stays in its place while a program runs.
    let other = unsafe { &*other };
    let beyond = seq.wrapping_sub(other.acked);
    other.packets == 0 || beyond.wrapping_add(BEHIND) <= AHEAD + BEHIND
}

/// Notes the packet in its flow.
#[inline(always)]
pub fn note(flow: &mut Flow, flags: u8, ack: u32, bytes: u32) {
    flow.packets = flow.packets.wrapping_add(1);
    flow.bytes = flow.bytes.wrapping_add(u64::from(bytes));
    flow.acked = ack;
    let now = jiffies();
    if flow.last_seen != now {
        flow.last_seen = now;
    }
    if flow.tcp_flags | flags != flow.tcp_flags {
        flow.tcp_flags |= flags;
    }
}
