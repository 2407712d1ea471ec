//! Texts that change their length: sequence and acknowledgement numbers and SACK blocks on both
//! sides, and segments that no longer fit.

use ftp_nat_common::counter::Counter::{
    self, EditAdjusted, EditEqual, PassiveOpened, Remapped, Rewrote227, Rewrote229, SegmentCut,
};

use crate::{
    loaded::{Datapath, on_router},
    packet::{ACK, FIN, PSH},
    scene::{control_v4, control_v6},
    talk::{Client, Server, Talk},
};

/// The server's numbers wrap within its first replies.
const ISN: [u32; 2] = [0x7fff_fff0, 0xffff_ffe8];

/// A reply without words that could make room: four bytes longer behind the gateway.
const REPLY: &str = "227 10,0,0,5,195,80\r\n";
const REPLY_OUT: &str = "227 198,51,100,1,195,80\r\n";
const GROWTH: u32 = 4;
/// The same of a server that announces a longer address: blanks fill the text up.
const LONG_REPLY: &str = "227 192,168,100,200,195,81\r\n";
const LONG_REPLY_OUT: &str = "227    198,51,100,1,195,81\r\n";

const ADJUSTED: [Counter; 3] = [PassiveOpened, Rewrote227, EditAdjusted];

/// A conversation in which one reply has grown. Gives the server's first number in it, too.
fn grown(datapath: &mut Datapath) -> (Talk<'_>, u32) {
    let mut talk = Talk::begin(datapath, control_v4(), ISN);
    talk.passes(Client, "PASV\r\n");
    let start = talk.next[1];
    talk.says(Server, REPLY, REPLY_OUT, &ADJUSTED);
    (talk, start)
}

/// A SACK option (RFC 2018) behind `pad` bytes of nothing.
fn sack(pad: usize, edges: &[u32]) -> Vec<u8> {
    let mut options = vec![1; pad];
    options.extend([5, 2 + 4 * edges.len() as u8]);
    options.extend(edges.iter().flat_map(|edge| edge.to_be_bytes()));
    while !options.len().is_multiple_of(4) {
        options.push(1);
    }
    options
}

#[test]
fn numbers_behind_a_longer_text_move_on_both_sides() {
    on_router(|datapath| {
        let (mut talk, _) = grown(datapath);
        assert_eq!(talk.ahead, [0, GROWTH]);
        talk.passes(Client, "RETR file\r\n");
        talk.passes(Server, "150 here it comes\r\n");
        talk.passes(Server, "226 that was it\r\n");
        // A shorter one, which keeps its length, and a third.
        talk.passes(Client, "PASV\r\n");
        let equal = [PassiveOpened, Rewrote227, EditEqual];
        talk.says(Server, LONG_REPLY, LONG_REPLY_OUT, &equal);
        talk.passes(Client, "NOOP\r\n");
        talk.passes(Server, "200 ok\r\n");
        talk.passes(Client, "PASV\r\n");
        let (reply, out) = ("227 1,1,1,1,195,82\r\n", "227 198,51,100,1,195,82\r\n");
        talk.says(Server, reply, out, &ADJUSTED);
        assert_eq!(talk.ahead, [0, GROWTH + 5]);
        talk.passes(Client, "QUIT\r\n");
        talk.passes(Server, "221 bye\r\n");

        let end = talk.segment(Server, "").flags(ACK | FIN);
        let out = talk.becomes(Server, &end, "");
        talk.fixture(Server, "the end", &end)
            .redirected(&out)
            .check(talk.datapath);
    });
}

#[test]
fn more_texts_than_are_remembered_still_count() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        for round in 1..=9 {
            let reply = format!("227 10,0,0,5,195,{round}\r\n");
            let out = format!("227 198,51,100,1,195,{round}\r\n");
            talk.passes(Client, "PASV\r\n");
            talk.says(Server, &reply, &out, &ADJUSTED);
            assert_eq!(talk.ahead[1], round * GROWTH);
        }
        // A new one takes the place of the one before.
        assert_eq!(talk.mappings().len(), 1);
    });
}

#[test]
fn a_229_grows_with_its_port() {
    on_router(|datapath| {
        for control in [control_v4(), control_v6()] {
            let mut talk = Talk::begin(datapath, control, ISN);
            let mut other = control.data(1, 9000, 9000);
            other.inside.set_port(9001);
            other.announce_passive(talk.datapath);
            talk.passes(Client, "EPSV\r\n");
            let counted = [PassiveOpened, Remapped, Rewrote229, EditAdjusted];
            talk.says(Server, "229 |||9000|\r\n", "229 |||61000|\r\n", &counted);
            assert_eq!(talk.ahead, [0, 1]);
            talk.passes(Client, "NOOP\r\n");
            talk.passes(Server, "200 ok\r\n");
        }
    });
}

