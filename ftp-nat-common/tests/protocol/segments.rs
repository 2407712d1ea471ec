//! Segments that come in pieces, again, too early, or never.

use crate::conversation::{Conversation, TIMEOUT};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::host::{self, Segment};

/// One direction of a conversation, segment by segment; numbers count from the direction's next
/// byte.
struct Way {
    it: Conversation,
    is_replies: bool,
    first: u32,
}

impl Way {
    /// The server's answer to a PASV.
    fn replies() -> Self {
        let mut it = Conversation::publish();
        it.client("PASV\r\n");
        let first = it.session.replies.seen;
        Self {
            it,
            is_replies: true,
            first,
        }
    }

    /// The commands of one of our clients.
    fn commands() -> Self {
        let it = Conversation::masquerade();
        let first = it.session.commands.seen;
        Self {
            it,
            is_replies: false,
            first,
        }
    }

    fn pass(&mut self, at: i32, text: &str, fin: bool) -> Option<(i32, String)> {
        let segment = Segment {
            seq: self.first.wrapping_add_signed(at),
            payload: text.into(),
            fin,
            ..Segment::default()
        };
        let sent = self.it.pass(self.is_replies, &segment)?;
        assert!(fin || !sent.fin);
        let at = sent.seq.wrapping_sub(self.first).cast_signed();
        Some((at, String::from_utf8(sent.payload).unwrap()))
    }

    /// What leaves: where it stands, and its text.
    fn sent(&mut self, at: i32, text: &str) -> Option<(i32, String)> {
        self.pass(at, text, false)
    }

    /// What the sender hears when the receiver acknowledges everything before `at`.
    fn acknowledged(&mut self, at: i32) -> i32 {
        let ack = self.first.wrapping_add_signed(at);
        let heard = host::acknowledge(&mut self.it.session, self.is_replies, ack);
        heard.wrapping_sub(self.first).cast_signed()
    }

    fn count_of(&self, counter: Counter) -> usize {
        self.it.gate.count_of(counter)
    }
}

fn at(at: i32, text: &str) -> Option<(i32, String)> {
    Some((at, text.into()))
}

const REPLY: &str = "227 Entering Passive Mode (10,0,0,5,195,80).\r\n";
const HEARD: &str = "227 Entering Passive  (203,0,113,10,195,80).\r\n";

#[test]
fn a_line_is_held_until_it_is_whole() {
    for cut in 1..40 {
        let mut way = Way::replies();
        assert_eq!(way.sent(0, &REPLY[..cut]), None, "{cut}");
        assert_eq!(way.sent(cut as i32, &REPLY[cut..]), at(0, HEARD), "{cut}");
        assert_eq!(way.acknowledged(0), 0);
    }
}

#[test]
fn what_cannot_be_an_announcement_is_not_held() {
    let mut way = Way::replies();
    assert_eq!(way.sent(0, "226 A"), at(0, "226 A"));
    assert_eq!(way.sent(5, "bc\r\n22"), at(5, "bc\r\n"));
    assert_eq!(way.sent(9, "226"), at(9, "226"));
    let mut way = Way::commands();
    assert_eq!(way.sent(0, "PA"), at(0, "PA"));
    assert_eq!(way.sent(2, "SV\r\nPO"), at(2, "SV\r\n"));
    assert_eq!(way.sent(6, "POX"), at(6, "POX"));
}

#[test]
fn the_rest_of_a_line_behind_the_announcement_follows_as_it_comes() {
    let mut way = Way::replies();
    assert_eq!(way.sent(0, &REPLY[..43]), at(0, &HEARD[..43]));
    assert_eq!(way.sent(43, &REPLY[43..45]), at(43, &HEARD[43..45]));
    assert_eq!(way.sent(45, &REPLY[45..]), at(45, &HEARD[45..]));
}

#[test]
fn lines_before_a_held_one_go_on() {
    let mut way = Way::replies();
    assert_eq!(way.sent(0, "200 ok\r\n227 Ent"), at(0, "200 ok\r\n"));
    assert_eq!(way.count_of(Counter::SegmentCut), 1);
    // The sender repeats what was cut off, together with what follows.
    assert_eq!(way.sent(8, REPLY), at(8, HEARD));
}

