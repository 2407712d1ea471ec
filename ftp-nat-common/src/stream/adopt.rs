//! A control connection that was learned from another gateway.
//!
//! What is known of it is a moment old: segments may have passed the other gateway meanwhile. So its
//! first segments here are judged with slack, each direction may go on once behind what is known, and
//! one PASV may be waiting for its answer. After a while it is judged like any other.

use crate::abi::{ADOPTED, Direction, Session, asked_flag, begin, direction_flag};

/// How many bytes of a direction may have passed the other gateway after it told of the session
/// last: TCP's numbers may be off by so much.
const UNSEEN: i32 = 1 << 20;

/// Makes a session, of which ends, directions' numbers and edits and TLS are known, one whose next
/// segments may be further.
pub fn adopt(session: &mut Session) {
    session.adopted = ADOPTED;
    session.asked.begin = begin::FTP;
    session.answered.begin = begin::FTP;
    // Perhaps the last command was PASV.
    session.asked.commands = 1;
    session.asked.passive = 1;
    session.asked.passive_at = [1; crate::abi::PIPELINED];
    session.asked.flags = asked_flag::DATA_PORT;
    for direction in [&mut session.commands, &mut session.replies] {
        direction.flags = direction_flag::STARTED | direction_flag::TRACKED;
        direction.may_jump = 1;
    }
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
        return 0;
    }
    UNSEEN
}

/// Goes on at `seq`, which is taken for the start of a line: senders write whole lines. Only once: a
/// second gap is one in the network.
#[inline(always)]
pub fn jump(direction: &mut Direction, seq: u32) {
    direction.may_jump = 0;
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
    use bytemuck::Zeroable as _;

    #[test]
    fn the_slack_ends_a_while_after_the_first_packet() {
        let mut session = Session::zeroed();
        assert_eq!(unseen(&mut session, 100, 10), 0);
        adopt(&mut session);
        assert_eq!(unseen(&mut session, 5000, 10), UNSEEN);
        assert_eq!(unseen(&mut session, 5010, 10), UNSEEN);
        assert_eq!(unseen(&mut session, 5011, 10), 0);
        assert_eq!(session.adopted, 0);
    }

    #[test]
    fn a_direction_jumps_once() {
        let mut direction = Direction::zeroed();
        direction.may_jump = 1;
        direction.flags = direction_flag::STARTED | direction_flag::TRACKED;
        direction.seen = 1000;
        let plan = |direction: &mut Direction, seq| {
            crate::stream::segment::plan(direction, seq, 10, false, 1, 100)
                .0
                .verdict
        };
        use crate::stream::segment::Plan;
        assert_eq!(plan(&mut direction, 5000), Plan::Inspect);
        assert_eq!(direction.seen, 5000);
        assert_eq!(plan(&mut direction, 9000), Plan::Drop);
    }
}
