//! How a scene is played: over which addresses, and by whom.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use rustix::net::{SendFlags, send, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    control::{self, Control},
    lab::{Host, Lab, WAN_ADDRESS, WAN_ADDRESS_V6},
    scripted::{Script, ScriptedServer},
    server::FtpServer,
};

/// How long a line, or a connection, may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// What every file contains.
const CONTENT: &[u8] = b"as scripted\n";
/// The path of a file of a real server.
const FILE: &str = "/download/file.txt";
/// Where a client listens.
pub(super) const DATA_PORT: u16 = 50_000;
/// How long a control connection may rest in each scene, in seconds: ftp-nat's least.
pub const CONTROL_IDLE: u32 = 10;

/// The answer to PASV or EPSV.
pub(super) const PLAIN: &str = "{227}\r\n";
/// A record that closes TLS; nothing is encrypted here.
pub(super) const LAST: &str = "\u{15}\u{3}\u{3}\u{0}\u{2}\u{1}\u{0}";

/// A conversation.
pub struct Scene {
    /// What is odd.
    pub name: &'static str,
    /// Over which addresses it can be held.
    pub versions: &'static [Version],
    /// Plays it through whoever translates in the lab's router.
    pub play: fn(&Lab, Version) -> anyhow::Result<()>,
}

/// Over which version of IP a conversation is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// With PASV and PORT.
    V4,
    /// With EPSV and EPRT.
    V6,
}

impl Version {
    /// Both.
    pub const BOTH: &'static [Self] = &[Self::V4, Self::V6];

    /// As people write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The router's end of the published server's control connection.
    pub(super) fn published(self) -> SocketAddr {
        match self {
            Self::V4 => (WAN_ADDRESS, 21).into(),
            Self::V6 => (WAN_ADDRESS_V6, 21).into(),
        }
    }

    /// A host's address.
    pub(super) fn of(self, host: &Host) -> IpAddr {
        match self {
            Self::V4 => host.v4.into(),
            Self::V6 => host.v6.into(),
        }
    }

    /// The control port of a host.
    pub(super) fn control(self, host: &Host) -> SocketAddr {
        (self.of(host), 21).into()
    }

    /// The number of RFC 2428.
    const fn protocol(self) -> u8 {
        match self {
            Self::V4 => 1,
            Self::V6 => 2,
        }
    }

    /// PORT or EPRT.
    pub(super) fn port(self, addr: IpAddr) -> String {
        match addr {
            IpAddr::V4(addr) => {
                let [high, low] = DATA_PORT.to_be_bytes();
                format!("PORT {},{high},{low}", addr.to_string().replace('.', ","))
            }
            IpAddr::V6(_) => format!("EPRT |2|{addr}|{DATA_PORT}|"),
        }
    }

    /// EPRT without a blank.
    pub(super) fn tight_eprt(self, addr: IpAddr) -> String {
        format!("EPRT|{}|{addr}|{DATA_PORT}|", self.protocol())
    }

    /// `{PASV}` is PASV or EPSV, `{227}` its answer in usual words, `{tight 227}` in others, `{public 227}`
    /// with the public address in it.
    pub(super) fn fill(self, text: &str) -> String {
        let public = self.published().ip().to_string();
        let (verb, usual, tight, of_public) = match self {
            Self::V4 => (
                "PASV",
                "227 Entering Passive Mode ({h},{p}).",
                "227Entering passive mode({h},{p})",
                format!(
                    "227 Entering Passive Mode ({},{{p}}).",
                    public.replace('.', ",")
                ),
            ),
            Self::V6 => (
                "EPSV",
                "229 Entering Extended Passive Mode (|||{port}|)",
                "229Entering extended passive mode(|||{port}|)",
                format!("229 Entering Extended Passive Mode (|2|{public}|{{port}}|)"),
            ),
        };
        text.replace("{PASV}", verb)
            .replace("{227}", usual)
            .replace("{tight 227}", tight)
            .replace("{public 227}", &of_public)
    }

