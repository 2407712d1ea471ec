//! TCP on a port of FTP: which flow a packet belongs to, and what happens to it.

use crate::control;
use crate::forward::clamp;
use crate::forward::send;
use crate::forward::translate;
use crate::kernel::hook::{DROP, Hook, NEXT};
use crate::kernel::skb::{Context, Skb};
use crate::open::syn;
use crate::packet::headers::{IP, IPV4};
use crate::packet::segment::{Headers, Packet, Reading};
use crate::state::counters;
use crate::state::flows::{self, Table};
use crate::state::scratch::{self, Syn};
use ftp_nat_common::abi::{Flow, FlowKey4, FlowKey6, flow_flag, kind, side};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::stream::driver::Verdict;
use ftp_nat_common::wire::addr::Endpoint;
use ftp_nat_common::wire::tcp::flag;

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
/// packet itself (and what its scratch memory holds): so the stack stays small,
/// and the verifier sees each station once.
#[inline(always)]
pub fn enter(skb: &Skb) -> i32 {
    let hook = Hook::of(skb.hook());
    let mut answer = look(skb, hook, Look::First);
    if answer == OPENS {
        if !syn::open(skb, hook) {
            return NEXT;
        }
        answer = look(skb, hook, Look::Opened);
    }
    if answer == CONTROL {
        if control::drive(skb) == Verdict::Drop {
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
fn known<N: Headers + Table>(skb: &Skb, hook: Hook, look: Look) -> i32 {
    let packet = match N::read(skb) {
        Reading::Tcp(packet) => packet,
        Reading::Fragment => {
            counters::add(Counter::PassedFragment, skb.len().wrapping_sub(IP));
            return NEXT;
        }
        Reading::Truncated => {
            counters::add(Counter::PassedTruncated, skb.len().wrapping_sub(IP));
            return NEXT;
        }
    };
    if look == Look::First && packet.flags & (flag::SYN | flag::ACK) == flag::SYN {
        return if prepare_opening(&packet) {
            OPENS
        } else {
            NEXT
        };
    }
    // On its own, so that only the key has to lie in memory.
    let key = packet.key;
    let Some(entry) = key.find(hook.side()) else {
        if hook == Hook::WanIngress {
            counters::add(Counter::PassedNoFlow, packet.total);
        }
        return NEXT;
    };
    // SAFETY: the entry stays in its place while the program runs.
    let flow = unsafe { &*entry };
    let is_last = look == Look::Read || flow.kind != kind::CONTROL || hook == Hook::LanIngress;
    let way = send::way(skb, hook, &packet, flow, is_last);
    // What the stack forwards is translated on the WAN's side of it, like all that it sees; and it
    // answers what is too big or too old with an ICMP error that names the sender's own packet.
    if hook == Hook::LanIngress && !way.is_redirect() {
        return NEXT;
    }
    if look != Look::Read {
        let mut flags = packet.flags;
        if flags & (flag::FIN | flag::RST) != 0 && !is_in_window(&key, packet.seq, flow) {
            counters::add(Counter::PassedOutOfWindow, packet.total);
            flags &= !(flag::FIN | flag::RST);
        }
        flows::note(entry, flags, packet.ack, packet.total);
        // One that goes by the stack for want of room or time to live is counted at its last look.
        let is_usual =
            is_last || hook == Hook::WanEgress || way.is_redirect() || flow.out_ifindex == 0;
        if flow.kind == kind::CONTROL
            && !(is_usual && control::segment::is_quiet(&packet, flow))
            && control::segment::prepare(skb, &packet, flow)
        {
            return CONTROL;
        }
    }
    if flow.flags & flow_flag::NO_NAT != 0 {
        return NEXT;
    }
    if !translate::translate(skb, &packet, flow, hook.side(), way.is_redirect()) {
        counters::add(Counter::PassedNoRoom, 0);
        return NEXT;
    }
    if packet.flags & flag::SYN != 0 && way.is_redirect() && !clamp::clamp(skb, &packet, flow) {
        counters::add(Counter::PassedNoRoom, 0);
        return DROP;
    }
    send::forward(skb, hook, &packet, entry, way)
}

/// Leaves what `open::syn` must know of a SYN.
#[inline(always)]
fn prepare_opening<N: Headers>(packet: &Packet<N>) -> bool {
    let Some(part) = scratch::opening() else {
        return false;
    };
    // SAFETY: see `scratch`.
    unsafe {
        (*part).syn = Syn {
            source: packet.key.source(),
            destination: packet.key.destination(),
            seq: packet.seq,
            total: packet.total,
        };
    }
    true
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
fn is_in_window<N: Headers + Table>(key: &N, seq: u32, flow: &Flow) -> bool {
    let end = Endpoint::new(flow.to, flow.port);
    let other = if flow.side() == side::INBOUND {
        N::new(&end, &key.source())
    } else {
        N::new(&key.destination(), &end)
    };
    let Some(other) = other.look_up() else {
        return true;
    };
    // SAFETY: a map's entry stays in its place while a program runs.
    let other = unsafe { &*other };
    let beyond = seq.wrapping_sub(other.acked);
    other.packets == 0 || beyond.wrapping_add(BEHIND) <= AHEAD + BEHIND
}
