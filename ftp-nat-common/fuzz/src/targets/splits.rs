//! However the turns of a session are cut, lost and repeated, both ends hear the same as without
//! that, and the same opens.

use crate::conversation::{masquerade, publish, publish_v6};
use crate::tcp::{FAIR, Weather, Wire};
use ftp_nat_common::edit::edits::REMEMBERED;

/// Bytes of the cuts' places.
const CUTS: usize = 6;

/// First a byte for role and weather, one for the network's dice, and the places of the cuts; then
/// the turns, a zero between them: the server begins.
pub fn run(data: &[u8]) {
    let [choice, seed, rest @ ..] = data else {
        return;
    };
    let Some((places, text)) = rest.split_at_checked(CUTS) else {
        return;
    };
    let text = &text[..text.len().min(700)];
    let turns: Vec<(bool, Vec<u8>)> = text
        .split(|byte| *byte == 0)
        .enumerate()
        .filter(|(_, turn)| !turn.is_empty())
        .map(|(number, turn)| (number % 2 == 0, [turn, b"\r\n"].concat()))
        .collect();
    let lines = turns
        .iter()
        .flat_map(|(_, turn)| turn.split(|byte| *byte == b'\n'));
    let longest = lines.map(<[u8]>::len).max().unwrap_or(0);
    // A line that cannot be kept is no longer held, and so may be read in part.
    if longest > 500 {
        return;
    }
    // TLS is told by whole segments: RFC 4217 has a segment's end where it begins and ends.
    if turns.iter().any(|(_, turn)| is_tls(turn)) {
        return;
    }
    // A reply that never ends is over once the client goes on, and how far it has heard then is a
    // matter of the weather.
    if !ends_all_replies(&turns) {
        return;
    }
    // More edits in flight than are remembered: the oldest is not repeated as it was.
    let edits = |turn: &[u8]| {
        let behind = turn.iter().skip(1).chain(b"\n");
        turn.iter()
            .zip(behind)
            .filter(|(byte, next)| match byte {
                b'\n' | 255 => true,
                b'\r' => **next != b'\n',
                _ => false,
            })
            .count()
    };
    if choice & 0x70 != 0 && turns.iter().any(|(_, turn)| edits(turn) > REMEMBERED) {
        return;
    }
    let session = [publish, masquerade, publish_v6][usize::from(choice % 3)];
    let isn = [u32::MAX - 20, 5];
    let whole = turns.iter().map(|(side, turn)| (*side, vec![turn.clone()]));
    let wanted = Wire::new(session(isn), FAIR).play(&whole.collect::<Vec<_>>());
    let weather = Weather {
        seed: u64::from(*seed),
        loss: if choice & 0x40 == 0 { 0 } else { 20 },
        repeats: if choice & 0x20 == 0 { 0 } else { 20 },
        late: if choice & 0x10 == 0 { 0 } else { 20 },
        // A held line leaves in one piece: it fits wherever 576 bytes do, but not here.
        segment: if choice & 0x80 == 0 || longest > 60 {
            1400
        } else {
            40
        },
        window: 1 + usize::from(seed % 10),
        nagle: choice & 8 != 0,
        // Lines are let go at last: here that would be a difference.
        timeout: 10_000_000,
    };
    let cut: Vec<_> = turns
        .iter()
        .map(|(side, turn)| (*side, cut(turn, places)))
        .collect();
    let got = Wire::new(session(isn), weather).play(&cut);
    assert_eq!(got, wanted, "{weather:?}");
}

/// Whether no reply of several lines is under way at the end of what the server says at once.
fn ends_all_replies(turns: &[(bool, Vec<u8>)]) -> bool {
    turns.iter().filter(|(side, _)| *side).all(|(_, turn)| {
        let mut open = None;
        for line in turn.split(|byte| *byte == b'\n') {
            let Some((code, behind)) = line.split_at_checked(3) else {
                continue;
            };
            let is_code = matches!(code[0], b'1'..=b'6') && code.iter().all(u8::is_ascii_digit);
            let behind = behind.first().copied().unwrap_or_default();
            if open == Some(code) && behind != b'-' && !behind.is_ascii_digit() {
                open = None;
            } else if open.is_none() && is_code && behind == b'-' {
                open = Some(code);
            }
        }
        open.is_none()
    })
}

fn is_tls(turn: &[u8]) -> bool {
    let upper = turn.to_ascii_uppercase();
    upper.windows(4).any(|it| it == b"AUTH") || turn.contains(&0x16)
}

/// Each place is so many bytes behind the one before; 255 and on: every byte by itself.
fn cut(turn: &[u8], places: &[u8]) -> Vec<Vec<u8>> {
    if places[0] == 255 {
        return turn.iter().map(|byte| vec![*byte]).collect();
    }
    let mut pieces = Vec::new();
    let mut rest = turn;
    for place in places {
        let len = usize::from(*place);
        if len > 0 && len < rest.len() {
            let (piece, behind) = rest.split_at(len);
            pieces.push(piece.to_vec());
            rest = behind;
        }
    }
    pieces.push(rest.to_vec());
    pieces
}
