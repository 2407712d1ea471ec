//! Segments that TCP would not believe (RFC 9293 section 3.10.7.4, RFC 5961): they change nothing.

use crate::conversation::{LIMITS, publish};
use bytemuck::Zeroable as _;
use ftp_nat_common::abi::{Direction, Lines, Session, direction, direction_flag};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::host::{self, Recorder, Segment};
use ftp_nat_common::stream::driver::{Fit, Verdict};
use ftp_nat_common::stream::segment::{self, Plan};
use ftp_nat_common::stream::window;

/// The first number of the client and of the server behind their SYNs.
const CLIENT: u32 = 1001;
const SERVER: u32 = 5001;
/// What both ends advertise.
const WINDOW: u16 = 1000;

/// A control connection whose numbers and windows are known, and what was counted.
struct Tracked {
    session: Session,
    lines: [Lines; 2],
    gate: Recorder,
}

impl Tracked {
    fn new() -> Self {
        let mut session = publish([CLIENT - 1, SERVER - 1]);
        for direction in [&mut session.commands, &mut session.replies] {
            window::track(direction, 0);
        }
        let mut it = Self {
            session,
            lines: [Lines::zeroed(); 2],
            gate: Recorder::default(),
        };
        // The end of the handshake, and the server's first acknowledgement.
        it.passes(false, &segment(CLIENT, SERVER, ""));
        it.passes(true, &segment(SERVER, CLIENT, ""));
        it
    }

    fn run(&mut self, is_replies: bool, segment: &Segment) -> Option<Segment> {
        host::pass(
            &mut self.session,
            &mut self.lines,
            &mut self.gate,
            is_replies,
            segment,
            1_000_000,
            &LIMITS,
        )
    }

    fn passes(&mut self, is_replies: bool, segment: &Segment) {
        assert_eq!(self.run(is_replies, segment).as_ref(), Some(segment));
        assert_eq!(self.gate.count_of(Counter::PassedOutOfWindow), 0);
    }
}

fn segment(seq: u32, ack: u32, text: &str) -> Segment {
    Segment {
        seq,
        payload: text.into(),
        ack: Some(ack),
        window: WINDOW,
        ..Segment::default()
    }
}

#[test]
fn what_tcp_would_not_believe_passes_and_changes_nothing() {
    let text = "PORT 10,0,0,77,31,144\r\n";
    let far = 1 << 30;
    let cases = [
        ("ahead of the window", segment(CLIENT + far, SERVER, text)),
        ("behind it", segment(CLIENT.wrapping_sub(far), SERVER, text)),
        (
            "acknowledges what was never sent",
            segment(CLIENT, SERVER + 500, text),
        ),
        (
            "without an acknowledgement",
            Segment {
                ack: None,
                ..segment(CLIENT, 0, text)
            },
        ),
        (
            "a second SYN",
            Segment {
                syn: true,
                ..segment(CLIENT + far, SERVER, "")
            },
        ),
        (
            "RST in the window",
            Segment {
                rst: true,
                ..segment(CLIENT + 9, SERVER, "")
            },
        ),
        (
            "FIN far ahead",
            Segment {
                fin: true,
                ..segment(CLIENT + far, SERVER, "")
            },
        ),
    ];
    for (name, forged) in cases {
        let mut it = Tracked::new();
        let before = it.session;
        let left = it.run(false, &forged);
        assert_eq!(left.as_ref(), Some(&forged), "{name}");
        assert_eq!(it.gate.count_of(Counter::PassedOutOfWindow), 1, "{name}");
        assert!(it.session == before, "{name}: the session has changed");
    }
}

#[test]
fn what_tcp_believes_is_read() {
    let mut it = Tracked::new();
    it.passes(false, &segment(CLIENT, SERVER, "PASV\r\n"));
    let after = CLIENT + 6;
    assert_eq!(it.session.commands.end, after);
    let reply = segment(SERVER, after, "227 (10,0,0,5,195,80)\r\n");
    let left = it.run(true, &reply).expect("the reply leaves");
    assert_ne!(left.payload, reply.payload);
    assert_eq!(it.gate.openings(), [(50_000, 50_000)]);
    // Exactly the number that the receiver waits for.
    let reset = Segment {
        rst: true,
        ..segment(after, SERVER, "")
    };
    it.passes(false, &reset);
}