#[test]
fn a_grown_segment_repeated_is_the_same_again() {
    on_router(|datapath| {
        let (mut talk, start) = grown(datapath);
        let whole = talk.segment(Server, REPLY).seq(start);
        talk.passes(Server, "150 next\r\n");
        let repeats = [
            ("whole", whole.clone(), REPLY_OUT.to_owned()),
            (
                "with more behind",
                whole.clone().payload(format!("{REPLY}150 next\r\n")),
                format!("{REPLY_OUT}150 next\r\n"),
            ),
            (
                "its words",
                whole.clone().payload("227 "),
                "227 ".to_owned(),
            ),
            (
                "its start",
                whole.clone().payload(&REPLY[..10]),
                REPLY_OUT[..10].to_owned(),
            ),
        ];
        for (name, packet, text) in repeats {
            // In front of the text that grew nothing has moved.
            let out = talk.becomes(Server, &packet, text);
            let out = out.seq(packet.seq);
            talk.fixture(Server, name, &packet)
                .redirected(&out)
                .check(talk.datapath);
        }
        // Byte `k` of the old text stands at byte `k` of the new one, the last at its end.
        for from in 5..19 {
            let piece = whole
                .clone()
                .seq(start.wrapping_add(from as u32))
                .payload(&REPLY[from..]);
            let out = talk.becomes(Server, &piece, &REPLY_OUT[from..]);
            let out = out.seq(piece.seq);
            talk.fixture(Server, &format!("from byte {from} on"), &piece)
                .redirected(&out)
                .check(talk.datapath);
        }
        let end = whole.seq(start.wrapping_add(19)).payload(&REPLY[19..]);
        let out = talk.becomes(Server, &end, &REPLY_OUT[23..]);
        talk.fixture(Server, "the line's end", &end)
            .redirected(&out)
            .check(talk.datapath);
    });
}

#[test]
fn acknowledgements_within_a_text_never_acknowledge_all_of_it() {
    on_router(|datapath| {
        let (talk, start) = grown(datapath);
        // The text starts behind the code; its last byte stands for all that it grew by.
        let (text, last) = (4, REPLY.len() as u32 - 3);
        for at in 0..=REPLY_OUT.len() as u32 {
            let ack = start.wrapping_add(at);
            let packet = talk.segment(Client, "").ack(ack);
            let original = match at {
                _ if at < text => at,
                _ if at <= last + GROWTH => at.min(last),
                _ => at - GROWTH,
            };
            let out = talk
                .becomes(Client, &packet, "")
                .ack(start.wrapping_add(original));
            talk.fixture(Client, &format!("up to byte {at}"), &packet)
                .redirected(&out)
                .check(talk.datapath);
        }
    });
}

#[test]
fn sack_blocks_move_however_they_lie() {
    on_router(|datapath| {
        let (talk, start) = grown(datapath);
        // Numbers of the client, and of the server: before the text, in it, at its end, behind it.
        let edges = |shift: u32| {
            let behind = start.wrapping_add(REPLY.len() as u32);
            [
                start.wrapping_sub(7),
                start,
                behind.wrapping_add(shift),
                behind.wrapping_add(shift + 100),
                behind.wrapping_add(shift + 0x1_0000),
                behind.wrapping_add(shift + 0x2_0000),
            ]
        };
        for pad in 0..4 {
            for count in [2, 4, 6] {
                let packet = talk
                    .segment(Client, "")
                    .flags(ACK)
                    .tcp_options(&sack(pad, &edges(GROWTH)[..count]));
                let out = talk
                    .becomes(Client, &packet, "")
                    .tcp_options(&sack(pad, &edges(0)[..count]));
                talk.fixture(Client, &format!("{count} edges behind {pad}"), &packet)
                    .redirected(&out)
                    .check(talk.datapath);
            }
        }
        // A block never claims more of a changed text than all of it.
        let inside = [start.wrapping_add(20), start.wrapping_add(22)];
        let outer = [start.wrapping_add(19), start.wrapping_add(18)];
        let packet = talk.segment(Client, "").tcp_options(&sack(2, &inside));
        let out = talk
            .becomes(Client, &packet, "")
            .tcp_options(&sack(2, &outer));
        talk.fixture(Client, "within the text", &packet)
            .redirected(&out)
            .check(talk.datapath);
    });
}

