//! TCP's states of a control connection, as tables: a segment in, the verdict and the state out; and that
//! no sequence of segments outside the window changes anything.

use crate::conversation::{LIMITS, publish};
use bytemuck::Zeroable as _;
use ftp_nat_common::abi::{
    Direction, HalfOpen, HandshakeSegment, Lines, Session, direction, half_open_flag,
};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::host::{self, Recorder, Segment};
use ftp_nat_common::stream::handshake::{self, Handshake, Offer};
use ftp_nat_common::wire::tcp::flag::{ACK, FIN, RST, SYN};
use proptest::prelude::*;

/// The initial numbers of the client, which wraps soon, and of the server.
const CLIENT: u32 = u32::MAX - 10;
const SERVER: u32 = 5000;
/// What an empty segment has in front of the client's first byte, and of the server's.
const C: u32 = CLIENT.wrapping_add(1);
const S: u32 = SERVER + 1;

/// What both ends advertise, shifted by no bit.
const WINDOW: u16 = 1000;

fn offer(isn: u32, scale: Option<u8>) -> Offer {
    Offer {
        isn,
        window: WINDOW.into(),
        scale,
        timestamp: 0,
    }
}

/// A control connection from its first SYN on.
struct Connection {
    session: Session,
    lines: [Lines; 2],
    gate: Recorder,
}

impl Connection {
    fn established(scales: [Option<u8>; 2]) -> Self {
        let mut half_open = HalfOpen::default();
        handshake::offer(&mut half_open, &offer(CLIENT, scales[0]));
        handshake::answer(&mut half_open, &offer(SERVER, scales[1]));
        let mut session = publish([0, 0]);
        let Session {
            commands, replies, ..
        } = &mut session;
        handshake::establish(&half_open, commands, replies);
        let mut it = Self {
            session,
            lines: [Lines::zeroed(); 2],
            gate: Recorder::default(),
        };
        for (is_replies, segment) in [(false, sends(C, S, "")), (true, sends(S, C, ""))] {
            assert_eq!(it.run(is_replies, &segment), Some(segment));
        }
        it
    }

    fn run(&mut self, is_replies: bool, segment: &Segment) -> Option<Segment> {
        let (session, gate) = (&mut self.session, &mut self.gate);
        host::pass(
            session,
            &mut self.lines,
            gate,
            is_replies,
            segment,
            1_000_000,
            &LIMITS,
        )
    }

    fn side(&self, is_replies: bool) -> &Direction {
        direction(&self.session, u8::from(is_replies))
    }
}

fn sends(seq: u32, ack: u32, text: &str) -> Segment {
    Segment {
        seq,
        payload: text.into(),
        ack: Some(ack),
        window: WINDOW,
        ..Segment::default()
    }
}

fn fin(segment: Segment) -> Segment {
    Segment {
        fin: true,
        ..segment
    }
}

fn rst(segment: Segment) -> Segment {
    Segment {
        rst: true,
        ..segment
    }
}

fn syn(segment: Segment) -> Segment {
    Segment {
        syn: true,
        ..segment
    }
}

/// States in which a handshake can be, and each segment's way out of it.
#[test]
fn each_segment_of_a_handshake_leads_where_tcp_says() {
    use Handshake::{Answers, Finishes, Passes, Resets};
    let mut half_open = HalfOpen::default();
    handshake::offer(&mut half_open, &offer(CLIENT, Some(7)));
    let sent = half_open;
    handshake::answer(&mut half_open, &offer(SERVER, Some(2)));
    let answered = half_open;
    let client = false;
    let server = true;
    for (name, state, sender, seq, ack, flags, wanted) in [
        ("the answer", &sent, server, SERVER, C, SYN | ACK, Answers),
        (
            "with text",
            &sent,
            server,
            SERVER,
            C,
            SYN | ACK | 8,
            Answers,
        ),
        ("a simultaneous open", &sent, server, SERVER, 0, SYN, Passes),
        (
            "an answer to nobody",
            &sent,
            server,
            SERVER,
            C.wrapping_add(9),
            SYN | ACK,
            Passes,
        ),
        ("a refusal", &sent, server, 0, C, RST | ACK, Resets),
        (
            "a refusal of nothing",
            &sent,
            server,
            0,
            C.wrapping_add(1),
            RST | ACK,
            Passes,
        ),
        ("a RST without ACK", &sent, server, S, 0, RST, Passes),
        ("an early end", &sent, client, C, S, ACK, Passes),
        ("a guess", &answered, client, C, S + 1, ACK, Passes),
        ("the end", &answered, client, C, S, ACK, Finishes),
        (
            "the end with FIN",
            &answered,
            client,
            C,
            S,
            ACK | FIN,
            Finishes,
        ),
        ("the SYN again", &answered, client, CLIENT, 0, SYN, Passes),
        ("another SYN", &answered, client, 77, 0, SYN, Passes),
        (
            "a SYN and ACK of the client",
            &answered,
            client,
            C,
            S,
            SYN | ACK,
            Passes,
        ),
        ("its RST", &answered, client, C, 0, RST, Resets),
        (
            "a RST beside it",
            &answered,
            client,
            C.wrapping_add(1),
            0,
            RST,
            Passes,
        ),
        (
            "the answer again",
            &answered,
            server,
            SERVER,
            C,
            SYN | ACK,
            Answers,
        ),
        (
            "another answer",
            &answered,
            server,
            99,
            C,
            SYN | ACK,
            Answers,
        ),
        ("the greeting", &answered, server, S, C, ACK, Finishes),
        (
            "not yet its number",
            &answered,
            server,
            SERVER,
            C,
            ACK,
            Passes,
        ),
        (
            "SYN and FIN",
            &answered,
            server,
            SERVER,
            C,
            SYN | FIN | ACK,
            Passes,
        ),
    ] {
        let segment = HandshakeSegment {
            seq,
            ack,
            flags: flags.into(),
        };
        assert_eq!(handshake::judge(state, &segment, sender), wanted, "{name}");
    }
}

