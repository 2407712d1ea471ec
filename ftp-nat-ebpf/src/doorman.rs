//! Opening what a control connection announces.

use crate::count;
use crate::interest;
use crate::kernel::jiffies;
use crate::mapping::{TRIES, random_port};
use crate::maps;
use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use ftp_nat_common::abi::{Mapping, MappingKey, PublishKey, Session, Settings, event, kind, role, session_flag, side};
use ftp_nat_common::addr::{Addr, Endpoint, Port};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::inspect::{Gate, Opening};

/// The one who opens, for one session.
#[derive(Clone, Copy)]
pub struct Doorman<'a> {
    /// The session's number.
    pub session: u32,
    /// What the daemon wants.
    pub settings: &'a Settings,
}

/// What came of asking for a port.
enum Asked {
    /// It is ours now.
    Given,
    /// Somebody has it.
    Taken,
    /// The map is full.
    Full,
}

impl Doorman<'_> {
    /// The pinhole for connections from outside to a public port.
    #[inline(always)]
    fn key(session: &Session, public: Port) -> MappingKey {
        let anybody = session.flags & session_flag::ANY_PEER != 0;
        MappingKey {
            src: if anybody { Addr::default() } else { session.outside.addr },
            dst: session.public.addr,
            dport: public,
            pad: 0,
            side: side::INBOUND,
        }
    }

    #[inline(always)]
    fn mapping(&self, kind: u8, to: Endpoint) -> Mapping {
        let now = jiffies();
        Mapping {
            to,
            session: self.session,
            kind,
            pad: [0; 7],
            born: now,
            expires: now.wrapping_add(self.settings.mapping_timeout),
        }
    }

    /// Asks for one public port.
    #[inline(always)]
    fn ask(&self, session: &Session, public: Port, mapping: &Mapping) -> Asked {
        let published = PublishKey { addr: session.public.addr, port: public, pad: 0 };
        if maps::PUBLISHED.get_ptr(published).is_some() {
            return Asked::Taken;
        }
        let key = Self::key(session, public);
        match maps::MAPPINGS.insert(key, mapping, u64::from(BPF_NOEXIST)) {
            Ok(()) => return Asked::Given,
            // -EEXIST
            Err(-17) => {}
            Err(_) => return Asked::Full,
        }
        let Some(there) = maps::MAPPINGS.get_ptr(key) else { return Asked::Taken };
        // SAFETY: the map is not preallocated, so the entry lives on while it is read.
        let there = unsafe { &*there };
        // The same end announced again, or an announcement that nobody came for in time.
        let free = there.to == mapping.to || jiffies() > there.expires;
        if free && maps::MAPPINGS.insert(key, mapping, u64::from(BPF_ANY)).is_ok() {
            Asked::Given
        } else {
            Asked::Taken
        }
    }

    /// Lets connections from outside in: on the announced port if the peer has that free.
    #[inline(always)]
    fn open_inbound(&self, session: &Session, mapping: &Mapping) -> Result<Port, Counter> {
        let wanted = mapping.to.port;
        let mut public = wanted;
        let mut tries = 0;
        while tries < TRIES {
            match self.ask(session, public, mapping) {
                Asked::Given => {
                    interest::note(public, self.settings.hz);
                    interest::note(wanted, self.settings.hz);
                    return Ok(public);
                }
                Asked::Taken => public = random_port(self.settings),
                Asked::Full => return Err(Counter::PassedMapFull),
            }
            tries += 1;
        }
        Err(Counter::DeniedNoPort)
    }

    /// Lets a connection from the inside server to the client out.
    #[inline(always)]
    fn open_outbound(&self, session: &Session, opening: &Opening) -> Result<Port, Counter> {
        let key = MappingKey {
            src: session.inside.addr,
            dst: opening.addr,
            dport: opening.port,
            pad: 0,
            side: side::OUTBOUND,
        };
        let mapping = self.mapping(kind::ACTIVE, Endpoint::new(session.public.addr, Port(0)));
        if maps::MAPPINGS.insert(key, &mapping, u64::from(BPF_ANY)).is_err() {
            return Err(Counter::PassedMapFull);
        }
        interest::note(opening.port, self.settings.hz);
        Ok(opening.port)
    }

    #[inline(always)]
    fn event(&self, session: &Session, what: u8, counter: Counter, opening: &Opening, public: Port) {
        let mut told = count::event(session, self.session, what, opening.kind, counter);
        told.public.port = public;
        if opening.kind == kind::ACTIVE && session.role == role::PUBLISH {
            told.peer.port = opening.port;
        } else {
            told.inside.port = opening.port;
        }
        count::tell(told);
    }
}

impl Gate for Doorman<'_> {
    #[inline(always)]
    fn open(&mut self, session: &Session, opening: &Opening) -> Result<Port, Counter> {
        if session.flags & session_flag::LOCAL != 0 {
            // Nothing is translated on the way to this machine's own server.
            return Ok(opening.port);
        }
        let passive = opening.kind == kind::PASSIVE;
        let result = if passive {
            let to = Endpoint::new(session.inside.addr, opening.port);
            self.open_inbound(session, &self.mapping(kind::PASSIVE, to))
        } else if session.role == role::MASQUERADE {
            let to = Endpoint::new(opening.addr, opening.port);
            self.open_inbound(session, &self.mapping(kind::ACTIVE, to))
        } else {
            self.open_outbound(session, opening)
        };
        let Ok(public) = result else { return result };
        let counter = if passive { Counter::PassiveOpened } else { Counter::ActiveOpened };
        count::add(counter, 0);
        self.event(session, event::OPENED, counter, opening, public);
        if public != opening.port {
            count::add(Counter::Remapped, 0);
            self.event(session, event::REMAPPED, Counter::Remapped, opening, public);
        }
        result
    }

    #[inline(always)]
    fn close(&mut self, session: &Session, _opening: &Opening, public: Port) {
        let _ = maps::MAPPINGS.remove(Self::key(session, public));
    }

    #[inline(always)]
    fn is_inside(&mut self, _addr: &Addr) -> bool {
        // Until masquerade knows its clients' own addresses, it opens nothing.
        false
    }

    #[inline(always)]
    fn count(&mut self, counter: Counter) {
        count::add(counter, 0);
    }

    #[inline(always)]
    fn tell(&mut self, session: &Session, what: u8, counter: Counter, opening: &Opening) {
        count::add(counter, 0);
        self.event(session, what, counter, opening, session.public.port);
    }
}
