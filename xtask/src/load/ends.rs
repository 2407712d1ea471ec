//! Control connections with both their ends in our hands: no server and no client is slower than the
//! gateway between them.

use std::{
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use ftp_nat_tests::{attack::crowd::connect_within, control::address_in_227, lab::Host};

/// How long either end waits for the other.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long one end waits that may not be let in: its SYN is repeated after one second, and after three.
pub(super) const SHORT: Duration = Duration::from_millis(2500);

/// A control connection.
pub(super) struct Ends {
    client: TcpStream,
    server: TcpStream,
}

/// What became of somebody who came.
pub(super) enum Came {
    /// Both ends have it, and the greeting came.
    In(Ends),
    /// The client's SYNs got no answer.
    NoAnswer,
    /// The client's end was opened, and nothing came by it.
    NoGreeting,
}

/// A socket of a server or of a client that is asked to listen.
pub(super) fn listen(host: &Host, address: SocketAddrV4) -> anyhow::Result<TcpListener> {
    let listener = host.namespace.run(|| {
        TcpListener::bind(address).with_context(|| format!("cannot listen at {address}"))
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// An address of IPv4.
pub(super) fn v4(address: SocketAddr) -> anyhow::Result<SocketAddrV4> {
    match address {
        SocketAddr::V4(address) => Ok(address),
        SocketAddr::V6(_) => bail!("{address} is not IPv4"),
    }
}

/// The next one who comes within this time.
fn accept(listener: &TcpListener, patience: Duration) -> anyhow::Result<Option<TcpStream>> {
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                return Ok(Some(stream));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if start.elapsed() > patience {
                    return Ok(None);
                }
                thread::sleep(Duration::from_micros(50));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

impl Ends {
    /// Opens one from an address of the namespace that this thread is in.
    pub(super) fn open(
        own: Ipv4Addr,
        to: SocketAddr,
        listener: &TcpListener,
    ) -> anyhow::Result<Self> {
        match Self::try_to_open(PATIENCE, own, to, listener)? {
            Came::In(ends) => Ok(ends),
            Came::NoAnswer => bail!("{own} got no answer from {to}"),
            Came::NoGreeting => bail!("{own} got no greeting from {to}"),
        }
    }

    /// The same for one who may not be let in.
    pub(super) fn attempt(
        own: Ipv4Addr,
        to: SocketAddr,
        listener: &TcpListener,
    ) -> anyhow::Result<Came> {
        Self::try_to_open(SHORT, own, to, listener)
    }

    fn try_to_open(
        patience: Duration,
        own: Ipv4Addr,
        to: SocketAddr,
        listener: &TcpListener,
    ) -> anyhow::Result<Came> {
        // Who was let in too late, and has given up, is still in the queue.
        while listener.accept().is_ok() {}
        let Ok(client) = connect_within(patience, own, to) else {
            return Ok(Came::NoAnswer);
        };
        client.set_nodelay(true)?;
        let Some(server) = accept(listener, patience)? else {
            return Ok(Came::NoGreeting);
        };
        let ends = Self { client, server };
        ends.client.set_read_timeout(Some(patience))?;
        let greeted = ends.reply("220 ready\r\n");
        ends.client.set_read_timeout(Some(PATIENCE))?;
        Ok(match greeted {
            Ok(_) => Came::In(ends),
            Err(_) => Came::NoGreeting,
        })
    }

    /// The client asks; gives what the server reads.
    fn ask(&self, line: &str) -> anyhow::Result<String> {
        (&self.client).write_all(line.as_bytes())?;
        read_line(&self.server).with_context(|| format!("the server, of {line:?}"))
    }

    /// The server answers; gives what the client reads.
    fn reply(&self, line: &str) -> anyhow::Result<String> {
        (&self.server).write_all(line.as_bytes())?;
        read_line(&self.client).with_context(|| format!("the client, of {line:?}"))
    }

    /// A command and its answer.
    pub(super) fn noop(&self) -> anyhow::Result<()> {
        ensure!(self.ask("NOOP\r\n")? == "NOOP\r\n", "another command came");
        ensure!(
            self.reply("200 well\r\n")? == "200 well\r\n",
            "another reply"
        );
        Ok(())
    }

    /// A passive data connection, its client's end and its server's. This thread is in the client's
    /// namespace.
    pub(super) fn passive(&self, server: &Host) -> anyhow::Result<(TcpStream, TcpStream)> {
        let listener = listen(server, SocketAddrV4::new(server.v4, 0))?;
        let port = listener.local_addr()?.port();
        ensure!(self.ask("PASV\r\n")? == "PASV\r\n", "another command came");
        let words = numbers(server.v4, port);
        let reply = self.reply(&format!("227 Entering Passive Mode ({words}).\r\n"))?;
        let SocketAddr::V4(own) = self.client.local_addr()? else {
            bail!("these sessions are over IPv4");
        };
        let data = connect_within(PATIENCE, *own.ip(), address_in_227(&reply)?)?;
        let inside = accept(&listener, PATIENCE)?.context("the server's end never came")?;
        Ok((data, inside))
    }

    /// An active data connection, as [`Self::passive`]; the server dials from `server`'s namespace.
    pub(super) fn active(
        &self,
        client: &Host,
        server: &Host,
    ) -> anyhow::Result<(TcpStream, TcpStream)> {
        let SocketAddr::V4(own) = self.client.local_addr()? else {
            bail!("these sessions are over IPv4");
        };
        let listener = listen(client, SocketAddrV4::new(*own.ip(), 0))?;
        let port = listener.local_addr()?.port();
        let asked = self.ask(&format!("PORT {}\r\n", numbers(*own.ip(), port)))?;
        let named = asked.trim_end().trim_start_matches("PORT ");
        let public = address_in_227(&format!("({named})"))
            .with_context(|| format!("the server was asked {asked:?}"))?;
        let dialled = server
            .namespace
            .run(|| connect_within(PATIENCE, server.v4, public));
        let accepted = accept(&listener, PATIENCE)?.context("the client's end never came")?;
        Ok((accepted, dialled?))
    }
}

/// Bytes that go there and back.
pub(super) fn exchange((client, server): &(TcpStream, TcpStream)) -> anyhow::Result<()> {
    let sent = [7; 1000];
    let mut came = [0; 1000];
    for (mut from, mut to) in [(client, server), (server, client)] {
        from.write_all(&sent)?;
        to.set_read_timeout(Some(PATIENCE))?;
        to.read_exact(&mut came)?;
        ensure!(came == sent, "other bytes came");
    }
    Ok(())
}

/// An address and a port in PASV's and PORT's words.
fn numbers(address: Ipv4Addr, port: u16) -> String {
    let [a, b, c, d] = address.octets();
    let [high, low] = port.to_be_bytes();
    format!("{a},{b},{c},{d},{high},{low}")
}

/// One line. Nothing comes behind it before it is answered.
fn read_line(stream: &TcpStream) -> anyhow::Result<String> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line)
}
