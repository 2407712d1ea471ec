//! A control connection whose segments all arrive, in order.
//!
//! [`crate::pass`] is the gateway: the protocol alone (`ftp_nat_common::host::pass`), or the programs in the
//! kernel.

use bytemuck::Zeroable;
use ftp_nat_common::abi::{Lines, Session, begin, role};
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
    session.alias = outside;
    session.public = public;
    session.advertise = public.addr;
    segment::start(&mut session.commands, isn[0]);
    segment::start(&mut session.replies, isn[1]);
    session.asked.begin = begin::FTP;
    session.answered.begin = begin::FTP;
    session
}

/// The same before anybody said anything.
pub(crate) fn silent(mut session: Session) -> Session {
    session.asked.begin = begin::OPEN;
    session.answered.begin = begin::OPEN;
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
    /// What the client has said from a line on that the gateway withholds.
    pub(crate) withheld: Vec<u8>,
    /// What the server has heard of that when the client repeated it.
    pub(crate) heard_late: String,
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
            withheld: Vec::new(),
            heard_late: String::new(),
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

    pub(crate) fn log_in(mut self) -> Self {
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

    /// What the client hears when the server says `text`. The client repeats what was withheld from
    /// it then.
    pub(crate) fn server(&mut self, text: impl AsRef<[u8]>) -> String {
        let heard = self.say(true, text.as_ref());
        self.wait(600);
        heard
    }

    /// So many milliseconds pass; the client repeats what was withheld from it every 200.
    pub(crate) fn wait(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds / 200 {
            self.now += 200;
            if !self.withheld.is_empty() {
                let heard = self.say(false, b"");
                self.heard_late += &heard;
            }
        }
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

    /// One segment; what the gateway cuts off is said again, but not what it withholds. Whoever says
    /// something has heard all that was said before.
    fn bytes(&mut self, is_replies: bool, text: &[u8]) -> Vec<u8> {
        let mut heard = Vec::new();
        let text = if is_replies {
            text.to_vec()
        } else {
            [&std::mem::take(&mut self.withheld), text].concat()
        };
        let mut rest = text.as_slice();
        self.hear(!is_replies);
        while !rest.is_empty() {
            let segment = Segment {
                seq: self.next[usize::from(is_replies)],
                payload: rest.to_vec(),
                fin: false,
                ..Segment::default()
            };
            let Some(sent) = self.pass(is_replies, &segment) else {
                let is_withheld = self.session.asked.withheld_since != 0;
                assert!(is_withheld && !is_replies, "held: {heard:?}");
                self.withheld = rest.to_vec();
                return heard;
            };
            self.hear(is_replies);
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

    /// The server says `text`, and nothing else happens.
    pub(crate) fn server_alone(&mut self, text: &str) {
        let segment = Segment {
            seq: self.next[1],
            payload: text.into(),
            fin: false,
            ..Segment::default()
        };
        assert_eq!(self.pass(true, &segment), Some(segment));
        self.next[1] = self.next[1].wrapping_add(text.len() as u32);
    }

    /// The client repeats what was withheld, and acknowledges nothing.
    pub(crate) fn repeat_unheard(&mut self) {
        let segment = Segment {
            seq: self.next[0],
            payload: std::mem::take(&mut self.withheld),
            fin: false,
            ..Segment::default()
        };
        match self.pass(false, &segment) {
            Some(sent) => self.next[0] = self.next[0].wrapping_add(sent.payload.len() as u32),
            None => self.withheld = segment.payload,
        }
    }

    /// The other end acknowledges what this one has said so far.
    fn hear(&mut self, is_replies: bool) {
        let direction = if is_replies {
            &self.session.replies
        } else {
            &self.session.commands
        };
        let heard = direction.edits.sent(direction.seen);
        host::acknowledge(&mut self.session, is_replies, heard);
    }

    /// One segment as it is.
    pub(crate) fn pass(&mut self, is_replies: bool, segment: &Segment) -> Option<Segment> {
        self.gate.now = self.now;
        crate::pass(
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
