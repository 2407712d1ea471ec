//! Commands whose answers may look like the answer to a PASV, and PASV: one of them at a time.
//!
//! STAT, HELP, SITE, MLST, PWD, MKD, LANG and commands that are not known may be answered with lines that a
//! stranger has written: names of files, above all. A line `227 ..` among them must not pass for the
//! answer to a PASV that is under way at the same time. So while such an answer may still go on, a
//! PASV is withheld, and while a PASV waits, such a command is: the line is cut off the segment, and its
//! sender repeats it. It is let through
//!
//! - at once, if the answer was a single line, alone in its segment;
//! - or once the answer has ended, all of it was acknowledged, the receiver's window is open and
//!   the server has said nothing for [`QUIET`] since this was seen first;
//! - or, behind any other command whose answer of several lines did not end as it should, after
//!   [`STUCK`] of the same silence;
//! - or, behind a command that was asked while a transfer went on, after [`STUCK`] of the same silence without
//!   an answer: Pure-FTPd answers one of all such commands. Then the answer to PASV is the first line that
//!   the server says, or none: what a late answer begins with is its server's own code;
//! - at last after [`LONGEST`], but then the PASV has no licence: its reply opens nothing.
//!
//! Names may hold line feeds. To a server that ends lines with CR LF alone, a line feed in a command is
//! part of the name, and it comes back in replies (`257 "x<LF>227 .."`). So where the server's own lines end
//! with CR LF, a line behind a bare line feed is the start of none, and a command that ends with a bare
//! line feed is one whose answer may hold anything, until the server has answered one.
//!
//! Clients that wait for each answer hardly ever meet this. Those that do not wait lose the time of
//! one retransmission, and nothing else.

use super::command::{answer, answer_of};
use super::parser::{Inspection, is_waiting};
use crate::abi::{PIPELINED, Session, asked_flag, direction_flag, event, line_end, role};
use crate::counter::Counter;
use crate::gate::{Gate, Opening};
use crate::wire::seq::distance;

/// Milliseconds of silence behind the end of an answer: below the least time after which a TCP
/// sends again.
pub const QUIET: u64 = 100;
/// Milliseconds of silence behind something that did not look like an end.
pub const STUCK: u64 = 1_000;
/// Milliseconds for which a command is withheld at most.
pub const LONGEST: u64 = 10_000;

/// [`Inspection::unlicensed`]: what the PASV under way may be answered by.
pub(super) mod license {
    /// Its reply opens nothing.
    pub const NONE: u8 = 1;
    /// Its reply is the first line behind it, or none.
    pub const FIRST_LINE: u8 = 2;
}

impl Inspection {
    /// A command's line ends here: whether it must be withheld.
    #[inline(always)]
    pub(super) fn must_withhold(&mut self, session: &mut Session, gate: &mut impl Gate) -> bool {
        if session.role != role::PUBLISH {
            return false;
        }
        // Nothing has come behind that answer before the next command: it has ended.
        if is_settled(session) {
            session.asked.doubtful = 0;
        }
        let holds = answer_of(self.name());
        let takes_bare = session.answered.line_ends & line_end::COMMANDS != 0;
        if takes_bare && session.asked.flags & asked_flag::BARE_DOUBT != 0 {
            session.asked.doubtful = 0;
            session.asked.flags &= !(asked_flag::BARE_DOUBT | asked_flag::BARE);
        }
        let is_due = match holds {
            answer::WORDS => is_bare_waiting(session),
            answer::ADDRESS => is_in_doubt(session) || is_full(session) || is_bare_waiting(session),
            // A line without a name is none.
            _ => self.line_len > 1 && is_waiting(session),
        };
        if is_due && self.is_too_early(session, gate) {
            return true;
        }
        if session.asked.withheld_since != 0 {
            session.asked.withheld_since = 0;
            session.asked.doubtful = 0;
            // Whatever still waits was never answered.
            if holds != answer::ADDRESS || is_bare_waiting(session) {
                self.unlicensed = license::NONE;
            }
        }
        false
    }

