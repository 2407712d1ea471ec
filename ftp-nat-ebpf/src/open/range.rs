//! The passive range of a server whose replies are encrypted: a client may connect to it while it has a
//! live TLS session there, one connection for each answer of the server.

use super::permit::session_at;
use super::{alias, mapping, refusal};
use crate::kernel::helpers::{jiffies, repeat};
use crate::kernel::hook::Hook;
use crate::kernel::skb::Skb;
use crate::state::scratch::{Connection, Draft, Head};
use crate::state::{counters, flows, maps, ports, shares};
use aya_ebpf::bindings::BPF_NOEXIST;
use ftp_nat_common::abi::{
    Permit, PublishKey, Session, TLS_SESSIONS, TlsClient, TlsClientKey, cause, event, flow_flag,
    kind, session_flag, share_of_session, side,
};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::ftp::records;
use ftp_nat_common::wire::addr::{Endpoint, Port};
use ftp_nat_common::wire::tcp::flag;

/// What a SYN that nobody announced has come to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// It may not enter, for this reason.
    Denied(Counter),
    /// It goes to a server that keeps its address, and is no matter of FTP.
    Elsewhere,
    /// It was permitted: the connection's flows exist now.
    Opened,
    /// There is no room for flows, or another SYN used the permit at this very moment.
    NoRoom,
}

/// The search for the session that a SYN belongs to: of all that may let it in, the one whose server
/// spoke last.
#[repr(C)]
struct Search {
    part: *mut Draft,
    client: *const TlsClient,
    now: u64,
    timeout: u64,
    /// When the best one's permit was granted.
    granted: u64,
    /// The best one's number; 0: none is found.
    number: u32,
    /// 1: there is a live session.
    is_live: u32,
    /// 1: its server keeps its address.
    is_routed: u32,
    /// 1: there is one whose server's range has the port.
    is_within: u32,
    /// The SYN comes from the inside, and so must its session's client have done.
    is_hairpin: bool,
}

/// Whether the sender of the SYN in the memory has had a TLS session at its destination.
#[inline(never)]
pub(super) fn has_client(part: *mut Draft) -> bool {
    // SAFETY: see `scratch`; no other reference to the headers is alive.
    let head = unsafe { &(*part).head };
    let key = TlsClientKey {
        client: head.source.addr,
        public: head.destination.addr,
    };
    maps::TLS_CLIENTS.get_ptr(key).is_some()
}

/// A SYN that no mapping lets through, from the WAN, or from a client inside that has dialled a public
/// address.
#[inline(never)]
pub(super) fn enter(skb: &Skb, hook: Hook, part: *mut Draft) -> Entry {
    // SAFETY: see `scratch`: fields that lie apart, to which no other reference is alive.
    let (head, connection) = unsafe { (&(*part).head, &mut (*part).connection) };
    let Some(settings) = maps::SETTINGS.get(0) else {
        return Entry::NoRoom;
    };
    let key = TlsClientKey {
        client: head.source.addr,
        public: head.destination.addr,
    };
    let mut search = Search {
        part,
        client: maps::TLS_CLIENTS.get_ptr(key).unwrap_or(core::ptr::null()),
        now: jiffies(),
        timeout: settings.mapping_timeout,
        granted: 0,
        number: 0,
        is_live: 0,
        is_routed: 0,
        is_within: 0,
        is_hairpin: hook == Hook::LanIngress,
    };
    if !search.client.is_null() {
        repeat(TLS_SESSIONS as u32, &mut search, look_at);
    }
    if search.number == 0 {
        return refuse(&search, &head.destination);
    }
    let Some(session) = maps::SESSIONS.get_ptr(search.number) else {
        return Entry::NoRoom;
    };
    // SAFETY: the entry stays in its place while the program runs.
    let (share, most) = unsafe {
        let client = share_of_session(&*session);
        (shares::find(&client), (*session).most_connections)
    };
    if let Some(share) = share {
        // SAFETY: see `shares::find`.
        if shares::is_full(unsafe { (*share).connections }, most) {
            shares::note_refusal(share);
            refusal::deny(head, Counter::DeniedClientConnections as u32);
            return Entry::NoRoom;
        }
    }
    // Whoever removes it uses it: a SYN and its twin on another CPU do not both.
    if maps::PERMITS.remove(search.number).is_err() {
        return Entry::NoRoom;
    }
    connection.session = search.number;
    connection.kind = kind::PASSIVE;
    connection.flags = if search.is_hairpin {
        flow_flag::HAIRPIN | flow_flag::NO_STACK
    } else {
        0
    };
    connection.server_inside = 1;
    connection.outside = head.source;
    connection.public = head.destination;
    // SAFETY: the entry stays in its place while the program runs.
    let session = unsafe { &*session };
    connection.inside = Endpoint::new(session.inside.addr, head.destination.port);
    connection.alias = head.source;
    if session.is_client_hidden() {
        connection.alias = Endpoint::new(session.alias.addr, alias::hidden(head.source.port));
        connection.flags |= flow_flag::NO_STACK;
    }
    if !mapping::find_port(skb, hook, part, true) {
        refusal::deny(head, Counter::DeniedNoRoom as u32);
        let permit = Permit {
            granted: search.granted,
        };
        let _ = maps::PERMITS.insert(search.number, permit, u64::from(BPF_NOEXIST));
        return Entry::NoRoom;
    }
    // SAFETY: see `scratch`; no other reference to it is alive.
    if let (Some(share), 0) = (share, unsafe { (*part).replaced.what }) {
        shares::add_connection(share);
    }
    ports::mark(head.destination.port, settings.hz);
    tell_used(connection);
    Entry::Opened
}

