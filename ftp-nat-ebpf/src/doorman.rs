//! Opening what a control connection announces.

use crate::control::Scratch;
use crate::count;
use crate::interest;
use crate::kernel::{jiffies, repeat};
use crate::mapping::{TRIES, random_port};
use crate::maps;
use crate::publish;
use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use ftp_nat_common::abi::{
    Mapping, MappingKey, PublishKey, Session, Settings, event, kind, port, role, session_flag, side,
};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::gate::{Gate, Opening};
use ftp_nat_common::wire::addr::{Addr, Endpoint, Port};

/// The one who opens, for one session.
#[derive(Clone, Copy)]
pub struct Doorman {
    /// The session's number.
    pub session: u32,
}

/// The port is ours now.
const GIVEN: u32 = 0;
/// Somebody has it.
const TAKEN: u32 = 1;
/// The map is full.
const FULL: u32 = 2;

/// The search for a public port. It lies in the scratch memory, as the mapping that it is for.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Search {
    key: MappingKey,
    answer: u32,
}

/// Searches for a port, from the one in the scratch memory's key on; gives how it ended.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ftp_nat_search() -> u32 {
    let Some(mut scratch) = maps::SCRATCH.get_ptr_mut(0) else {
        return FULL;
    };
    repeat(TRIES, &mut scratch, ask);
    // SAFETY: this CPU's own scratch; programs on one CPU do not interrupt each other.
    unsafe { (*scratch).search.answer }
}

/// Asks for the port in the search's key; the next try takes another. 1 ends the loop.
unsafe extern "C" fn ask(_index: u64, scratch: *mut *mut Scratch) -> i64 {
    let Some(settings) = maps::SETTINGS.get(0) else {
        return 1;
    };
    // SAFETY: `repeat` hands over what `ftp_nat_search` has: this CPU's own scratch.
    let scratch = unsafe { &mut **scratch };
    let search = &mut scratch.search;
    search.answer = ask_once(&search.key, &scratch.mapping);
    if search.answer != TAKEN {
        return 1;
    }
    search.key.dport = random_port(settings);
    0
}

#[inline(always)]
fn ask_once(key: &MappingKey, mapping: &Mapping) -> u32 {
    // Most ports are no control port of anybody: that is known at a glance.
    if interest::marks(key.dport) & port::PUBLISHED != 0 {
        let published = PublishKey {
            addr: key.dst,
            port: key.dport,
            pad: 0,
        };
        if maps::PUBLISHED.get_ptr(published).is_some() {
            return TAKEN;
        }
    }
    match maps::MAPPINGS.insert(key, mapping, u64::from(BPF_NOEXIST)) {
        Ok(()) => return GIVEN,
        // -EEXIST
        Err(-17) => {}
        Err(_) => return FULL,
    }
    let Some(there) = maps::MAPPINGS.get_ptr(key) else {
        return TAKEN;
    };
    // SAFETY: a map's entry stays in its place while a program runs.
    let there = unsafe { &*there };
    // The same end announced again, or an announcement that nobody came for in time.
    let free = there.to == mapping.to || jiffies() > there.expires;
    if free
        && maps::MAPPINGS
            .insert(key, mapping, u64::from(BPF_ANY))
            .is_ok()
    {
        GIVEN
    } else {
        TAKEN
    }
}

impl Doorman {
    /// The pinhole for connections from outside to a public port.
    #[inline(always)]
    fn key(session: &Session, public: Port) -> MappingKey {
        let anybody = session.flags & session_flag::ANY_PEER != 0;
        MappingKey {
            src: if anybody {
                Addr::default()
            } else {
                session.outside.addr
            },
            dst: session.public.addr,
            dport: public,
            pad: 0,
            side: side::INBOUND,
        }
    }

    /// Fills in a mapping.
    #[inline(always)]
    fn fill(&self, mapping: &mut Mapping, opening: &Opening, to: Endpoint, settings: &Settings) {
        let now = jiffies();
        mapping.to = to;
        mapping.session = self.session;
        mapping.kind = opening.kind;
        mapping.cause = opening.cause;
        mapping.pad = [0; 2];
        mapping.pad2 = 0;
        mapping.born = now;
        mapping.expires = now.wrapping_add(settings.mapping_timeout);
    }

