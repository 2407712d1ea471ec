//! What clients and servers say, and what they should not.

use std::net::{IpAddr, SocketAddr};

use super::random::Random;
use crate::scene::Ends;

/// Ports that are announced: few, so that clients contest them.
const PORTS: [u16; 12] = [
    50_000, 50_001, 50_002, 50_003, 50_004, 9_999, 1_024, 61_000, 65_535, 1_023, 21, 0,
];

/// Lines' ends, the usual one most often.
const ENDS: [&str; 6] = ["\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r\r\n"];

const COMMANDS: [&str; 23] = [
    "USER anonymous",
    "PASS me@here",
    "TYPE I",
    "RETR file",
    "STOR PORT 1,2,3,4,5,6",
    "PASV",
    "PASV",
    "PASV",
    "pasv",
    "EPSV",
    "EPSV",
    "EPSV 1",
    "EPSV ALL",
    "LPRT 4,4,10,0,0,5,2,195,80",
    "AUTH TLS",
    "CCC",
    "NOOP",
    "STAT .",
    "SITE CHMOD 644 a",
    "P@SW",
    "MKD a\x00213 x\rPORT 1,2,3,4,5,6",
    "NOOP aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaPORT 1,2,3,4,5,6",
    "",
];

const WORDS: [&str; 12] = [
    "Entering Passive Mode ",
    "Entering passive mode ",
    "PASV ok ",
    "=",
    "",
    "Data transfer will passively listen to ",
    "Passiver Modus f\u{fc}r Sie ",
    "\u{8bf7}\u{7528}\u{88ab}\u{52a8}\u{6a21}\u{5f0f}",
    "Mode 2 of 3, v1.2 ",
    "1,2,3 then ",
    "x",
    "  ",
];

/// A line of the client.
pub(super) fn command(random: &mut Random, ends: &Ends, is_published: bool) -> Vec<u8> {
    let mut line = match random.below(20) {
        0..=10 => random.pick(&COMMANDS).as_bytes().to_vec(),
        11..=16 => {
            let own = if is_published {
                ends.outside.ip()
            } else {
                ends.inside.ip()
            };
            port_command(random, own).into_bytes()
        }
        17 => [b"\xff\xf4\xff\xf2", random.pick(&COMMANDS).as_bytes()].concat(),
        18 => [b"PORT ", "1".repeat(random.below(1100)).as_bytes()].concat(),
        _ => junk(random),
    };
    line.extend(random.pick(&ENDS).as_bytes());
    line
}

fn port_command(random: &mut Random, own: IpAddr) -> String {
    let address = if random.chance(80) {
        own
    } else {
        other_address(random)
    };
    let port = random.pick(&PORTS);
    if random.chance(50) && address.is_ipv4() {
        let verb = random.pick(&["PORT ", "port ", "PORT\t", "PORT  "]);
        return format!("{verb}{}", six(address, port, ","));
    }
    let delimiter = random.pick(&["|", "|", "|", "!", "#"]);
    extended("EPRT ", delimiter, address, port)
}

/// A line, or several, of the server.
pub(super) fn reply(random: &mut Random, ends: &Ends) -> Vec<u8> {
    let end = random.pick(&ENDS);
    let reply = match random.below(20) {
        0..=5 => passive(random, ends, " "),
        6..=8 => extended_passive(random, ends),
        9 => {
            let first = passive(random, ends, "-");
            let last = passive(random, ends, " ");
            format!("{first}{end} in between{end}{last}")
        }
        10 => format!("227-words{end}{}", passive(random, ends, " ")),
        11 => format!("211-227 (1,2,3,4,5,6){end}227 (10,0,0,5,1,2){end}211 end"),
        12 => "234 go on".to_owned(),
        13 => random
            .pick(&["500 no", "530 log in", "421 bye", "502 what"])
            .to_owned(),
        14 => "220 ready".to_owned(),
        15 => format!("227 {}", "x".repeat(random.below(1100))),
        _ => random
            .pick(&[
                "200 ok",
                "150 here",
                "226 done",
                "250 ok",
                "331 who",
                "227 Logout.",
            ])
            .to_owned(),
    };
    let mut line = if random.chance(3) {
        junk(random)
    } else {
        reply.into_bytes()
    };
    line.extend(end.as_bytes());
    line
}

