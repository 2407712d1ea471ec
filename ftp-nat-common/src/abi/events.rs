//! EVENTS: what the datapath reports to the daemon.

use super::flows::kind;
use super::lines::LINE_MAX;
use super::mappings::cause;
use crate::counter::Counter;
use crate::wire::addr::{Addr, Endpoint, Port};
use bytemuck::{Pod, Zeroable};

/// What an [`Event`] tells.
pub mod event {
    /// A session began.
    pub const SESSION: u8 = 1;
    /// A mapping was opened.
    pub const OPENED: u8 = 2;
    /// A mapping was used by the announced connection.
    pub const USED: u8 = 3;
    /// A mapping was opened on another port than the announced one.
    pub const REMAPPED: u8 = 4;
    /// A reply or command was rewritten.
    pub const REWRITTEN: u8 = 5;
    /// Something was denied; the reason is in [`super::Event::reason`].
    pub const DENIED: u8 = 6;
    /// Something was passed as it was; the reason is in [`super::Event::reason`].
    pub const PASSED: u8 = 7;
    /// The session is encrypted from here on.
    pub const ENCRYPTED: u8 = 8;
    /// The session is clear text again.
    pub const CLEARED: u8 = 9;
    /// A mapping ended that nobody had used; the daemon's own word.
    pub const EXPIRED: u8 = 10;
    /// A connection ended: told by the daemon's sweep, and by the datapath of a connection whose ends
    /// have begun a new one in its place.
    pub const ENDED: u8 = 11;
    /// A [`super::Said`]: a command of a client.
    pub const COMMAND: u8 = 12;
    /// A [`super::Said`]: the final reply to a command that was told.
    pub const REPLY: u8 = 13;
    /// A transfer is over; the daemon's own word, made of those two and of the data connection.
    pub const TRANSFER: u8 = 14;
    /// A change of what a server keeps, answered; the daemon's own word.
    pub const CHANGE: u8 = 15;
    /// A server of a pool fails its checks; this and what follows is the daemon's own word.
    pub const SERVER_DOWN: u8 = 16;
    /// It passes them again.
    pub const SERVER_UP: u8 = 17;
    /// An operator drains a server of a pool: no new sessions go there.
    pub const SERVER_DRAINED: u8 = 18;
    /// They do again.
    pub const SERVER_UNDRAINED: u8 = 19;
}

/// What else happened at the moment when a mapping was opened: bits of [`Event::also`].
pub mod also {
    /// What [`super::event::REMAPPED`] tells.
    pub const REMAPPED: u8 = 1;
    /// What [`super::event::REWRITTEN`] tells.
    pub const REWRITTEN: u8 = 2;
}

/// Something that an operator may want to know.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Event {
    /// When, in jiffies.
    pub time: u64,
    /// [`event`].
    pub what: u8,
    /// [`kind`](mod@kind) of the connection it is about; 0: none.
    pub kind: u8,
    /// The number of the [`crate::counter::Counter`] that counted it.
    pub reason: u16,
    /// The session; 0: none.
    pub session: u32,
    /// The end outside.
    pub peer: Endpoint,
    /// The end behind the gateway.
    pub inside: Endpoint,
    /// The public address and port.
    pub public: Endpoint,
    /// The address that was announced, before it was rewritten; none: no announcement, or one
    /// without an address.
    pub announced: Addr,
    /// The words that announced it: [`cause`]; 0: none did.
    pub cause: u8,
    /// Of [`event::OPENED`], and of what was told with it: [`also`]; else 0.
    pub also: u8,
    /// Zero.
    pub pad: [u8; 2],
    /// Of a connection that has ended: when it began, in jiffies; else 0.
    pub born: u64,
    /// Bytes that came in by it, from the IP header on.
    pub inbound: u64,
    /// Bytes that went out by it.
    pub outbound: u64,
}

const _: () = assert!(size_of::<Event>() == 120);

impl Event {
    /// All that it tells, in the order in which it happened, each as an event of its own.
    pub fn each(&self) -> impl Iterator<Item = Self> {
        let has = |bit, what, reason: Counter| {
            (self.also & bit != 0).then_some(Self {
                what,
                reason: reason as u16,
                ..*self
            })
        };
        let mut first = *self;
        // The client listens: from which port the server comes is not known yet, only what was written.
        if self.what == event::OPENED && self.kind == kind::ACTIVE && self.inside.port == Port(0) {
            first.public.port = Port(0);
        }
        [
            Some(first),
            has(also::REMAPPED, event::REMAPPED, Counter::Remapped),
            has(also::REWRITTEN, event::REWRITTEN, rewritten(self.cause)),
        ]
        .into_iter()
        .flatten()
    }
}

/// The counter of an announcement in these words ([`cause`](mod@cause)) that was written anew.
pub const fn rewritten(cause: u8) -> Counter {
    match cause {
        cause::PASV => Counter::Rewrote227,
        cause::EPSV => Counter::Rewrote229,
        cause::PORT => Counter::RewrotePort,
        _ => Counter::RewroteEprt,
    }
}

/// The counter of a mapping that was opened for a connection of this [`kind`](mod@kind).
pub const fn opened(kind: u8) -> Counter {
    if kind == kind::PASSIVE {
        Counter::PassiveOpened
    } else {
        Counter::ActiveOpened
    }
}

/// A command of a client that asks for a transfer, a change or a login, or the final reply to one.
///
/// In the ring it has as many bytes of [`Said::line`] as the line has, so its length tells that;
/// [`Said::what`] stands where an [`Event`] has its own.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Said {
    /// When, in jiffies.
    pub time: u64,
    /// [`event::COMMAND`] or [`event::REPLY`].
    pub what: u8,
    /// [`remark`].
    pub remark: u8,
    /// Of a reply: its code (RFC 959 section 4.2).
    pub code: u16,
    /// The session.
    pub session: u32,
    /// Which of the session's commands it is, or answers: [`super::Asked::commands`], itself included.
    pub number: u32,
    /// Of a command: its [`crate::ftp::command::name`].
    pub name: u32,
    /// The bytes of the client's line up to its line feed, its verb included; of commands whose
    /// argument is not told ([`crate::ftp::said`]), and of replies, none. The datapath's reader keeps
    /// the line under way of either direction here.
    pub line: [u8; LINE_MAX],
}

/// What else there is to a [`Said`].
pub mod remark {
    /// Nothing.
    pub const NONE: u8 = 0;
    /// Of a command: its line is longer than what is told of it, or was not read.
    pub const CUT: u8 = 1;
    /// Of a reply: perhaps it is a later command's. One waits, and the code is not one that ends a transfer.
    pub const EARLY: u8 = 2;
}

/// Length of a [`Said`] without its line, in bytes.
pub const SAID_HEAD: usize = core::mem::offset_of!(Said, line);

const _: () = assert!(SAID_HEAD == 24 && SAID_HEAD.is_multiple_of(8));