#[test]
fn other_options_around_a_sack_stay() {
    let timestamps = [8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
    on_router(|datapath| {
        let (talk, start) = grown(datapath);
        let behind = start.wrapping_add(REPLY.len() as u32);
        let options = |shift: u32| {
            let edges = [behind.wrapping_add(shift), behind.wrapping_add(shift + 9)];
            [&[1, 1], &timestamps[..], &sack(2, &edges)[..]].concat()
        };
        let lies = |shift: u32| {
            // An option whose length says more than there is: no receiver reads it.
            let mut options = options(shift);
            options[15] = 200;
            options
        };
        for (name, packet_options, out_options) in [
            ("timestamps", options(GROWTH), options(0)),
            ("a length that lies", lies(GROWTH), lies(GROWTH)),
            ("no options", Vec::new(), Vec::new()),
            ("length 0", vec![8, 0, 1, 1], vec![8, 0, 1, 1]),
            ("the list's end", vec![0, 5, 10, 0], vec![0, 5, 10, 0]),
            ("a SACK cut short", vec![1, 1, 5, 10], vec![1, 1, 5, 10]),
        ] {
            let packet = talk.segment(Client, "").tcp_options(&packet_options);
            let out = talk.becomes(Client, &packet, "").tcp_options(&out_options);
            talk.fixture(Client, name, &packet)
                .redirected(&out)
                .check(talk.datapath);
        }
    });
}

#[test]
fn a_text_that_grows_in_a_merged_line_arrives_whole() {
    on_router(|datapath| {
        for at in 1..REPLY.len() - 1 {
            let mut talk = Talk::begin(datapath, control_v4(), ISN);
            talk.passes(Client, "PASV\r\n");
            let (held, rest) = REPLY.split_at(at);
            talk.is_held(Server, held);
            talk.completes(Server, held, rest, REPLY_OUT, &ADJUSTED);
            assert_eq!(talk.ahead, [0, GROWTH], "{at}");
            talk.passes(Client, "NOOP\r\n");
            talk.passes(Server, "200 ok\r\n");
        }
    });
}

#[test]
fn what_no_longer_fits_is_cut_and_the_rest_repeated() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        talk.passes(Client, "PASV\r\n");
        let filler = "211 x\r\n".repeat(200);
        let text = format!("{REPLY}{filler}");
        let text = &text[..1400];
        let out = format!("{REPLY_OUT}{filler}");
        let packet = talk.segment(Server, text).flags(ACK | PSH | FIN);
        let becomes = talk.becomes(Server, &packet, &out[..1400]).flags(ACK | PSH);
        talk.fixture(Server, "too long", &packet)
            .redirected(&becomes)
            .counting(&ADJUSTED)
            .check(talk.datapath);
        talk.ahead[1] = GROWTH;
        // The client acknowledges what came; the server repeats its last four bytes, and its end.
        let taken = 1400 - GROWTH as usize;
        let rest = talk
            .segment(Server, &text[taken..])
            .seq(packet.seq.wrapping_add(taken as u32))
            .flags(ACK | PSH | FIN);
        let becomes = talk.becomes(Server, &rest, &text[taken..]);
        talk.fixture(Server, "the rest", &rest)
            .redirected(&becomes)
            .check(talk.datapath);
    });
}

#[test]
fn a_super_packet_with_a_changed_text_leaves_as_one_segment() {
    let gso = 500;
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        talk.passes(Client, "PASV\r\n");
        let text = format!("{REPLY}{}", "211 x\r\n".repeat(200));
        let out = format!("{REPLY_OUT}{}", "211 x\r\n".repeat(200));
        let packet = talk.segment(Server, &text);
        let becomes = talk.becomes(Server, &packet, &out[..gso as usize]);
        talk.fixture(Server, "a super-packet", &packet)
            .gso(gso)
            .redirected(&becomes)
            .counting(&ADJUSTED)
            .check(talk.datapath);
    });
}

#[test]
fn an_unfinished_line_behind_a_grown_one_is_cut_off() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        talk.passes(Client, "PASV\r\nPASV\r\n");
        let start = "227 10,0,0";
        let packet = talk.segment(Server, format!("{REPLY}{start}"));
        let out = talk.becomes(Server, &packet, REPLY_OUT);
        talk.fixture(Server, "one and a half", &packet)
            .redirected(&out)
            .counting(&ADJUSTED)
            .counting(&[SegmentCut])
            .check(talk.datapath);
        talk.next[1] = talk.next[1].wrapping_add(packet.payload.len() as u32);
        talk.ahead[1] = GROWTH;
        talk.completes(
            Server,
            start,
            ",5,195,90\r\n",
            "227 198,51,100,1,195,90\r\n",
            &ADJUSTED,
        );
        talk.passes(Client, "NOOP\r\n");
    });
}