    /// Where the answer to PASV sends the client of the server at `server`.
    fn announced(self, reply: &str, server: IpAddr) -> anyhow::Result<SocketAddr> {
        let announced = match self {
            Self::V4 => control::address_in_227(reply)?,
            Self::V6 => (server, control::port_in_229(reply)?).into(),
        };
        ensure!(
            announced.ip() == server,
            "{announced} is not the server's address {server}"
        );
        Ok(announced)
    }
}

/// A client that says any bytes.
pub(super) struct Speaker<'lab> {
    host: &'lab Host,
    server: IpAddr,
    control: BufReader<TcpStream>,
}

impl<'lab> Speaker<'lab> {
    /// Connects, and hears the greeting.
    fn connect(host: &'lab Host, address: SocketAddr) -> anyhow::Result<Self> {
        let control = control::connect(host, address)?;
        control.set_read_timeout(Some(PATIENCE))?;
        let mut it = Self {
            host,
            server: address.ip(),
            control: BufReader::new(control),
        };
        it.wait_for("220")?;
        Ok(it)
    }

    /// The same, and logs in.
    pub(super) fn log_in(host: &'lab Host, address: SocketAddr) -> anyhow::Result<Self> {
        let mut it = Self::connect(host, address)?;
        for (command, code) in [("USER a", "331"), ("PASS b", "230")] {
            it.say(command)?;
            it.wait_for(code)?;
        }
        Ok(it)
    }

    /// The same by TLS that ends again, of records in which nothing is encrypted.
    pub(super) fn clear(host: &'lab Host, address: SocketAddr) -> anyhow::Result<Self> {
        let mut it = Self::connect(host, address)?;
        it.say("AUTH TLS")?;
        it.wait_for("234")?;
        for record in [
            "\u{16}\u{3}\u{1}\u{0}\u{5}hell\n",
            "\u{17}\u{3}\u{3}\u{0}\u{5}ccc.\n",
        ] {
            it.control.get_mut().write_all(record.as_bytes())?;
            it.line()?;
        }
        Ok(it)
    }

    /// Says a line. Each character is a byte.
    pub(super) fn say(&mut self, line: &str) -> anyhow::Result<()> {
        let line = format!("{line}\r\n");
        let bytes: Vec<u8> = line.chars().map(|it| it as u8).collect();
        Ok(self.control.get_mut().write_all(&bytes)?)
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let length = self.control.read_line(&mut line)?;
        ensure!(length > 0, "the server has closed");
        Ok(line)
    }

    /// The next line that begins with `code`, perhaps behind a record.
    pub(super) fn wait_for(&mut self, code: &str) -> anyhow::Result<String> {
        loop {
            let line = self.line()?;
            let line = line.trim_start_matches(LAST).trim_end();
            if line.starts_with(code) {
                return Ok(line.to_owned());
            }
        }
    }

    /// Fetches a file from where the answer to PASV sends it.
    pub(super) fn fetch(&mut self, over: Version) -> anyhow::Result<()> {
        let code = if over == Version::V4 { "227" } else { "229" };
        let announced = over.announced(&self.wait_for(code)?, self.server)?;
        let connect = || Ok(TcpStream::connect_timeout(&announced, PATIENCE)?);
        let data = self.host.namespace.run(connect).context("cannot connect")?;
        data.set_read_timeout(Some(PATIENCE))?;
        self.say("RETR x")?;
        ensure!(control::read_all(&data)? == CONTENT, "another content");
        self.wait_for("226").context("no final reply")?;
        Ok(())
    }

    /// Fetches a file, for which the server connects.
    pub(super) fn fetch_to(&mut self, listener: &TcpListener) -> anyhow::Result<()> {
        self.say("RETR x")?;
        let (content, _) = accept(listener)?;
        ensure!(content == CONTENT, "another content");
        self.wait_for("226").context("no final reply")?;
        Ok(())
    }
}