#[test]
fn a_sender_that_repeats_a_held_line_is_told_to_go_on() {
    let mut way = Way::replies();
    assert_eq!(way.sent(0, &REPLY[..10]), None);
    // Nothing was promised yet.
    assert_eq!(way.acknowledged(0), 0);
    assert_eq!(way.sent(0, &REPLY[..10]), at(-1, ""));
    assert_eq!(way.count_of(Counter::LineAcknowledged), 1);
    assert_eq!(way.acknowledged(0), 10);
    // More bytes are not promised before they are asked for.
    assert_eq!(way.sent(10, &REPLY[10..20]), None);
    assert_eq!(way.acknowledged(0), 10);
    assert_eq!(way.sent(10, &REPLY[10..20]), at(-1, ""));
    assert_eq!(way.acknowledged(0), 20);
    assert_eq!(way.sent(20, &REPLY[20..]), at(0, HEARD));
    assert_eq!(way.acknowledged(46), 46);
}

#[test]
fn a_sender_that_waited_for_long_is_told_to_go_on() {
    let mut way = Way::replies();
    assert_eq!(way.sent(0, &REPLY[..10]), None);
    way.it.now += TIMEOUT / 40;
    assert_eq!(way.sent(10, &REPLY[10..20]), at(-1, ""));
    assert_eq!(way.acknowledged(0), 20);
}

#[test]
fn what_is_owed_is_sent_until_it_is_acknowledged() {
    let mut way = Way::replies();
    way.sent(0, &REPLY[..10]);
    way.sent(0, &REPLY[..10]);
    assert_eq!(way.acknowledged(0), 10);
    assert_eq!(way.sent(10, &REPLY[10..]), at(0, HEARD));
    // That was lost: the sender repeats only what it thinks missing, cut elsewhere.
    assert_eq!(way.sent(10, &REPLY[10..30]), at(0, &HEARD[..30]));
    assert_eq!(way.sent(10, &REPLY[10..]), at(0, HEARD));
    // New lines do not disturb it, held ones neither.
    assert_eq!(
        way.sent(46, "200 Something else\r\n"),
        at(46, "200 Something else\r\n")
    );
    let pasv = Segment {
        seq: way.it.session.commands.seen,
        payload: "PASV\r\n".into(),
        fin: false,
        ..Segment::default()
    };
    assert!(way.it.pass(false, &pasv).is_some());
    assert_eq!(way.sent(66, "227 And a new"), None);
    assert_eq!(way.sent(66, "227 And a new"), None, "owed twice");
    let both = format!("{}200 Something else\r\n227 And a new", &REPLY[10..]);
    let heard = format!("{HEARD}200 Something else\r\n");
    assert_eq!(way.sent(10, &both), at(0, &heard));
    assert_eq!(way.acknowledged(30), 30);
    // Once it is there, repetitions are what they are, and something else can be owed.
    assert_eq!(way.acknowledged(66), 66);
    assert_eq!(way.sent(10, &REPLY[10..]), at(10, &HEARD[10..]));
    assert_eq!(way.sent(66, "227 And a new"), at(65, ""));
    assert_eq!(way.acknowledged(66), 79);
    assert_eq!(way.sent(79, " one\r\n"), at(66, "227 And a new one\r\n"));
    assert_eq!(way.sent(79, " one\r\n"), at(66, "227 And a new one\r\n"));
    assert_eq!(way.acknowledged(85), 85);
    assert_eq!(way.sent(79, " one\r\n"), at(79, " one\r\n"));
}

#[test]
fn a_repetition_that_begins_before_the_held_line_brings_the_lost_part() {
    let mut way = Way::replies();
    assert_eq!(way.sent(0, "200 ok\r\n"), at(0, "200 ok\r\n"));
    assert_eq!(way.sent(8, "227 Ent"), None);
    // The first one was lost behind the gateway, and both are repeated as one.
    assert_eq!(way.sent(0, "200 ok\r\n227 Ent"), at(0, "200 ok\r\n"));
    assert_eq!(way.sent(8, REPLY), at(8, HEARD));
}

