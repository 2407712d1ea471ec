//! Control connections: the SYN that begins a session.

use crate::control::Scratch;
use crate::count;
use crate::flow::{Connection, Net, create};
use crate::gateway::Hook;
use crate::kernel::{Skb, jiffies, random};
use crate::maps;
use aya_ebpf::bindings::BPF_NOEXIST;
use ftp_nat_common::abi::{
    Answered, Asked, Direction, PublishKey, event, flow_flag, kind, publish_flag, role, session_flag,
};
use ftp_nat_common::addr::Endpoint;
use ftp_nat_common::counter::Counter;
use ftp_nat_common::segment;

/// A client's SYN to a published control address.
#[inline(always)]
pub fn publish<N: Net>(skb: &Skb, hook: Hook, key: &N, seq: u32) -> bool {
    let public = key.destination();
    let wanted = PublishKey { addr: public.addr, port: public.port, pad: 0 };
    // SAFETY: the map is not preallocated, so an entry lives on while it is read.
    let Some(found) = (unsafe { maps::PUBLISHED.get(wanted) }) else { return false };
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return false };
    // SAFETY: this CPU's own scratch; programs on one CPU do not interrupt each other.
    let session = unsafe { &mut (*scratch).session };
    let mut flags = 0;
    if found.flags & publish_flag::KERNEL_NAT != 0 {
        flags |= session_flag::KERNEL_NAT;
    }
    if found.flags & publish_flag::LOCAL != 0 {
        flags |= session_flag::LOCAL;
    }
    if found.flags & publish_flag::ANY_PEER != 0 {
        flags |= session_flag::ANY_PEER;
    }
    session.inside = found.server;
    session.outside = key.source();
    session.public = public;
    session.advertise = found.advertise;
    session.role = role::PUBLISH;
    session.flags = flags;
    session.passive_first = found.passive_first;
    session.passive_last = found.passive_last;
    session.index = found.index;
    begin::<N>(skb, hook, scratch, seq)
}

/// A SYN of one of our clients to an outside server's control port: the kernel's own NAT
/// translates the connection, we read it.
#[inline(always)]
pub fn masquerade<N: Net>(skb: &Skb, hook: Hook, key: &N, seq: u32) -> bool {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return false };
    // SAFETY: this CPU's own scratch; programs on one CPU do not interrupt each other.
    let session = unsafe { &mut (*scratch).session };
    session.inside = Endpoint::default();
    session.outside = key.destination();
    session.public = key.source();
    session.advertise = session.public.addr;
    session.role = role::MASQUERADE;
    session.flags = session_flag::KERNEL_NAT;
    session.passive_first = 0;
    session.passive_last = 0;
    session.index = 0;
    begin::<N>(skb, hook, scratch, seq)
}

/// Makes the session that lies in the scratch memory, and the flows of its control connection.
#[inline(always)]
fn begin<N: Net>(skb: &Skb, hook: Hook, scratch: *mut Scratch, seq: u32) -> bool {
    // SAFETY: this CPU's own scratch; programs on one CPU do not interrupt each other.
    let session = unsafe { &mut (*scratch).session };
    session.pad = 0;
    session.born = jiffies();
    session.asked = Asked { passive: 0, commands: 0, passive_at: 0, auth: 0 };
    session.answered = Answered {
        passive: 0,
        replies: 0,
        auth: 0,
        encrypted: 0,
        multiline: 0,
        greeted: 0,
        opened_port: Default::default(),
        opened_public: Default::default(),
    };
    clear(&mut session.commands);
    clear(&mut session.replies);
    segment::start(&mut session.commands, seq);
    let mut number = random() | 1;
    let mut tries = 0;
    while tries < 4 {
        if maps::SESSIONS.insert(number, &*session, u64::from(BPF_NOEXIST)).is_ok() {
            break;
        }
        number = random() | 1;
        tries += 1;
    }
    if tries == 4 {
        count::add(Counter::PassedMapFull, 0);
        return false;
    }
    let no_nat = session.flags & (session_flag::KERNEL_NAT | session_flag::LOCAL) != 0;
    let connection = Connection {
        outside: session.outside,
        public: session.public,
        inside: session.inside,
        session: number,
        kind: kind::CONTROL,
        flags: if no_nat { flow_flag::NO_NAT } else { 0 },
        server_inside: session.role == role::PUBLISH,
    };
    if !create::<N>(skb, hook, &connection, false) {
        let _ = maps::SESSIONS.remove(number);
        count::add(Counter::PassedMapFull, 0);
        return false;
    }
    count::add(Counter::SessionOpened, 0);
    count::tell(count::event(session, number, event::SESSION, kind::CONTROL, Counter::SessionOpened));
    true
}

/// A direction in which nothing was seen yet. What its buffers hold does not matter then.
#[inline(always)]
fn clear(direction: &mut Direction) {
    direction.seen = 0;
    direction.held_len = 0;
    direction.line_len = 0;
    direction.head = 0;
    direction.flags = 0;
    direction.pad = [0; 3];
    direction.isn = 0;
    direction.held_since = 0;
    direction.gap_since = 0;
    direction.edits.count = 0;
    direction.edits.adjusted = 0;
    direction.edits.growth = 0;
    direction.edits.pad = 0;
}