fn passive(random: &mut Random, ends: &Ends, behind_code: &str) -> String {
    let words = random.pick(&WORDS);
    let (open, close) = random.pick(&[("(", ")."), ("(", ")"), ("", ""), ("", "."), ("( ", " )")]);
    let comma = random.pick(&[",", ",", ",", ", ", " ,"]);
    let port = random.pick(&PORTS);
    let address = match ends.inside.ip() {
        IpAddr::V4(inside) if random.chance(80) => inside.into(),
        _ => other_address(random),
    };
    let mut numbers = match address {
        IpAddr::V4(_) => six(address, port, comma),
        IpAddr::V6(_) => six(IpAddr::from([10, 0, 0, 5]), port, comma),
    };
    if random.chance(10) {
        // Five or seven fields, or one that is too large.
        match random.below(3) {
            0 => numbers = numbers.split_once(',').unwrap().1.to_owned(),
            1 => numbers.push_str(",7"),
            _ => numbers.push('9'),
        }
    }
    format!("227{behind_code}{words}{open}{numbers}{close}")
}

fn extended_passive(random: &mut Random, ends: &Ends) -> String {
    let words = random.pick(&WORDS);
    let port = random.pick(&PORTS);
    let delimiter = random.pick(&["|", "|", "|", "!", "x"]);
    let (open, close) = random.pick(&[("(", ")"), ("(", ")."), ("", "")]);
    let front = format!("229 {words}{open}");
    let text = if random.chance(80) {
        format!("{front}{delimiter}{delimiter}{delimiter}{port}{delimiter}")
    } else {
        extended(&front, delimiter, ends.inside.ip(), port)
    };
    format!("{text}{close}")
}

fn extended(front: &str, delimiter: &str, address: IpAddr, port: u16) -> String {
    let protocol = if address.is_ipv4() { 1 } else { 2 };
    format!("{front}{delimiter}{protocol}{delimiter}{address}{delimiter}{port}{delimiter}")
}

fn six(address: IpAddr, port: u16, comma: &str) -> String {
    let [high, low] = port.to_be_bytes();
    let address = address.to_string().replace('.', comma);
    format!("{address}{comma}{high}{comma}{low}")
}

fn other_address(random: &mut Random) -> IpAddr {
    let others = [
        "0.0.0.0",
        "1.1.1.1",
        "192.168.100.200",
        "198.51.100.1",
        "198.51.100.21",
        "10.0.0.77",
        "2001:db8:1::21",
        "fd00:10::77",
    ];
    random.pick(&others).parse().unwrap()
}

/// Bytes of any kind; some of them look like TLS, or like the start of something.
fn junk(random: &mut Random) -> Vec<u8> {
    let mut bytes = match random.below(4) {
        0 => b"\x16\x03\x01".to_vec(),
        1 => b"\x17\x03\x03".to_vec(),
        2 => b"PORT".to_vec(),
        _ => Vec::new(),
    };
    let len = random.below(40);
    bytes.extend((0..len).map(|_| random.number() as u8));
    bytes
}

/// A client's port, and a server's, for the connection with this number.
pub(super) fn ends(random: &mut Random, index: usize) -> (Ends, bool) {
    let is_v4 = random.chance(70);
    let is_published = random.chance(65);
    let who = random.below(4);
    let port = 40_000 + index as u16;
    let text = match (is_v4, is_published) {
        (true, true) => {
            let (public, inside) = random.pick(&[
                ("198.51.100.1:21", "10.0.0.5:21"),
                ("198.51.100.1:2121", "10.0.0.6:2121"),
            ]);
            [
                format!("198.51.100.{}:{port}", 20 + who),
                public.to_owned(),
                inside.to_owned(),
            ]
        }
        (false, true) => [
            format!("[2001:db8:1::{}]:{port}", 20 + who),
            "[2001:db8:1::1]:21".to_owned(),
            "[fd00:10::5]:21".to_owned(),
        ],
        (true, false) => [
            "198.51.100.30:2100".to_owned(),
            format!("198.51.100.1:{port}"),
            format!(
                "{}:{}",
                random.pick(&["10.0.0.50", "10.100.200.150"]),
                port - 1
            ),
        ],
        (false, false) => [
            "[2001:db8:1::30]:2100".to_owned(),
            format!("[2001:db8:1::1]:{port}"),
            format!("[fd00:10::50]:{}", port - 1),
        ],
    };
    let [outside, public, inside] = text.map(|end| end.parse::<SocketAddr>().unwrap());
    let ends = Ends {
        outside,
        public,
        inside,
    };
    (ends, is_published)
}
