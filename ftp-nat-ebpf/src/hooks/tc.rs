//! TC's hooks: the first look, which tells FTP from the rest before anything else is done.

use crate::kernel::hook::{Hook, NEXT};
use crate::kernel::skb::{Skb, TRANSLATED};
use crate::packet::headers::{IP, IPV4, IPV6};
use crate::packet::icmp;
use crate::packet::reach::{self, Carries, Reach};
use crate::state::{counters, maps, ports};
use aya_ebpf::programs::TcContext;
use ftp_nat_common::abi::{PublishKey, station};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::addr::{Addr, Port};
use ftp_nat_common::wire::tcp::flag;

/// A packet comes to a hook: what may be of FTP goes on to a station, which decides; all else goes
/// its way. Gives TC's verdict.
///
/// The stations are programs of their own, behind a tail call. Theirs write to packets, and a
/// program that does has the kernel copy the head of every packet that shares it with another,
/// before it looks at it: only FTP pays for that. And the stations are loaded and verified once,
/// not once a hook.
#[inline(always)]
pub fn enter(ctx: &TcContext, hook: Hook) -> i32 {
    let skb = Skb::new(ctx);
    let protocol = skb.protocol();
    let reach = if protocol == IPV4 {
        reach::reach4(&skb)
    } else if protocol == IPV6 {
        reach::reach6(&skb)
    } else {
        return NEXT;
    };
    let to = match reach.carries {
        Carries::Tcp => {
            if ports::marks_of_pair(reach.ports) == 0 {
                if hook == Hook::WanIngress {
                    unannounced(&skb, protocol == IPV4, reach);
                }
                return NEXT;
            }
            station::GATEWAY
        }
        Carries::Icmp if icmp::is_error(&skb, protocol == IPV4, reach.at) => station::ICMP,
        _ => return NEXT,
    };
    if hook == Hook::WanEgress && skb.note() == TRANSLATED {
        skb.set_note(0);
        return NEXT;
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

/// A packet on ports that are none of ours. A SYN to a published address may come to a port that
/// its sender took for an announced one: counted, so that an operator sees it.
#[inline(always)]
fn unannounced(skb: &Skb, v4: bool, reach: Reach) {
    if reach.flags & (flag::SYN | flag::ACK) != flag::SYN {
        return;
    }
    // Below lie the services of the gateway itself.
    if reach.ports.destination().number() < 1024 {
        return;
    }
    if is_published(skb, v4) {
        counters::add(Counter::DeniedUnannounced, skb.len().wrapping_sub(IP));
    }
}

/// Whether a packet goes to an address with a published server: those have an entry for port 0.
#[inline(never)]
fn is_published(skb: &Skb, v4: bool) -> bool {
    let addr = if v4 {
        skb.load::<u32>(IP + 16).map(Addr::from_v4)
    } else {
        skb.load::<[u32; 4]>(IP + 24).map(Addr)
    };
    let Some(addr) = addr else { return false };
    let key = PublishKey {
        addr,
        port: Port(0),
        pad: 0,
    };
    maps::PUBLISHED.get_ptr(key).is_some()
}
