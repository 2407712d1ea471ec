//! Unfinished lines: held, acknowledged ahead where their sender waits for that, and let go in the
//! end.

use bytemuck::Zeroable as _;
use ftp_nat_common::abi::{Lines, LinesKey, direction_flag};
use ftp_nat_common::counter::Counter::{
    self, ActiveOpened, EditEqual, GapDropped, LineAcknowledged, LineHeld, LineMerged,
    LineReleased, PassedMapFull, PassedNoAddress, PassedUnread, PassiveOpened, Resynced,
    Rewrote227, SegmentCut, Unchanged,
};

use crate::{
    loaded::{Datapath, NEVER, ROOM, on_router},
    packet::{ACK, FIN, Packet},
    scene::control_v4,
    talk::{Client, Server, Talk},
};

const ISN: [u32; 2] = [1000, 0xffff_ffb0];
const HELD: &str = "227 Entering Passive";
const REST: &str = " Mode (10,0,0,5,195,80).\r\n";
const OUT: &str = "227 Entering Passive  (198,51,100,1,195,80).\r\n";
const PASSIVE: [Counter; 3] = [PassiveOpened, Rewrote227, EditEqual];

/// A server that has begun a reply, and the segment with its beginning, which is held.
fn holding(datapath: &mut Datapath) -> (Talk<'_>, Packet) {
    let mut talk = Talk::begin(datapath, control_v4(), ISN);
    talk.passes(Client, "PASV\r\n");
    let packet = talk.segment(Server, HELD);
    talk.is_held(Server, HELD);
    (talk, packet)
}

/// The server repeats its beginning, and the client is made to acknowledge it.
fn repeat(talk: &Talk<'_>, packet: &Packet) {
    let keep_alive = packet.clone().seq(packet.seq.wrapping_sub(1));
    let out = talk.becomes(Server, &keep_alive, "");
    talk.fixture(Server, "again", packet)
        .redirected(&out)
        .counting(&[LineHeld, LineAcknowledged])
        .check(talk.datapath);
}

/// As if all that was held or missing had been so for `time`.
fn age(talk: &mut Talk<'_>, time: u64) {
    let (number, mut session) = talk.datapath.sessions.all()[0];
    for since in [
        &mut session.replies.held_since,
        &mut session.replies.gap_since,
    ] {
        if *since != 0 {
            *since = since.wrapping_sub(time);
        }
    }
    talk.datapath.sessions.set(number, session);
}

#[test]
fn a_repeated_line_is_acknowledged_before_it_is_sent_on() {
    on_router(|datapath| {
        let (mut talk, packet) = holding(datapath);
        for _ in 0..3 {
            repeat(&talk, &packet);
        }
        // The client says that it waits for the line's first byte; its sender hears of its last.
        let answer = talk.segment(Client, "").flags(ACK).ack(packet.seq);
        let out = talk.becomes(Client, &answer, "").ack(talk.next[1]);
        talk.fixture(Client, "an answer", &answer)
            .redirected(&out)
            .check(talk.datapath);

        let rest = talk.segment(Server, REST);
        let from_start = rest.clone().seq(packet.seq);
        let out = talk.becomes(Server, &from_start, OUT);
        talk.fixture(Server, "the rest", &rest)
            .redirected(&out)
            .counting(&PASSIVE)
            .counting(&[LineMerged])
            .check(talk.datapath);
        // The sender believes that the beginning has arrived: it repeats the rest alone.
        talk.fixture(Server, "the rest again", &rest)
            .redirected(&out)
            .check(talk.datapath);

        talk.next[1] = talk.next[1].wrapping_add(REST.len() as u32);
        talk.passes(Client, "NOOP\r\n");
        talk.passes(Server, "200 ok\r\n");
    });
}

#[test]
fn a_line_that_waits_for_long_is_acknowledged_though_nothing_is_repeated() {
    on_router(|datapath| {
        let (mut talk, packet) = holding(datapath);
        age(&mut talk, NEVER / 2);
        let more = talk.segment(Server, " Mo");
        let keep_alive = packet.clone().seq(packet.seq.wrapping_sub(1));
        let out = talk.becomes(Server, &keep_alive, "");
        talk.fixture(Server, "a little more", &more)
            .redirected(&out)
            .counting(&[LineHeld, LineAcknowledged])
            .check(talk.datapath);
    });
}

#[test]
fn a_line_that_never_ends_is_let_go() {
    on_router(|datapath| {
        let (mut talk, packet) = holding(datapath);
        age(&mut talk, NEVER + 1);
        let out = talk.becomes(Server, &packet, HELD);
        talk.fixture(Server, "after long", &packet)
            .redirected(&out)
            .counting(&[LineReleased])
            .check(talk.datapath);
        talk.says(Server, REST, REST, &[PassedUnread]);
        assert_eq!(talk.mappings(), []);
        talk.passes(Server, "200 ok\r\n");
    });
}

#[test]
fn the_end_of_a_stream_ends_what_is_held() {
    on_router(|datapath| {
        let (talk, packet) = holding(datapath);
        let end = talk.segment(Server, "\r\n").flags(ACK | FIN);
        let from_start = end.clone().seq(packet.seq);
        let out = talk.becomes(Server, &from_start, format!("{HELD}\r\n"));
        talk.fixture(Server, "the end", &end)
            .redirected(&out)
            .counting(&[PassedNoAddress, LineMerged])
            .check(talk.datapath);
    });
}