/// A scripted server at port 21 of a host.
pub(super) fn scripted(
    host: &Host,
    over: Version,
    script: Script,
) -> anyhow::Result<ScriptedServer> {
    let script = Script {
        content: CONTENT.to_vec(),
        ..script
    };
    ScriptedServer::start_at(host, over.control(host), script)
}

/// The answer to AUTH.
pub(super) fn with_tls(script: Script) -> Script {
    Script {
        replies: vec![("AUTH", "234 go on\r\n".into())],
        ..script
    }
}

/// The answer to PASV and EPSV.
pub(super) fn answering(over: Version, reply: &str) -> Script {
    Script {
        pasv: over.fill(reply),
        epsv: over.fill(reply),
        ..Script::default()
    }
}

/// The client outside says `before`, which is answered by `answer`, and asks by `asks`, to which the
/// server says `reply`; it goes where that sends it.
pub(super) fn passive(
    lab: &Lab,
    over: Version,
    before: &[&'static str],
    answer: &str,
    asks: &str,
    reply: &str,
) -> anyhow::Result<()> {
    let script = Script {
        silent: vec!["OPTS"],
        replies: before.iter().map(|it| (*it, answer.to_owned())).collect(),
        ..answering(over, reply)
    };
    let _server = scripted(lab.server(), over, script)?;
    let mut client = Speaker::log_in(lab.client(), over.published())?;
    for command in before {
        client.say(command)?;
        client.wait_for(answer.lines().last().unwrap_or_default())?;
    }
    client.say(&over.fill(asks))?;
    client.fetch(over)
}

/// The client inside says each of `before`, which is answered so, and then `port`; the server connects.
pub(super) fn active(
    lab: &Lab,
    over: Version,
    before: &[(&'static str, &str)],
    port: &str,
) -> anyhow::Result<()> {
    let (client, outside) = (lab.server(), lab.client());
    let script = Script {
        replies: before
            .iter()
            .map(|(command, answer)| (*command, (*answer).to_owned()))
            .collect(),
        ..Script::default()
    };
    let _server = scripted(outside, over, script)?;
    let listener = listen(client, over.of(client), DATA_PORT)?;
    let mut client = Speaker::log_in(client, over.control(outside))?;
    for (command, answer) in before {
        client.say(command)?;
        client.wait_for(answer.lines().last().unwrap_or_default())?;
    }
    client.say(port)?;
    client.wait_for("200")?;
    client.fetch_to(&listener)
}

/// A socket whose port another one of the same process may have, too.
fn shared_socket(address: IpAddr, port: u16) -> anyhow::Result<Socket> {
    let address = SocketAddr::new(address, port);
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

pub(super) fn listen(host: &Host, address: IpAddr, port: u16) -> anyhow::Result<TcpListener> {
    host.namespace.run(|| {
        let socket = shared_socket(address, port)?;
        socket.listen(4)?;
        Ok(socket.into())
    })
}

/// Waits for the server's connection, and gives what it sends and from which port.
fn accept(listener: &TcpListener) -> anyhow::Result<(Vec<u8>, u16)> {
    listener.set_nonblocking(true)?;
    let start = Instant::now();
    let (data, peer) = loop {
        match listener.accept() {
            Ok(it) => break it,
            Err(_) if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(error).context("cannot connect: nobody came"),
        }
    };
    data.set_nonblocking(false)?;
    data.set_read_timeout(Some(PATIENCE))?;
    Ok((control::read_all(&data)?, peer.port()))
}

/// RFC 959 section 3.3: the client listens at its end of the control connection.
pub(super) fn default_port(client: &Host, own: IpAddr, server: SocketAddr) -> anyhow::Result<()> {
    const PORT: u16 = 40_021;
    let control = client.namespace.run(|| {
        let socket = shared_socket(own, PORT)?;
        socket.connect_timeout(&server.into(), PATIENCE)?;
        Ok(TcpStream::from(socket))
    })?;
    control.set_read_timeout(Some(PATIENCE))?;
    let mut control = Speaker {
        host: client,
        server: server.ip(),
        control: BufReader::new(control),
    };
    control.wait_for("220")?;
    for (command, code) in [("USER a", "331"), ("PASS b", "230")] {
        control.say(command)?;
        control.wait_for(code)?;
    }
    let listener = listen(client, own, PORT)?;
    control.fetch_to(&listener)
}

/// The same client port for one transfer after the other: the server's port 20 must stay.
pub(super) fn same_port(
    client: &Host,
    server: &FtpServer,
    over: Version,
    address: SocketAddr,
) -> anyhow::Result<()> {
    server.offer("file.txt", CONTENT)?;
    let target = server.target_at(address);
    let own = over.of(client);
    let mut control = Control::log_in(client, &target)?;
    let listener = listen(client, own, DATA_PORT)?;
    for round in 1..=3 {
        let reply = control.command(&over.port(own))?;
        ensure!(reply.starts_with("200"), "{reply}");
        control.send(format!("RETR {FILE}\r\n"))?;
        let (content, from) = accept(&listener)?;
        ensure!(content == CONTENT, "another content");
        control.expect("150")?;
        control.expect("226")?;
        if from != 20 {
            bail!("transfer {round} comes from port {from}, not 20");
        }
    }
    Ok(())
}

/// PORT, telnet's "interrupt process" and "data mark", which is urgent, and ABOR, in one segment (RFC 959
/// section 4.1.3). The server leaves the urgent byte out, and must hear all others; `told` is the address
/// that it must hear.
pub(super) fn urgent(
    client: &Host,
    server: &Host,
    over: Version,
    address: SocketAddr,
    told: IpAddr,
) -> anyhow::Result<()> {
    let script = Script {
        replies: vec![("ABOR", "226 nothing to abort\r\n".into())],
        ..Script::default()
    };
    let server = scripted(server, over, script)?;
    let own = over.of(client);
    let listener = listen(client, own, DATA_PORT)?;
    let mut it = Speaker::log_in(client, address)?;
    let port = format!("{}\r\n", over.port(own));
    for (bytes, flags) in [
        (port.as_bytes(), SendFlags::MORE),
        (b"\xff\xf4\xff", SendFlags::OOB),
        (b"\xf2ABOR\r\n", SendFlags::empty()),
    ] {
        send(it.control.get_ref(), bytes, flags)?;
    }
    let reply = it.line()?;
    let commands = server.commands();
    let wanted = over.port(told);
    let is_heard = reply.starts_with("200") && commands.contains(&wanted);
    ensure!(is_heard, "heard otherwise: {commands:?}, {reply}");
    it.wait_for("226")?;
    it.fetch_to(&listener)
}

/// A transfer during which the control connection rests for longer than [`CONTROL_IDLE`].
pub(super) fn long_transfer(
    client: &Host,
    server: &Host,
    over: Version,
    address: SocketAddr,
) -> anyhow::Result<()> {
    let script = Script {
        // Of 12 bytes.
        byte_pause: Duration::from_millis(1_250),
        ..Script::default()
    };
    let _server = scripted(server, over, script)?;
    let own = over.of(client);
    let listener = listen(client, own, DATA_PORT)?;
    let mut it = Speaker::log_in(client, address)?;
    it.say(&over.port(own))?;
    it.wait_for("200")?;
    it.fetch_to(&listener)?;
    // The session goes on.
    it.say("SYST")?;
    it.wait_for("215")?;
    Ok(())
}

/// What a client outside hears of vsftpd's 227.
pub(super) fn words(lab: &Lab) -> anyhow::Result<String> {
    let over = Version::V4;
    let _server = scripted(lab.server(), over, answering(over, PLAIN))?;
    let mut client = Speaker::log_in(lab.client(), over.published())?;
    client.say("PASV")?;
    client.wait_for("227")
}
