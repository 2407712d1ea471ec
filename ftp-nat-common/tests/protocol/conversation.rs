//! A control connection whose segments all arrive, in order.

use bytemuck::Zeroable;
use ftp_nat_common::abi::{Lines, Session, role};
use ftp_nat_common::host::{self, Limits, Recorder, Segment};
use ftp_nat_common::stream::segment;
use ftp_nat_common::wire::addr::{Addr, Endpoint, Port};

/// Milliseconds for which lines are held.
pub(crate) const TIMEOUT: u64 = 10_000;

/// What no segment exceeds here.
pub(crate) const LIMITS: Limits = Limits {
    timeout: TIMEOUT,
    payload: 1400,
};

pub(crate) fn addr(text: &str) -> Addr {
    let ip: std::net::IpAddr = text.parse().unwrap();
    Addr::from(ip)
}

fn endpoint(text: &str, port: u16) -> Endpoint {
    Endpoint::new(addr(text), Port::new(port))
}

/// A session that saw both SYNs, with these initial sequence numbers.
fn session(role: u8, [inside, outside, public]: [Endpoint; 3], isn: [u32; 2]) -> Session {
    let mut session = Session::zeroed();
    session.role = role;
    session.inside = inside;
    session.outside = outside;
    session.public = public;
    session.advertise = public.addr;
    segment::start(&mut session.commands, isn[0]);
    segment::start(&mut session.replies, isn[1]);
    session
}

/// The server 10.0.0.5 behind 203.0.113.10, and its client 198.51.100.7.
pub(crate) fn publish(isn: [u32; 2]) -> Session {
    let ends = [
        endpoint("10.0.0.5", 21),
        endpoint("198.51.100.7", 40_000),
        endpoint("203.0.113.10", 21),
    ];
    session(role::PUBLISH, ends, isn)
}

/// The server 2001:db8:1::5 behind 2001:db8::10, and its client 2001:db8:2::7.
pub(crate) fn publish_v6(isn: [u32; 2]) -> Session {
    let ends = [
        endpoint("2001:db8:1::5", 21),
        endpoint("2001:db8:2::7", 40_000),
        endpoint("2001:db8::10", 21),
    ];
    session(role::PUBLISH, ends, isn)
}

/// The client 192.168.1.7 behind 203.0.113.10, at the server 198.51.100.5.
pub(crate) fn masquerade(isn: [u32; 2]) -> Session {
    let ends = [
        endpoint("192.168.1.7", 40_000),
        endpoint("198.51.100.5", 21),
        endpoint("203.0.113.10", 40_000),
    ];
    session(role::MASQUERADE, ends, isn)
}

/// The same over IPv6: the client fd00::7 behind 2001:db8::10, at the server 2001:db8:2::5.
pub(crate) fn masquerade_v6(isn: [u32; 2]) -> Session {
    let ends = [
        endpoint("fd00::7", 40_000),
        endpoint("2001:db8:2::5", 21),
        endpoint("2001:db8::10", 40_000),
    ];
    session(role::MASQUERADE, ends, isn)
}

/// Text whose bytes beyond ASCII are escaped, so that any bytes can be compared.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let escape = |byte: &u8| match byte {
        0..0x80 => char::from(*byte).to_string(),
        _ => byte.escape_ascii().to_string(),
    };
    bytes.iter().map(escape).collect()
}

/// A session and its gate.
pub(crate) struct Conversation {
    pub(crate) session: Session,
    pub(crate) lines: [Lines; 2],
    pub(crate) gate: Recorder,
    pub(crate) now: u64,
    /// The next sequence number of the client and of the server.
    next: [u32; 2],
}

impl Conversation {
    pub(crate) fn new(session: Session) -> Self {
        let next = [session.commands.seen, session.replies.seen];
        Self {
            session,
            lines: [Lines::zeroed(); 2],
            gate: Recorder::default(),
            now: 1_000_000,
            next,
        }
    }

    /// A client that has logged in at the published server.
    pub(crate) fn publish() -> Self {
        Self::new(publish([100, 5000])).log_in()
    }

    /// The same over IPv6.
    pub(crate) fn publish_v6() -> Self {
        Self::new(publish_v6([100, 5000])).log_in()
    }

    /// One of our clients that has logged in at an outside server.
    pub(crate) fn masquerade() -> Self {
        Self::new(masquerade([100, 5000])).log_in()
    }

    /// The same over IPv6.
    pub(crate) fn masquerade_v6() -> Self {
        Self::new(masquerade_v6([100, 5000])).log_in()
    }

    fn log_in(mut self) -> Self {
        self.server("220-Welcome\r\n220 to this server\r\n");
        self.client("USER anonymous\r\n");
        self.server("331 Any password will do\r\n");
        self.client("PASS guest\r\n");
        self.server("230 Logged in\r\n");
        self
    }

    /// What the server hears when the client says `text`.
    pub(crate) fn client(&mut self, text: impl AsRef<[u8]>) -> String {
        self.say(false, text.as_ref())
    }

    /// What the client hears when the server says `text`.
    pub(crate) fn server(&mut self, text: impl AsRef<[u8]>) -> String {
        self.say(true, text.as_ref())
    }

    /// What the client hears when it says `command` and the server answers `reply`.
    pub(crate) fn ask(&mut self, command: &str, reply: impl AsRef<[u8]>) -> String {
        assert_eq!(
            self.client(format!("{command}\r\n")),
            format!("{command}\r\n")
        );
        self.server(reply)
    }

    /// The same as valid text.
    pub(crate) fn server_text(&mut self, text: &str) -> String {
        String::from_utf8(self.bytes(true, text.as_bytes())).expect("characters were cut")
    }

    /// Whole lines of any bytes.
    pub(crate) fn client_bytes(&mut self, text: &[u8]) -> Vec<u8> {
        self.bytes(false, text)
    }

    /// Whole lines of any bytes.
    pub(crate) fn server_bytes(&mut self, text: &[u8]) -> Vec<u8> {
        self.bytes(true, text)
    }

    /// Bytes that are no ASCII are escaped.
    fn say(&mut self, is_replies: bool, text: &[u8]) -> String {
        let heard = self.bytes(is_replies, text);
        escaped(&heard)
    }

    /// One segment; what the gateway cuts off is said again.
    fn bytes(&mut self, is_replies: bool, text: &[u8]) -> Vec<u8> {
        let mut heard = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let segment = Segment {
                seq: self.next[usize::from(is_replies)],
                payload: rest.to_vec(),
                fin: false,
                ..Segment::default()
            };
            let sent = self.pass(is_replies, &segment).expect("held");
            assert!(!sent.payload.is_empty(), "held: {heard:?}");
            let direction = if is_replies {
                &self.session.replies
            } else {
                &self.session.commands
            };
            assert_eq!(sent.seq, direction.edits.sent(segment.seq));
            let end = sent.seq.wrapping_add(sent.payload.len() as u32);
            let taken = direction
                .edits
                .original(end, false)
                .wrapping_sub(segment.seq);
            heard.extend(sent.payload);
            self.next[usize::from(is_replies)] = segment.seq.wrapping_add(taken);
            rest = &rest[taken as usize..];
        }
        heard
    }

    /// One segment as it is.
    pub(crate) fn pass(&mut self, is_replies: bool, segment: &Segment) -> Option<Segment> {
        host::pass(
            &mut self.session,
            &mut self.lines,
            &mut self.gate,
            is_replies,
            segment,
            self.now,
            &LIMITS,
        )
    }
}