#[test]
fn a_repetition_from_within_the_held_line_harms_nothing() {
    let mut way = Way::replies();
    assert_eq!(way.sent(0, &REPLY[..20]), None);
    assert_eq!(way.sent(5, &REPLY[5..8]), at(-1, ""));
    assert_eq!(way.acknowledged(0), 20);
    assert_eq!(way.sent(5, &REPLY[5..30]), None);
    assert_eq!(way.sent(2, &REPLY[2..]), at(0, HEARD));
}

#[test]
fn a_gap_is_waited_for() {
    let mut way = Way::replies();
    assert_eq!(way.sent(8, REPLY), None);
    assert_eq!(way.count_of(Counter::GapDropped), 1);
    assert_eq!(way.sent(0, "200 ok\r\n"), at(0, "200 ok\r\n"));
    assert_eq!(way.sent(8, REPLY), at(8, HEARD));
}

#[test]
fn a_gap_that_the_receiver_does_not_see_is_given_up_at_once() {
    let mut way = Way::replies();
    assert_eq!(way.sent(8, "xyz\r\n"), None);
    assert_eq!(way.acknowledged(8), 8);
    assert_eq!(way.sent(8, "xyz\r\n"), at(8, "xyz\r\n"));
    assert_eq!(way.count_of(Counter::Resynced), 1);
    assert_eq!(way.sent(13, REPLY), at(13, HEARD));
}

#[test]
fn a_gap_that_never_fills_is_given_up() {
    let mut way = Way::replies();
    assert_eq!(way.sent(8, "xyz\r\n"), None);
    way.it.now += TIMEOUT;
    assert_eq!(way.sent(8, "xyz\r\n"), None);
    way.it.now += 2 * TIMEOUT;
    assert_eq!(way.sent(8, "xyz\r\n"), at(8, "xyz\r\n"));
    assert_eq!(way.sent(13, REPLY), at(13, HEARD));
}

#[test]
fn a_line_whose_sender_repeats_it_for_ever_is_let_go() {
    let mut way = Way::replies();
    assert_eq!(way.sent(0, &REPLY[..40]), None);
    for _ in 0..5 {
        way.it.now += TIMEOUT / 5;
        assert_eq!(way.sent(0, &REPLY[..40]), at(-1, ""));
    }
    way.it.now += 1;
    assert_eq!(way.sent(0, &REPLY[..40]), at(0, &REPLY[..40]));
    assert_eq!(way.count_of(Counter::LineReleased), 1);
    assert_eq!(way.acknowledged(40), 40);
    assert_eq!(way.sent(40, &REPLY[40..]), at(40, &REPLY[40..]));
    // The next line is read again.
    way.it.client("PASV\r\n");
    assert_eq!(way.sent(46, REPLY), at(46, HEARD));
}

#[test]
fn a_line_that_never_ends_is_let_go_at_its_longest() {
    let mut way = Way::replies();
    let mut heard = String::new();
    let long = format!("227 {}", "x".repeat(2000));
    let mut place = 0;
    for piece in long.as_bytes().chunks(100) {
        let text = std::str::from_utf8(piece).unwrap();
        if let Some((at, text)) = way.sent(place, text) {
            assert_eq!(at, heard.len() as i32);
            heard += &text;
        }
        place += piece.len() as i32;
    }
    assert_eq!(heard, long);
    assert_eq!(way.count_of(Counter::PassedTooLong), 1);
}

#[test]
fn a_typed_port_cannot_pass_unread() {
    use crate::conversation::publish;
    for typed in 1..12 {
        let mut it = Conversation::new(publish([1, 2]));
        it.server("220 Hi\r\n");
        let first = it.session.commands.seen;
        let mut way = Way {
            it,
            is_replies: false,
            first,
        };
        let command = "PORT 192,0,2,1,0,25\r\n";
        assert_eq!(way.sent(0, &command[..typed]), None);
        way.it.now += TIMEOUT + 1;
        let (_, start) = way.sent(0, &command[..typed]).unwrap();
        let (_, end) = way.sent(typed as i32, &command[typed..]).unwrap();
        let heard = start + &end;
        assert!(!heard.contains("PORT "), "{heard}");
        assert_eq!(way.it.gate.openings(), []);
    }
}

