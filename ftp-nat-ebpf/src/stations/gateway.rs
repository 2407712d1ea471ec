//! TCP on a port of FTP: which flow a packet belongs to, and what happens to it.

use crate::control;
use crate::forward::clamp;
use crate::forward::send;
use crate::forward::translate;
use crate::kernel::helpers::jiffies;
use crate::kernel::hook::{DROP, Hook, NEXT};
use crate::kernel::skb::{Context, Skb};
use crate::open::connection;
use crate::open::handshake::{self, Belongs};
use crate::open::learned;
use crate::open::learning;
use crate::open::syn;
use crate::packet::headers::{IP, IPV4};
use crate::packet::segment::{Headers, Packet, Reading};
use crate::state::flows::{self, Table};
use crate::state::scratch::{self, Head};
use crate::state::{counters, maps, ports};

use ftp_nat_common::abi::{Flow, FlowKey4, FlowKey6, HandshakeSegment, flow_flag, kind};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::stream::driver::Verdict;
use ftp_nat_common::wire::tcp::flag;

/// [`known`]'s answer: a SYN, which may open something.
const OPENS: i32 = 0x1000;
/// [`known`]'s answer: a control segment, which must be read.
const CONTROL: i32 = 0x1001;
/// [`known`]'s answer: it may belong to a handshake that is not finished.
const HANDSHAKE: i32 = 0x1002;
/// [`known`]'s answer: a control segment that its receiver will not take.
const UNTAKEN: i32 = 0x1003;

/// [`known`]'s answer: it may be of a connection that was learned from another gateway.
const LEARNED: i32 = 0x1004;

/// What is known of a packet when it is looked at: what its stations change, the next look sees.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Look {
    /// Nothing.
    First = 0,
    /// Its flow was made just now, or is there.
    Opened = 1,
    /// It was read.
    Read = 2,
    /// It belongs to a handshake that is not finished: its flow lies in the scratch memory.
    Unfinished = 3,
    /// TCP does not believe it: it is translated if it has a flow, and noted nowhere.
    Outside = 4,
    /// TCP does not believe it of the session that it has.
    Disbelieved = 5,
}

impl Look {
    /// From its number.
    #[inline(always)]
    const fn of(number: u32) -> Self {
        match number {
            0 => Self::First,
            1 => Self::Opened,
            2 => Self::Read,
            3 => Self::Unfinished,
            4 => Self::Outside,
            _ => Self::Disbelieved,
        }
    }
}

/// A packet on a port of FTP; gives TC's verdict.
///
/// Each station looks at the packet afresh and nothing is carried from one to the next but the
/// packet itself (and what its scratch memory holds): so the stack stays small, and the verifier
/// sees each station once.
#[inline(always)]
pub fn enter(skb: &Skb) -> i32 {
    let hook = Hook::of(skb.hook());
    let mut answer = look(skb, hook, Look::First);
    if answer == OPENS {
        answer = go_on(skb, hook, syn::open(skb, hook));
    } else if answer == HANDSHAKE {
        let mut belongs = handshake::see(skb, hook);
        if belongs == Belongs::Nowhere && learning::is_shared() {
            belongs = learned::open(skb, hook);
        }
        answer = go_on(skb, hook, belongs);
    } else if answer == LEARNED {
        answer = go_on(skb, hook, learned::open(skb, hook));
    }
    if answer == UNTAKEN {
        if control::number_outside(skb) == Verdict::Drop {
            return DROP;
        }
        answer = look(skb, hook, Look::Outside);
    }
    if answer == CONTROL {
        answer = read(skb, hook);
        if answer == HANDSHAKE {
            // Not of this session, but perhaps of a new connection between the same ends.
            let belongs = handshake::see(skb, hook);
            if belongs == Belongs::Nowhere && control::number_outside(skb) == Verdict::Drop {
                return DROP;
            }
            answer = go_on(skb, hook, belongs);
            if answer == CONTROL {
                answer = read(skb, hook);
            }
        }
    }
    // A segment that is of no session at its last look either.
    if answer >= OPENS {
        return NEXT;
    }
    answer
}

/// Looks at the packet again, by what was found.
#[inline(always)]
fn go_on(skb: &Skb, hook: Hook, belongs: Belongs) -> i32 {
    if belongs == Belongs::Finished {
        connection::tell_replaced();
    }
    let next = match belongs {
        Belongs::Nowhere => Look::Outside,
        Belongs::Unfinished => Look::Unfinished,
        Belongs::Finished => Look::Opened,
        Belongs::Denied => return NEXT,
        Belongs::Refused => return DROP,
    };
    look(skb, hook, next)
}

