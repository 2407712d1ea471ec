//! ICMP errors about a flow: without them nobody learns that a packet was too big for a link further
//! on, or that its destination is gone.
//!
//! An error quotes the start of the packet that it is about, as its sender saw that: so the quoted
//! addresses, port, sequence number and checksums are translated as well (RFC 5508 section 4.2).

use crate::forward::translate::{ONE_HOP, ONE_HOP_V6};
use crate::forward::{return_path, send};
use crate::kernel::hook::{DROP, Hook, NEXT};
use crate::kernel::skb::Skb;
use crate::open::handshake;
use crate::packet::headers::{IP, IPV4, Ipv4, Ipv6, TCP};
use crate::packet::icmp::HEADER;
use crate::state::{counters, flows, maps};
use ftp_nat_common::abi::{Flow, direction, flow_flag, kind};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::addr::{Addr, Endpoint, Port, PortPair};
use ftp_nat_common::wire::checksum::{apply, difference, fold, of_addr};
use ftp_nat_common::wire::tcp::offset;

/// The quoted packet's sequence number, in network order.
#[derive(Clone, Copy)]
struct Seq {
    /// As it is quoted: as the packet left this gateway.
    quoted: u32,
    /// As the packet's sender counts.
    original: u32,
}

/// An error and the start of the packet that it quotes.
struct Quote {
    /// Where the error was sent from.
    from: Addr,
    /// Where to.
    to: Addr,
    /// Time to live or hop limit.
    ttl: u8,
    /// Where the ICMP header starts.
    icmp: u32,
    /// Where the quoted IP header starts.
    ip: u32,
    /// Where the quoted TCP header starts.
    tcp: u32,
    /// The quoted packet's source.
    source: Endpoint,
    /// Its destination.
    destination: Endpoint,
}

/// An ICMP error; gives TC's verdict.
#[inline(always)]
pub fn enter(skb: &Skb) -> i32 {
    let hook = Hook::of(skb.hook());
    let v4 = skb.protocol() == IPV4;
    // In functions of their own: their copies of headers would lie under a deep chain of calls.
    let Some(quote) = (if v4 { quote4(skb) } else { quote6(skb) }) else {
        return NEXT;
    };
    if v4 {
        about::<true>(skb, hook, &quote)
    } else {
        about::<false>(skb, hook, &quote)
    }
}

#[inline(never)]
fn quote4(skb: &Skb) -> Option<Quote> {
    let outer = skb.load::<Ipv4>(IP)?;
    let icmp = IP + outer.len();
    let ip = icmp + HEADER;
    let inner = skb.load::<Ipv4>(ip)?;
    if inner.protocol() != TCP || inner.is_later_fragment() {
        return None;
    }
    let tcp = ip + inner.len();
    let [source, destination] = skb.load::<[u16; 2]>(tcp)?;
    Some(Quote {
        from: Addr::from_v4(outer.src()),
        to: Addr::from_v4(outer.dst()),
        ttl: outer.ttl(),
        icmp,
        ip,
        tcp,
        source: Endpoint::new(Addr::from_v4(inner.src()), Port(source)),
        destination: Endpoint::new(Addr::from_v4(inner.dst()), Port(destination)),
    })
}

#[inline(never)]
fn quote6(skb: &Skb) -> Option<Quote> {
    let outer = skb.load::<Ipv6>(IP)?;
    let icmp = IP + size_of::<Ipv6>() as u32;
    let ip = icmp + HEADER;
    let inner = skb.load::<Ipv6>(ip)?;
    if inner.next_header() != TCP {
        return None;
    }
    let tcp = ip + size_of::<Ipv6>() as u32;
    let [source, destination] = skb.load::<[u16; 2]>(tcp)?;
    Some(Quote {
        from: outer.src(),
        to: outer.dst(),
        ttl: outer.hop_limit(),
        icmp,
        ip,
        tcp,
        source: Endpoint::new(inner.src(), Port(source)),
        destination: Endpoint::new(inner.dst(), Port(destination)),
    })
}