#[test]
fn the_end_of_the_stream_brings_what_is_held() {
    let mut way = Way::replies();
    assert_eq!(way.pass(0, "227 Ent", true), at(0, "227 Ent"));

    let mut way = Way::replies();
    assert_eq!(way.sent(0, "227 Ent"), None);
    assert_eq!(way.pass(7, "", true), at(0, "227 Ent"));

    // The same when it was owed, and again when that is lost.
    let mut way = Way::replies();
    way.sent(0, "227 Ent");
    way.sent(0, "227 Ent");
    assert_eq!(way.acknowledged(0), 7);
    assert_eq!(way.pass(7, "", true), at(0, "227 Ent"));
    assert_eq!(way.pass(7, "", true), at(0, "227 Ent"));
    assert_eq!(way.acknowledged(8), 8);
    assert_eq!(way.pass(7, "", true), at(7, ""));
}

#[test]
fn a_segment_without_bytes_is_no_matter() {
    let mut way = Way::replies();
    assert_eq!(way.sent(0, "227 Ent"), None);
    assert_eq!(way.sent(7, ""), at(7, ""));
    assert_eq!(way.sent(-1, ""), at(-1, ""));
    assert_eq!(way.sent(100, ""), at(100, ""));
    assert_eq!(way.pass(100, "", true), at(100, ""));
    assert_eq!(way.sent(7, &REPLY[7..]), at(0, HEARD));
}

#[test]
fn a_grown_command_is_repeated_in_its_new_form_however_it_is_cut() {
    let command = "PORT 192,168,1,7,195,80\r\n";
    let heard = "PORT 203,0,113,10,195,80\r\n";
    let mut way = Way::commands();
    assert_eq!(way.sent(0, command), at(0, heard));
    assert_eq!(way.sent(0, command), at(0, heard));
    for cut in 1..command.len() {
        let (_, start) = way.sent(0, &command[..cut]).unwrap();
        let (at, end) = way.sent(cut as i32, &command[cut..]).unwrap();
        assert_eq!(start.len() as i32, at);
        assert_eq!(start + &end, heard);
    }
    assert_eq!(way.acknowledged(26), 25);
    assert_eq!(way.sent(25, "NOOP\r\n"), at(26, "NOOP\r\n"));
}

#[test]
fn commands_behind_telnet_signals_are_held_from_their_own_start() {
    let mut way = Way::commands();
    way.it.pass(
        false,
        &Segment {
            seq: way.first,
            payload: b"\xff\xf4\xff\xf2PO".to_vec(),
            fin: false,
            ..Segment::default()
        },
    );
    assert_eq!(way.sent(4, "PO"), at(3, ""));
    assert_eq!(way.acknowledged(4), 6);
    let heard = "PORT 203,0,113,10,195,80\r\n";
    assert_eq!(way.sent(6, "RT 192,168,1,7,195,80\r\n"), at(4, heard));
    assert_eq!(way.sent(6, "RT 192,168,1,7,195,80\r\n"), at(4, heard));
}

#[test]
fn numbers_may_wrap_anywhere() {
    use crate::conversation::publish;
    for before in 0..60 {
        let mut it = Conversation::new(publish([5, u32::MAX - before]));
        it.client("PASV\r\n");
        let first = it.session.replies.seen;
        let mut way = Way {
            it,
            is_replies: true,
            first,
        };
        let short = "227 (10,0,0,5,195,80).\r\n";
        let heard = "227 (203,0,113,10,195,80).\r\n";
        assert_eq!(way.sent(10, &short[10..]), None);
        assert_eq!(way.sent(0, &short[..10]), None);
        assert_eq!(way.sent(0, &short[..10]), at(-1, ""));
        assert_eq!(way.acknowledged(0), 10);
        assert_eq!(way.sent(10, &short[10..]), at(0, heard));
        assert_eq!(way.sent(10, &short[10..]), at(0, heard));
        assert_eq!(way.acknowledged(28), 24);
        assert_eq!(way.sent(24, "226 x\r\n"), at(28, "226 x\r\n"));
    }
}