/// Reads a control segment.
#[inline(always)]
fn read(skb: &Skb, hook: Hook) -> i32 {
    match control::drive(skb) {
        Verdict::Drop => DROP,
        Verdict::Send => look(skb, hook, Look::Read),
        Verdict::Outside => look(skb, hook, Look::Disbelieved),
    }
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
        // Its receiver would read a command that the gateway has not read; without its first fragment
        // none becomes whole.
        Reading::Fragment(Some(ports)) if hook == Hook::WanIngress && ports::is_control(ports) => {
            counters::add(Counter::DeniedFragment, skb.len().wrapping_sub(IP));
            return DROP;
        }
        Reading::Fragment(_) => {
            counters::add(Counter::PassedFragment, skb.len().wrapping_sub(IP));
            return NEXT;
        }
        Reading::Mapped => {
            counters::add(Counter::DeniedSource, skb.len().wrapping_sub(IP));
            return DROP;
        }
        Reading::Truncated => {
            counters::add(Counter::PassedTruncated, skb.len().wrapping_sub(IP));
            return NEXT;
        }
    };
    if look == Look::First && packet.flags & (flag::SYN | flag::ACK) == flag::SYN {
        return remember(&packet, OPENS);
    }
    if look == Look::Disbelieved {
        return remember(&packet, HANDSHAKE);
    }
    // On its own, so that only the key has to lie in memory.
    let key = packet.key;
    let found = if look == Look::Unfinished {
        unfinished()
    } else {
        key.find(hook.side())
    };
    let Some(entry) = found else {
        if look == Look::First && ports::is_control(packet.ports) {
            return remember(&packet, HANDSHAKE);
        }
        if look == Look::First && learning::is_shared() {
            return remember(&packet, LEARNED);
        }
        if hook == Hook::WanIngress {
            counters::add(Counter::PassedNoFlow, packet.total);
        }
        return NEXT;
    };
    // SAFETY: the entry stays in its place while the program runs.
    let flow = unsafe { &*entry };
    let is_control = flow.kind == kind::CONTROL;
    let is_last = matches!(look, Look::Read | Look::Unfinished | Look::Outside)
        || flow.kind != kind::CONTROL
        || hook == Hook::LanIngress;
    let way = send::way(skb, hook, &packet, flow, is_last);
    // What the stack forwards is translated on the WAN's side of it, like all that it sees; and it
    // answers what is too big or too old with an ICMP error that names the sender's own packet.
    if !way.is_redirect() {
        if flow.flags & flow_flag::NO_STACK != 0 {
            counters::add(Counter::DroppedNoWay, packet.total);
            return DROP;
        }
        if hook == Hook::LanIngress {
            return NEXT;
        }
    }
    if is_control {
        // One that goes by the stack for want of room or time to live is counted at its last look.
        let is_usual =
            is_last || hook == Hook::WanEgress || way.is_redirect() || flow.out_ifindex == 0;
        let is_judged = !matches!(look, Look::Read | Look::Unfinished | Look::Outside);
        // Servers drop a packet with some options (source routes, wrong lengths) that others take.
        if is_judged && hook == Hook::WanIngress && packet.tcp as usize != IP as usize + N::LEN {
            counters::add(Counter::DeniedExtension, packet.total);
            return DROP;
        }
        if is_judged && !control::segment::read_timestamp(skb, packet.tcp, packet.payload) {
            counters::add(Counter::DeniedTimestamp, packet.total);
            return DROP;
        }
        match look {
            Look::Read => flows::note(entry, control::believed(), packet.ack, packet.total),
            Look::Unfinished | Look::Outside => {}
            _ if !control::segment::will_be_taken(skb, hook, &packet, flow) => {
                // One that ends here is counted as that, when it is looked at again.
                if packet.ttl > 1 || hook == Hook::WanEgress {
                    counters::add(Counter::PassedUntakable, packet.total);
                }
                if control::segment::prepare(skb, &packet, flow) {
                    return UNTAKEN;
                }
            }
            _ if is_usual && control::segment::is_quiet(&packet, flow) => {
                flows::note(entry, packet.flags, packet.ack, packet.total);
            }
            _ if control::segment::prepare(skb, &packet, flow) => return CONTROL,
            _ => {}
        }
    } else {
        let (mut flags, mut ack) = (packet.flags, packet.ack);
        if flags & (flag::SYN | flag::FIN | flag::RST) != 0 {
            if flags & (flag::FIN | flag::RST) != 0 && !is_in_window(&key, packet.seq, flow) {
                counters::add(Counter::PassedOutOfWindow, packet.total);
                flags &= !(flag::FIN | flag::RST);
            }
            if flags & flag::ACK == 0 {
                ack = flow.acked;
            }
            flows::note_bounds(entry, flags, packet.seq, packet.len);
        }
        flows::note(entry, flags, ack, packet.total);
    }
    let is_believed = !matches!(look, Look::Unfinished | Look::Outside);
    if flow.flags & (flow_flag::NO_NAT | flow_flag::CUT) != 0 {
        return unchanged(skb, hook, &packet, &key, entry, is_believed);
    }
    // What cannot be translated whole goes nowhere: half of it is translated already, perhaps.
    if !translate::translate(skb, &packet, flow, way.is_redirect()) {
        counters::add(Counter::DroppedUnwritable, packet.total);
        return DROP;
    }
    if packet.flags & flag::SYN != 0 && way.is_redirect() && !clamp::clamp(skb, &packet, flow) {
        counters::add(Counter::DroppedUnwritable, packet.total);
        return DROP;
    }
    send::forward(skb, hook, &packet, &key, entry, way, is_believed)
}

