//! Acting on an announcement: may it be opened, and what does the other side hear instead?

use super::doubt::license;
use super::parser::{
    Inspection, NOTHING, SIX, due, form_of, form_of_command, is_ftp, is_waiting, todo, withheld,
};
use crate::abi::{
    Session, also, asked_flag, cause, direction_mut, event, kind, line_end, rewritten, role,
};
use crate::counter::Counter;
use crate::ftp::line;
use crate::gate::{Gate, Opening};
use crate::wire::addr::{Addr, Port};
use crate::wire::seq::distance;

impl Inspection {
    /// A line that begins with 227 or 229: what follows counts, if somebody asked for it.
    #[inline(always)]
    pub(super) fn expect_address(&mut self, session: &mut Session, gate: &mut impl Gate) {
        if session.role != role::PUBLISH {
            return;
        }
        self.heal(session, gate);
        let reason = if session.answered.multiline != 0 {
            Counter::PassedInside
        } else if is_waiting(session) {
            let (code, _) = line::reply_code(self.head);
            self.candidate = form_of(code);
            let is_bare = session.answered.line_ends & line_end::BARE != 0;
            let is_first = self.line_seq == session.asked.replies_ended;
            if (is_bare || session.asked.first_line == due(session)) && !is_first {
                self.unlicensed = license::NONE;
            }
            return;
        } else {
            session.answered.announced = 1;
            Counter::PassedUnasked
        };
        gate.tell(session, event::PASSED, reason, &Opening::default());
    }

    /// The first step of acting on a byte: what the finder found is let through, or not.
    #[inline(always)]
    pub fn announce(&mut self, session: &mut Session, gate: &mut impl Gate) {
        if self.todo & todo::FOUND == 0 {
            return;
        }
        self.opened = 0;
        let opening = self.opening();
        if opening.port.number() == 0 {
            // No port is no announcement: the line's end counts it.
            return;
        }
        if self.is_replies == 0 && self.waits_for_client(session, gate, &opening.addr) {
            self.withheld = withheld::HELD;
            return;
        }
        // Acted on: neither must the rest be held, nor does the line's end miss an address.
        self.let_go = 1;
        if self.is_replies != 0 {
            session.answered.announced = 1;
        }
        let is_announced =
            self.is_replies != 0 || session.role == role::MASQUERADE || session.is_client_hidden();
        let shown = self.shown(session);
        let is_sayable = self.is_replies != 0 || self.candidate != SIX || shown.is_v4();
        if is_announced && !is_sayable {
            // Six numbers cannot say what the other side should hear.
            gate.tell(session, event::PASSED, Counter::PassedNoAddress, &opening);
            return;
        }
        let refused = if self.is_misplaced(session) {
            Some(Counter::DeniedUnreadable)
        } else {
            self.open(session, gate, &opening)
        };
        if let Some(reason) = refused {
            gate.tell(session, event::DENIED, reason, &opening);
            if self.is_replies == 0 {
                self.spoil_verb(session);
            } else {
                self.todo |= todo::REFUSE;
            }
        } else if is_announced {
            self.todo |= todo::WRITE;
        } else {
            self.todo |= todo::LEAVE;
        }
    }

    /// The announcement stays as it is.
    #[inline(always)]
    fn leave_text(&mut self, session: &Session, gate: &mut impl Gate, opening: &mut Opening) {
        gate.count(Counter::Unchanged);
        if self.opened != 0 {
            opening.public = self.public;
            gate.tell_opened(session, opening, self.remapped(session, opening));
        }
    }

    /// [`also::REMAPPED`] if the announced port was not free. A port of the gateway's own address is its own
    /// choice.
    #[inline(always)]
    fn remapped(&self, session: &Session, opening: &Opening) -> u8 {
        let is_outward = self.is_replies == 0 && session.role == role::PUBLISH;
        if self.public == opening.port || (is_outward && session.is_client_hidden()) {
            0
        } else {
            also::REMAPPED
        }
    }

    /// Whether an outside client's PORT or EPRT has something in front of what was found, or writes
    /// an octet with a zero in front (octal, to some): the server may read another address then.
    #[inline(always)]
    fn is_misplaced(&self, session: &Session) -> bool {
        if self.is_replies != 0 || session.role != role::PUBLISH {
            return false;
        }
        let (start, _) = self.piece();
        start != self.argument || (self.candidate != SIX && self.extended.octal != 0)
    }