/// The flow that the error is about, and what follows.
#[inline(always)]
fn about<const V4: bool>(skb: &Skb, hook: Hook, quote: &Quote) -> i32 {
    // The quoted packet went the other way: its destination is where this direction's come from.
    let found = flows::find(&quote.destination, &quote.source, hook.side());
    let Some(entry) = found.or_else(|| handshake::quoted(hook, &quote.destination, &quote.source))
    else {
        return NEXT;
    };
    // SAFETY: a map's entry stays in its place while a program runs.
    let flow = unsafe { &*entry };
    if quote.to != quote.source.addr {
        return NEXT;
    }
    let Some(seq) = skb.load::<u32>(quote.tcp + offset::SEQ) else {
        return NEXT;
    };
    let seq = Seq {
        quoted: seq,
        original: original(flow, u32::from_be(seq)).to_be(),
    };
    if flow.flags & flow_flag::NO_NAT != 0 {
        // Its ends are the kernel's matter, its numbers are not.
        return if renumber(skb, quote, seq) {
            NEXT
        } else {
            unwritable(skb)
        };
    }
    let redirected = flow.out_ifindex != 0 && hook != Hook::WanEgress && quote.ttl > 1;
    if hook == Hook::WanIngress && !is_under_way(u32::from_be(seq.original), flow) {
        counters::add(Counter::PassedOutOfWindow, skb.len().wrapping_sub(IP));
        return NEXT;
    }
    // What the stack forwards is translated on the WAN's side of it.
    if !redirected && (hook == Hook::LanIngress || flow.flags & flow_flag::NO_STACK != 0) {
        return NEXT;
    }
    let inbound = hook == Hook::WanIngress;
    if !renumber(skb, quote, seq)
        || !inner::<V4>(skb, quote, flow)
        || !outer::<V4>(skb, quote, flow, redirected)
    {
        return unwritable(skb);
    }
    counters::add(
        if inbound {
            Counter::IcmpInbound
        } else {
            Counter::IcmpOutbound
        },
        0,
    );
    if redirected {
        return send::along(skb, entry);
    }
    send::mark(skb);
    if inbound {
        NEXT
    } else {
        return_path::leave(skb, entry)
    }
}

/// The sequence number of a quoted packet as its sender counts: on a control connection, texts that were
/// replaced may have changed their length. `flow`: the direction that answers such packets.
#[inline(always)]
fn original(flow: &Flow, seq: u32) -> u32 {
    if flow.kind != kind::CONTROL {
        return seq;
    }
    let Some(session) = maps::SESSIONS.get_ptr(flow.session) else {
        return seq;
    };
    let is_replies = u8::from(flow.flags & flow_flag::REPLIES == 0);
    // SAFETY: the entry stays in its place while the program runs. An edit that is written meanwhile is of
    // a later packet.
    let edits = unsafe { &direction(&*session, is_replies).edits };
    edits.original(seq, false)
}

/// How far from what was acknowledged last a packet may be that an error is about: of a control connection,
/// which says little, and of a data connection, whose window may be large.
const CONTROL_REACH: u32 = 1 << 16;
/// See [`CONTROL_REACH`].
const DATA_REACH: u32 = 1 << 26;

/// Whether the quoted packet can have been sent, by its sequence number (RFC 5927 section 4.1): who cannot
/// see the connection has to guess it. `flow`: the direction that acknowledges such packets; before it has,
/// nothing is known.
#[inline(always)]
fn is_under_way(seq: u32, flow: &Flow) -> bool {
    if flow.packets == 0 || flow.acked == 0 {
        return true;
    }
    let reach = if flow.kind == kind::CONTROL {
        CONTROL_REACH
    } else {
        DATA_REACH
    };
    let beyond = seq.wrapping_sub(flow.acked);
    beyond.wrapping_add(reach) <= reach * 2
}

/// The verdict on an error half of which is translated already, perhaps.
#[inline(always)]
fn unwritable(skb: &Skb) -> i32 {
    counters::add(Counter::DroppedUnwritable, skb.len().wrapping_sub(IP));
    DROP
}

