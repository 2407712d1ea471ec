//! Opening what a control connection announces.
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "by value, a key would be copied to the stack, which has 512 bytes for a chain of calls"
)]

use super::alias;
use super::permit;
use super::port_search::{TRIES, random_port};
use super::reserved;
use super::session::{apply_policy, found_client};
use crate::kernel::helpers::{jiffies, repeat};
use crate::state::scratch::{self, Pinhole};
use crate::state::{announced, counters, maps, ports, shares};
use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use core::ptr;
use ftp_nat_common::abi::{
    Mapping, MappingKey, PublishKey, Said, Session, Settings, also, event, flow_flag, kind, opened,
    port, rewritten, role, session_flag, setting, share_of_session, side,
};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::gate::{Gate, Opening};
use ftp_nat_common::wire::addr::{Addr, Endpoint, Port};

/// Opens and closes pinholes for one session, and reports what happens in it.
#[derive(Clone, Copy)]
pub struct Pinholes {
    /// The session's number.
    pub session: u32,
}

/// How the try for a port ended.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Try {
    /// The pinhole is open.
    Opened = 0,
    /// The port is in use by another mapping, a control connection, or somebody else.
    Taken = 1,
    /// The table is full.
    Full = 2,
}

impl Try {
    /// From its number.
    #[inline(always)]
    const fn of(number: u32) -> Self {
        match number {
            0 => Self::Opened,
            1 => Self::Taken,
            _ => Self::Full,
        }
    }
}

/// Searches for a port, from the one in the memory's key on; gives [`Try`].
///
/// A global function: the verifier checks it once and by itself. It takes the memory anew: Linux 6.1
/// puts nothing into a map that lies behind a pointer from another function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ftp_nat_search() -> u32 {
    let Some(mut part) = scratch::pinhole() else {
        return Try::Full as u32;
    };
    repeat(TRIES, &mut part, try_port);
    // SAFETY: the caller's part of the scratch memory; the loop is over.
    unsafe { (*part).tried }
}

/// Tries the port in the key; the next turn takes another. 1 ends the loop.
unsafe extern "C" fn try_port(_index: u64, part: *mut *mut Pinhole) -> i64 {
    let Some(settings) = maps::SETTINGS.get(0) else {
        return 1;
    };
    // SAFETY: `repeat` hands over what `ftp_nat_search` has.
    let part = unsafe { &mut **part };
    let tried = open_on(&part.key, &part.mapping);
    part.tried = tried as u32;
    let its_own = part.mapping.flow_flags & flow_flag::NO_NAT != 0;
    // Without translation no other port will do.
    if tried != Try::Taken || its_own {
        return 1;
    }
    part.key.dport = random_port(settings);
    0
}

#[inline(always)]
fn open_on(key: &MappingKey, mapping: &Mapping) -> Try {
    // Most ports are no control port of anybody: that is known at a glance.
    if ports::marks(key.dport) & port::PUBLISHED != 0 {
        let published = PublishKey {
            addr: key.dst,
            port: key.dport,
            pad: 0,
        };
        if maps::PUBLISHED.get_ptr(published).is_some() {
            return Try::Taken;
        }
    }
    if reserved::is_somebody_elses(&Endpoint::new(key.dst, key.dport), &mapping.to) {
        return Try::Taken;
    }
    match maps::MAPPINGS.insert(key, mapping, u64::from(BPF_NOEXIST)) {
        Ok(()) => return Try::Opened,
        // EEXIST: there is an entry of this key.
        Err(-17) => {}
        Err(_) => return Try::Full,
    }
    let Some(there) = maps::MAPPINGS.get_ptr(key) else {
        return Try::Taken;
    };
    // SAFETY: the entry stays in its place while the program runs.
    let there = unsafe { &*there };
    // The same end announced again, or an announcement that nobody came for in time.
    let is_same = there.to == mapping.to && there.other == mapping.other;
    let free = is_same || jiffies() > there.expires;
    if free
        && maps::MAPPINGS
            .insert(key, mapping, u64::from(BPF_ANY))
            .is_ok()
    {
        Try::Opened
    } else {
        Try::Taken
    }
}