    /// Whether it is too early for the command that was withheld, or is now.
    #[inline(always)]
    fn is_too_early(&mut self, session: &mut Session, gate: &mut impl Gate) -> bool {
        let now = gate.now();
        let seen = session.replies.seen;
        let is_new = session.asked.withheld_since == 0;
        if is_new {
            session.asked.withheld_first = now;
            gate.count(Counter::CommandWithheld);
        }
        if is_new || session.asked.withheld_seen != seen {
            session.asked.withheld_since = now;
            session.asked.withheld_seen = seen;
        }
        let quiet = now.wrapping_sub(session.asked.withheld_since);
        let has_ended = has_ended(session);
        let is_swallowed = !has_ended && is_perhaps_swallowed(session);
        let is_quiet = if has_ended {
            quiet >= QUIET
        } else {
            quiet >= STUCK && (session.asked.doubtful == 0 || is_swallowed)
        };
        if is_quiet && has_all_reached_the_client(session) && !is_full(session) {
            if is_swallowed {
                self.unlicensed = license::FIRST_LINE;
            }
            return false;
        }
        if now.wrapping_sub(session.asked.withheld_first) < LONGEST {
            return true;
        }
        self.unlicensed = license::NONE;
        gate.tell(
            session,
            event::DENIED,
            Counter::DeniedDoubtful,
            &Opening::default(),
        );
        false
    }

    /// A single line has answered with success: it is beyond doubt if it was alone in its segment,
    /// and nothing is under way besides. Its server has written all of it at once.
    #[inline(always)]
    pub(super) fn settle(&self, session: &mut Session) {
        let asked = &session.asked;
        let is_it = asked.doubtful != 0
            && asked.doubtful == session.answered.replies
            && asked.flags & asked_flag::ALONE != 0;
        let is_lone = self.line_seq == self.first_seq
            && distance(session.replies.acked, self.line_seq) >= 0
            && distance(self.seq, self.line_seq) < SMALLEST_SEGMENT;
        if is_it && is_lone {
            session.answered.settled = asked.doubtful;
            session.answered.settled_end = self.seq;
        }
    }
}

/// Any path takes segments of so many bytes whole (RFC 9293 section 3.7.1).
const SMALLEST_SEGMENT: i32 = 536;

/// Whether the answer of an earlier command may still go on.
#[inline(always)]
fn is_in_doubt(session: &Session) -> bool {
    let (asked, answered) = (&session.asked, &session.answered);
    if answered.multiline != 0 || answered.line_ends & line_end::BARE != 0 {
        return true;
    }
    asked.doubtful != 0 && !is_settled(session)
}

/// Whether the answer of the command in doubt was a single line, alone in its segment, and nothing has
/// come behind it.
#[inline(always)]
fn is_settled(session: &Session) -> bool {
    session.answered.settled == session.asked.doubtful
        && session.answered.settled_end == session.replies.seen
}

/// Whether a PASV waits whose line ended with a bare line feed: to a server that wants CR LF, the next
/// line is still its argument, and may come back in a reply.
#[inline(always)]
fn is_bare_waiting(session: &Session) -> bool {
    session.asked.flags & asked_flag::BARE != 0 && is_waiting(session)
}

/// Whether every command in doubt has got its final reply.
#[inline(always)]
fn has_ended(session: &Session) -> bool {
    session.answered.multiline == 0
        && distance(session.answered.replies, session.asked.doubtful) >= 0
}

/// Whether the command in doubt, which has no answer yet, was perhaps swallowed by a transfer: that is over, and
/// what the server has said since is whole lines.
#[inline(always)]
fn is_perhaps_swallowed(session: &Session) -> bool {
    let (asked, answered) = (&session.asked, &session.answered);
    let bare = answered.line_ends & line_end::BARE;
    // In one number: the verifier follows each branch.
    let under_way = answered.multiline | u16::from(answered.in_transfer | bare);
    asked.doubtful != 0 && asked.beside_transfer != 0 && under_way == 0
}

/// Whether so many PASV wait that no further one could be told apart. Those that were perhaps refused are not
/// counted: once a further command passes, they were.
#[inline(always)]
fn is_full(session: &Session) -> bool {
    let (asked, answered) = (&session.asked, &session.answered);
    let waiting = distance(asked.passive, answered.passive);
    let behind_refusals = distance(asked.passive, answered.refused);
    waiting >= PIPELINED as i32 && behind_refusals >= PIPELINED as i32
}

/// Whether the client has acknowledged all that the server has sent, and its window is open for a
/// segment more: a server that had something to say would say it. Windows are known where the
/// handshake was seen.
#[inline(always)]
fn has_all_reached_the_client(session: &Session) -> bool {
    let replies = &session.replies;
    let is_open = replies.flags & direction_flag::TRACKED == 0
        || distance(replies.window, replies.seen) >= SMALLEST_SEGMENT;
    is_open && distance(replies.acked, replies.seen) >= 0
}
