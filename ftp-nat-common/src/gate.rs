//! What the protocol asks of whoever runs it: the datapath, `ftp-nat inspect`, the fuzzer, a test.

use crate::abi::{Said, Session};
use crate::counter::Counter;
use crate::wire::addr::{Addr, Port};

/// Opens and closes pinholes, and reports what happened.
pub trait Gate {
    /// Lets the announced data connection in or out; gives the port under which the outside
    /// reaches it, or why it may not be. A session has one connection of each kind waiting: what it
    /// announced before and nobody came for is taken back ([`Session::waiting`]). [`Gate::tell_opened`]
    /// follows, once it is known what becomes of the text.
    fn open(&mut self, session: &mut Session, opening: &Opening) -> Result<Port, Counter>;
    /// Takes back what `open` gave: the same reply announced another port after it.
    fn close(&mut self, session: &Session, opening: &Opening, public: Port);
    /// Fills in [`Session::inside`] of a masqueraded client whose own address was not known when its
    /// session was made, if it is known by now. `announced` is the address that it announces, none
    /// if it announces none: what a capture alone can go by, and nobody else.
    fn identify(&mut self, session: &mut Session, announced: &Addr);
    /// The server has answered inside TLS: its client may make one data connection to the passive
    /// range ([`crate::ftp::records`]). A permit that the session has already is renewed.
    fn permit(&mut self, session: &mut Session);
    /// The time in milliseconds, from any moment on; never 0.
    fn now(&mut self) -> u64;
    /// Counts an event.
    fn count(&mut self, counter: Counter);
    /// Counts an event and tells the operator: `what` of [`crate::abi::event`], about an announcement.
    fn tell(&mut self, session: &Session, what: u8, counter: Counter, opening: &Opening);
    /// Counts and tells the operator that a connection was let through, under [`Opening::public`], and what else
    /// happened: bits of [`crate::abi::also`].
    fn tell_opened(&mut self, session: &Session, opening: &Opening, also: u8);
    /// Whether what clients ask for and servers answer is told.
    fn tells_commands(&mut self) -> bool;
    /// Tells the operator a command or a reply, with the first `len` bytes of its line, at most
    /// [`crate::abi::LINE_MAX`]. [`Said::session`] and [`Said::time`] are the gate's to fill in.
    fn tell_said(&mut self, said: &mut Said, len: u32);
}

/// An announced data connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// The announced address; none where the text gives none.
    pub addr: Addr,
    /// The announced port.
    pub port: Port,
    /// [`crate::abi::kind`].
    pub kind: u8,
    /// [`crate::abi::cause`].
    pub cause: u8,
    /// The port that it got outside; 0: none, or not known yet. To [`Gate::open`]: the one that it
    /// wants, 0 for the announced one.
    pub public: Port,
}
