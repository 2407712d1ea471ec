//! What holds for all addresses, ports, words and edits.

use crate::conversation::{Conversation, addr};
use bytemuck::Zeroable;
use ftp_nat_common::abi::{Lines, Session};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::edit::edits::{Edits, REMEMBERED};
use ftp_nat_common::edit::text::Text;
use ftp_nat_common::ftp::extended::Extended;
use ftp_nat_common::ftp::host_port::SixNumbers;
use ftp_nat_common::ftp::parser::Inspection;
use ftp_nat_common::host::{self, Limits, Recorder, Segment};
use ftp_nat_common::wire::addr::{Addr, Port};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr};

/// A failure is told with its input, and becomes a test: nothing is kept beside the code.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn text(write: impl FnOnce(&mut Text)) -> String {
    let mut text = Text::zeroed();
    text.clear();
    write(&mut text);
    String::from_utf8(text.as_bytes().to_vec()).unwrap()
}

fn find_six(line: &str) -> Option<(Addr, Port, String)> {
    let mut finder = SixNumbers::zeroed();
    let at = line
        .bytes()
        .enumerate()
        .position(|(at, byte)| finder.feed(byte, at as u16))?;
    assert!(usize::from(finder.end) <= at);
    let text = &line[finder.start.into()..finder.end.into()];
    Some((finder.addr(), finder.port(), text.to_owned()))
}

fn find_extended(line: &str) -> Option<(Addr, Port, String)> {
    let mut finder = Extended::zeroed();
    line.bytes()
        .enumerate()
        .find(|(at, byte)| finder.feed(*byte, *at as u16))?;
    let text = &line[finder.start.into()..finder.end.into()];
    Some((finder.addr(), finder.port(), text.to_owned()))
}

fn any_addr() -> impl Strategy<Value = Addr> {
    any::<IpAddr>().prop_map(Addr::from)
}

fn any_v4() -> impl Strategy<Value = Addr> {
    any::<Ipv4Addr>().prop_map(|ip| Addr::from(IpAddr::V4(ip)))
}

fn any_delimiter() -> impl Strategy<Value = u8> {
    (33_u8..127).prop_filter("no digit", |byte| !byte.is_ascii_digit())
}