    /// Has the announced connection let through; gives why it is not.
    #[inline(always)]
    fn open(
        &mut self,
        session: &mut Session,
        gate: &mut impl Gate,
        opening: &Opening,
    ) -> Option<Counter> {
        let refused = if !is_ftp(session) {
            Some(Counter::DeniedNotFtp)
        } else if self.is_replies != 0 {
            let is_doubtful = self.unlicensed != 0;
            judge_reply(session, gate, opening, is_doubtful)
        } else {
            judge_command(session, opening)
        };
        if refused.is_some() {
            return refused;
        }
        if self.is_replies != 0 && session.answered.opened_port == opening.port {
            self.public = session.answered.opened_public;
            return None;
        }
        let opened = if names_the_gateway(session, opening) {
            // What leads there leads to the client.
            let addr = session.inside.addr;
            gate.open(session, &Opening { addr, ..*opening })
        } else {
            gate.open(session, opening)
        };
        match opened {
            Ok(public) => (self.public, self.opened) = (public, 1),
            Err(reason) => return Some(reason),
        }
        if self.is_replies == 0 {
            session.asked.flags |= asked_flag::DATA_PORT;
        } else {
            session.answered.opened_port = opening.port;
            session.answered.opened_public = self.public;
        }
        None
    }

    /// What the finder found.
    #[inline(always)]
    fn opening(&self) -> Opening {
        let (addr, port) = if self.candidate == SIX {
            (self.six.addr(), self.six.port())
        } else {
            (self.extended.addr(), self.extended.port())
        };
        let kind = if self.is_replies != 0 {
            kind::PASSIVE
        } else {
            kind::ACTIVE
        };
        let cause = match (self.is_replies != 0, self.candidate == SIX) {
            (true, true) => cause::PASV,
            (true, false) => cause::EPSV,
            (false, true) => cause::PORT,
            (false, false) => cause::EPRT,
        };
        Opening {
            addr,
            port,
            kind,
            cause,
            public: Port(0),
        }
    }

    /// The server must not act on the command, and the client must hear of it: an unknown verb of
    /// the same length brings a 500 and moves no sequence number.
    #[inline(never)]
    fn spoil_verb(&mut self, session: &mut Session) {
        self.text.clear();
        self.text.push(b'X');
        self.text.push(b'X');
        self.text.push(b'X');
        self.text.push(b'X');
        let line_seq = self.line_seq;
        session.commands.edits.push(line_seq, 4, &self.text);
        self.edits = self.edits.wrapping_add(1);
    }

    /// A PORT or EPRT whose address was not found. The server may read it otherwise, and an
    /// outside client must not send it anywhere (RFC 2577).
    #[inline(always)]
    pub(super) fn refuse_unread(&mut self, session: &mut Session, gate: &mut impl Gate) {
        gate.tell(
            session,
            event::DENIED,
            Counter::DeniedUnreadable,
            &Opening::default(),
        );
        self.spoil_verb(session);
    }

    /// The byte behind the verb of a line that was let go before it was known: an outside client
    /// cannot have a PORT pass by typing it slowly.
    #[inline(never)]
    pub(super) fn spoil_unread(&mut self, session: &mut Session, gate: &mut impl Gate) {
        if session.role != role::PUBLISH || form_of_command(self.head) == NOTHING {
            return;
        }
        gate.tell(
            session,
            event::DENIED,
            Counter::DeniedUnreadable,
            &Opening::default(),
        );
        self.text.clear();
        self.text.push(b'X');
        let seq = self.seq.wrapping_sub(1);
        session.commands.edits.push(seq, 1, &self.text);
        self.edits = self.edits.wrapping_add(1);
    }

    /// The line under way was held for too long: it goes on as it is, but not as a PORT of an
    /// outside client.
    #[inline(always)]
    pub fn release(&mut self, session: &mut Session) {
        if self.is_replies == 0 && session.role == role::PUBLISH && self.candidate != NOTHING {
            self.spoil_verb(session);
        }
    }

    /// The address that the other side must hear instead of the announced one.
    #[inline(always)]
    fn shown(&self, session: &Session) -> Addr {
        if self.is_replies == 0 && session.role == role::PUBLISH {
            session.alias.addr
        } else {
            session.advertise
        }
    }

