//! The entrances: the one look that tells FTP from the rest, before anything else is done.

use crate::count;
use crate::gateway::{Hook, NEXT};
use crate::icmp;
use crate::kernel::{Skb, jiffies};
use crate::maps;
use crate::packet::{self, Carries, IP, Reach, tcp};
use aya_ebpf::programs::TcContext;
use ftp_nat_common::abi::{PublishKey, port, station};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::addr::{Addr, Port, PortPair};

/// The note on a packet that was translated already and only passes the WAN's egress hook.
pub const TRANSLATED: u32 = 0xf7a7;

/// IPv4's EtherType, as it lies in the packet.
pub const IPV4: u32 = 0x0800_u16.to_be() as u32;
/// IPv6's.
const IPV6: u32 = 0x86dd_u16.to_be() as u32;

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
        packet::reach4(&skb)
    } else if protocol == IPV6 {
        packet::reach6(&skb)
    } else {
        return NEXT;
    };
    let to = match reach.carries {
        Carries::Tcp => {
            if of(reach.ports) == 0 {
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
            count::add(Counter::PassedVlan, skb.len().wrapping_sub(IP));
            return NEXT;
        }
    }
    skb.set_hook(hook as u32);
    if to == station::GATEWAY {
        go_on(ctx, station::GATEWAY);
    } else {
        go_on(ctx, station::ICMP);
    }
    count::add(Counter::PassedNoStation, skb.len().wrapping_sub(IP));
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

/// What is known of a packet's ports: 0, it is none of ours; else the marks of both.
#[inline(always)]
pub fn of(ports: PortPair) -> u8 {
    let Some(known) = maps::PORTS.get(0) else {
        return 0;
    };
    known.0[ports.source().place()] | known.0[ports.destination().place()]
}

/// A packet on ports that are none of ours. A SYN to a published address may come to a port that
/// its sender took for an announced one: counted, so that an operator sees it.
#[inline(always)]
fn unannounced(skb: &Skb, v4: bool, reach: Reach) {
    if reach.flags & (tcp::SYN | tcp::ACK_FLAG) != tcp::SYN {
        return;
    }
    // Below lie the services of the gateway itself.
    if reach.ports.destination().number() < 1024 {
        return;
    }
    if is_published(skb, v4) {
        count::add(Counter::DeniedUnannounced, skb.len().wrapping_sub(IP));
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

/// The marks of one port.
#[inline(always)]
pub fn marks(port: Port) -> u8 {
    maps::PORTS.get(0).map_or(0, |known| known.0[port.place()])
}

/// Makes packets on this port interesting from now on. The daemon forgets it when no flow has used
/// it for long.
#[inline(always)]
pub fn note(of: Port, hz: u32) {
    let Some(known) = maps::PORTS.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the map's value is that large; single bytes are written whole, and a lost race only
    // loses to the same epoch.
    unsafe {
        let mark = &mut (*known).0[of.place()];
        *mark = (*mark & !port::EPOCH) | port::epoch(jiffies(), hz);
    }
}
