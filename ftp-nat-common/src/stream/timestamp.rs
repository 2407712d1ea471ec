//! TCP's timestamps on control connections (RFC 7323 section 5, "protection against wrapped sequences").
//!
//! A receiver drops a segment whose timestamp is older than the latest one of what it has received in
//! order, and answers it; some drop one without a timestamp where others had one (section 3.2). Who
//! writes text with such a timestamp, and behind it another text with the same numbers, would have the
//! gateway read the one and the receiver the other. So new text that its receiver may drop does not get
//! there: an honest sender repeats it, with a timestamp of that moment.
//!
//! Nothing is lost if a network has put segments out of order: what comes ahead of a gap is dropped
//! already, so its timestamp is not the latest one, here as at the receiver.

use crate::abi::Direction;
use crate::wire::seq::distance;

/// Seconds of silence behind which a sender's timestamps are not compared with those before: 2^31
/// microseconds, as Linux since 6.7 has it. Clocks that tick more slowly wrap later.
pub const WRAP: u32 = (1 << 31) / 1_000_000;

/// Whether the receiver may drop text up to `end` (exclusive, FIN counted) for its timestamp; 0: it has
/// none. `rested`: its direction was silent for [`WRAP`] before it.
#[inline(always)]
pub fn is_stale(own: &Direction, end: u32, timestamp: u32, rested: bool) -> bool {
    if distance(end, own.seen) <= 0 {
        return false;
    }
    if timestamp == 0 {
        return own.has_timestamps != 0;
    }
    own.timestamp != 0 && !rested && distance(timestamp, own.timestamp) < 0
}

/// Notes the timestamp of a segment that TCP believes, which begins at `seq`.
#[inline(always)]
pub fn note(own: &mut Direction, seq: u32, timestamp: u32, rested: bool) {
    let next = own.seen.wrapping_add(u32::from(own.held_len));
    if timestamp == 0 || distance(seq, next) > 0 {
        return;
    }
    own.has_timestamps = 1;
    if own.timestamp == 0 || rested || distance(timestamp, own.timestamp) > 0 {
        own.timestamp = timestamp;
    }
}

/// Starts with the timestamps of both ends' SYNs; 0: there was none.
#[inline(always)]
pub fn start(commands: &mut Direction, replies: &mut Direction, client: u32, server: u32) {
    if client != 0 && server != 0 {
        commands.timestamp = client;
        replies.timestamp = server;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable as _;

    fn seen(seen: u32, timestamp: u32) -> Direction {
        Direction {
            seen,
            timestamp,
            ..Direction::zeroed()
        }
    }

    #[test]
    fn only_new_text_with_an_older_timestamp_is_stale() {
        let latest = 0x8000_0010_u32;
        for (end, timestamp, rested, stale) in [
            (101, latest, false, false),
            (101, latest + 1, false, false),
            (101, latest - 1, false, true),
            (101, latest.wrapping_add(1 << 31), false, true),
            (101, latest.wrapping_add((1 << 31) - 1), false, false),
            // A repetition, or no text at all.
            (100, latest - 1, false, false),
            // A clock that may have wrapped.
            (101, latest - 1, true, false),
        ] {
            let own = seen(100, latest);
            let is = is_stale(&own, end, timestamp, rested);
            assert_eq!(is, stale, "{end} {timestamp} {rested}");
        }
        // Nothing to compare with.
        assert!(!is_stale(&seen(100, 0), 101, 5, false));
    }

    #[test]
    fn text_without_a_timestamp_is_stale_where_others_had_one() {
        let mut own = seen(100, 7);
        assert!(!is_stale(&own, 101, 0, false));
        note(&mut own, 100, 8, false);
        assert!(is_stale(&own, 101, 0, false));
        assert!(!is_stale(&own, 100, 0, false));
    }

    #[test]
    fn the_latest_timestamp_is_that_of_what_came_in_order() {
        let mut own = seen(100, 0);
        own.held_len = 3;
        for (seq, timestamp, rested, latest) in [
            (100, 0, false, 0),
            (100, 50, false, 50),
            (104, 60, false, 50),
            (103, 60, false, 60),
            (90, 70, false, 70),
            (100, 65, false, 70),
            (100, 65, true, 65),
        ] {
            note(&mut own, seq, timestamp, rested);
            assert_eq!(own.timestamp, latest, "{seq} {timestamp}");
        }
    }

    #[test]
    fn timestamps_of_syns_count_where_both_ends_had_one() {
        for (client, server, wanted) in [(5, 6, [5, 6]), (5, 0, [0, 0]), (0, 6, [0, 0])] {
            let (mut commands, mut replies) = (seen(1, 0), seen(1, 0));
            start(&mut commands, &mut replies, client, server);
            assert_eq!([commands.timestamp, replies.timestamp], wanted);
        }
    }
}