/// Delimiters that stand in no address.
fn foreign_delimiter() -> impl Strategy<Value = u8> {
    any_delimiter().prop_filter("part of an address", |byte| {
        !byte.is_ascii_hexdigit() && !b":.".contains(byte)
    })
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn six_numbers_are_read_as_they_were_written(
        addr in any_v4(), port in 1_u16.., before in "[^0-9]*", after in "([^0-9, \t].*)?",
    ) {
        let port = Port::new(port);
        let written = text(|text| text.push_six(&addr, port));
        let line = format!("{before}{written}{after}\r");
        prop_assert_eq!(find_six(&line), Some((addr, port, written)));
    }

    #[test]
    fn an_extended_port_is_read_as_it_was_written(
        port in 1_u16.., delimiter in any_delimiter(), before in "[ -~]*[0-9 ]|",
    ) {
        let port = Port::new(port);
        let written = text(|text| text.push_extended_port(delimiter, port));
        // Words with the same character in them may be a part of it.
        prop_assume!(!before.contains(char::from(delimiter)));
        // And words that are an announcement themselves come first.
        prop_assume!(find_extended(&before).is_none());
        // And so do those that begin one, with its delimiter, an address family and the delimiter again: a
        // delimiter like ':' may be a part of its address.
        let begins = |it: &[u8]| it[0] == it[2] && matches!(it[1], b'1' | b'2');
        prop_assume!(!before.as_bytes().windows(3).any(begins));
        prop_assert_eq!(find_extended(&format!("{before}{written}")), Some((Addr::default(), port, written)));
    }

    #[test]
    fn an_extended_address_is_read_as_it_was_written(
        addr in any_addr(), port in 1_u16.., delimiter in foreign_delimiter(),
    ) {
        let port = Port::new(port);
        let written = text(|text| text.push_extended(delimiter, &addr, port));
        prop_assert_eq!(find_extended(&format!("EPRT {written}")), Some((addr, port, written)));
    }

    /// As std writes it: with `::` wherever there is a run of zeros.
    #[test]
    fn a_shortened_ipv6_address_is_the_same(
        groups in prop::array::uniform8(prop_oneof![Just(0_u16), any::<u16>()]), port in 1_u16..,
    ) {
        let ip = std::net::Ipv6Addr::from(groups);
        prop_assume!(ip.to_ipv4_mapped().is_none() && ip.to_ipv4().is_none());
        let found = find_extended(&format!("EPRT |2|{ip}|{port}|"));
        prop_assert_eq!(found.map(|it| (it.0, it.1)), Some((Addr::from(IpAddr::V6(ip)), Port::new(port))));
    }

    /// An edit that keeps the length changes nothing but words and the announcement itself.
    #[test]
    fn a_rewritten_reply_keeps_its_code_its_end_and_its_characters(
        words in "[^0-9\r\n]{0,60}", bracket in "[(= ]?", server in any_v4(), public in any_v4(),
        port in 1024_u16.., new_port in 1024_u16.., after in "([^0-9, \t\r\n][^\r\n]{0,20})?",
    ) {
        let written = text(|text| text.push_six(&server, Port::new(port)));
        let said = format!("227 {words}{bracket}{written}{after}\r\n");
        prop_assume!(said.len() < 512);
        let mut it = Conversation::publish();
        it.session.advertise = public;
        it.gate.taken.insert(port, new_port);
        it.client("PASV\r\n");
        let heard = it.server_text(&said);
        prop_assert_eq!(it.gate.openings(), [(port, new_port)]);
        let (found, found_port, found_text) = find_six(&heard[4..]).unwrap();
        prop_assert_eq!((found, found_port), (public, Port::new(new_port)));
        // Never a zero in front: octets are read as octal then.
        let fields = found_text.split(',');
        prop_assert!(fields.clone().count() == 6);
        prop_assert!(fields.into_iter().all(|it| it == "0" || !it.starts_with('0')));
        prop_assert!(heard.starts_with("227 "));
        let suffix = format!("{after}\r\n");
        prop_assert!(heard.ends_with(&suffix));
        if it.gate.count_of(Counter::EditAdjusted) == 0 {
            prop_assert_eq!(heard.len(), said.len());
        }
        let growth = heard.len() as i32 - said.len() as i32;
        prop_assert_eq!(it.session.replies.edits.growth, growth);
        // What is left of the words is their start, and the character in front of the numbers.
        let before = format!("{words}{bracket}");
        let blanks = before.trim_end_matches([' ', '\t']);
        let before = if blanks.ends_with('(') { blanks } else { &before };
        let start = heard.len() - found_text.len() - suffix.len();
        let lead = before.chars().last().map(String::from).unwrap_or_default();
        let kept = heard[4..start].strip_suffix(lead.as_str()).unwrap();
        prop_assert!(before.starts_with(kept.trim_end_matches(' ')), "{said:?} {heard:?}");
        // There is room for any address in 16 characters of words.
        if words.len() > 16 + 4 {
            prop_assert_eq!(growth, 0, "{:?} {:?}", said, heard);
        }
    }

    /// Bytes that are taken several at once leave behind what they leave one by one.
    #[test]
    fn bytes_are_the_same_at_once_and_one_by_one(
        parts in prop::collection::vec(any_part(), 1..12), counts in prop::collection::vec(1_u32..=8, 1..40),
        is_replies: bool, is_published: bool, denies: bool, waits: bool,
    ) {
        let said = parts.concat();
        let mut it = if is_published { Conversation::publish() } else { Conversation::masquerade() };
        it.session.deny = if denies { u64::MAX } else { 0 };
        if waits {
            it.client("PASV\r\nEPSV\r\n");
        }
        let one_by_one = read(&it, is_replies, &said, &[1]);
        let at_once = read(&it, is_replies, &said, &counts);
        prop_assert_eq!(at_once, one_by_one);
    }
}

/// Pieces of what clients and servers say.
fn any_part() -> impl Strategy<Value = Vec<u8>> {
    let said: [&[u8]; 22] = [
        b"227 Entering Passive Mode (10,0,0,2,195,80).",
        b"227 ",
        b"229 Entering Extended Passive Mode (|||50000|)",
        b"227-",
        b"(10,0,0,2",
        b",195,80",
        b"=1,2, 3 ,4,5,6",
        b"PORT 198,51,100,20,175,200",
        b"EPRT |1|198.51.100.20|45000|",
        b"eprt ",
        b"LPRT 4,4,1,2,3,4,2,5,6",
        b"PASV",
        b"DELE x",
        b"150 Opening BINARY mode data connection for file (1234 bytes).",
        b"220 ready",
        b"\x16\x03\x01",
        b"\0",
        b"\r",
        b"a name that is long enough to go on for some words of eight bytes each ",
        b"\n",
        b"\r\n",
        b"\r\n",
    ];
    prop_oneof![
        4 => prop::sample::select(said.map(<[u8]>::to_vec).to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..9),
        1 => prop::collection::vec(b'0'..=b':', 0..9),
    ]
}