    /// Lets connections from outside in: on the announced port if the peer has that free.
    ///
    /// The scratch memory comes as a pointer, because the search writes to it as well: through a
    /// reference, the compiler would take the port that was wanted for the one that was found.
    #[inline(always)]
    fn open_inbound(
        &self,
        scratch: *mut Scratch,
        session: &Session,
        wanted: Port,
        hz: u32,
    ) -> Result<Port, Counter> {
        // SAFETY: this CPU's own scratch; programs on one CPU do not interrupt each other.
        unsafe {
            (*scratch).search.key = Self::key(session, wanted);
            (*scratch).search.answer = TAKEN;
        }
        match ftp_nat_search() {
            GIVEN => {
                // SAFETY: as above.
                let public = unsafe { (*scratch).search.key.dport };
                interest::note(public, hz);
                interest::note(wanted, hz);
                Ok(public)
            }
            FULL => Err(Counter::PassedMapFull),
            _ => Err(Counter::DeniedNoPort),
        }
    }

    /// Lets a connection from the inside server to the client out.
    #[inline(always)]
    fn open_outbound(
        &self,
        mapping: &Mapping,
        session: &Session,
        opening: &Opening,
        hz: u32,
    ) -> Result<Port, Counter> {
        let key = MappingKey {
            src: session.inside.addr,
            dst: opening.addr,
            dport: opening.port,
            pad: 0,
            side: side::OUTBOUND,
        };
        if maps::MAPPINGS
            .insert(key, mapping, u64::from(BPF_ANY))
            .is_err()
        {
            return Err(Counter::PassedMapFull);
        }
        interest::note(opening.port, hz);
        Ok(opening.port)
    }

    /// Counts and tells; `happening`: [`event`] in the high half, the counter in the low one.
    #[inline(never)]
    fn event(&self, session: &Session, happening: u32, opening: &Opening, public: Port) {
        let counter = happening & 0xffff;
        count::add_number(counter, 0);
        count::tell(|told| {
            told.what = (happening >> 16) as u8;
            told.kind = opening.kind;
            told.reason = counter as u16;
            count::about(told, session, self.session);
            told.announced = opening.addr;
            told.cause = opening.cause;
            if opening.cause == 0 {
                // About the control connection itself.
                return;
            }
            told.public.port = public;
            if opening.kind == kind::ACTIVE && session.role == role::PUBLISH {
                // The client listens; from which port the server comes is not known yet.
                told.peer.port = opening.port;
                told.inside.port = Port(0);
            } else {
                told.peer.port = Port(0);
                told.inside.port = opening.port;
            }
        });
    }
}

/// Two small numbers as one: a function has five arguments at most.
#[inline(always)]
fn happening(what: u8, counter: Counter) -> u32 {
    u32::from(what) << 16 | counter as u32
}

impl Gate for Doorman {
    #[inline(never)]
    fn open(&mut self, session: &Session, opening: &Opening) -> Result<Port, Counter> {
        if session.flags & session_flag::LOCAL != 0 {
            // Nothing is translated on the way to this machine's own server.
            return Ok(opening.port);
        }
        let (Some(scratch), Some(settings)) = (maps::SCRATCH.get_ptr_mut(0), maps::SETTINGS.get(0))
        else {
            return Err(Counter::PassedMapFull);
        };
        // SAFETY: this CPU's own scratch; programs on one CPU do not interrupt each other. Nobody
        // else writes to its mapping here.
        let mapping = unsafe { &mut (*scratch).mapping };
        let passive = opening.kind == kind::PASSIVE;
        let outward = !passive && session.role == role::PUBLISH;
        let to = if outward {
            Endpoint::new(session.public.addr, Port(0))
        } else if passive {
            Endpoint::new(session.inside.addr, opening.port)
        } else {
            Endpoint::new(opening.addr, opening.port)
        };
        self.fill(mapping, opening, to, settings);
        let result = if outward {
            self.open_outbound(mapping, session, opening, settings.hz)
        } else {
            self.open_inbound(scratch, session, opening.port, settings.hz)
        };
        let Ok(public) = result else { return result };
        let shown = if outward { Port(0) } else { public };
        let counter = if passive {
            Counter::PassiveOpened
        } else {
            Counter::ActiveOpened
        };
        self.event(session, happening(event::OPENED, counter), opening, shown);
        if public != opening.port {
            self.event(
                session,
                happening(event::REMAPPED, Counter::Remapped),
                opening,
                public,
            );
        }
        result
    }

    #[inline(always)]
    fn close(&mut self, session: &Session, _opening: &Opening, public: Port) {
        let _ = maps::MAPPINGS.remove(Self::key(session, public));
    }

    #[inline(always)]
    fn is_inside(&mut self, addr: &Addr) -> bool {
        publish::is_inside(addr)
    }

    #[inline(always)]
    fn count(&mut self, counter: Counter) {
        count::add(counter, 0);
    }

    #[inline(always)]
    fn tell(&mut self, session: &Session, what: u8, counter: Counter, opening: &Opening) {
        self.event(session, happening(what, counter), opening, opening.public);
    }
}
