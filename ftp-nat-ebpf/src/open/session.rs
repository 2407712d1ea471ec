//! Sessions: a control connection whose handshake is finished.

use super::connection::{Made, create, find_paths};
use super::dialogue;
use crate::kernel::helpers::{jiffies, random};
use crate::kernel::hook::Hook;
use crate::kernel::skb::Skb;
use crate::state::scratch::{Draft, Head};
use crate::state::{counters, maps, shares};
use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::maps::lpm_trie::Key;
use ftp_nat_common::abi::{
    Answered, Asked, ClientKey, Publish, PublishKey, RoutedKey, Session, event, flow_flag, kind,
    publish_flag, role, session_flag, session_number, share_of_session,
};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::stream::handshake;
use ftp_nat_common::wire::addr::{Addr, Endpoint, Port};

/// How many numbers are tried for a new session.
const TRIES: u32 = 4;

/// The published server behind a public end; None: there is none.
#[inline(always)]
pub(super) fn published(public: &Endpoint) -> Option<&'static Publish> {
    let found = look_up(public);
    // SAFETY: the entry stays in its place while the program runs.
    unsafe { found.as_ref() }
}

/// Its entry, by its address or else by its network; null: there is none. A function of its own: the
/// keys lie on the stack, of which a chain of calls has 512 bytes.
#[inline(never)]
fn look_up(public: &Endpoint) -> *const Publish {
    let key = PublishKey {
        addr: public.addr,
        port: public.port,
        pad: 0,
    };
    if let Some(found) = maps::PUBLISHED.get_ptr(key) {
        return found;
    }
    let key = RoutedKey {
        port: public.port,
        pad: 0,
        addr: public.addr,
    };
    match maps::ROUTED.get(Key::new(RoutedKey::ALL, key)) {
        Some(found) => found,
        None => core::ptr::null(),
    }
}

/// The [`scope`](mod@ftp_nat_common::abi::scope) of a published server's own lists.
#[inline(always)]
pub(super) fn scope(published: &Publish) -> u32 {
    published.index.wrapping_add(1)
}

/// The bits of [`flow_flag`] that a published server's flows have.
#[inline(always)]
pub(super) fn flow_flags(published: &Publish) -> u8 {
    if published.flags & (publish_flag::KERNEL_NAT | publish_flag::LOCAL) == 0 {
        0
    } else {
        flow_flag::NO_NAT
    }
}

/// A SYN of an inside client to an outside server's control port, before the kernel's own NAT: its
/// own address is noted, so that the WAN's hook knows whose it is.
///
/// One who sends a SYN in somebody else's name beside its own, with the same number, has made the
/// entry useless, and gains nothing.
#[inline(always)]
pub(super) fn note_client(skb: &Skb, head: &Head) {
    if !is_inside(&head.source.addr) {
        return;
    }
    let key = ClientKey {
        server: head.destination,
        number: head.segment.seq,
        ifindex: skb.ifindex(),
    };
    if maps::CLIENTS
        .insert(key, head.source, u64::from(BPF_NOEXIST))
        .is_ok()
    {
        return;
    }
    let Some(there) = maps::CLIENTS.get_ptr(key) else {
        return;
    };
    // SAFETY: the entry may be reused while it is read: then it is another one's, and the entry of
    // this key is gone or becomes none.
    if unsafe { *there } != head.source {
        let _ = maps::CLIENTS.insert(key, Endpoint::default(), u64::from(BPF_ANY));
    }
}

/// The own end of the masqueraded client whose SYN leaves for the WAN; none: not known.
#[inline(always)]
pub(super) fn client(skb: &Skb, head: &Head) -> Endpoint {
    let ifindex = skb.ingress_ifindex();
    // This machine's own connection, or one that nobody translates.
    if ifindex == 0 || is_inside(&head.source.addr) {
        return head.source;
    }
    let key = ClientKey {
        server: head.destination,
        number: head.segment.seq,
        ifindex,
    };
    let Some(there) = maps::CLIENTS.get_ptr(key) else {
        return Endpoint::default();
    };
    // SAFETY: the entry may be reused while it is read, for another client's SYN on its way at this
    // very moment: its removal fails then.
    let client = unsafe { *there };
    if maps::CLIENTS.remove(key).is_ok() {
        client
    } else {
        Endpoint::default()
    }
}

/// What the daemon has found out about a session's client, if it is one of the masqueraded networks'.
#[inline(always)]
pub(super) fn found_client(session: &Session, number: u32) -> Endpoint {
    let key = ClientKey {
        server: session.outside,
        number,
        ifindex: 0,
    };
    match maps::CLIENTS.get_ptr(key) {
        // SAFETY: see `client`; the daemon's entries stay for as long as nobody needs their room.
        Some(there) if is_inside(unsafe { &(*there).addr }) => unsafe { *there },
        _ => Endpoint::default(),
    }
}