/// The verdict on a packet that is not translated. The first one of an announced connection to a
/// server on this machine gets the mark that the firewall's input chain accepts.
#[inline(always)]
fn unchanged<N: Table>(
    skb: &Skb,
    hook: Hook,
    packet: &Packet<N>,
    key: &N,
    entry: *mut Flow,
    is_believed: bool,
) -> i32 {
    // SAFETY: the entry stays in its place while the program runs.
    let flow = unsafe { &*entry };
    // The resets with which a command ends a connection that the kernel's own NAT translates pass here.
    let is_reset = flow.flags & flow_flag::NO_NAT != 0 && packet.flags & flag::RST != 0;
    if flow.flags & flow_flag::CUT == 0 || is_reset {
        let is_syn = packet.flags & (flag::SYN | flag::ACK) == flag::SYN;
        if is_syn && hook == Hook::WanIngress && flow.kind == kind::PASSIVE {
            send::mark(skb);
        }
        return send::through_stack(skb, hook, packet, key, entry, is_believed);
    }
    counters::add(Counter::DroppedCut, packet.total);
    DROP
}

/// Leaves the packet's headers in the scratch memory for [`crate::open`]; gives the answer, or that
/// the packet passes if there is no such memory.
#[inline(always)]
fn remember<N: Headers>(packet: &Packet<N>, answer: i32) -> i32 {
    let Some(part) = scratch::opening() else {
        return NEXT;
    };
    // SAFETY: see `scratch`.
    unsafe {
        (*part).head = Head {
            source: packet.key.source(),
            destination: packet.key.destination(),
            segment: HandshakeSegment {
                seq: packet.seq,
                ack: packet.ack,
                flags: packet.flags.into(),
            },
            total: packet.total,
            tcp: packet.tcp,
            payload: packet.payload,
            len: packet.len,
            window: packet.window.into(),
        };
    }
    answer
}

/// The flow for one packet of a handshake that is not finished.
#[inline(always)]
fn unfinished() -> Option<*mut Flow> {
    let part = scratch::opening()?;
    // SAFETY: see `scratch`.
    Some(unsafe { &raw mut (*part).flow })
}

/// Whether a FIN or RST of a data connection can be its sender's: it has the number that the other
/// end waits for, or one near it while the sender is sending (RFC 5961 section 3.2). Somebody who
/// cannot see the connection has to guess that number, and what its sender sends next takes the mark
/// off again.
#[inline(never)]
fn is_in_window<N: Headers + Table>(key: &N, seq: u32, flow: &Flow) -> bool {
    let Some(other) = key.other_way(flow).look_up() else {
        return true;
    };
    // SAFETY: the entry stays in its place while the program runs.
    let other = unsafe { &*other };
    let hz = maps::SETTINGS.get(0).map_or(0, |it| it.hz);
    let is_sending = (jiffies() as u32).wrapping_sub(flow.last_seen) <= hz;
    other.packets == 0 || seq == other.acked || is_sending && flows::is_near(other, seq)
}
