//! The gate of an inspected session: opens as the datapath would, and notes what happened.

use std::collections::HashMap;

use ftp_nat_common::{
    abi::{Said, Session, also, kind, rewritten, role},
    counter::Counter,
    gate::{Gate, Opening},
    wire::addr::{Addr, Port},
};

use crate::model::address::is_inner;

/// Where a port of a peer leads: the announced end.
type Target = (Addr, Port);

/// The pinholes of the whole capture: who may connect to which public port.
#[derive(Debug, Default)]
pub struct Pinholes(HashMap<(Addr, Port), Target>);

impl Pinholes {
    /// The port under which the peer reaches `target`: the wanted one if that is free.
    fn open(&mut self, peer: Addr, wanted: Port, target: Target) -> Port {
        let free = |port: &Port| self.0.get(&(peer, *port)).is_none_or(|it| *it == target);
        let first = crate::config::DEFAULT_REMAP_PORTS.first;
        let others = (first..=u16::MAX).map(Port::new);
        let Some(port) = std::iter::once(wanted).chain(others).find(free) else {
            return wanted;
        };
        self.0.insert((peer, port), target);
        port
    }

    /// Nobody needs it any more.
    fn close(&mut self, peer: Addr, port: Port) {
        self.0.remove(&(peer, port));
    }

    /// A connection to that end came: its pinholes are used up.
    pub fn used(&mut self, peer: Addr, target: Target) {
        self.0
            .retain(|(other, _), it| *other != peer || *it != target);
    }
}

/// Something that the protocol asked of its gate, or told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A data connection would be let through, under this public port.
    Opened(Opening, Port),
    /// That is taken back.
    Closed(Port),
    /// Something is counted, with an announcement that it is about, if any.
    Counted(Counter, Opening),
}

/// The gate.
pub struct RecordingGate<'a> {
    /// The capture's pinholes.
    pub pinholes: &'a mut Pinholes,
    /// What happened.
    pub decisions: &'a mut Vec<Decision>,
    /// The time in milliseconds.
    pub now: u64,
}

/// Whose connection an opening lets through: the address that it must come from, or go to.
pub fn peer(session: &Session) -> Addr {
    session.outside.addr
}

impl Gate for RecordingGate<'_> {
    fn open(&mut self, session: &mut Session, opening: &Opening) -> Result<Port, Counter> {
        let is_inbound = (opening.kind == kind::PASSIVE) == (session.role == role::PUBLISH);
        let public = if is_inbound {
            let target = (session.inside.addr, opening.port);
            self.pinholes.open(peer(session), opening.port, target)
        } else {
            opening.port
        };
        self.decisions.push(Decision::Opened(*opening, public));
        Ok(public)
    }

    fn close(&mut self, session: &Session, _opening: &Opening, public: Port) {
        self.pinholes.close(peer(session), public);
        self.decisions.push(Decision::Closed(public));
    }

    /// The gateway would know it by its first packet; the capture has only what it says of itself.
    fn identify(&mut self, session: &mut Session, announced: &Addr) {
        if is_inner(announced.to_ip()) || *announced == session.public.addr {
            session.inside.addr = *announced;
        }
    }

    fn permit(&mut self, _session: &mut Session) {}

    fn now(&mut self) -> u64 {
        self.now.max(1)
    }

    fn count(&mut self, counter: Counter) {
        self.decisions
            .push(Decision::Counted(counter, Opening::default()));
    }

    fn tell(&mut self, _session: &Session, _what: u8, counter: Counter, opening: &Opening) {
        self.decisions.push(Decision::Counted(counter, *opening));
    }

    fn tell_opened(&mut self, _session: &Session, opening: &Opening, also: u8) {
        if also & also::REWRITTEN != 0 {
            let counter = rewritten(opening.cause);
            self.decisions.push(Decision::Counted(counter, *opening));
        }
    }

    fn tells_commands(&mut self) -> bool {
        false
    }

    fn tell_said(&mut self, _said: &mut Said, _len: u32) {}
}
