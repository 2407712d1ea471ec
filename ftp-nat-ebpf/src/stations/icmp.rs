//! ICMP errors about a flow: without them nobody learns that a packet was too big for a link further
//! on, or that its destination is gone.
//!
//! An error quotes the start of the packet that it is about, as its sender saw that: so the quoted
//! addresses, port and checksums are translated as well (RFC 5508 section 4.2).

use crate::forward::translate::{ONE_HOP, ONE_HOP_V6};
use crate::forward::{return_path, send};
use crate::kernel::hook::{DROP, Hook, NEXT};
use crate::kernel::skb::Skb;
use crate::open::handshake;
use crate::packet::headers::{IP, IPV4, Ipv4, Ipv6, TCP};
use crate::packet::icmp::HEADER;
use crate::state::{counters, flows};
use ftp_nat_common::abi::{Flow, flow_flag, kind};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::addr::{Addr, Endpoint, Port, PortPair};
use ftp_nat_common::wire::checksum::{apply, difference, fold, of_addr};
use ftp_nat_common::wire::tcp::offset;

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
    if flow.flags & flow_flag::NO_NAT != 0 || quote.to != quote.source.addr {
        return NEXT;
    }
    let redirected = flow.out_ifindex != 0 && hook != Hook::WanEgress && quote.ttl > 1;
    if hook == Hook::WanIngress && !is_under_way(skb, quote, flow) {
        counters::add(Counter::PassedOutOfWindow, skb.len().wrapping_sub(IP));
        return NEXT;
    }
    // What the stack forwards is translated on the WAN's side of it.
    if !redirected && (hook == Hook::LanIngress || flow.flags & flow_flag::NO_STACK != 0) {
        return NEXT;
    }
    let inbound = hook == Hook::WanIngress;
    if !inner::<V4>(skb, quote, flow) || !outer::<V4>(skb, quote, flow, redirected) {
        // Half of it is translated already, perhaps.
        counters::add(Counter::DroppedUnwritable, skb.len().wrapping_sub(IP));
        return DROP;
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

/// How far from what was acknowledged last a packet may be that an error is about: of a control connection,
/// which says little, and of a data connection, whose window may be large.
const CONTROL_REACH: u32 = 1 << 16;
/// See [`CONTROL_REACH`].
const DATA_REACH: u32 = 1 << 26;

/// Whether the quoted packet can have been sent, by its sequence number (RFC 5927 section 4.1): who cannot
/// see the connection has to guess it. `flow`: the direction that acknowledges such packets; before it has,
/// nothing is known.
#[inline(always)]
fn is_under_way(skb: &Skb, quote: &Quote, flow: &Flow) -> bool {
    if flow.packets == 0 || flow.acked == 0 {
        return true;
    }
    let Some(seq) = skb.load::<u32>(quote.tcp + offset::SEQ) else {
        return false;
    };
    let reach = if flow.kind == kind::CONTROL {
        CONTROL_REACH
    } else {
        DATA_REACH
    };
    let beyond = u32::from_be(seq).wrapping_sub(flow.acked);
    beyond.wrapping_add(reach) <= reach * 2
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
