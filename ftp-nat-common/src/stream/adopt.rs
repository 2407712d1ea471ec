//! A control connection that another gateway of the cluster knows as well.
//!
//! What is known here of a session that was learned from another gateway is a moment old: segments may
//! have passed that one meanwhile. And while the addresses move, one direction may still go by the other
//! gateway when the other one goes by this one already. So for a while TCP's numbers are judged with slack, a
//! direction may go on behind what was not seen here, and what the server has received without this
//! gateway may have been a PASV. Afterwards the session is judged like any other.

use crate::abi::{
    ADOPTED, Direction, Session, asked_flag, begin, direction, direction_flag, direction_mut,
    may_jump, role,
};
use crate::ftp::tls;
use crate::masked;
use crate::stream::window;
use crate::wire::seq::distance;

/// How many bytes of a direction may have passed the other gateway after it told of the session
/// last: TCP's numbers may be off by so much.
const UNSEEN: i32 = 1 << 20;

/// Makes a session, of which ends, directions' numbers and edits and TLS are known, one whose next
/// segments may be further.
pub fn adopt(session: &mut Session) {
    session.adopted = ADOPTED;
    session.untold = 1;
    session.asked.begin = begin::FTP;
    session.answered.begin = begin::FTP;
    // Perhaps the last command was PASV.
    session.asked.commands = 1;
    session.asked.passive = 1;
    session.asked.passive_at = [1; crate::abi::PIPELINED];
    session.asked.flags = asked_flag::DATA_PORT;
    let changes = session.answered.encrypted;
    for direction in [&mut session.commands, &mut session.replies] {
        direction.flags = direction_flag::STARTED | direction_flag::TRACKED;
        if direction.cleared != changes {
            // Where its records begin is not known. Who agreed on TLS speaks it: a server answers no
            // other by records of data.
            direction.spoke_tls = changes;
            direction.line_len = tls::LOST;
        }
    }
    // All that was asked inside TLS so far is answered; what comes next is a question.
    session.asked.flags |= asked_flag::BEGAN_TLS;
    let_jump(session, may_jump::ONCE);
}

/// Lets both directions go on where nothing was seen yet.
#[inline(always)]
fn let_jump(session: &mut Session, always: u8) {
    let may = always | may_jump::BEHIND_ACKNOWLEDGED | may_jump::REPEATED;
    session.commands.may_jump = may;
    session.replies.may_jump = may;
}

/// How many bytes of either direction may have gone another way. `timeout` is how long that is
/// possible after the first packet, in the unit of `now`.
#[inline(always)]
pub fn unseen(session: &mut Session, now: u64, timeout: u64) -> i32 {
    if session.adopted == 0 {
        return 0;
    }
    if session.adopted == ADOPTED {
        session.adopted = now.wrapping_add(timeout);
    } else if now > session.adopted {
        session.adopted = 0;
        session.commands.may_jump = 0;
        session.replies.may_jump = 0;
        return 0;
    }
    UNSEEN
}

/// The same for a session of this gateway: the end inside, whose segment this is, acknowledges up to
/// `acked`, the other direction's sender's number. If nothing was sent here up to there, the rest went by
/// another gateway. Nobody outside can pretend that: the segment comes from the inside.
#[inline(always)]
pub fn unseen_by_ack(
    session: &mut Session,
    is_replies: u8,
    acked: u32,
    now: u64,
    timeout: u64,
) -> i32 {
    let is_inside = (session.role == role::PUBLISH) == (is_replies != 0);
    let others = direction_mut(session, is_replies ^ 1);
    let beyond = distance(acked, others.end);
    if !is_inside || beyond <= 0 || beyond > UNSEEN {
        return 0;
    }
    session.adopted = now.wrapping_add(timeout);
    let_jump(session, 0);
    UNSEEN
}

/// One end has received what the other one sent up to `acked`, of which not all came by here. So packets
/// of data connections may come of which nobody has told; and perhaps what the server has received was a
/// PASV, and the answer is on its way. What the client has received were answers: all its commands but the
/// last one have theirs.
#[inline(always)]
pub fn catch_up(session: &mut Session, is_replies: u8, acked: u32) {
    if distance(acked, direction(session, is_replies ^ 1).seen) <= 0 {
        return;
    }
    session.untold = 1;
    if is_replies == 0 {
        let (asked, answered) = (&session.asked, &mut session.answered);
        let last = asked.passive.wrapping_sub(1);
        if distance(last, answered.passive) > 0 {
            answered.passive = last;
            answered.replies = asked.commands.wrapping_sub(1);
        }
        return;
    }
    window::sent(&mut session.commands, acked);
    go_on(&mut session.commands, acked);
    let asked = &mut session.asked;
    asked.commands = asked.commands.wrapping_add(1);
    let number = asked.passive.wrapping_add(1);
    *masked::at_mut(&mut asked.passive_at, number as usize) = asked.commands;
    asked.passive = number;
    asked.flags |= asked_flag::DATA_PORT;
    asked.replies_ended = session.replies.seen;
}

