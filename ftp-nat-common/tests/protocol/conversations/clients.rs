//! How clients read a 227: each one's own way, in a few lines.

use crate::conversation::Conversation;
use std::net::Ipv4Addr;

type Announced = Option<(Ipv4Addr, u16)>;

/// From six numbers' texts, octets read as inet_aton does: a leading zero means octal.
fn six(fields: &[&str]) -> Announced {
    let octet = |field: &&str| {
        let radix = if field.len() > 1 && field.starts_with('0') {
            8
        } else {
            10
        };
        u8::from_str_radix(field, radix).ok()
    };
    let port = |field: &&str| field.parse::<u8>().ok();
    let [a, b, c, d, high, low] = fields else {
        return None;
    };
    let addr = Ipv4Addr::new(octet(a)?, octet(b)?, octet(c)?, octet(d)?);
    Some((addr, u16::from_be_bytes([port(high)?, port(low)?])))
}

/// `%u,%u,%u,%u,%u,%u` of scanf.
fn scan(text: &str) -> Announced {
    let mut rest = text;
    let mut fields = Vec::new();
    for place in 0..6 {
        if place > 0 {
            rest = rest.strip_prefix(',')?;
        }
        rest = rest.trim_start_matches([' ', '\t']);
        let len = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        fields.push(&rest[..len]);
        rest = &rest[len..];
    }
    six(&fields)
}

/// curl tries scanf at every place of the line.
fn curl(line: &str) -> Announced {
    line.char_indices()
        .skip(4)
        .find_map(|(at, _)| scan(&line[at..]))
}

/// wget starts at the first digit behind the code.
fn wget(line: &str) -> Announced {
    let text = line.strip_prefix("227 ")?;
    scan(&text[text.find(|c: char| c.is_ascii_digit())?..])
}

/// busybox cuts at the last `)`, or takes the whole, and reads the port behind the last commas.
fn busybox(line: &str) -> Announced {
    let text = &line[..line.rfind(')').unwrap_or(line.len())];
    let (text, low) = text.rsplit_once(',')?;
    let (text, high) = text.rsplit_once(',')?;
    let start = text
        .rfind(|c: char| !c.is_ascii_digit() && c != ',')
        .map_or(0, |at| at + 1);
    let octets: Vec<&str> = text[start..].split(',').collect();
    let [a, b, c, d] = octets[..] else {
        return None;
    };
    six(&[a, b, c, d, high, low])
}

/// Java's commons-net wants `\d{1,3}` six times with commas.
fn commons_net(line: &str) -> Announced {
    runs(line).find_map(|fields| six(&fields))
}

/// Python's ftplib: `(\d+),(\d+),(\d+),(\d+),(\d+),(\d+)`, anywhere.
fn ftplib(line: &str) -> Announced {
    runs(line).find_map(|fields| six(&fields))
}

/// Six numbers with commas and nothing else between them.
fn runs(line: &str) -> impl Iterator<Item = Vec<&str>> {
    line.split(|c: char| !c.is_ascii_digit() && c != ',')
        .map(|run| run.split(',').collect::<Vec<_>>())
        .filter(|fields| fields.len() == 6 && fields.iter().all(|it| (1..=3).contains(&it.len())))
}

/// .NET splits at blank, bracket and comma, and counts from the end.
fn dot_net(line: &str) -> Announced {
    let text = line.trim_end_matches(['\r', '\n']);
    let fields: Vec<&str> = text.split([' ', '(', ',', ')']).collect();
    let last = fields.len().checked_sub(1)?;
    six(fields.get(last.checked_sub(6)?..last)?)
}

/// Go's and Rust's libraries want brackets, and no blanks within.
fn go(line: &str) -> Announced {
    let start = line.find('(')?;
    let end = line.rfind(')')?;
    let fields: Vec<&str> = line.get(start + 1..end)?.split(',').collect();
    six(&fields)
}

/// FileZilla takes what the brackets hold, each field of at most three characters.
fn file_zilla(line: &str) -> Announced {
    let start = line.find('(')?;
    let end = line[start..].find(')')? + start;
    let fields: Vec<&str> = line[start + 1..end].split(',').collect();
    if fields.iter().any(|field| field.len() > 3) {
        return None;
    }
    six(&fields)
}

type Client = (&'static str, fn(&str) -> Announced);

const CLIENTS: [Client; 8] = [
    ("curl", curl),
    ("wget", wget),
    ("busybox", busybox),
    ("commons-net", commons_net),
    ("ftplib", ftplib),
    (".NET", dot_net),
    ("Go", go),
    ("FileZilla", file_zilla),
];

/// Whoever could read what the server said must read our address in what the gateway made of it.
#[test]
fn every_client_reads_the_public_address() {
    let replies = [
        "227 Entering Passive Mode (~).",
        "227 Entering Passive Mode (~)",
        "227 Entering passive mode (~).",
        "227 PASV ok (~)",
        "227 =~",
        "227 ~",
        "227 (~)",
        "227 Mode 2 of 3 (~)",
        "227 Entering Passive Mode ~",
        "227 Data transfer will passively listen to ~",
        "227 Passiver Modus f\u{fc}r Sie (~)",
        "227 \u{8fdb}\u{5165}\u{88ab}\u{52a8} (~)",
    ];
    let servers = [
        ("10,0,0,5", [10, 0, 0, 5]),
        ("0,0,0,0", [0, 0, 0, 0]),
        ("192,168,100,200", [192, 168, 100, 200]),
        ("255,255,255,255", [255, 255, 255, 255]),
        ("203,0,113,10", [203, 0, 113, 10]),
        ("1,2,3,4", [1, 2, 3, 4]),
    ];
    let publics = [
        "203.0.113.10",
        "1.1.1.1",
        "100.100.100.100",
        "250.251.252.253",
    ];
    let mut read = 0;
    for reply in replies {
        for (server, octets) in servers {
            for public in publics {
                let mut it = Conversation::publish();
                it.session.advertise = crate::conversation::addr(public);
                for port in [1024, 50_000, 65_535] {
                    for new_port in [port, 1025, 60_001] {
                        let numbers = format!("{server},{},{}", port / 256, port % 256);
                        let said = reply.replace('~', &numbers) + "\r\n";
                        it.gate.taken = [(port, new_port)].into();
                        it.client("PASV\r\n");
                        let heard = it.server_text(&said);
                        for (name, client) in CLIENTS {
                            if client(&said) != Some((octets.into(), port)) {
                                continue;
                            }
                            let wanted = (public.parse().unwrap(), new_port);
                            assert_eq!(client(&heard), Some(wanted), "{name}: {said} {heard}");
                            read += 1;
                        }
                    }
                }
            }
        }
    }
    // Six of the eight read everything, and brackets are seen by all.
    assert!(read > 15_000, "{read}");
}

/// An IPFilter box behind us wants the first 24 bytes of the usual text.
#[test]
fn the_usual_text_keeps_the_start_that_firewalls_want() {
    for (server, public) in [("10,10,10,10", "20.20.20.20"), ("10,0,0,50", "203.0.11.10")] {
        let mut it = Conversation::publish();
        it.session.advertise = crate::conversation::addr(public);
        let heard = it.ask(
            "PASV",
            format!("227 Entering Passive Mode ({server},195,80).\r\n"),
        );
        assert!(heard.starts_with("227 Entering Passive Mod"), "{heard}");
    }
}