/// What reading leaves behind, as text: the reader, its line, the session, and what the gate was asked for. So many
/// bytes are offered at once as `counts` says, one after the other, over and over.
fn read(it: &Conversation, is_replies: bool, said: &[u8], counts: &[u32]) -> String {
    let (mut session, mut gate) = (it.session, Recorder::default());
    let mut inspection = Inspection::zeroed();
    inspection.begin(&session, is_replies, 5000);
    let mut rest = said;
    let mut counts = counts.iter().cycle();
    while !rest.is_empty() && inspection.stop == 0 {
        let count = rest.len().min(*counts.next().unwrap() as usize);
        let mut word = [0xee; 8];
        word[..count].copy_from_slice(&rest[..count]);
        let taken = inspection.take(u64::from_le_bytes(word), count as u32);
        if taken == 0 {
            inspection.feed(&mut session, rest[0]);
        }
        if inspection.must_act() {
            inspection.act(&mut session, &mut gate);
        }
        rest = &rest[taken.max(1) as usize..];
    }
    let end = usize::from(inspection.line_len).min(inspection.said.line.len());
    inspection.said.line[end..].fill(0);
    format!(
        "{} left\n{inspection:?}\n{session:?}\n{:?}",
        rest.len(),
        gate.calls
    )
}

proptest! {
    #![proptest_config(cases(100))]

    /// Whatever bytes come, nothing breaks, and without an edit they come through as they are.
    #[test]
    fn any_bytes_come_through(
        commands in prop::collection::vec("(PASV|EPSV|PORT |EPRT |AUTH|[0-9,|.:]{0,20}|\r\n|\n|\\PC{0,6}){0,20}", 0..6),
        replies in prop::collection::vec("(227[ -]|229 |234 |5..|[0-9,|(]{0,20}|\r\n|\n|\\PC{0,6}){0,20}", 0..6),
        is_publish in any::<bool>(),
    ) {
        let mut it = if is_publish { Conversation::publish() } else { Conversation::masquerade() };
        for (command, reply) in commands.iter().zip(&replies) {
            // An end of the line, so that nothing is held.
            for (is_replies, said) in [(false, format!("{command}\r\n")), (true, format!("{reply}\r\n"))] {
                let before = crate::conversation::escaped(&it.withheld);
                let heard = if is_replies { it.server(&said) } else { it.client(&said) };
                let edits = if is_replies { it.session.replies.edits.count } else { it.session.commands.edits.count };
                if edits == 0 {
                    let said = crate::conversation::escaped(said.as_bytes());
                    if is_replies {
                        prop_assert_eq!(heard, said);
                    } else {
                        prop_assert_eq!(heard + &crate::conversation::escaped(&it.withheld), before + &said);
                    }
                }
            }
        }
        prop_assert!(it.session.asked.passive.wrapping_sub(it.session.answered.passive) < 1000);
    }
}

/// Pieces of a stream that do not overlap, and their new texts.
fn any_pieces() -> impl Strategy<Value = Vec<(u32, u16, String)>> {
    let piece = (0_u32..40, 1_u16..50, "[a-z]{1,49}");
    prop::collection::vec(piece, 1..=REMEMBERED).prop_map(|pieces| {
        let mut at = 0;
        let place = |(gap, old_len, new): (u32, u16, String)| {
            let start = at + gap;
            at = start + u32::from(old_len);
            (start, old_len, new)
        };
        pieces.into_iter().map(place).collect()
    })
}

fn edited(first: u32, pieces: &[(u32, u16, String)]) -> Edits {
    let mut edits = Edits::zeroed();
    for (start, old_len, new) in pieces {
        let mut text = Text::zeroed();
        text.clear();
        new.bytes().for_each(|byte| text.push(byte));
        edits.push(first.wrapping_add(*start), *old_len, &text);
    }
    edits
}