impl Pinholes {
    /// Fills in the key of a pinhole: for connections to a public port, or outward, from the inside
    /// server to its client's.
    #[inline(never)]
    fn fill_key(key: &mut MappingKey, session: &Session, outward: bool, port: Port) {
        let is_hairpin = session.flags & session_flag::HAIRPIN != 0;
        key.dport = port;
        key.pad = 0;
        key.side = if outward || is_hairpin {
            side::OUTBOUND
        } else {
            side::INBOUND
        };
        if outward {
            key.src = session.inside.addr;
            key.dst = session.alias.addr;
            return;
        }
        key.dst = session.public.addr;
        key.src = if session.flags & session_flag::ANY_PEER != 0 {
            Addr::default()
        } else {
            session.outside.addr
        };
    }

    /// Takes a pinhole of this session back, if nobody has come for it.
    #[inline(never)]
    fn withdraw(&self, key: &MappingKey) {
        let Some(there) = maps::MAPPINGS.get_ptr(key) else {
            return;
        };
        // SAFETY: the entry stays in its place while the program runs. One that is reused meanwhile
        // has another key, and is not removed by this one.
        if unsafe { (*there).session } == self.session {
            let _ = maps::MAPPINGS.remove(key);
        }
    }

    /// Fills in the mapping of an announced connection.
    #[inline(never)]
    fn fill(&self, mapping: &mut Mapping, opening: &Opening, session: &Session, wanted: Port) {
        let is_hidden = session.is_client_hidden();
        let to = &mut mapping.to;
        let other = &mut mapping.other;
        *other = Endpoint::default();
        if opening.kind == kind::PASSIVE {
            *to = Endpoint::new(session.inside.addr, opening.port);
        } else if session.role == role::PUBLISH {
            *to = Endpoint::new(session.public.addr, Port(0));
            if is_hidden || wanted != opening.port {
                *other = Endpoint::new(opening.addr, opening.port);
            }
        } else {
            *to = Endpoint::new(opening.addr, opening.port);
        }
        if is_hidden && opening.kind == kind::PASSIVE {
            other.addr = session.alias.addr;
        }
        mapping.flow_flags = 0;
        if session.flags & session_flag::LOCAL != 0 {
            mapping.flow_flags = flow_flag::NO_NAT;
        }
        if session.flags & session_flag::HAIRPIN != 0 {
            mapping.flow_flags = flow_flag::HAIRPIN | flow_flag::NO_STACK;
        }
        if is_hidden {
            mapping.flow_flags |= flow_flag::NO_STACK;
        }
        mapping.session = self.session;
        mapping.kind = opening.kind;
        mapping.cause = opening.cause;
        mapping.flags = 0;
        mapping.most_connections = session.most_connections;
        mapping.pad = 0;
        mapping.client = share_of_session(session);
        mapping.born = jiffies();
        let timeout = maps::SETTINGS.get(0).map_or(0, |it| it.mapping_timeout);
        mapping.expires = mapping.born.wrapping_add(timeout);
    }

    /// Lets connections through to the port in the memory's key, or to another one if its peer has
    /// that in use. `wanted`: the announced one.
    ///
    /// The memory comes as a pointer, because the search writes to it as well: through a reference,
    /// the compiler would take the port that was wanted for the one that was found.
    #[inline(always)]
    fn open_by_search(part: *mut Pinhole, wanted: Port, hz: u32) -> Result<Port, Counter> {
        // SAFETY: see `scratch`; no reference to it is alive while the search runs.
        unsafe { (*part).tried = Try::Taken as u32 };
        match Try::of(ftp_nat_search()) {
            Try::Opened => {
                // SAFETY: as above; the search is over.
                let public = unsafe { (*part).key.dport };
                ports::mark(public, hz);
                ports::mark(wanted, hz);
                Ok(public)
            }
            Try::Full => Err(Counter::PassedMapFull),
            Try::Taken => Err(Counter::DeniedNoPort),
        }
    }

    /// Lets a connection to the port in the memory's key out.
    #[inline(always)]
    fn open_outbound(part: *mut Pinhole, wanted: Port, hz: u32) -> Result<Port, Counter> {
        // SAFETY: see `scratch`.
        let part = unsafe { &*part };
        let inserted = maps::MAPPINGS.insert(&part.key, &part.mapping, u64::from(BPF_ANY));
        if inserted.is_err() {
            return Err(Counter::PassedMapFull);
        }
        ports::mark(wanted, hz);
        Ok(wanted)
    }

