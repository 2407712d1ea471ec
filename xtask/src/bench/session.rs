//! A control connection with both its ends in our hands, and the data connections announced in it.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, bail};
use ftp_nat_tests::control::{address_in_227, connect};

use super::scene::Scene;

/// How long either end waits for the other.
const PATIENCE: Duration = Duration::from_secs(10);

/// A control connection.
pub(crate) struct Session {
    client: BufReader<TcpStream>,
    server: BufReader<TcpStream>,
}

/// A data connection, or the control connection's two ends.
pub(crate) struct Pair {
    /// The end outside.
    pub(crate) client: TcpStream,
    /// The end inside.
    pub(crate) server: TcpStream,
}

impl Pair {
    /// Each end sends a byte to the other: the router has seen data in both directions then.
    pub(crate) fn exchange(&mut self) -> anyhow::Result<()> {
        self.client.write_all(b".")?;
        self.server.read_exact(&mut [0])?;
        self.server.write_all(b".")?;
        self.client.read_exact(&mut [0])?;
        Ok(())
    }
}

impl Session {
    /// Connects and greets.
    pub(crate) fn open(scene: &Scene<'_>) -> anyhow::Result<Self> {
        let listener = listen(scene, 21)?;
        let client = connect(scene.lab.client(), scene.control())?;
        let server = accept(&listener)?;
        let mut session = Self {
            client: BufReader::new(client),
            server: BufReader::new(server),
        };
        session.answer("220 ready\r\n")?;
        Ok(session)
    }

    /// Announces a passive data connection, and makes it where it was announced.
    pub(crate) fn data(&mut self, scene: &Scene<'_>) -> anyhow::Result<Pair> {
        let listener = listen(scene, 0)?;
        self.client.get_mut().write_all(b"PASV\r\n")?;
        let mut line = String::new();
        self.server.read_line(&mut line)?;
        if line != "PASV\r\n" {
            bail!("the server was asked {line:?}");
        }
        let SocketAddr::V4(inside) = listener.local_addr()? else {
            bail!("the server listens on IPv6");
        };
        let [a, b, c, d] = inside.ip().octets();
        let [high, low] = inside.port().to_be_bytes();
        let announced = address_in_227(&self.answer(&format!(
            "227 Entering Passive Mode ({a},{b},{c},{d},{high},{low}).\r\n"
        ))?)?;
        let client = connect(scene.lab.client(), announced)?;
        let server = accept(&listener)?;
        Ok(Pair { client, server })
    }

    /// The server answers; gives what the client reads.
    fn answer(&mut self, reply: &str) -> anyhow::Result<String> {
        self.server.get_mut().write_all(reply.as_bytes())?;
        let mut line = String::new();
        self.client
            .read_line(&mut line)
            .with_context(|| format!("nothing came of {reply:?}"))?;
        Ok(line)
    }

    /// The control connection's client end.
    pub(crate) fn client(&self) -> &TcpStream {
        self.client.get_ref()
    }
}

fn listen(scene: &Scene<'_>, port: u16) -> anyhow::Result<TcpListener> {
    let address = scene.lab.server().at(port);
    scene
        .lab
        .server()
        .namespace
        .run(|| TcpListener::bind(address).with_context(|| format!("cannot listen at {address}")))
}

/// The next connection that came, if it comes soon.
fn accept(listener: &TcpListener) -> anyhow::Result<TcpStream> {
    let start = std::time::Instant::now();
    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if start.elapsed() > PATIENCE {
                    bail!("nobody connected to {}", listener.local_addr()?);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Both ends' addresses of a connection, as `stream`'s end knows them: its own, and the other.
pub(crate) fn ends(stream: &TcpStream) -> anyhow::Result<(SocketAddrV4, SocketAddrV4)> {
    match (stream.local_addr()?, stream.peer_addr()?) {
        (SocketAddr::V4(own), SocketAddr::V4(other)) => Ok((own, other)),
        _ => bail!("the lab's sessions are over IPv4"),
    }
}
