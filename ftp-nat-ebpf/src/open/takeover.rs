//! A data connection that another gateway has let in, or announced, without telling of it: it died right
//! afterwards, and this one has its sessions now.
//!
//! Each session that was taken over may have had one. While this gateway has the session's public address
//! only since a moment ([`is_learning`]), it lets one connection pass between the session's own
//! ends that such a one could be: to the server's passive range, or from the server to its client. Any
//! packet may be the first one, from either end.

use super::connection::{Made, create, find_paths};
use super::learning::is_learning;
use super::mapping::tell_used;
use super::permit::session_at;
use crate::kernel::helpers::repeat;
use crate::kernel::hook::Hook;
use crate::kernel::skb::Skb;
use crate::state::scratch::{Draft, Head};
use crate::state::{counters, maps, ports};
use ftp_nat_common::abi::{
    Session, TLS_SESSIONS, TlsClient, TlsClientKey, cause, kind, role, session_flag, side,
};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::addr::Endpoint;

/// The port that servers connect from (RFC 959 section 3.2).
const DATA_PORT: u16 = 20;

/// Whose a packet of no known connection is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Untold {
    /// Of nobody who has a session here.
    Nobody,
    /// Of the ends of a session whose public address is here only since a moment; it opens nothing.
    Unknown,
    /// It was taken over: its flows exist now.
    Opened,
}

/// The search for the session that a packet belongs to.
#[repr(C)]
struct Search {
    part: *mut Draft,
    client: *const TlsClient,
    /// [`side`].
    side: u32,
    /// 1: a session between these ends is being learned.
    is_known: u32,
    /// The number of the session that the connection is of; 0: none is found.
    number: u32,
    /// 1: the server connects to its client.
    is_active: u32,
}

/// A packet without a flow, whose headers lie in the scratch memory.
#[inline(never)]
pub(super) fn enter(skb: &Skb, hook: Hook, part: *mut Draft) -> Untold {
    // SAFETY: see `scratch`: fields that lie apart, to which no other reference is alive.
    let (head, connection) = unsafe { (&(*part).head, &mut (*part).connection) };
    let is_inbound = hook.side() == side::INBOUND;
    let (client, server) = if is_inbound {
        (&head.source, &head.destination)
    } else {
        (&head.destination, &head.source)
    };
    let key = TlsClientKey {
        client: client.addr,
        public: server.addr,
    };
    let Some(sessions) = maps::TLS_CLIENTS.get_ptr(key) else {
        return Untold::Nobody;
    };
    let mut search = Search {
        part,
        client: sessions,
        side: hook.side(),
        is_known: 0,
        number: 0,
        is_active: 0,
    };
    repeat(TLS_SESSIONS as u32, &mut search, look_at);
    if search.is_known == 0 {
        return Untold::Nobody;
    }
    let Some(session) = maps::SESSIONS.get_ptr_mut(search.number) else {
        return Untold::Unknown;
    };
    // SAFETY: the entry stays in its place while the program runs. Of two packets at the same moment
    // both may make the same flows.
    let session = unsafe {
        (*session).untold = 0;
        &*session
    };
    connection.session = search.number;
    connection.kind = if search.is_active == 0 {
        kind::PASSIVE
    } else {
        kind::ACTIVE
    };
    connection.flags = 0;
    connection.server_inside = 1;
    connection.outside = *client;
    connection.alias = *client;
    connection.public = Endpoint::new(session.public.addr, server.port);
    connection.inside = Endpoint::new(session.inside.addr, server.port);
    find_paths(skb, hook, part);
    if create(false) != Made::Both {
        return Untold::Unknown;
    }
    // SAFETY: as above.
    let connection = unsafe { &(*part).connection };
    if let Some(settings) = maps::SETTINGS.get(0) {
        ports::mark(connection.public.port, settings.hz);
        ports::mark(connection.outside.port, settings.hz);
    }
    counters::add(Counter::TakenOver, 0);
    tell_used(connection, cause::TAKEOVER);
    Untold::Opened
}

/// Looks at one of the client's sessions.
unsafe extern "C" fn look_at(index: u64, search: *mut Search) -> i64 {
    // SAFETY: `repeat` hands over what `enter` made.
    let search = unsafe { &mut *search };
    let Some((number, session)) = session_at(search.client, index) else {
        return 0;
    };
    // SAFETY: see `scratch`; nobody writes the headers meanwhile.
    let head = unsafe { &(*search.part).head };
    if !is_between(session, head, search.side) || !is_learning(&session.public.addr) {
        return 0;
    }
    search.is_known = 1;
    if session.adopted == 0 || session.untold == 0 {
        return 0;
    }
    let (client, server) = if search.side == side::INBOUND {
        (head.source.port.number(), head.destination.port.number())
    } else {
        (head.destination.port.number(), head.source.port.number())
    };
    let is_passive = session.passive_first != 0
        && session.passive_first <= server
        && server <= session.passive_last;
    let is_active =
        search.side == side::OUTBOUND && client >= 1024 && (server == DATA_PORT || server >= 1024);
    if is_passive || is_active {
        search.number = number;
        search.is_active = u32::from(!is_passive);
        return 1;
    }
    0
}

/// Whether a packet is between a session's ends, and could be of a data connection that is translated
/// as those of most servers are.
#[inline(always)]
fn is_between(session: &Session, head: &Head, side: u32) -> bool {
    const OTHERWISE: u8 = session_flag::LOCAL | session_flag::HAIRPIN;
    let ends = if side == side::INBOUND {
        session.outside.addr == head.source.addr && session.public.addr == head.destination.addr
    } else {
        session.inside.addr == head.source.addr && session.outside.addr == head.destination.addr
    };
    ends && session.role == role::PUBLISH
        && session.flags & OTHERWISE == 0
        && session.alias.addr == session.outside.addr
}