    /// [`Gate::open`].
    #[inline(always)]
    fn make(&self, session: &mut Session, opening: &Opening) -> Result<Port, Counter> {
        let passive = opening.kind == kind::PASSIVE;
        let (Some(part), Some(settings)) = (scratch::pinhole(), maps::SETTINGS.get(0)) else {
            return Err(Counter::PassedMapFull);
        };
        if !may_announce(session, settings) {
            return Err(Counter::DeniedRate);
        }
        let outward = !passive && session.role == role::PUBLISH;
        let wanted = if opening.public.0 != 0 {
            opening.public
        } else {
            opening.port
        };
        // A port of the gateway's own address is for it to choose.
        let is_hidden = outward && session.is_client_hidden() && opening.public.0 == 0;
        let first = if is_hidden {
            alias::hidden(wanted)
        } else {
            wanted
        };
        // SAFETY: see `scratch`: two fields, to which no other reference is alive.
        unsafe {
            self.fill(&mut (*part).mapping, opening, session, wanted);
            Self::fill_key(&mut (*part).key, session, outward, first);
        }
        let result = if outward && !is_hidden {
            Self::open_outbound(part, wanted, settings.hz)
        } else {
            Self::open_by_search(part, wanted, settings.hz)
        };
        let Ok(public) = result else { return result };
        let waiting = &mut session.waiting[usize::from(!passive)];
        let earlier = core::mem::replace(waiting, public);
        if earlier != Port(0) && earlier != public {
            // SAFETY: as above.
            let key = unsafe { &mut (*part).key };
            Self::fill_key(key, session, outward, earlier);
            self.withdraw(key);
        }
        if passive && session.role == role::PUBLISH {
            announced::note(&session.inside.addr, opening.port.number());
        }
        result
    }

    /// Counts and tells. `what`: [`event`], and [`also`] from bit [`ALSO`] on; `public`: the port outside, 0 if
    /// there is none or none is known yet.
    #[inline(always)]
    fn event(
        &self,
        session: &Session,
        what: u8,
        counter: Counter,
        opening: &Opening,
        public: Port,
    ) {
        let what_why = u32::from(what) << 16 | counter as u32;
        let (session, opening) = (ptr::from_ref(session), ptr::from_ref(opening));
        ftp_nat_tell(session, self.session, what_why, opening, public.0.into());
    }
}

/// From which bit on a byte that has an [`event`] has [`also`]: there are fewer events than 64.
const ALSO: u8 = 6;

/// Counts and tells what happened in a session; `what_why`: [`event`] and [`also`] in the high half, the
/// counter in the low one; `public`: a port, in network order.
///
/// A global function: the verifier checks it once and by itself.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ftp_nat_tell(
    session: *const Session,
    number: u32,
    what_why: u32,
    opening: *const Opening,
    public: u32,
) -> u32 {
    // SAFETY: references, as `Pinholes::event` hands them over.
    let (Some(session), Some(opening)) = (unsafe { (session.as_ref(), opening.as_ref()) }) else {
        return 0;
    };
    let counter = what_why & 0xffff;
    counters::add_number(counter, 0);
    let what = (what_why >> 16) as u8;
    let also = what >> ALSO;
    if also & also::REMAPPED != 0 {
        counters::add(Counter::Remapped, 0);
    }
    if also & also::REWRITTEN != 0 {
        counters::add(rewritten(opening.cause), 0);
    }
    let is_denial = what_why >> 16 == u32::from(event::DENIED);
    if is_denial && !counters::may_tell_denied() {
        return 0;
    }
    counters::tell(|told| {
        told.what = what & ((1 << ALSO) - 1);
        told.also = also;
        told.kind = opening.kind;
        told.reason = counter as u16;
        counters::about(told, session, number);
        told.announced = opening.addr;
        told.cause = opening.cause;
        if opening.cause == 0 {
            // About the control connection itself.
            return;
        }
        told.public.port = Port(public as u16);
        if opening.kind == kind::ACTIVE && session.role == role::PUBLISH {
            // The client listens; from which port the server comes is not known yet.
            told.peer.port = opening.port;
            told.inside.port = Port(0);
        } else {
            told.peer.port = Port(0);
            told.inside.port = opening.port;
        }
    });
    0
}

