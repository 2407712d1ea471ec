//! Legitimate clients, many at once, each with an address of its own.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use socket2::{Domain, Socket, Type};

use super::numbers;
use crate::{
    control::{address_in_227, read_all},
    lab::{HOST_INTERFACE, Host, Lab, WAN},
};

/// How long a reply, or a connection, may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What became of one client.
#[derive(Debug)]
pub struct Visit {
    /// Its number.
    pub number: usize,
    /// How often its first SYN was repeated.
    pub repetitions: u32,
    /// From its first SYN to the end of its transfer.
    pub took: Duration,
}

/// The address of a client: of 203.0.113.0/24, then 203.0.114.0/24 and so on.
#[must_use]
pub fn address(number: usize) -> Ipv4Addr {
    let first = u32::from(Ipv4Addr::new(203, 0, 113, 0));
    // Neither .0 nor .255: some stacks do not like them.
    let (network, host) = (number / 250, number % 250 + 1);
    Ipv4Addr::from(first + network as u32 * 256 + host as u32)
}

/// Gives `host` the addresses of so many clients, and the router the way to them.
///
/// # Errors
///
/// What iproute2 said.
pub fn settle(lab: &Lab, host: &Host, clients: usize) -> anyhow::Result<()> {
    let addresses: String = (0..clients)
        .map(|number| format!("addr add {}/32 dev {HOST_INTERFACE}\n", address(number)))
        .collect();
    host.namespace.ip(&addresses)?;
    let routes: String = (0..clients.div_ceil(250))
        .map(|network| {
            let mut octets = address(network * 250).octets();
            octets[3] = 0;
            let network = Ipv4Addr::from(octets);
            format!("route add {network}/24 via {} dev {WAN}\n", host.v4)
        })
        .collect();
    lab.router.ip(&routes)
}

/// All clients visit the server at `server` within `spread`, each at its own moment: they log in,
/// fetch `path`, compare it with `content` and leave.
///
/// # Panics
///
/// When a client does.
pub fn visit(
    host: &Host,
    server: SocketAddr,
    clients: usize,
    spread: Duration,
    path: &str,
    content: &[u8],
) -> Vec<anyhow::Result<Visit>> {
    thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|number| {
                let wait = spread * number as u32 / clients as u32;
                scope.spawn(move || {
                    thread::sleep(wait);
                    host.namespace
                        .run(|| one(number, server, path, content))
                        .with_context(|| format!("client {number}, {}", address(number)))
                })
            })
            .collect();
        clients
            .into_iter()
            .map(|client| {
                client
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    })
}

/// One client's visit.
fn one(number: usize, server: SocketAddr, path: &str, content: &[u8]) -> anyhow::Result<Visit> {
    let start = Instant::now();
    let own = address(number);
    let control = connect_within(PATIENCE, own, server).context("the control connection")?;
    let repetitions = numbers::repetitions(&control)?;
    let mut control = Talk(BufReader::new(control));
    control.expect("220")?;
    if control.command("USER anonymous")?.starts_with("331") {
        control.command("PASS lab@example.net")?;
    }
    control.send("TYPE I")?;
    control.expect("200")?;
    let announced = address_in_227(&control.command("PASV")?)?;
    let data = connect_within(PATIENCE, own, announced).context("the data connection")?;
    control.send(&format!("RETR {path}"))?;
    control.expect("150")?;
    let fetched = read_all(&data)?;
    control.expect("226")?;
    ensure!(fetched == content, "another content");
    control.send("QUIT")?;
    Ok(Visit {
        number,
        repetitions,
        took: start.elapsed(),
    })
}

/// Opens a connection from one of this namespace's addresses, within this time.
///
/// # Errors
///
/// When nobody answers, or somebody refuses.
pub fn connect_within(
    patience: Duration,
    own: Ipv4Addr,
    to: SocketAddr,
) -> anyhow::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((own, 0)).into())?;
    socket.connect_timeout(&to.into(), patience)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The client's side of a dialogue, without log or ceremony.
struct Talk(BufReader<TcpStream>);

impl Talk {
    fn send(&mut self, line: &str) -> anyhow::Result<()> {
        Ok(self
            .0
            .get_mut()
            .write_all(format!("{line}\r\n").as_bytes())?)
    }

    fn command(&mut self, line: &str) -> anyhow::Result<String> {
        self.send(line)?;
        self.line().with_context(|| format!("after {line}"))
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        ensure!(self.0.read_line(&mut line)? > 0, "the connection ended");
        Ok(line)
    }

    fn expect(&mut self, code: &str) -> anyhow::Result<()> {
        let line = self.line()?;
        if !line.starts_with(code) {
            bail!("expected {code}, got {line:?}");
        }
        Ok(())
    }
}