/// Why nobody lets the SYN in.
#[inline(always)]
fn refuse(search: &Search, public: &Endpoint) -> Entry {
    if search.is_within != 0 {
        return Entry::Denied(Counter::DeniedNoPermit);
    }
    if search.is_live != 0 && search.is_routed == 0 {
        return Entry::Denied(Counter::DeniedOutsideRange);
    }
    let key = PublishKey {
        addr: public.addr,
        port: Port(0),
        pad: 0,
    };
    // SAFETY: the entry stays in its place while the program runs.
    match unsafe { maps::PUBLISHED.get(key) } {
        Some(address) if address.has_in_range(public.port.number()) => {
            Entry::Denied(Counter::DeniedNoTls)
        }
        None if ports::marks(public.port) == 0 => Entry::Elsewhere,
        _ => Entry::Denied(Counter::DeniedUnannounced),
    }
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
    if (session.flags & session_flag::HAIRPIN != 0) != search.is_hairpin || !is_live(session, head)
    {
        return 0;
    }
    search.is_live = 1;
    search.is_routed |= u32::from(session.inside.addr == session.public.addr);
    let port = head.destination.port.number();
    if port < session.passive_first || port > session.passive_last {
        return 0;
    }
    search.is_within = 1;
    // SAFETY: as above.
    let Some(permit) = (unsafe { maps::PERMITS.get(number) }) else {
        return 0;
    };
    let granted = permit.granted;
    let is_in_time = search.now.wrapping_sub(granted) <= search.timeout;
    if is_in_time && (search.number == 0 || granted > search.granted) {
        search.number = number;
        search.granted = granted;
    }
    0
}

/// Whether a session is one of the SYN's sender, at the SYN's destination, and both its ends speak TLS
/// and have not ended it.
#[inline(always)]
fn is_live(session: &Session, head: &Head) -> bool {
    session.outside.addr == head.source.addr
        && session.public.addr == head.destination.addr
        && records::has_range(session)
        && is_open(&session.outside, &session.public, side_of_client(session))
        && is_open(seen_inside(session), &session.alias, side::OUTBOUND)
}

/// The server's end of a control connection, as its own packets name it at the WAN.
#[inline(always)]
fn seen_inside(session: &Session) -> &Endpoint {
    if session.flags & session_flag::KERNEL_NAT != 0 {
        &session.public
    } else {
        &session.inside
    }
}

/// The side from which a session's client comes.
#[inline(always)]
fn side_of_client(session: &Session) -> u32 {
    if session.flags & session_flag::HAIRPIN != 0 {
        side::OUTBOUND
    } else {
        side::INBOUND
    }
}

/// Whether a direction of a control connection goes on.
#[inline(never)]
fn is_open(from: &Endpoint, to: &Endpoint, side: u32) -> bool {
    // SAFETY: the entry stays in its place while the program runs.
    flows::find(from, to, side)
        .is_some_and(|flow| unsafe { (*flow).tcp_flags } & (flag::FIN | flag::RST) == 0)
}

#[inline(always)]
fn tell_used(connection: &Connection) {
    counters::add(Counter::PermitUsed, 0);
    counters::tell(|told| {
        told.what = event::USED;
        told.kind = connection.kind;
        told.reason = Counter::PermitUsed as u16;
        told.session = connection.session;
        told.peer = connection.outside;
        told.inside = connection.inside;
        told.public = connection.public;
        told.cause = cause::TLS;
    });
}