/// Opens a pinhole; gives the port that it got, in network order, or [`FAILED`]: then the memory's
/// [`Pinhole::reason`] says why.
///
/// A global function: the verifier checks it once and by itself.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ftp_nat_open(session: *mut Session, number: u32, opening: *const Opening) -> u32 {
    // SAFETY: references, as `Gate::open` hands them over.
    let (Some(session), Some(opening)) = (unsafe { (session.as_mut(), opening.as_ref()) }) else {
        return FAILED;
    };
    match (Pinholes { session: number }).make(session, opening) {
        Ok(port) => port.0.into(),
        Err(reason) => {
            if let Some(part) = scratch::pinhole() {
                // SAFETY: see `scratch`; no reference to it is alive.
                unsafe { (*part).reason = reason };
            }
            FAILED
        }
    }
}

/// [`ftp_nat_open`]'s answer where there is no port.
const FAILED: u32 = 1 << 16;
/// Whether a session, and its client with all sessions together, may announce another connection.
#[inline(never)]
fn may_announce(session: &mut Session, settings: &Settings) -> bool {
    let share = shares::find(&share_of_session(session));
    let own = &raw mut session.announced;
    let mut may = shares::allow_announcement(own, settings.session_interval, settings);
    if let Some(share) = share {
        // SAFETY: see `shares::find`.
        let all = unsafe { &raw mut (*share).announced };
        may = may && shares::allow_announcement(all, settings.client_interval, settings);
        if !may {
            shares::note_refusal(share);
        }
    }
    may
}

impl Gate for Pinholes {
    #[inline(always)]
    fn open(&mut self, session: &mut Session, opening: &Opening) -> Result<Port, Counter> {
        let answer = ftp_nat_open(session, self.session, opening);
        if answer & FAILED == 0 {
            return Ok(Port(answer as u16));
        }
        // SAFETY: see `scratch`; `ftp_nat_open` has written it.
        let reason = scratch::pinhole().map(|part| unsafe { (*part).reason });
        Err(reason.unwrap_or(Counter::PassedMapFull))
    }

    #[inline(always)]
    fn close(&mut self, session: &Session, _opening: &Opening, public: Port) {
        if let Some(part) = scratch::pinhole() {
            // SAFETY: see `scratch`; no other reference to it is alive.
            let key = unsafe { &mut (*part).key };
            Self::fill_key(key, session, false, public);
            self.withdraw(key);
        }
    }

    #[inline(never)]
    fn identify(&mut self, session: &mut Session, _announced: &Addr) {
        session.inside = found_client(session, self.session);
        if !session.inside.addr.is_none() {
            apply_policy(session);
        }
    }

    #[inline(always)]
    fn permit(&mut self, session: &mut Session) {
        permit::grant(session, self.session);
    }

    #[inline(always)]
    fn now(&mut self) -> u64 {
        let hz = maps::SETTINGS
            .get(0)
            .map_or(1, |it| u64::from(it.hz.max(1)));
        (jiffies() * 1000 / hz).max(1)
    }

    #[inline(always)]
    fn count(&mut self, counter: Counter) {
        counters::add(counter, 0);
    }

    #[inline(always)]
    fn tell(&mut self, session: &Session, what: u8, counter: Counter, opening: &Opening) {
        self.event(session, what, counter, opening, opening.public);
    }

    /// One event for all of it: each costs the datapath as much as a lookup, and the daemon more.
    #[inline(always)]
    fn tell_opened(&mut self, session: &Session, opening: &Opening, also: u8) {
        let (what, counter) = (event::OPENED | also << ALSO, opened(opening.kind));
        self.event(session, what, counter, opening, opening.public);
    }

    #[inline(always)]
    fn tells_commands(&mut self) -> bool {
        maps::SETTINGS
            .get(0)
            .is_some_and(|it| it.flags & setting::TELLS_COMMANDS != 0)
    }

    #[inline(always)]
    fn tell_said(&mut self, said: &mut Said, len: u32) {
        said.session = self.session;
        counters::tell_said(said, len);
    }
}