/// Whether an address is one of the masqueraded clients'.
#[inline(never)]
fn is_inside(addr: &Addr) -> bool {
    maps::INSIDE.get(Key::new(128, *addr)).is_some()
}

/// Makes the session of the handshake in the memory, and the flows of its control connection; gives
/// why it may not be.
#[inline(never)]
pub(super) fn begin(skb: &Skb, hook: Hook, part: *mut Draft) -> Result<(), Counter> {
    // SAFETY: see `scratch`: fields that lie apart, to which no other reference is alive.
    let (half_open, connection, session) = unsafe {
        (
            &(*part).half_open,
            &mut (*part).connection,
            &mut (*part).session,
        )
    };
    session.outside = connection.outside;
    session.public = connection.public;
    session.alias = connection.alias;
    session.role = half_open.role;
    let most = if half_open.role == role::PUBLISH {
        let Some(found) = published(&connection.public) else {
            return Err(Counter::DeniedUnannounced);
        };
        session.inside = connection.inside;
        session.go_by(found);
        if half_open.flow_flags & flow_flag::HAIRPIN != 0 {
            session.flags |= session_flag::HAIRPIN;
            // A client behind the gateway reaches it at the address that it has dialled.
            session.advertise = connection.public.addr;
        }
        found.client_sessions
    } else {
        masquerade(session, &half_open.client)
    };
    session.untold = 0;
    session.hops = [0; 2];
    session.pad2 = [0; 2];
    session.announced = 0;
    session.waiting = [Port(0); 2];
    session.born = jiffies();
    session.adopted = 0;
    session.asked = Asked::default();
    session.answered = Answered::default();
    handshake::establish(half_open, &mut session.commands, &mut session.replies);
    // Complete, and too large to be passed by value.
    let session = &*session;
    let share = shares::find_or_make(&share_of_session(session));
    if let Some(share) = share {
        // Several handshakes may have passed by their SYNs before the first one was finished.
        // SAFETY: see `shares::find`.
        if shares::is_full(unsafe { (*share).sessions }, most) {
            shares::note_refusal(share);
            return Err(Counter::DeniedClientSessions);
        }
        shares::add_session(share);
    }
    let number = insert(session).unwrap_or_default();
    connection.session = number;
    connection.inside = session.inside;
    let mut is_made = number != 0;
    if is_made {
        find_paths(skb, hook, part);
        is_made = create(false) == Made::Both;
    }
    if !is_made {
        let _ = maps::SESSIONS.remove(number);
        if let Some(share) = share {
            shares::take_session(share);
        }
        shares::note_no_room();
        return Err(Counter::DeniedNoRoom);
    }
    dialogue::note(session, number);
    counters::add(Counter::SessionOpened, 0);
    counters::tell(|told| {
        told.what = event::SESSION;
        told.kind = kind::CONTROL;
        told.reason = Counter::SessionOpened as u16;
        counters::about(told, session, number);
    });
    Ok(())
}

/// What a masqueraded client's session goes by. Its control connection is translated by the
/// kernel's own NAT; where `client` is none, its own end is not known. Gives how many sessions its
/// client may have.
#[inline(always)]
fn masquerade(session: &mut Session, client: &Endpoint) -> u32 {
    session.inside = *client;
    session.advertise = session.public.addr;
    session.flags = session_flag::KERNEL_NAT;
    session.deny = 0;
    apply_policy(session);
    session.passive_first = 0;
    session.passive_last = 0;
    session.index = 0;
    let settings = maps::SETTINGS.get(0);
    session.most_connections = settings.map_or(0, |it| it.client_connections);
    settings.map_or(0, |it| it.client_sessions)
}

/// Copies what holds for a masqueraded client's network into its session.
///
/// Not inlined: the key would lie on the stack of whoever calls it.
#[inline(never)]
pub(super) fn apply_policy(session: &mut Session) {
    if let Some(network) = maps::INSIDE.get(Key::new(128, session.inside.addr)) {
        session.flags |= network.flags as u8;
        session.deny = network.deny;
    }
}

/// Makes a session's entry and gives its number; None: the table is full.
#[inline(always)]
fn insert(session: &Session) -> Option<u32> {
    let node = maps::SETTINGS.get(0).map_or(0, |it| it.node);
    let mut tries = 0;
    while tries < TRIES {
        let number = session_number(node, random());
        if maps::SESSIONS
            .insert(number, session, u64::from(BPF_NOEXIST))
            .is_ok()
        {
            return Some(number);
        }
        tries += 1;
    }
    None
}
