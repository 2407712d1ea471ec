//! Any bytes as a server's replies: nothing opens unasked, and what is rewritten reads right.

use crate::conversation::{Conversation, addr};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::host::Call;

/// What the client said before.
const ASKED: [&str; 8] = [
    "PASV\r\n",
    "EPSV\r\n",
    "NOOP\r\nPASV\r\n",
    "PASV\r\nEPSV\r\nNOOP\r\nPASV\r\n",
    "AUTH TLS\r\nPASV\r\n",
    "EPSV ALL\r\nPORT 198,51,100,7,200,1\r\n",
    "PASV\r\nPASV\r\nPASV\r\nPASV\r\nPASV\r\nPASV\r\n",
    "EPSV 1\r\nPASV x\r\n",
];

/// Addresses to be announced.
const PUBLIC: [&str; 4] = ["203.0.113.10", "1.1.1.1", "250.251.252.253", "2001:db8::10"];

/// The first byte chooses what was asked before and the public address; the rest is what the
/// server says.
pub fn run(data: &[u8]) {
    let Some((choice, said)) = data.split_first() else {
        return;
    };
    let said = &said[..said.len().min(4000)];
    let commands = ASKED[usize::from(*choice) % ASKED.len()];
    let mut it = Conversation::publish();
    it.session.advertise = addr(PUBLIC[usize::from(choice / 8) % PUBLIC.len()]);
    for taken in (50_000..50_100).step_by(2) {
        it.gate.taken.insert(taken, 61_000 + taken % 1000);
    }
    it.gate.spoken = Some(Vec::new());
    it.client(commands);
    let words = commands.split(['\r', '\n']).filter(|line| {
        line.starts_with("PASV") || (line.starts_with("EPSV") && !line.contains("ALL"))
    });
    let asked = words.count();
    // The last line ends, so that nothing is held.
    let said = [said, b"\r\n"].concat();
    let heard = it.server_bytes(&said);
    // None of these commands is told, and so no reply.
    assert_eq!(it.gate.spoken, Some(Vec::new()));
    assert!(it.gate.openings().len() <= asked + usize::from(commands.contains("PORT")));

    let publics: Vec<u16> = it.gate.calls.iter().filter_map(public_port).collect();
    let split = |text: &[u8]| -> Vec<Vec<u8>> {
        let lines = text.split_inclusive(|byte| *byte == b'\n');
        lines.map(<[u8]>::to_vec).collect()
    };
    let (said, heard) = (split(&said), split(&heard));
    assert_eq!(said.len(), heard.len());
    let mut changed = 0;
    for (said, heard) in said.iter().zip(&heard) {
        if said == heard {
            continue;
        }
        changed += 1;
        // Refused: in as many bytes, which may cut the words short.
        let (_, behind) = heard.split_at(4);
        let differs = said[4..]
            .iter()
            .zip(behind)
            .filter(|(one, other)| one != other);
        let words = b"No data connection: the gateway cannot open the port        ";
        let is_cut = behind.starts_with(b"No ")
            && !said[4..].starts_with(b"No ")
            && differs.count() <= words.len();
        if heard.starts_with(b"425") || is_cut {
            assert_eq!(said.len(), heard.len());
            continue;
        }
        // `227 ,0,0,5,195,80` inside a multi-line reply begins with an octet, not with a code.
        let is_octet = said[3..].trim_ascii_start().starts_with(b",");
        if code(said) != 0 && !is_octet {
            assert_eq!(said[..4], heard[..4]);
        }
        check(said, heard, it.session.advertise, &publics);
    }
    let counted = [
        Counter::Rewrote227,
        Counter::Rewrote229,
        Counter::Refused227,
    ]
    .map(|it_| it.gate.count_of(it_));
    // A refusal changes nothing where the server itself says its words.
    let own_words = said
        .iter()
        .filter(|line| line.windows(4).any(|words| words == b"No d"))
        .count();
    let counted = counted.iter().sum::<usize>();
    assert!(
        (changed..=changed + own_words).contains(&counted),
        "{changed} lines changed, {counted} counted"
    );
}

fn public_port(happening: &Call) -> Option<u16> {
    match happening {
        Call::Opened(opening, public) => {
            assert!(opening.port.number() >= 1024);
            Some(public.number())
        }
        _ => None,
    }
}

fn code(line: &[u8]) -> u16 {
    match line {
        [
            first @ b'1'..=b'6',
            second @ b'0'..=b'9',
            third @ b'0'..=b'9',
            b' ' | b'-',
            ..,
        ] => {
            let digits = [first, second, third].map(|digit| u16::from(digit - b'0'));
            digits[0] * 100 + digits[1] * 10 + digits[2]
        }
        _ => 0,
    }
}

/// A line that was changed says, to a client that tries scanf at every place behind the code, what
/// was opened.
fn check(said: &[u8], heard: &[u8], public: ftp_nat_common::wire::addr::Addr, publics: &[u16]) {
    let text = heard.escape_ascii().to_string();
    let [said, heard] = [said, heard].map(String::from_utf8_lossy);
    let told = scan_six(&heard, if code(heard.as_bytes()) == 0 { 0 } else { 4 });
    let extended = publics.iter().any(|port| {
        heard
            .match_indices(&port.to_string())
            .any(|(at, digits)| is_delimited(heard.as_bytes(), at, digits.len()))
    });
    // More numbers with commas than the tuple's own may be read together with it.
    let is_lone = said.matches(',').count() == 5;
    match told {
        _ if extended || !is_lone => {}
        Some((addr, port)) => {
            // Over IPv6 six numbers tell the port alone.
            let addr_fits = addr == public.to_ip() || !public.is_v4();
            assert!(publics.contains(&port) && addr_fits, "{text}");
        }
        None => panic!("{text}"),
    }
}

/// Whether the same character stands before and behind.
fn is_delimited(line: &[u8], at: usize, len: usize) -> bool {
    at > 0 && line.get(at + len) == Some(&line[at - 1])
}

fn scan_six(text: &str, from: usize) -> Option<(std::net::IpAddr, u16)> {
    let at = |from: usize| {
        let mut rest = text.get(from..)?;
        let mut fields = [0_u8; 6];
        for (place, field) in fields.iter_mut().enumerate() {
            if place > 0 {
                rest = rest.strip_prefix(',')?;
            }
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            *field = rest[..digits].parse().ok()?;
            rest = &rest[digits..];
        }
        let [a, b, c, d, high, low] = fields;
        Some(([a, b, c, d].into(), u16::from_be_bytes([high, low])))
    };
    (from..text.len()).find_map(at)
}
