//! The kernel's doorman, once more and apart: who may have which port.

use std::collections::{BTreeMap, HashMap};

use ftp_nat_common::{
    abi::{
        Mapping, MappingKey, PublishKey, Said, Session, also, kind, rewritten, role, session_flag,
        side,
    },
    counter::Counter,
    gate::{Gate, Opening},
    wire::addr::{Addr, Endpoint, Port},
};

use super::random::Random;
use crate::loaded::{Datapath, REMAP};

/// The time in milliseconds: both clocks stand still, the kernel's nearly so.
const NOW: u64 = 1 << 40;

/// What is open, and what was counted.
pub(super) struct Model {
    /// Where each leads, and whose and of what kind it is.
    mappings: HashMap<MappingKey, (Endpoint, u32, u8)>,
    published: Vec<PublishKey>,
    pub(super) counted: BTreeMap<u16, u64>,
}

impl Model {
    pub(super) fn new(datapath: &Datapath) -> Self {
        let published = datapath.published.all();
        Self {
            mappings: HashMap::new(),
            published: published.into_iter().map(|(key, _)| key).collect(),
            counted: BTreeMap::new(),
        }
    }

    pub(super) fn count(&mut self, counter: Counter) {
        *self.counted.entry(counter as u16).or_default() += 1;
    }

    /// Takes one mapping away from both, as if it had been used.
    pub(super) fn lose_mapping(&mut self, datapath: &mut Datapath, random: &mut Random) {
        let mut keys: Vec<_> = self.mappings.keys().copied().collect();
        if keys.is_empty() {
            return;
        }
        // A hash map's order is another one every time.
        keys.sort_unstable_by_key(|key| (key.src.0, key.dst.0, key.dport.0, key.side));
        let key = random.pick(&keys);
        self.mappings.remove(&key);
        datapath.mappings.remove(&key);
    }

    pub(super) fn compare_mappings(&self, datapath: &Datapath) {
        let in_kernel: HashMap<_, _> = datapath
            .mappings
            .all()
            .into_iter()
            .map(
                |(
                    key,
                    Mapping {
                        to, session, kind, ..
                    },
                )| (key, (to, session, kind)),
            )
            .collect();
        assert_eq!(in_kernel, self.mappings, "mappings");
    }

    /// Opens the port, if nobody else has it.
    fn try_port(&mut self, key: MappingKey, value: (Endpoint, u32, u8)) -> bool {
        let is_published = self
            .published
            .iter()
            .any(|published| (published.addr, published.port) == (key.dst, key.dport));
        if is_published {
            return false;
        }
        let is_free = self
            .mappings
            .get(&key)
            .is_none_or(|(to, ..)| *to == value.0);
        if is_free {
            self.mappings.insert(key, value);
        }
        is_free
    }
}

/// The gate of one session.
pub(super) struct ModelGate<'m> {
    pub(super) model: &'m mut Model,
    pub(super) session: u32,
}

impl ModelGate<'_> {
    fn inbound_key(session: &Session, public: Port) -> MappingKey {
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

    fn open_inbound(
        &mut self,
        session: &Session,
        kind: u8,
        to: Endpoint,
        wanted: Port,
    ) -> Result<Port, Counter> {
        let value = (to, self.session, kind);
        [wanted, Port::new(REMAP)]
            .into_iter()
            .find(|port| {
                let key = Self::inbound_key(session, *port);
                self.model.try_port(key, value)
            })
            .ok_or(Counter::DeniedNoPort)
    }

    fn open_outbound(&mut self, session: &Session, opening: &Opening) -> Port {
        let key = MappingKey {
            src: session.inside.addr,
            dst: opening.addr,
            dport: opening.port,
            pad: 0,
            side: side::OUTBOUND,
        };
        let to = Endpoint::new(session.public.addr, Port::default());
        let value = (to, self.session, kind::ACTIVE);
        self.model.mappings.insert(key, value);
        opening.port
    }
}

impl ModelGate<'_> {
    /// Takes a mapping of this session back.
    fn withdraw(&mut self, key: &MappingKey) {
        if self
            .model
            .mappings
            .get(key)
            .is_some_and(|(_, session, _)| *session == self.session)
        {
            self.model.mappings.remove(key);
        }
    }
}

impl Gate for ModelGate<'_> {
    fn open(&mut self, session: &mut Session, opening: &Opening) -> Result<Port, Counter> {
        if session.flags & session_flag::LOCAL != 0 && opening.kind != kind::PASSIVE {
            return Ok(opening.port);
        }
        let (public, counter) = if opening.kind == kind::PASSIVE {
            let to = Endpoint::new(session.inside.addr, opening.port);
            let public = self.open_inbound(session, kind::PASSIVE, to, to.port)?;
            (public, Counter::PassiveOpened)
        } else if session.role == role::MASQUERADE {
            let to = Endpoint::new(opening.addr, opening.port);
            let wanted = if opening.public == Port::default() {
                to.port
            } else {
                opening.public
            };
            let public = self.open_inbound(session, kind::ACTIVE, to, wanted)?;
            (public, Counter::ActiveOpened)
        } else {
            (self.open_outbound(session, opening), Counter::ActiveOpened)
        };
        self.count(counter);
        if public != opening.port && opening.public == Port::default() {
            self.count(Counter::Remapped);
        }
        let is_passive = opening.kind == kind::PASSIVE;
        let slot = &mut session.waiting[usize::from(!is_passive)];
        let earlier = std::mem::replace(slot, public);
        if earlier != Port::default() && earlier != public {
            let key = if is_passive || session.role == role::MASQUERADE {
                Self::inbound_key(session, earlier)
            } else {
                MappingKey {
                    src: session.inside.addr,
                    dst: opening.addr,
                    dport: earlier,
                    pad: 0,
                    side: side::OUTBOUND,
                }
            };
            self.withdraw(&key);
        }
        Ok(public)
    }

    fn close(&mut self, session: &Session, _opening: &Opening, public: Port) {
        self.withdraw(&Self::inbound_key(session, public));
    }

    /// Nobody asks connection tracking here.
    fn identify(&mut self, _session: &mut Session, _announced: &Addr) {}

    fn permit(&mut self, _session: &mut Session) {}

    fn now(&mut self) -> u64 {
        NOW
    }

    fn count(&mut self, counter: Counter) {
        self.model.count(counter);
    }

    fn tell(&mut self, _session: &Session, _what: u8, counter: Counter, _opening: &Opening) {
        self.model.count(counter);
    }

    /// What was opened is counted already.
    fn tell_opened(&mut self, _session: &Session, opening: &Opening, also: u8) {
        if also & also::REWRITTEN != 0 {
            self.model.count(rewritten(opening.cause));
        }
    }

    fn tells_commands(&mut self) -> bool {
        false
    }

    fn tell_said(&mut self, _said: &mut Said, _len: u32) {}
}