#[test]
fn an_end_without_a_byte_brings_what_is_held() {
    on_router(|datapath| {
        let (talk, packet) = holding(datapath);
        let end = talk.segment(Server, "").flags(ACK | FIN);
        let from_start = end.clone().seq(packet.seq);
        let out = talk.becomes(Server, &from_start, HELD);
        talk.fixture(Server, "the end", &end)
            .redirected(&out)
            .counting(&[PassedUnread, LineMerged])
            .check(talk.datapath);
    });
}

#[test]
fn what_comes_beyond_a_gap_waits_for_it() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        talk.passes(Client, "PASV\r\n");
        let mut late = talk.segment(Server, REST);
        late.seq = late.seq.wrapping_add(HELD.len() as u32);
        for _ in 0..2 {
            talk.fixture(Server, "ahead", &late)
                .dropped()
                .counting(&[GapDropped])
                .check(talk.datapath);
        }
        talk.is_held(Server, HELD);
        talk.completes(Server, HELD, REST, OUT, &PASSIVE);
    });
}

/// A session whose numbers are not known, such as one that another gateway began.
fn forget_numbers(talk: &mut Talk<'_>) {
    let (number, mut session) = talk.datapath.sessions.all()[0];
    for direction in [&mut session.commands, &mut session.replies] {
        direction.flags &= !direction_flag::TRACKED;
    }
    talk.datapath.sessions.set(number, session);
}

#[test]
fn without_numbers_a_gap_that_nobody_fills_is_given_up() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        forget_numbers(&mut talk);
        talk.next[1] = talk.next[1].wrapping_add(100);
        let late = talk.segment(Server, "middle of a line\r\n");
        talk.fixture(Server, "ahead", &late)
            .dropped()
            .counting(&[GapDropped])
            .check(talk.datapath);
        age(&mut talk, 2 * NEVER + 2);
        forget_numbers(&mut talk);
        talk.says(
            Server,
            "middle of a line\r\n",
            "middle of a line\r\n",
            &[Resynced],
        );
        talk.passes(Client, "NOOP\r\n");
    });
}

#[test]
fn a_gap_is_never_given_up_for_what_comes_behind_it() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        talk.passes(Client, "PASV\r\n");
        let mut late = talk.segment(Server, "middle of a line\r\n");
        late.seq = late.seq.wrapping_add(100);
        for name in ["ahead", "after long", "after longer"] {
            talk.fixture(Server, name, &late)
                .dropped()
                .counting(&[GapDropped])
                .check(talk.datapath);
            age(&mut talk, 2 * NEVER + 2);
        }
        let (reply, out) = (format!("{HELD}{REST}"), OUT);
        talk.says(Server, &reply, out, &PASSIVE);
    });
}

#[test]
fn the_start_of_a_line_behind_a_merged_one_does_not_spoil_it() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        talk.is_held(Client, "PORT ");
        let rest = "198,51,100,20,195,80\r\n";
        let packet = talk.segment(Client, format!("{rest}EP"));
        let from_start = packet.clone().seq(packet.seq.wrapping_sub(5));
        let out = talk.becomes(Client, &from_start, format!("PORT {rest}"));
        talk.fixture(Client, "the end and a new start", &packet)
            .redirected(&out)
            .counting(&[ActiveOpened, Unchanged, SegmentCut])
            .check(talk.datapath);
    });
}

#[test]
fn a_line_let_go_by_a_repetition_of_its_start_loses_no_byte() {
    on_router(|datapath| {
        let (mut talk, packet) = holding(datapath);
        repeat(&talk, &packet);
        age(&mut talk, NEVER + 1);
        let start = packet.clone().payload("2");
        let out = talk.becomes(Server, &start, "2");
        talk.fixture(Server, "its first byte", &start)
            .redirected(&out)
            .counting(&[LineReleased])
            .check(talk.datapath);
        // The receiver was made to acknowledge all that was held, so its sender goes on there.
        let rest = talk.segment(Server, REST);
        let from_start = rest.clone().seq(packet.seq);
        let out = talk.becomes(Server, &from_start, format!("{HELD}{REST}"));
        talk.fixture(Server, "the rest", &rest)
            .redirected(&out)
            .counting(&[LineMerged, PassedUnread])
            .check(talk.datapath);
    });
}

#[test]
fn a_line_that_there_is_no_room_to_hold_goes_on_unread() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        talk.passes(Client, "PASV\r\n");
        for session in 0..ROOM {
            let key = LinesKey {
                session,
                is_replies: 0,
            };
            talk.datapath.lines.set(key, Lines::zeroed());
        }
        talk.says(Server, HELD, HELD, &[PassedMapFull, LineReleased]);
        talk.says(Server, REST, REST, &[PassedUnread]);
        assert_eq!(talk.mappings(), []);
    });
}

#[test]
fn what_follows_a_held_line_that_is_gone_passes_as_it_is() {
    on_router(|datapath| {
        let (talk, _) = holding(datapath);
        talk.datapath.lines.clear();
        let rest = talk.segment(Server, REST);
        talk.fixture(Server, "the rest", &rest)
            .redirected(&talk.becomes(Server, &rest, REST))
            .check(talk.datapath);
    });
}
