//! Mappings: the first SYN of an announced data connection.

use crate::count;
use crate::flow::{Connection, Net, create};
use crate::gateway::Hook;
use crate::kernel::{Skb, jiffies, random};
use crate::maps;
use ftp_nat_common::abi::{Mapping, MappingKey, Settings, event, side};
use ftp_nat_common::addr::{Addr, Endpoint, Port};
use ftp_nat_common::counter::Counter;

/// How many ports are tried when the wanted one is taken.
pub const TRIES: u32 = 16;

/// Looks for the mapping that lets this SYN through, and makes the connection's flows.
#[inline(always)]
pub fn use_for<N: Net>(skb: &Skb, hook: Hook, key: &N, settings: &Settings, bytes: u32) -> bool {
    let side = hook.side();
    let source = key.source();
    let destination = key.destination();
    let mut wanted = MappingKey {
        src: source.addr,
        dst: destination.addr,
        dport: destination.port,
        pad: 0,
        side,
    };
    let mut found = maps::MAPPINGS.get_ptr(wanted);
    if found.is_none() && side == side::INBOUND {
        // A pinhole that anybody may use (`peer = "any"`) names nobody.
        wanted.src = Addr::default();
        found = maps::MAPPINGS.get_ptr(wanted);
    }
    let Some(found) = found else { return false };
    // SAFETY: the map is not preallocated, so the entry lives on while it is read.
    let mapping = unsafe { *found };
    // Whoever removes it uses it: a SYN and its twin on another CPU do not both.
    if maps::MAPPINGS.remove(wanted).is_err() {
        return false;
    }
    if jiffies() > mapping.expires {
        count::add(Counter::DeniedExpired, bytes);
        return false;
    }
    let made = if side == side::INBOUND {
        let connection = connection(&mapping, source, destination, mapping.to);
        create::<N>(skb, hook, &connection, false)
    } else {
        outbound::<N>(skb, hook, &mapping, source, destination, settings)
    };
    if !made {
        count::add(Counter::PassedMapFull, 0);
        return false;
    }
    count::add(Counter::MappingUsed, 0);
    let (outside, inside, public) = if side == side::INBOUND {
        (source, mapping.to, destination)
    } else {
        (destination, source, mapping.to)
    };
    let mut told = count::stray(event::USED, Counter::MappingUsed, outside, public);
    told.kind = mapping.kind;
    told.session = mapping.session;
    told.inside = inside;
    count::tell(told);
    true
}

#[inline(always)]
fn connection(mapping: &Mapping, outside: Endpoint, public: Endpoint, inside: Endpoint) -> Connection {
    Connection {
        outside,
        public,
        inside,
        session: mapping.session,
        kind: mapping.kind,
        flags: 0,
        server_inside: true,
    }
}

/// The server's own connection goes out: with its source port if the client's end has that free,
/// else with another.
#[inline(always)]
fn outbound<N: Net>(
    skb: &Skb,
    hook: Hook,
    mapping: &Mapping,
    inside: Endpoint,
    outside: Endpoint,
    settings: &Settings,
) -> bool {
    let mut public = Endpoint::new(mapping.to.addr, inside.port);
    let mut tries = 0;
    while tries < TRIES {
        let connection = connection(mapping, outside, public, inside);
        if create::<N>(skb, hook, &connection, true) {
            if tries > 0 {
                crate::interest::note(public.port, settings.hz);
                count::add(Counter::Remapped, 0);
            }
            return true;
        }
        public.port = random_port(settings);
        tries += 1;
    }
    false
}

/// A port of the range for remaps.
#[inline(always)]
pub fn random_port(settings: &Settings) -> Port {
    let first = u32::from(settings.remap_first);
    let size = u32::from(settings.remap_last).wrapping_sub(first).wrapping_add(1) & 0xffff;
    let size = if size == 0 { 1 } else { size };
    Port::new((first + random() % size) as u16)
}
