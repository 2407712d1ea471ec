//! Finding the control connections among all connections of a capture.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
};

use super::{
    control::{Control, Role},
    gate::Pinholes,
    packet::Tcp,
};
use crate::model::address::is_inner;

/// What is taken for granted.
#[derive(Clone, Debug)]
pub struct Assumptions {
    /// Ports of control connections.
    pub ports: BTreeSet<u16>,
    /// The side that the gateway is on; none: judged by the addresses.
    pub role: Option<Role>,
    /// The gateway's public addresses.
    pub public: Vec<IpAddr>,
}

/// Addresses for documentation stand for a gateway's own where none is given (RFC 5737, RFC 3849).
const EXAMPLE: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

impl Assumptions {
    /// Which end the gateway is in front of.
    fn role(&self, client: IpAddr, server: IpAddr) -> Role {
        self.role.unwrap_or_else(|| {
            if is_inner(client) && !is_inner(server) {
                Role::Masquerade
            } else {
                Role::Publish
            }
        })
    }

    /// The address that is announced: a given one of that family, the inside end's own if that is
    /// a public one, or else an example.
    fn public(&self, inside: IpAddr) -> IpAddr {
        let same = |ip: &&IpAddr| ip.is_ipv4() == inside.is_ipv4();
        let given = self.public.iter().find(same).copied();
        given.unwrap_or_else(|| {
            if is_inner(inside) {
                EXAMPLE[usize::from(inside.is_ipv6())]
            } else {
                inside
            }
        })
    }
}

/// Whether the address is one that stands for another.
pub fn is_example(ip: IpAddr) -> bool {
    EXAMPLE.contains(&ip)
}

/// Verbs that begin an FTP session; SMTP greets with 220, too.
const FIRST_VERBS: [&[u8]; 14] = [
    b"USER", b"AUTH", b"FEAT", b"HOST", b"SYST", b"OPTS", b"PASS", b"CLNT", b"PBSZ", b"PASV",
    b"EPSV", b"PORT", b"LANG", b"ACCT",
];

/// Segments of a connection that are kept until it is known what it is.
const UNDECIDED: usize = 64;

/// What is known of a connection.
enum State {
    /// Nothing was said on it, or the server alone spoke: what came so far, and who began it.
    Undecided {
        seen: Vec<(Tcp, u64)>,
        server: Option<SocketAddr>,
    },
    /// It is the control connection of this number.
    Control(usize),
    /// It is something else.
    Other,
}

/// All connections of a capture.
pub struct Connections {
    assumptions: Assumptions,
    states: HashMap<[SocketAddr; 2], State>,
    /// The control connections, in the order of their begin.
    pub controls: Vec<Control>,
    pinholes: Pinholes,
}

impl Connections {
    /// None yet.
    pub fn new(assumptions: Assumptions) -> Self {
        Self {
            assumptions,
            states: HashMap::new(),
            controls: Vec::new(),
            pinholes: Pinholes::default(),
        }
    }

    /// Takes a segment.
    pub fn see(&mut self, tcp: Tcp, time: u64) {
        let key = if tcp.source < tcp.destination {
            [tcp.source, tcp.destination]
        } else {
            [tcp.destination, tcp.source]
        };
        if tcp.syn && tcp.ack.is_none() {
            self.begin(&key, &tcp, time);
        }
        let ports = &self.assumptions.ports;
        let state = self.states.entry(key).or_insert_with(|| State::Undecided {
            seen: Vec::new(),
            server: None,
        });
        match state {
            State::Other => {}
            State::Control(number) => {
                self.controls[*number].see(&tcp, time, &mut self.pinholes);
            }
            State::Undecided { seen, server } => {
                if tcp.syn {
                    let its = if tcp.ack.is_none() {
                        tcp.destination
                    } else {
                        tcp.source
                    };
                    *server = Some(its);
                }
                let by_port = [tcp.destination, tcp.source]
                    .into_iter()
                    .filter(|end| ports.contains(&end.port()));
                let by_port = by_port.reduce(
                    |one, other| {
                        if *server == Some(other) { other } else { one }
                    },
                );
                let is_first = seen.iter().all(|(it, _)| it.payload.is_empty());
                let judgement = judge(server, is_first, &tcp);
                seen.push((tcp, time));
                let server = match (by_port, judgement) {
                    (Some(server), _) | (None, Judgement::Ftp(server)) => server,
                    (None, Judgement::Open) if seen.len() < UNDECIDED => return,
                    (None, _) => {
                        *state = State::Other;
                        return;
                    }
                };
                let seen = std::mem::take(seen);
                self.accept(key, server, seen);
            }
        }
    }

    /// A connection begins: perhaps one that was announced, perhaps once more on the same ports.
    fn begin(&mut self, key: &[SocketAddr; 2], tcp: &Tcp, time: u64) {
        for control in self.controls.iter_mut().rev() {
            if control.is_awaited(tcp.source, tcp.destination, time, &mut self.pinholes) {
                break;
            }
        }
        let is_same = match self.states.get(key) {
            Some(State::Control(number)) => {
                let control = &self.controls[*number];
                control.began_with(tcp.source == control.server, tcp.seq)
            }
            Some(State::Undecided { seen, .. }) => seen.iter().all(|(it, _)| it.seq == tcp.seq),
            Some(State::Other) | None => false,
        };
        if !is_same {
            self.states.remove(key);
        }
    }

    fn accept(&mut self, key: [SocketAddr; 2], server: SocketAddr, seen: Vec<(Tcp, u64)>) {
        let client = if key[0] == server { key[1] } else { key[0] };
        let role = self.assumptions.role(client.ip(), server.ip());
        let inside = match role {
            Role::Publish => server.ip(),
            Role::Masquerade => client.ip(),
        };
        let public = self.assumptions.public(inside);
        let mut control = Control::new(client, server, role, public);
        for (tcp, time) in seen {
            control.see(&tcp, time, &mut self.pinholes);
        }
        self.states.insert(key, State::Control(self.controls.len()));
        self.controls.push(control);
    }

    /// The capture ends.
    pub fn end(&mut self, time: u64) {
        for control in &mut self.controls {
            control.end(false, time);
            control.end(true, time);
        }
    }
}

/// What a connection's segment tells of it.
enum Judgement {
    /// Not enough.
    Open,
    /// It is FTP, with this server.
    Ftp(SocketAddr),
    /// It is something else.
    Other,
}

/// FTP's server speaks first, with 220 or 120, and the client answers with one of its verbs.
///
/// `is_first`: nothing was said before.
fn judge(server: &mut Option<SocketAddr>, is_first: bool, tcp: &Tcp) -> Judgement {
    if tcp.payload.is_empty() {
        return Judgement::Open;
    }
    let server = *server.get_or_insert(tcp.source);
    if tcp.source == server {
        let is_greeting = tcp.payload.starts_with(b"220") || tcp.payload.starts_with(b"120");
        return if is_greeting || !is_first {
            Judgement::Open
        } else {
            Judgement::Other
        };
    }
    let verb = tcp.payload.get(..4).unwrap_or_default();
    if !is_first && FIRST_VERBS.contains(&verb.to_ascii_uppercase().as_slice()) {
        Judgement::Ftp(server)
    } else {
        Judgement::Other
    }
}