/// Windows are scaled where both SYNs agreed on it (RFC 7323 section 2.2).
#[test]
fn a_finished_handshake_begins_with_both_ends_numbers_and_windows() {
    for (client, server, scales) in [
        (Some(7), Some(2), [7, 2]),
        (Some(7), None, [0, 0]),
        (None, Some(2), [0, 0]),
        (None, None, [0, 0]),
    ] {
        let it = Connection::established([client, server]);
        let (commands, replies) = (it.side(false), it.side(true));
        assert_eq!([commands.scale, replies.scale], scales);
        assert_eq!([commands.end, replies.end], [C, S]);
        // Each direction's window is what its receiver advertises.
        let windows = [scales[1], scales[0]].map(|scale| u32::from(WINDOW) << scale);
        assert_eq!(commands.window, C.wrapping_add(windows[0]));
        assert_eq!(replies.window, S.wrapping_add(windows[1]));
    }
    let mut half_open = HalfOpen::default();
    handshake::offer(&mut half_open, &offer(1, Some(7)));
    handshake::answer(&mut half_open, &offer(2, Some(3)));
    // A server that answers anew without the option takes it back.
    handshake::answer(&mut half_open, &offer(9, None));
    assert_eq!(half_open.flags & half_open_flag::SCALES, 0);
    assert_eq!((half_open.server_isn, half_open.server_scale), (9, 0));
}

/// What becomes of a segment of an established connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It is sent on, and noted.
    Taken,
    /// It is sent on, and changes nothing.
    Outside,
}

/// What was sent before, whether the server sends the segment, the segment, its verdict, and by how much the
/// sender's end, and what the sender has acknowledged, have moved since the handshake then.
type Row<'t> = (
    &'t str,
    &'t [(bool, Segment)],
    bool,
    Segment,
    Verdict,
    u32,
    u32,
);

