//! TC's hooks: the first look, which tells FTP from the rest before anything else is done.

use crate::forward::send::leave;
use crate::kernel::hook::{DROP, Hook, NEXT, WAN_EGRESS_BARE};
use crate::kernel::route::LOOPBACK;
use crate::kernel::skb::{Skb, TRANSLATED};
use crate::packet::extension::{self, Behind};
use crate::packet::headers::{BARE, IP, IPV4, IPV6};
use crate::packet::icmp;
use crate::packet::reach::{self, Carries, Reach};
use crate::state::{counters, maps, ports};
use aya_ebpf::programs::TcContext;
use ftp_nat_common::abi::{DialogueKey, PublishKey, TlsClientKey, station};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::addr::{Addr, Port};
use ftp_nat_common::wire::tcp::flag;

/// A packet comes to a hook: what may be of FTP goes on to a station, which decides; all else goes
/// its way. Gives TC's verdict. `AT`: where the IP header starts, behind Ethernet or at once.
///
/// The stations are programs of their own, behind a tail call. Theirs write to packets, and a
/// program that does has the kernel copy the head of every packet that shares it with another,
/// before it looks at it: only FTP pays for that. And the stations are loaded and verified once,
/// not once a hook.
#[inline(always)]
pub fn enter<const AT: u32>(ctx: &TcContext, hook: Hook) -> i32 {
    let skb = Skb::new(ctx);
    let protocol = skb.protocol();
    let reach = if protocol == IPV4 {
        reach::reach4::<AT>(&skb)
    } else if protocol == IPV6 {
        reach::reach6::<AT>(&skb)
    } else {
        return NEXT;
    };
    let to = match reach.carries {
        Carries::Tcp => {
            if ports::marks_of_pair(reach.ports) == 0
                && !may_open::<AT>(&skb, protocol == IPV4, reach, hook)
            {
                return NEXT;
            }
            station::GATEWAY
        }
        Carries::Extension if hook == Hook::WanIngress && is_hidden_command(&skb, reach) => {
            counters::add(Counter::DeniedExtension, skb.len().wrapping_sub(AT));
            return DROP;
        }
        Carries::Icmp if icmp::is_error(&skb, protocol == IPV4, reach.at) => station::ICMP,
        _ => return NEXT,
    };
    if skb.note() == TRANSLATED && (hook == Hook::WanEgress || skb.ifindex() == LOOPBACK) {
        skb.set_note(0);
        return NEXT;
    }
    if AT == BARE {
        return go_on_bare(ctx, &skb, hook, to);
    }
    match skb.vlan() {
        None => {}
        // A priority tag: the interface is ours, but the next one's tag would not be.
        Some(0) => {
            if !skb.pop_vlan() {
                return NEXT;
            }
        }
        // The VLAN's own interface has its own hooks.
        Some(_) => {
            counters::add(Counter::PassedVlan, skb.len().wrapping_sub(IP));
            return NEXT;
        }
    }
    skb.set_hook(hook as u32);
    if to == station::GATEWAY {
        go_on(ctx, station::GATEWAY);
    } else {
        go_on(ctx, station::ICMP);
    }
    counters::add(Counter::PassedNoStation, skb.len().wrapping_sub(IP));
    NEXT
}

/// Whether what stands behind the extension headers of an IPv6 packet from the outside may be TCP on a
/// control port, or if there are more of them than any host sends. Its receiver would read what the
/// gateway has not.
#[inline(always)]
fn is_hidden_command(skb: &Skb, reach: Reach) -> bool {
    match extension::follow(skb, reach.flags, reach.at) {
        Behind::Other => false,
        Behind::Tcp(ports) => ports::is_control(ports),
        Behind::More => true,
    }
}

/// The same for a packet without an Ethernet header: it gets one, so that stations find everything in
/// its place.
#[inline(always)]
fn go_on_bare(ctx: &TcContext, skb: &Skb, hook: Hook, to: u32) -> i32 {
    if !skb.push_ethernet() {
        counters::add(Counter::DroppedUnwritable, skb.len());
        return DROP;
    }
    skb.set_hook(if hook == Hook::WanEgress {
        WAN_EGRESS_BARE
    } else {
        hook as u32
    });
    if to == station::GATEWAY {
        go_on(ctx, station::GATEWAY);
    } else {
        go_on(ctx, station::ICMP);
    }
    counters::add(Counter::PassedNoStation, skb.len().wrapping_sub(IP));
    leave(skb, NEXT)
}

/// Goes on at a station; comes back if nobody is there.
///
/// Each place in the program has one station: then the kernel makes it a plain jump, else an
/// indirect one, which guarded against speculation (retpoline) costs a data packet three in a
/// hundred of its way.
#[inline(always)]
fn go_on(ctx: &TcContext, station: u32) {
    // SAFETY: the stations are programs for the same kind of context.
    unsafe { maps::STATIONS.tail_call(ctx, station) };
    // Or the compiler makes one call of all that are followed by the same.
    core::hint::black_box(());
}

/// A packet on ports that are none of ours: whether it may open something all the same. A SYN may be
/// for the passive range of a server with which its sender has a TLS session; or it may come to a port
/// that its sender took for an announced one, or from a server to its client, which is counted, so that an
/// operator sees it.
#[inline(always)]
fn may_open<const AT: u32>(skb: &Skb, v4: bool, reach: Reach, hook: Hook) -> bool {
    if reach.flags & (flag::SYN | flag::ACK) != flag::SYN {
        return false;
    }
    let port = reach.ports.destination().number();
    // Below lie the services of the gateway itself.
    if port < 1024 {
        return false;
    }
    let Some(ends) = ends::<AT>(skb, v4) else {
        return false;
    };
    let dialogue = DialogueKey {
        server: ends.client,
        client: ends.public,
    };
    if maps::DIALOGUES.get_ptr(dialogue).is_some() {
        return true;
    }
    if hook != Hook::WanEgress && maps::TLS_CLIENTS.get_ptr(ends).is_some() {
        return true;
    }
    if hook != Hook::WanIngress {
        return false;
    }
    // SAFETY: the entry stays in its place while the program runs.
    let Some(published) = (unsafe { maps::PUBLISHED.get(address_of(&ends)) }) else {
        return false;
    };
    if published.has_in_range(port) {
        return true;
    }
    counters::add(Counter::DeniedUnannounced, skb.len().wrapping_sub(AT));
    false
}

/// A packet's source and destination.
#[inline(never)]
fn ends<const AT: u32>(skb: &Skb, v4: bool) -> Option<TlsClientKey> {
    if v4 {
        let [client, public] = skb.load::<[u32; 2]>(AT + 12)?;
        Some(TlsClientKey {
            client: Addr::from_v4(client),
            public: Addr::from_v4(public),
        })
    } else {
        let [client, public] = skb.load::<[[u32; 4]; 2]>(AT + 8)?;
        Some(TlsClientKey {
            client: Addr(client),
            public: Addr(public),
        })
    }
}

/// The key of the entry that each address with a published server has.
#[inline(always)]
fn address_of(ends: &TlsClientKey) -> PublishKey {
    PublishKey {
        addr: ends.public,
        port: Port(0),
        pad: 0,
    }
}