/// The stream `0, 1, 2, ..` with the pieces replaced, the plain way.
fn replaced(pieces: &[(u32, u16, String)], len: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    for (start, old_len, new) in pieces {
        out.extend((at..*start).map(|at| at as u8));
        out.extend(new.bytes());
        at = start + u32::from(*old_len);
    }
    out.extend((at..len).map(|at| at as u8));
    out
}

proptest! {
    #![proptest_config(cases(1000))]

    /// The number maps describe the edited stream, and a segment's bytes are that part of it.
    #[test]
    fn numbers_and_bytes_are_those_of_the_edited_stream(
        first in prop_oneof![any::<u32>(), 0xffff_ff00_u32..], pieces in any_pieces(), cuts in prop::collection::vec(0_u32..500, 2),
    ) {
        let len = 500;
        let edits = edited(first, &pieces);
        let wanted = replaced(&pieces, len);
        let sent = |at: u32| edits.sent(first.wrapping_add(at)).wrapping_sub(first);
        prop_assert_eq!(sent(0), 0);
        prop_assert_eq!(sent(len) as usize, wanted.len());
        for at in 0..wanted.len() as u32 {
            let (byte, seq) = edits.source(first.wrapping_add(at));
            let byte = byte.unwrap_or(seq.wrapping_sub(first) as u8);
            prop_assert_eq!(byte, wanted[at as usize]);
        }
        let [from, to] = [cuts[0].min(cuts[1]), cuts[0].max(cuts[1])];
        let touched = pieces.iter().any(|(start, old_len, _)| {
            *start < to && from < start + u32::from(*old_len) && from != to
        });
        prop_assert_eq!(edits.touch(first.wrapping_add(from), to - from), touched);
    }

    /// An acknowledgement is never of more than was received, and of all that is there.
    #[test]
    fn acknowledgements_are_of_what_arrived(first in any::<u32>(), pieces in any_pieces()) {
        let edits = edited(first, &pieces);
        let sent = |at: u32| edits.sent(first.wrapping_add(at)).wrapping_sub(first);
        let original = |at: u32, up| edits.original(first.wrapping_add(at), up).wrapping_sub(first);
        for at in 0..600 {
            let [down, up] = [original(at, false), original(at, true)];
            prop_assert!(sent(down) <= at, "{at}: {down}");
            prop_assert!(sent(up) >= at, "{at}: {up}");
            prop_assert!(up - down <= 1 || sent(down) == sent(up));
            // The most that can be said without saying too much.
            prop_assert!(sent(down + 1) > at || sent(down + 1) == sent(down), "{at}: {down}");
        }
        for at in 0..600 {
            prop_assert!(original(at, false) <= original(at + 1, false));
            prop_assert!(original(at, true) <= original(at + 1, true));
            prop_assert!(sent(at) <= sent(at + 1));
        }
    }

}

proptest! {
    #![proptest_config(cases(100))]

    /// Whatever is sent in whatever order: nothing leaves that is longer than it may be, and
    /// nothing is acknowledged to a sender that it did not send.
    #[test]
    fn hostile_segments_break_nothing(
        segments in prop::collection::vec(
            (any::<bool>(), -50_i32..200, "(227 |229 |PORT |EPRT |PASV\r\n|[0-9,|(\r\n]){0,30}", any::<bool>(), 0_u64..20_000),
            0..60,
        ),
        payload in 1_usize..200,
    ) {
        let mut session: Session = crate::conversation::publish([u32::MAX - 30, 5]);
        session.advertise = addr("203.0.113.10");
        let mut lines = [Lines::zeroed(); 2];
        let mut gate = Recorder::default();
        let firsts = [session.commands.seen, session.replies.seen];
        let limits = Limits { timeout: 5000, payload };
        let mut now = 1;
        for (is_replies, at, text, fin, wait) in segments {
            now += wait;
            let seq = firsts[usize::from(is_replies)].wrapping_add_signed(at);
            let segment = Segment { seq, payload: text.into_bytes(), fin, ..Segment::default() };
            // What leaves as it came is not cut.
            let most = payload.max(segment.payload.len());
            if let Some(sent) = host::pass(&mut session, &mut lines, &mut gate, is_replies, &segment, now, &limits) {
                prop_assert!(sent.payload.len() <= most);
            }
            host::acknowledge(&mut session, !is_replies, firsts[usize::from(!is_replies)].wrapping_add_signed(at));
        }
    }
}