#[test]
fn each_segment_of_a_connection_leads_where_tcp_says() {
    use Verdict::{Outside, Taken};
    let none: &[(bool, Segment)] = &[];
    let said = [
        (false, sends(C, S, "NOOP\r\n")),
        (true, sends(S, C.wrapping_add(6), "200 ok\r\n")),
    ];
    let client_closed = [(false, fin(sends(C, S, "QUIT\r\n")))];
    let full = [(
        false,
        Segment {
            window: 0,
            ..sends(C, S, "")
        },
    )];
    let rows: Vec<Row<'_>> = vec![
        ("text", none, false, sends(C, S, "NOOP\r\n"), Taken, 6, 0),
        (
            "text and FIN",
            none,
            false,
            fin(sends(C, S, "QUIT\r\n")),
            Taken,
            7,
            0,
        ),
        ("FIN alone", none, true, fin(sends(S, C, "")), Taken, 1, 0),
        (
            "a keep-alive",
            none,
            false,
            sends(C.wrapping_sub(1), S, ""),
            Taken,
            0,
            0,
        ),
        (
            "one with a byte",
            none,
            false,
            sends(C.wrapping_sub(1), S, "x"),
            Taken,
            0,
            0,
        ),
        (
            "at the window's edge",
            none,
            false,
            sends(C.wrapping_add(1000), S, ""),
            Taken,
            0,
            0,
        ),
        (
            "behind it",
            none,
            false,
            sends(C.wrapping_add(1001), S, ""),
            Outside,
            0,
            0,
        ),
        (
            "an acknowledgement of what was not sent",
            none,
            false,
            sends(C, S + 1, ""),
            Outside,
            0,
            0,
        ),
        (
            "one of what was",
            &said,
            false,
            sends(C.wrapping_add(6), S + 8, ""),
            Taken,
            6,
            8,
        ),
        (
            "an old one",
            &said,
            false,
            sends(C.wrapping_add(6), S, ""),
            Taken,
            6,
            0,
        ),
        (
            "one with text",
            &said,
            false,
            sends(C.wrapping_add(6), S + 8, "SYST\r\n"),
            Taken,
            12,
            8,
        ),
        (
            "no ACK",
            none,
            false,
            Segment {
                ack: None,
                ..sends(C, 0, "NOOP\r\n")
            },
            Outside,
            0,
            0,
        ),
        (
            "a repetition",
            &said,
            false,
            sends(C, S, "NOOP\r\n"),
            Taken,
            6,
            0,
        ),
        (
            "one with another text",
            &said,
            false,
            sends(C, S, "PASV\r\n"),
            Taken,
            6,
            0,
        ),
        (
            "a SYN",
            &said,
            false,
            syn(Segment {
                ack: None,
                ..sends(CLIENT, 0, "")
            }),
            Outside,
            6,
            0,
        ),
        (
            "a SYN of the server",
            &said,
            true,
            syn(sends(S + 8, C.wrapping_add(6), "")),
            Outside,
            8,
            6,
        ),
        (
            "SYN and ACK again",
            none,
            true,
            syn(sends(SERVER, C, "")),
            Outside,
            0,
            0,
        ),
        (
            "RST at the end",
            &said,
            false,
            rst(sends(C.wrapping_add(6), S, "")),
            Taken,
            6,
            0,
        ),
        (
            "RST in the window",
            &said,
            false,
            rst(sends(C.wrapping_add(7), S, "")),
            Outside,
            6,
            0,
        ),
        (
            "RST of the server",
            &said,
            true,
            rst(sends(S + 8, C, "")),
            Taken,
            8,
            6,
        ),
        (
            "RST behind a FIN",
            &client_closed,
            false,
            rst(sends(C.wrapping_add(7), S, "")),
            Taken,
            7,
            0,
        ),
        (
            "FIN again",
            &client_closed,
            false,
            fin(sends(C.wrapping_add(6), S, "")),
            Taken,
            7,
            0,
        ),
        (
            "a reply when the client has closed",
            &client_closed,
            true,
            sends(S, C.wrapping_add(7), "221 bye\r\n"),
            Taken,
            9,
            7,
        ),
        (
            "its acknowledgement",
            &client_closed,
            false,
            sends(C.wrapping_add(7), S, ""),
            Taken,
            7,
            0,
        ),
        (
            "a probe of a closed window",
            &full,
            true,
            sends(S, C, "2"),
            Taken,
            1,
            0,
        ),
    ];
    for (name, before, is_replies, segment, verdict, end, acked) in rows {
        let mut it = Connection::established([None, None]);
        for (is_replies, segment) in before {
            it.run(*is_replies, segment).expect("it is sent on");
        }
        let session = it.session;
        let left = it.run(is_replies, &segment);
        // The first digit of a reply may be held, and a known line's text wins over another one.
        if !segment.payload.is_empty() && segment.payload != b"2" {
            assert_eq!(left.map(|it| it.seq), Some(segment.seq), "{name}");
        }
        let outside = it.gate.count_of(Counter::PassedOutOfWindow) != 0;
        assert_eq!(outside, verdict == Outside, "{name}");
        assert!(
            !outside || it.session == session,
            "{name}: something has changed"
        );
        let first = [C, S];
        let (own, other) = (usize::from(is_replies), usize::from(!is_replies));
        assert_eq!(
            it.side(is_replies).end.wrapping_sub(first[own]),
            end,
            "{name}: end"
        );
        let others = it.side(!is_replies).acked.wrapping_sub(first[other]);
        assert_eq!(others, acked, "{name}: acknowledged");
    }
}

/// How a segment lies outside of what TCP believes.
#[derive(Clone, Copy, Debug)]
enum Way {
    Syn,
    Rst,
    NoAck,
    Ahead,
    Behind,
    AckAhead,
    AckBehind,
}

/// How far behind a repetition may be (`stream::window`).
const REPETITION: u32 = 1 << 20;
/// How far beyond the window a sender may be that was told early.
const EARLY: u32 = 512;