/// Whether a direction may go on behind a gap, at `seq`: if so, it does, and that is taken for the start
/// of a line, because senders write whole lines. `repeated`: segments behind the gap have been dropped for
/// so long that what came now is a repetition.
#[inline(always)]
pub fn jump(direction: &mut Direction, seq: u32, repeated: bool) -> bool {
    let went_by = distance(direction.acked, direction.seen) > 0;
    let may = direction.may_jump;
    let jumps = may & may_jump::ONCE != 0
        || may & may_jump::BEHIND_ACKNOWLEDGED != 0 && went_by
        || may & may_jump::REPEATED != 0 && repeated;
    if !jumps {
        return false;
    }
    direction.may_jump = may & !may_jump::ONCE;
    go_on(direction, seq);
    true
}

/// Goes on at `seq`, the start of a line.
#[inline(always)]
fn go_on(direction: &mut Direction, seq: u32) {
    direction.gap_since = 0;
    direction.seen = seq;
    direction.held_len = 0;
    direction.line_len = 0;
    direction.head = 0;
    direction.flags &= !(direction_flag::LET_GO | direction_flag::READER);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::segment::{Plan, plan};
    use bytemuck::Zeroable as _;

    fn plan_of(direction: &mut Direction, seq: u32) -> Plan {
        plan_at(direction, seq, 1)
    }

    fn plan_at(direction: &mut Direction, seq: u32, now: u64) -> Plan {
        plan(direction, seq, 10, false, now, 640).0.verdict
    }

    #[test]
    fn the_slack_ends_a_while_after_the_first_packet() {
        let mut session = Session::zeroed();
        assert_eq!(unseen(&mut session, 100, 10), 0);
        adopt(&mut session);
        assert_eq!(unseen(&mut session, 5000, 10), UNSEEN);
        assert_eq!(unseen(&mut session, 5010, 10), UNSEEN);
        assert_eq!(unseen(&mut session, 5011, 10), 0);
        assert_eq!((session.adopted, session.commands.may_jump), (0, 0));
    }

    #[test]
    fn a_session_that_agreed_on_tls_goes_on_with_it() {
        let mut session = Session::zeroed();
        session.role = role::PUBLISH;
        session.passive_first = 50_000;
        session.answered.encrypted = 2;
        session.commands.cleared = 1;
        session.replies.cleared = 2;
        adopt(&mut session);
        assert_eq!(
            (session.commands.spoke_tls, session.replies.spoke_tls),
            (2, 0)
        );
        assert!(!crate::ftp::records::has_range(&session));
        session.replies.cleared = 0;
        adopt(&mut session);
        assert!(crate::ftp::records::has_range(&session));
    }

    #[test]
    fn a_direction_jumps_once_and_then_only_behind_what_was_acknowledged() {
        let mut session = Session::zeroed();
        adopt(&mut session);
        let direction = &mut session.replies;
        direction.seen = 1000;
        assert_eq!(plan_of(direction, 5000), Plan::Inspect);
        assert_eq!(direction.seen, 5000);
        assert_eq!(plan_of(direction, 9000), Plan::Drop);
        direction.acked = 9000;
        assert_eq!(plan_of(direction, 9000), Plan::Inspect);
        assert_eq!((direction.seen, direction.line_len), (9000, 0));
    }

    #[test]
    fn a_direction_goes_on_behind_a_gap_by_repeating() {
        let mut session = Session::zeroed();
        adopt(&mut session);
        for is_replies in [0, 1] {
            let direction = direction_mut(&mut session, is_replies);
            direction.may_jump &= !may_jump::ONCE;
            direction.seen = 1000;
            direction.acked = 1000;
            assert_eq!(plan_at(direction, 5000, 100), Plan::Drop);
            assert_eq!(plan_at(direction, 5000, 105), Plan::Drop);
            assert_eq!(plan_at(direction, 5000, 120), Plan::Inspect);
        }
    }

    #[test]
    fn only_who_is_inside_tells_of_what_went_another_way() {
        for (role, is_replies, acked, slack) in [
            (role::PUBLISH, 1, 1010, UNSEEN),
            (role::PUBLISH, 1, 1000, 0),
            (role::PUBLISH, 1, 1001 + UNSEEN as u32, 0),
            (role::PUBLISH, 0, 1010, 0),
            (role::MASQUERADE, 0, 1010, UNSEEN),
            (role::MASQUERADE, 1, 1010, 0),
        ] {
            let mut session = Session::zeroed();
            session.role = role;
            session.commands.end = 1000;
            session.replies.end = 1000;
            let given = unseen_by_ack(&mut session, is_replies, acked, 5, 10);
            assert_eq!(given, slack, "{role} {is_replies} {acked}");
            assert_eq!(session.adopted, if slack == 0 { 0 } else { 15 });
        }
    }

    #[test]
    fn what_the_client_has_received_without_us_were_answers() {
        let mut session = Session::zeroed();
        session.replies.seen = 100;
        (session.asked.passive, session.asked.commands) = (4, 8);
        catch_up(&mut session, 0, 100);
        assert_eq!(session.answered.passive, 0);
        catch_up(&mut session, 0, 120);
        let answered = &session.answered;
        assert_eq!((answered.passive, answered.replies), (3, 7));
    }

    #[test]
    fn what_the_server_has_received_without_us_may_have_been_a_pasv() {
        let mut session = Session::zeroed();
        session.commands.seen = 100;
        catch_up(&mut session, 1, 100);
        assert_eq!(session.asked.passive, 0);
        catch_up(&mut session, 1, 106);
        let asked = &session.asked;
        assert_eq!((asked.passive, asked.commands), (1, 1));
        assert_eq!((session.commands.seen, session.commands.end), (106, 106));
    }
}
