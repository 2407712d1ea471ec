//! Connecting, and who said no.
//!
//! An ICMP error names the machine that sent it; Linux (5.18 and later) tells it to whoever asks
//! the socket, without privileges. With a small time to live, each router on the way answers.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use nix::{
    cmsg_space,
    sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt},
};
use serde::Serialize;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::limits::since;

/// What came of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Somebody accepted it.
    Connected,
    /// Somebody answered with a reset.
    Refused,
    /// Nobody answered.
    TimedOut,
    /// A router or host on the way says that it is not reached, or not allowed.
    Unreachable,
    /// This machine has no route there.
    NoRoute,
    /// This machine's own rules forbid it.
    Forbidden,
    /// A router on the way let it die of age, as it was asked to.
    Expired,
    /// Something else; the error says what.
    Failed,
}

/// An attempt to connect.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dial {
    /// Where to.
    pub to: SocketAddr,
    /// What came of it.
    pub reach: Reach,
    /// Who said no, where an ICMP error told it.
    pub by: Option<IpAddr>,
    /// Whether that one said that it is not allowed, and not just not there.
    pub is_prohibited: bool,
    /// The system's message, where there was one.
    pub error: Option<String>,
    /// How long it took.
    pub ms: f64,
}

impl Dial {
    /// What came of it, in words.
    #[must_use]
    pub fn outcome(&self) -> String {
        let by = self
            .by
            .map_or_else(String::new, |by| format!(", says {by}"));
        match self.reach {
            Reach::Connected => "connected".into(),
            Reach::Refused => "refused (reset)".into(),
            Reach::TimedOut => "no answer".into(),
            Reach::Unreachable if self.is_prohibited => format!("administratively prohibited{by}"),
            Reach::Unreachable => format!("unreachable{by}"),
            Reach::NoRoute => "no route from this machine".into(),
            Reach::Forbidden => "forbidden by this machine's own rules".into(),
            Reach::Expired => format!("its time to live ran out{by}"),
            Reach::Failed => self.error.clone().unwrap_or_else(|| "failed".into()),
        }
    }
}

/// From where to connect, and how far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Way {
    /// The address to connect from, whatever its port; none: whatever the system takes.
    pub from: Option<SocketAddr>,
    /// How many routers the packets may pass; none: the usual.
    pub ttl: Option<u8>,
}

/// Connects to `to` within `limit`.
pub fn dial(to: SocketAddr, way: Way, limit: Duration) -> (Dial, Option<TcpStream>) {
    let start = Instant::now();
    let mut result = Dial {
        to,
        reach: Reach::Failed,
        by: None,
        is_prohibited: false,
        error: None,
        ms: 0.0,
    };
    let socket = match prepare(to, way) {
        Ok(socket) => socket,
        Err(error) => {
            result.error = Some(error.to_string());
            return (result, None);
        }
    };
    let outcome = socket.connect_timeout(&SockAddr::from(to), limit);
    result.ms = since(start);
    if let Err(error) = outcome {
        result.reach = classify(&error);
        if let Some(told) = icmp_error(&socket) {
            result.by = told.by;
            result.is_prohibited = told.is_prohibited;
            if told.is_expiry {
                result.reach = Reach::Expired;
            } else if result.reach == Reach::Refused {
                // A reset leaves no ICMP error behind: this was "port unreachable".
                result.reach = Reach::Unreachable;
            }
        } else if way.ttl.is_some() && result.reach == Reach::Unreachable {
            // An older kernel does not tell who it was.
            result.reach = Reach::Expired;
        }
        result.error = Some(error.to_string());
        return (result, None);
    }
    result.reach = Reach::Connected;
    (result, Some(socket.into()))
}

fn prepare(to: SocketAddr, way: Way) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    // Not essential: without it an error has no author.
    if to.is_ipv4() {
        let _ = setsockopt(&socket, sockopt::Ipv4RecvErr, &true);
    } else {
        let _ = setsockopt(&socket, sockopt::Ipv6RecvErr, &true);
    }
    if let Some(ttl) = way.ttl {
        if to.is_ipv4() {
            socket.set_ttl_v4(ttl.into())?;
        } else {
            socket.set_unicast_hops_v6(ttl.into())?;
        }
    }
    if let Some(mut from) = way.from.filter(|from| from.is_ipv4() == to.is_ipv4()) {
        from.set_port(0);
        socket.bind(&from.into())?;
    }
    Ok(socket)
}

fn classify(error: &io::Error) -> Reach {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED | libc::ECONNRESET) => Reach::Refused,
        Some(libc::ETIMEDOUT) => Reach::TimedOut,
        Some(libc::EHOSTUNREACH | libc::ENETUNREACH) => Reach::Unreachable,
        Some(libc::EPERM | libc::EACCES) => Reach::Forbidden,
        Some(libc::EINVAL | libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT) => Reach::NoRoute,
        _ if error.kind() == io::ErrorKind::TimedOut => Reach::TimedOut,
        _ => Reach::Failed,
    }
}

/// What an ICMP error said.
struct IcmpError {
    by: Option<IpAddr>,
    is_expiry: bool,
    is_prohibited: bool,
}

/// Takes the ICMP error that ended a connection from its socket's error queue.
fn icmp_error(socket: &Socket) -> Option<IcmpError> {
    const ORIGIN_ICMP: u8 = 2;
    const ORIGIN_ICMP6: u8 = 3;
    let mut space = cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut [],
        Some(&mut space),
        MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT,
    )
    .ok()?;
    message.cmsgs().ok()?.find_map(|control| {
        let (error, by) = match control {
            ControlMessageOwned::Ipv4RecvErr(error, by) => (
                error,
                by.map(|by| IpAddr::from(by.sin_addr.s_addr.to_ne_bytes())),
            ),
            ControlMessageOwned::Ipv6RecvErr(error, by) => {
                (error, by.map(|by| IpAddr::from(by.sin6_addr.s6_addr)))
            }
            _ => return None,
        };
        // RFC 792: 3 unreachable (9, 10, 13: prohibited), 11 time exceeded.
        // RFC 4443: 1 unreachable (1, 5: prohibited), 3 time exceeded.
        match error.ee_origin {
            ORIGIN_ICMP => Some(IcmpError {
                by,
                is_expiry: error.ee_type == 11,
                is_prohibited: error.ee_type == 3 && matches!(error.ee_code, 9 | 10 | 13),
            }),
            ORIGIN_ICMP6 => Some(IcmpError {
                by,
                is_expiry: error.ee_type == 3,
                is_prohibited: error.ee_type == 1 && matches!(error.ee_code, 1 | 5),
            }),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const LIMIT: Duration = Duration::from_secs(5);

    #[test]
    fn an_open_port_is_connected_and_a_closed_one_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let (dialled, stream) = dial(to, Way::default(), LIMIT);
        assert_eq!(dialled.reach, Reach::Connected);
        assert_eq!(stream.unwrap().peer_addr().unwrap(), to);
        drop(listener);
        let (dialled, stream) = dial(to, Way::default(), LIMIT);
        assert_eq!(dialled.reach, Reach::Refused, "{dialled:?}");
        assert!(stream.is_none());
    }

    #[test]
    fn an_address_that_is_not_this_machines_is_not_connected_from() {
        let from = Way {
            from: Some("192.0.2.77:0".parse().unwrap()),
            ttl: None,
        };
        let (dialled, _) = dial("127.0.0.1:21".parse().unwrap(), from, LIMIT);
        assert_eq!(dialled.reach, Reach::Failed, "{dialled:?}");
    }
}
