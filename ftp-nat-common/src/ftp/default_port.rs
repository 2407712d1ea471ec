//! Transfers for which no address was announced (RFC 959 section 3.3): the server connects from its
//! port L-1 to the client's end of the control connection.

use super::command;
use super::parser::{Inspection, is_ftp};
use crate::abi::{Session, asked_flag, cause, event, kind, role};
use crate::gate::{Gate, Opening};
use crate::wire::addr::Addr;

impl Inspection {
    /// A command's line has ended: lets the server's connection through, if it asks for one.
    #[inline(never)]
    pub(super) fn open_default(&mut self, session: &mut Session, gate: &mut impl Gate) {
        let is_asked =
            session.asked.flags & asked_flag::DATA_PORT == 0 && command::is_transfer(self.name());
        if is_asked && session.inside.addr.is_none() {
            gate.identify(session, &Addr::default());
        }
        let (end, public) = if session.role == role::PUBLISH {
            (session.outside, session.alias.port)
        } else {
            (session.inside, session.public.port)
        };
        let is_known = !end.addr.is_none() && end.port.number() >= 1024;
        if !is_asked || !is_known || !is_ftp(session) {
            return;
        }
        let mut opening = Opening {
            addr: end.addr,
            port: end.port,
            kind: kind::ACTIVE,
            cause: cause::DEFAULT,
            public,
        };
        match gate.open(session, &opening) {
            Ok(public) => {
                opening.public = public;
                gate.tell_opened(session, &opening, 0);
            }
            Err(reason) => gate.tell(session, event::DENIED, reason, &opening),
        }
    }
}
