//! A gate that opens what it is asked to open, and remembers everything.

use crate::abi::{Said, Session, also, event, remark, rewritten};
use crate::counter::Counter;
use crate::gate::{Gate, Opening};
use crate::wire::addr::{Addr, Port};
use std::collections::BTreeMap;
use std::vec::Vec;

/// A call of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A data connection was let through under a public port.
    Opened(Opening, Port),
    /// That was taken back.
    Closed(Port),
    /// The client may make a data connection to the server's passive range.
    Permitted,
    /// Something was counted.
    Counted(Counter),
    /// Something was counted and told: the kind of event, its reason and what it is about.
    Event(u8, Counter, Opening),
}

/// A command or a reply that was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// A command: its number and its line; whether that is cut.
    Command(u32, Vec<u8>, bool),
    /// A final reply: the number of the command that it answers, and its code.
    Reply(u32, u16),
}

/// A gate without a network behind it.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    /// The calls, in order.
    pub calls: Vec<Call>,
    /// What was said of [`crate::ftp::said`], in order; None: such things are not told.
    pub spoken: Option<Vec<Spoken>>,
    /// Why it opens nothing, if it does not.
    pub refusal: Option<Counter>,
    /// Ports that somebody has already, and what is given in their place.
    pub taken: BTreeMap<u16, u16>,
    /// The time in milliseconds.
    pub now: u64,
    /// The client behind a kernel's own NAT; none: whoever announces itself first. The address `::`
    /// stands for a client that stays unknown.
    pub inside: Option<Addr>,
}

impl Recorder {
    /// What is open in the end: the announced port and the public one, in the order of opening.
    pub fn openings(&self) -> Vec<(u16, u16)> {
        let mut open = Vec::new();
        for call in &self.calls {
            match call {
                Call::Opened(opening, public) => {
                    open.push((opening.port.number(), public.number()));
                }
                Call::Closed(public) => open.retain(|(_, other)| *other != public.number()),
                Call::Counted(_) | Call::Event(..) | Call::Permitted => {}
            }
        }
        open
    }

    /// How often something was counted, told or not.
    pub fn count_of(&self, wanted: Counter) -> usize {
        let is_it = |call: &&Call| match call {
            Call::Counted(counter) | Call::Event(_, counter, _) => *counter == wanted,
            Call::Opened(..) | Call::Closed(_) | Call::Permitted => false,
        };
        self.calls.iter().filter(is_it).count()
    }
}

impl Gate for Recorder {
    fn open(&mut self, _session: &mut Session, opening: &Opening) -> Result<Port, Counter> {
        if let Some(reason) = self.refusal {
            return Err(reason);
        }
        let wanted = opening.port.number();
        let public = if opening.public == Port(0) {
            Port::new(self.taken.get(&wanted).copied().unwrap_or(wanted))
        } else {
            opening.public
        };
        self.calls.push(Call::Opened(*opening, public));
        Ok(public)
    }

    fn close(&mut self, _session: &Session, _opening: &Opening, public: Port) {
        self.calls.push(Call::Closed(public));
    }

    fn identify(&mut self, session: &mut Session, announced: &Addr) {
        session.inside.addr = self.inside.unwrap_or(*announced);
    }

    fn permit(&mut self, _session: &mut Session) {
        self.calls.push(Call::Permitted);
    }

    fn now(&mut self) -> u64 {
        self.now.max(1)
    }

    fn count(&mut self, counter: Counter) {
        self.calls.push(Call::Counted(counter));
    }

    fn tell(&mut self, _session: &Session, what: u8, counter: Counter, opening: &Opening) {
        self.calls.push(Call::Event(what, counter, *opening));
    }

    /// What was opened is remembered already.
    fn tell_opened(&mut self, session: &Session, opening: &Opening, also: u8) {
        if also & also::REWRITTEN != 0 {
            let counter = rewritten(opening.cause);
            self.tell(session, event::REWRITTEN, counter, opening);
        }
    }

    fn tells_commands(&mut self) -> bool {
        self.spoken.is_some()
    }

    fn tell_said(&mut self, said: &mut Said, len: u32) {
        let Some(spoken) = &mut self.spoken else {
            return;
        };
        spoken.push(if said.what == event::REPLY {
            Spoken::Reply(said.number, said.code)
        } else {
            let line = said.line.get(..len as usize).unwrap_or_default();
            let verb = said.name.to_be_bytes();
            let verb: Vec<u8> = verb.into_iter().filter(|byte| *byte != 0).collect();
            let argument = line.get(verb.len()..).unwrap_or_default();
            Spoken::Command(
                said.number,
                [&verb, argument].concat(),
                said.remark == remark::CUT,
            )
        });
    }
}