/// Writes the quoted packet's sequence number, as its sender counts.
#[inline(never)]
fn renumber(skb: &Skb, quote: &Quote, seq: Seq) -> bool {
    if seq.original == seq.quoted {
        return true;
    }
    let moved = difference(u64::from(seq.quoted), u64::from(seq.original));
    if !skb.store(quote.tcp + offset::SEQ, &seq.original) {
        return false;
    }
    let mut change = u64::from(moved);
    let check = quote.tcp + offset::CHECKSUM;
    if let Some(old) = skb.load::<u16>(check) {
        let new = apply(old, moved);
        change += u64::from(difference(u64::from(old), u64::from(new)));
        if !skb.store(check, &new) {
            return false;
        }
    }
    skb.add_to_checksum(quote.icmp + 2, fold(change), false)
}

/// Writes the quoted packet's ends: what they were before the gateway translated that packet, which
/// went the other way.
#[inline(always)]
fn inner<const V4: bool>(skb: &Skb, quote: &Quote, flow: &Flow) -> bool {
    let mut change = u64::from(flow.addr_diff) + u64::from(flow.port_diff);
    let written = if V4 {
        let check = quote.ip + 10;
        let Some(old) = skb.load::<u16>(check) else {
            return false;
        };
        let new = apply(old, flow.addr_diff);
        change += u64::from(difference(u64::from(old), u64::from(new)));
        skb.store(check, &new) && skb.store(quote.ip + 12, &[flow.dst.v4(), flow.src.v4()])
    } else {
        skb.store(quote.ip + 8, &flow.dst) && skb.store(quote.ip + 24, &flow.src)
    };
    let ports = PortPair::new(flow.ports.destination(), flow.ports.source());
    if !written || !skb.store(quote.tcp, &ports) {
        return false;
    }
    // Eight bytes of the transport header are certain, more are usual.
    let check = quote.tcp + offset::CHECKSUM;
    if let Some(old) = skb.load::<u16>(check) {
        let both = u64::from(flow.addr_diff) + u64::from(flow.port_diff);
        let new = apply(old, fold(both));
        change += u64::from(difference(u64::from(old), u64::from(new)));
        if !skb.store(check, &new) {
            return false;
        }
    }
    skb.add_to_checksum(quote.icmp + 2, fold(change), false)
}

/// Writes the error's own addresses: where it goes to, and outbound where it comes from, whoever
/// inside has sent it.
#[inline(always)]
fn outer<const V4: bool>(skb: &Skb, quote: &Quote, flow: &Flow, forwarded: bool) -> bool {
    let from = if flow.flags & flow_flag::OUTBOUND == 0 {
        &quote.from
    } else {
        &flow.src
    };
    let sum = |from: &Addr, to: &Addr| of_addr(&from.0, V4) + of_addr(&to.0, V4);
    let mut change = difference(sum(&quote.from, &quote.to), sum(from, &flow.dst));
    let ttl = quote.ttl.wrapping_sub(1);
    if V4 {
        if forwarded {
            if !skb.store(IP + 8, &ttl) {
                return false;
            }
            change = fold(u64::from(change) + u64::from(ONE_HOP));
        }
        let Some(check) = skb.load::<u16>(IP + 10) else {
            return false;
        };
        skb.store(IP + 10, &apply(check, change)) && skb.store(IP + 12, &[from.v4(), flow.dst.v4()])
    } else {
        // ICMPv6's checksum covers the addresses (RFC 4443 section 2.3).
        if !skb.add_to_checksum(quote.icmp + 2, change, true) {
            return false;
        }
        if forwarded {
            if !skb.store(IP + 7, &ttl) {
                return false;
            }
            change = fold(u64::from(change) + u64::from(ONE_HOP_V6));
        }
        skb.add_to_hardware_sum(change);
        skb.store(IP + 8, from) && skb.store(IP + 24, &flow.dst)
    }
}