#[test]
fn forged_numbers_are_mapped_like_all_others_behind_an_edit_that_grew() {
    let mut it = Tracked::new();
    it.passes(false, &segment(CLIENT, SERVER, "PASV\r\n"));
    let bare = segment(SERVER, CLIENT + 6, "227 10,0,0,5,195,80\r\n");
    let left = it.run(true, &bare).expect("the reply leaves");
    let growth = (left.payload.len() - bare.payload.len()) as u32;
    assert_ne!(growth, 0);
    let end = SERVER + bare.payload.len() as u32;
    let reset = Segment {
        rst: true,
        ..segment(end + 7, CLIENT + 6, "")
    };
    let left = it
        .run(true, &reset)
        .expect("it is for its receiver to judge");
    assert_eq!(left.seq, reset.seq + growth);
    // The client acknowledges what it has received, and the server hears of its own numbers.
    let forged = Segment {
        rst: true,
        ..segment(CLIENT + 8, end + growth, "")
    };
    let left = it
        .run(false, &forged)
        .expect("it is for its receiver to judge");
    assert_eq!(left.ack, Some(end));
}

#[test]
fn an_acknowledgement_alone_is_quiet_unless_numbers_are_changed_or_it_is_not_believed() {
    let mut it = Tracked::new();
    let mut quiet = |seq, ack| segment::is_quiet(&mut it.session, false, seq, ack, 500, 0);
    assert!(quiet(CLIENT, Some(SERVER)));
    assert!(!quiet(CLIENT, None));
    assert!(!quiet(CLIENT, Some(SERVER + 1)));
    assert!(!quiet(CLIENT + (1 << 30), Some(SERVER)));
    it.session.replies.edits.adjusted = 1;
    assert!(!segment::is_quiet(
        &mut it.session,
        false,
        CLIENT,
        Some(SERVER),
        500,
        0
    ));
}

#[test]
fn windows_open_by_the_receivers_scale_and_never_close() {
    let mut it = Direction::zeroed();
    segment::start(&mut it, 99);
    window::track(&mut it, 7);
    assert_eq!((it.scale, it.window), (7, 100));
    window::open(&mut it, 100, 10, 7);
    assert_eq!(it.window, 100 + (10 << 7));
    window::open(&mut it, 100, 1, 0);
    assert_eq!(it.window, 100 + (10 << 7));
    window::sent(&mut it, 150);
    window::sent(&mut it, 120);
    assert_eq!(it.end, 150);
}

#[test]
fn a_syn_starts_a_direction_and_its_repetition_changes_nothing() {
    let mut it = Direction::zeroed();
    segment::start_by_syn(&mut it, 10, 3);
    assert_eq!((it.seen, it.end), (14, 14));
    it.seen = 50;
    segment::start_by_syn(&mut it, 10, 3);
    assert_eq!(it.seen, 50);
    segment::reset(&mut it);
    assert_eq!((it.seen, it.flags & direction_flag::STARTED), (0, 0));

    // A SYN at a session that nobody tracks.
    let mut session = Session::zeroed();
    let mut lines = [Lines::zeroed(); 2];
    let mut gate = Recorder::default();
    let syn = Segment {
        syn: true,
        ack: None,
        ..segment(7, 0, "")
    };
    let left = host::pass(&mut session, &mut lines, &mut gate, false, &syn, 1, &LIMITS);
    assert_eq!(left, Some(syn));
    assert_eq!(direction(&session, 0).seen, 8);
}

#[test]
fn verdicts_come_back_from_their_numbers() {
    for plan in [Plan::Pass, Plan::Drop, Plan::Inspect, Plan::Outside] {
        assert_eq!(Plan::of(plan as u32), plan);
    }
    for fit in [Fit::AsItIs, Fit::InPlace, Fit::Anew] {
        assert_eq!(Fit::of(fit as u32), fit);
    }
    for verdict in [Verdict::Drop, Verdict::Send, Verdict::Outside] {
        assert_eq!(Verdict::of(verdict as u32), verdict);
    }
}