    /// The second step: writes the announcement anew, with the public address and port, and tells what was
    /// opened.
    #[inline(always)]
    pub fn write(&mut self, session: &mut Session, gate: &mut impl Gate) {
        if !self.must_write() {
            return;
        }
        let mut opening = self.opening();
        if self.todo & todo::LEAVE != 0 {
            self.leave_text(session, gate, &mut opening);
            return;
        }
        // Over IPv6 the six numbers of a 227 tell the port alone: clients that take it connect to the
        // control connection's own address, and servers say 0,0,0,0.
        let shown = self.shown(session);
        let advertise = if self.candidate == SIX && !shown.is_v4() {
            opening.addr
        } else {
            shown
        };
        let is_six = self.candidate == SIX;
        self.text.clear();
        let mut same = self.public == opening.port;
        if is_six {
            same &= advertise == opening.addr;
            self.text.push_six(&advertise, self.public);
        } else if self.extended.protocol == 0 {
            self.text
                .push_extended_port(self.extended.delimiter, self.public);
        } else {
            same &= advertise == opening.addr;
            self.text
                .push_extended(self.extended.delimiter, &advertise, self.public);
        }
        let (start, end) = self.piece();
        if same && end.wrapping_sub(start) as u32 == self.text.len() {
            self.leave_text(session, gate, &mut opening);
            return;
        }
        opening.public = self.public;
        if self.opened != 0 {
            let also = also::REWRITTEN | self.remapped(session, &opening);
            gate.tell_opened(session, &opening, also);
        } else {
            let counter = rewritten(opening.cause);
            gate.tell(session, event::REWRITTEN, counter, &opening);
        }
        self.todo |= todo::INSERT;
    }

    /// Where in the line the announcement stands.
    #[inline(always)]
    pub(super) fn piece(&self) -> (u16, u16) {
        if self.candidate == SIX {
            (self.six.start, self.six.end)
        } else {
            (self.extended.start, self.extended.end)
        }
    }

    /// The third step: notes the edit that puts the new text in its place.
    #[inline(always)]
    pub fn insert(&mut self, session: &mut Session, gate: &mut impl Gate) {
        if self.todo & todo::INSERT != 0 {
            let (start, end) = self.piece();
            let start = if self.is_replies != 0 {
                self.level(start, end)
            } else {
                start
            };
            let old_len = end.wrapping_sub(start);
            let length = if old_len as u32 == self.text.len() {
                Counter::EditEqual
            } else {
                Counter::EditAdjusted
            };
            gate.count(length);
            let seq = self.line_seq.wrapping_add(start as u32);
            direction_mut(session, self.is_replies)
                .edits
                .push(seq, old_len, &self.text);
            self.edits = self.edits.wrapping_add(1);
        }
    }
}

/// Whether a client of our own that is known names the gateway's address, because somebody told it:
/// it means itself.
#[inline(always)]
fn names_the_gateway(session: &Session, opening: &Opening) -> bool {
    let is_public = opening.addr == session.public.addr || opening.addr == session.advertise;
    session.role == role::MASQUERADE && !session.inside.addr.is_none() && is_public
}

/// Why a server may not have this let in, if it may not. Another port of the same reply is closed:
/// one command opens one connection, and the reply's last word counts. `is_doubtful`: the line is
/// perhaps no reply's.
#[inline(never)]
fn judge_reply(
    session: &mut Session,
    gate: &mut impl Gate,
    opening: &Opening,
    is_doubtful: bool,
) -> Option<Counter> {
    let earlier = session.answered.opened_port;
    if earlier.0 != 0 && earlier != opening.port {
        let earlier = Opening {
            port: earlier,
            ..*opening
        };
        gate.close(session, &earlier, session.answered.opened_public);
        session.answered.opened_port = Port(0);
    }
    if is_doubtful || distance(session.asked.unlicensed, due(session)) >= 0 {
        return Some(Counter::DeniedDoubtful);
    }
    let number = opening.port.number();
    let first = session.passive_first.max(1024);
    let last = if session.passive_last == 0 {
        u16::MAX
    } else {
        session.passive_last
    };
    (number < first || number > last).then_some(Counter::DeniedPort)
}

/// Why a client may not have this let through, if it may not: somebody else's address, or a port
/// of the system (RFC 2577).
#[inline(never)]
fn judge_command(session: &Session, opening: &Opening) -> Option<Counter> {
    let own = if session.role == role::PUBLISH {
        opening.addr == session.outside.addr
    } else {
        if session.inside.addr.is_none() {
            return Some(Counter::DeniedUnknownClient);
        }
        opening.addr == session.inside.addr || names_the_gateway(session, opening)
    };
    if !own {
        Some(Counter::DeniedBounce)
    } else if opening.port.number() < 1024 {
        Some(Counter::DeniedPort)
    } else {
        None
    }
}