fn any_outside() -> impl Strategy<Value = (bool, Way, u32, String, bool)> {
    use Way::{AckAhead, AckBehind, Ahead, Behind, NoAck, Rst, Syn};
    let way = prop_oneof![
        Just(Syn),
        Just(Rst),
        Just(NoAck),
        Just(Ahead),
        Just(Behind),
        Just(AckAhead),
        Just(AckBehind),
    ];
    // Most near the edge.
    let distance = prop_oneof![0_u32..50, 0_u32..1 << 29];
    let text = "(PORT 10,0,0,77,31,144\r\n|227 \\(10,0,0,77,31,144\\)\r\n|PASV\r\n|AUTH TLS\r\n|[a-z\r\n]{0,9})";
    (any::<bool>(), way, distance, text, any::<bool>())
}

impl Connection {
    /// A segment of this side that lies outside in this way, by as much.
    fn outside(&self, is_replies: bool, way: Way, by: u32, text: String, fin: bool) -> Segment {
        let (own, others) = (self.side(is_replies), self.side(!is_replies));
        let len = text.len() as u32 + u32::from(fin);
        let right = Segment {
            fin,
            ..sends(own.end, others.end, &text)
        };
        let ahead = own.window.wrapping_add(EARLY + 1 + by);
        match way {
            Way::Syn => syn(Segment {
                seq: own.end.wrapping_add(by),
                ..right
            }),
            Way::Rst => rst(Segment {
                seq: own.window.wrapping_add(1 + by),
                ..right
            }),
            Way::NoAck => Segment { ack: None, ..right },
            Way::Ahead => Segment {
                seq: ahead,
                ..right
            },
            Way::Behind => Segment {
                seq: own.acked.wrapping_sub(REPETITION + 1 + len + by),
                ..right
            },
            Way::AckAhead => Segment {
                ack: Some(others.end.wrapping_add(1 + by)),
                ..right
            },
            Way::AckBehind => Segment {
                ack: Some(others.acked.wrapping_sub(REPETITION + 1 + by)),
                ..right
            },
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes from outside the window, in whatever order and state: nothing changes, and the
    /// session goes on as if nothing had been.
    #[test]
    fn no_sequence_of_segments_outside_the_window_changes_anything(
        scales in prop::array::uniform2(prop::option::of(0_u8..15)),
        exchanges in 0_usize..5,
        (unfinished, rest) in prop_oneof![
            Just(("", "")),
            Just(("NOO", "P\r\n")),
            Just(("PO", "RT 198,51,100,7,195,80\r\n")),
            Just(("PORT 198,51", ",100,7,195,80\r\n")),
        ],
        forged in prop::collection::vec(any_outside(), 1..40),
    ) {
        let mut it = Connection::established(scales);
        let mut next = [C, S];
        for _ in 0..exchanges {
            for (is_replies, text) in [(false, "NOOP\r\n"), (true, "200 ok\r\n")] {
                let own = usize::from(is_replies);
                let segment = sends(next[own], next[1 - own], text);
                prop_assert_eq!(it.run(is_replies, &segment), Some(segment));
                next[own] = next[own].wrapping_add(text.len() as u32);
            }
        }
        it.run(false, &sends(next[0], next[1], unfinished));
        let before = (it.session, it.lines, it.gate.openings());
        for (is_replies, way, by, text, fin) in forged {
            let segment = it.outside(is_replies, way, by, text, fin);
            let left = it.run(is_replies, &segment);
            prop_assert_eq!(left.as_ref(), Some(&segment), "{:?}", way);
            prop_assert!(it.session == before.0, "{:?} {:?}", way, segment);
            prop_assert!(bytemuck::bytes_of(&it.lines) == bytemuck::bytes_of(&before.1));
            prop_assert_eq!(it.gate.openings(), before.2.clone());
        }
        // The line that was under way ends, and what follows it is read.
        let mut commands = next[0].wrapping_add(unfinished.len() as u32);
        for text in [rest, "PASV\r\n"] {
            it.run(false, &sends(commands, next[1], text));
            commands = commands.wrapping_add(text.len() as u32);
        }
        let answers = if rest.is_empty() { "" } else { "200 ok\r\n" };
        let answers = format!("{answers}227 (10,0,0,5,195,80)\r\n");
        it.run(true, &sends(next[1], commands, &answers));
        let wanted = if rest.starts_with('P') || rest.is_empty() { 1 } else { 2 };
        prop_assert_eq!(it.gate.openings().len(), wanted, "{:?}", unfinished);
    }
}
