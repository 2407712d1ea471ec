//! Transfers: what a session's commands and replies say, joined with its data connections.
//!
//! The datapath tells commands, final replies ([`Said`]) and what becomes of data connections ([`Event`])
//! in one ring, so in the order in which they happened. The bytes are those of the data connection's
//! flows.

mod directory;
mod session;
mod tables;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    time::{Duration, Instant},
};

use ftp_nat_common::abi::{Event, Said, event, kind};

use self::session::Talk;
pub(super) use self::{
    session::Over,
    tables::{Kernel, Tables},
};
use super::occurrence::Detail;
use crate::kernel::clock::Clock;

/// Sessions that are remembered; of more, what they say is not told.
const SESSIONS: usize = 1 << 16;
/// Commands of all sessions that wait for their replies; of more, the oldest of a session that sends one
/// more are given up.
const COMMANDS: usize = 1 << 15;
/// How soon a data connection is looked at again that is not over yet, at first and at last.
const SOON: Duration = Duration::from_millis(50);
const LATER: Duration = Duration::from_secs(1);
/// Data connections that are looked at at once; the others have their turn next.
const AT_ONCE: usize = 256;

/// What is under way.
pub(super) struct Ledger {
    tables: Box<dyn Tables>,
    clock: Clock,
    sessions: HashMap<u32, Talk>,
    /// Data connections that are not over: when to look at them, of which session, and which one.
    watched: BinaryHeap<Reverse<(Instant, u32, u64, Duration)>>,
    /// Commands of all sessions that wait.
    waiting: usize,
    /// The number of the data connection that came last.
    number: u64,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger")
            .field("sessions", &self.sessions.len())
            .finish_non_exhaustive()
    }
}

impl Ledger {
    pub(super) fn new(tables: Box<dyn Tables>, clock: Clock) -> Self {
        Self {
            tables,
            clock,
            sessions: HashMap::new(),
            watched: BinaryHeap::new(),
            waiting: 0,
            number: 0,
        }
    }

    /// A command or a reply, with what is told of its line.
    pub(super) fn hear(&mut self, said: &Said, line: &[u8], now: Instant) -> Vec<Over> {
        let is_full = self.waiting >= COMMANDS;
        self.with(said.session, now, |talk, tables, over| {
            if said.what == event::COMMAND {
                talk.command(said, line, is_full, over);
            } else {
                talk.reply(said, tables, over);
            }
        })
    }

    /// Something that has happened to a connection.
    pub(super) fn see(&mut self, event: &Event, detail: &Detail, now: Instant) -> Vec<Over> {
        if event.session == 0 {
            return Vec::new();
        }
        if event.kind == kind::CONTROL
            || event.what == event::ENCRYPTED
            || event.what == event::CLEARED
        {
            return self.see_control(event, now);
        }
        match event.what {
            event::OPENED => self.of_known(event.session, now, |talk, _, _| talk.opened()),
            event::USED => {
                self.number += 1;
                let number = self.number;
                self.with(event.session, now, |talk, _, _| talk.used(event, number))
            }
            event::ENDED => self.of_known(event.session, now, |talk, _, over| {
                talk.ended(event, detail, over);
            }),
            _ => Vec::new(),
        }
    }

    fn see_control(&mut self, event: &Event, now: Instant) -> Vec<Over> {
        match event.what {
            event::ENCRYPTED => {
                self.with(event.session, now, |talk, _, _| talk.set_encrypted(true))
            }
            event::CLEARED => self.with(event.session, now, |talk, _, _| talk.set_encrypted(false)),
            event::ENDED => {
                let over = self.of_known(event.session, now, |talk, _, over| talk.end(over));
                if let Some(talk) = self.sessions.remove(&event.session) {
                    self.waiting -= talk.waiting();
                }
                over
            }
            _ => Vec::new(),
        }
    }

    /// When somebody is to call [`Self::look`]; none: not before something happens.
    pub(super) fn due(&self) -> Option<Instant> {
        self.watched.peek().map(|Reverse((when, ..))| *when)
    }

    /// Looks at data connections whose time has come.
    pub(super) fn look(&mut self, now: Instant) -> Vec<Over> {
        let mut over = Vec::new();
        for _ in 0..AT_ONCE {
            let Some(Reverse((when, session, number, pause))) = self.watched.peek().copied() else {
                break;
            };
            if when > now {
                break;
            }
            self.watched.pop();
            let Some(talk) = self.sessions.get_mut(&session) else {
                continue;
            };
            let before = talk.waiting();
            let is_under_way = talk.look(number, &*self.tables, &mut over);
            self.waiting = self.waiting + talk.waiting() - before;
            if is_under_way {
                let pause = (pause * 2).min(LATER);
                self.watched
                    .push(Reverse((now + pause, session, number, pause)));
            }
        }
        over
    }

    /// Changes a session that is known.
    fn of_known(
        &mut self,
        number: u32,
        now: Instant,
        change: impl FnOnce(&mut Talk, &dyn Tables, &mut Vec<Over>),
    ) -> Vec<Over> {
        if self.sessions.contains_key(&number) {
            self.with(number, now, change)
        } else {
            Vec::new()
        }
    }

    /// Changes a session, which is looked up if it is not known yet.
    fn with(
        &mut self,
        number: u32,
        now: Instant,
        change: impl FnOnce(&mut Talk, &dyn Tables, &mut Vec<Over>),
    ) -> Vec<Over> {
        let mut over = Vec::new();
        if !self.sessions.contains_key(&number) {
            let found = self.tables.session(number);
            let Some(session) = found.filter(|_| self.sessions.len() < SESSIONS) else {
                return over;
            };
            self.sessions
                .insert(number, Talk::new(number, &session, self.clock));
        }
        let Some(talk) = self.sessions.get_mut(&number) else {
            return over;
        };
        let before = talk.waiting();
        change(talk, &*self.tables, &mut over);
        let mut to_watch = Vec::new();
        talk.take_unwatched(&mut to_watch);
        for data in to_watch {
            if talk.look(data, &*self.tables, &mut over) {
                self.watched.push(Reverse((now + SOON, number, data, SOON)));
            }
        }
        self.waiting = self.waiting + talk.waiting() - before;
        over
    }
}

#[cfg(test)]
mod tests;
