//! Conversations of public reports, in which servers or clients say something odd: each ends with a
//! transfer that must come about.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    control::{self, Control},
    lab::{Host, Lab, WAN_ADDRESS},
    scripted::{Script, ScriptedServer},
    server::{FtpServer, Kind, Settings},
};

/// How long a line, or a connection, may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// What every file contains.
const CONTENT: &[u8] = b"as scripted\n";
/// The path of a file of a real server.
const FILE: &str = "/download/file.txt";

/// A conversation.
pub struct Scene {
    /// What is odd.
    pub name: &'static str,
    /// Plays it through whoever translates in the lab's router.
    pub play: fn(&Lab) -> anyhow::Result<()>,
}

/// Those with a server inside, published at port 21, and a client outside.
pub const PUBLISHED: &[Scene] = &[
    Scene {
        name: "a reply of several lines ends with its code alone",
        play: |lab| passive(lab, &["MLST x"], "250-\r\n x\r\n250\r\n", "PASV", PLAIN),
    },
    Scene {
        name: "a reply of several lines ends with another code",
        play: |lab| {
            passive(
                lab,
                &["RNFR x"],
                "553-\r\n553- no\r\n150 so\r\n",
                "PASV",
                PLAIN,
            )
        },
    },
    Scene {
        name: "a command before PASV is refused twice",
        play: |lab| {
            passive(
                lab,
                &[],
                "",
                "OPTS x\r\nPASV",
                &format!("500 a\r\n500 b\r\n{PLAIN}"),
            )
        },
    },
    Scene {
        name: "the answer of the command before PASV comes late",
        play: |lab| passive(lab, &[], "", "PASV", &format!("250 done\r\n{PLAIN}")),
    },
    Scene {
        name: "P@SW, as some routers write PASV",
        play: |lab| passive(lab, &[], "", "P@SW", PLAIN),
    },
    Scene {
        name: "no blank behind the code",
        play: |lab| {
            passive(
                lab,
                &[],
                "",
                "PASV",
                "227Entering passive mode({h},{p})\r\n",
            )
        },
    },
    Scene {
        name: "no PORT: the server connects to the control connection's own port",
        play: |lab| {
            let _server = scripted(lab.server(), Script::default())?;
            let server = SocketAddr::from((WAN_ADDRESS, 21));
            default_port(lab.client(), lab.client().v4, server)
        },
    },
    Scene {
        name: "PORT of the same port three times, from port 20",
        play: |lab| {
            let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default())?;
            same_port(lab.client(), &server, (WAN_ADDRESS, 21).into())
        },
    },
];

/// Those with a client inside, whom the router lets out, and a server outside.
pub const MASQUERADED: &[Scene] = &[
    Scene {
        name: "PORT names the gateway's own address",
        play: |lab| {
            let outside = lab.client();
            let server = scripted(outside, Script::default())?;
            let client = lab.server();
            let mut control = Control::log_in(client, &server.target_at(outside.at(21)))?;
            let listener = listen(client, client.v4, 50_000)?;
            let [a, b, c, d] = WAN_ADDRESS.octets();
            fetch_to(
                &mut control,
                &listener,
                &format!("PORT {a},{b},{c},{d},195,80"),
                "x",
            )?;
            Ok(())
        },
    },
    Scene {
        name: "no PORT: the server connects to the control connection's own port",
        play: |lab| {
            let outside = lab.client();
            let _server = scripted(outside, Script::default())?;
            default_port(lab.server(), lab.server().v4, outside.at(21))
        },
    },
    Scene {
        name: "PORT of the same port three times, from port 20",
        play: |lab| {
            let outside = lab.client();
            let server = FtpServer::start(Kind::Vsftpd, outside, &Settings::default())?;
            same_port(lab.server(), &server, outside.at(21))
        },
    },
];

/// vsftpd's words.
const PLAIN: &str = "227 Entering Passive Mode ({h},{p}).\r\n";

fn scripted(host: &Host, script: Script) -> anyhow::Result<ScriptedServer> {
    ScriptedServer::start(host, 21, script)
}

/// The client says `before`, which is answered by `answer`, and asks by `asks`, to which the server says
/// `reply`; it goes where the first line that begins with 227 sends it.
fn passive(
    lab: &Lab,
    before: &[&'static str],
    answer: &str,
    asks: &str,
    reply: &str,
) -> anyhow::Result<()> {
    let script = Script {
        pasv: reply.to_owned(),
        silent: vec!["OPTS"],
        replies: before.iter().map(|it| (*it, answer.to_owned())).collect(),
        content: CONTENT.to_vec(),
        ..Script::default()
    };
    let _server = scripted(lab.server(), script)?;
    let address = SocketAddr::from((WAN_ADDRESS, 21));
    lab.client().namespace.run(|| {
        let control = TcpStream::connect_timeout(&address, PATIENCE)?;
        control.set_read_timeout(Some(PATIENCE))?;
        let mut lines = BufReader::new(&control).lines();
        let mut wait_for = |code: &str| loop {
            let line = lines.next().context("the server has closed")??;
            if line.starts_with(code) {
                return anyhow::Ok(line);
            }
        };
        wait_for("220")?;
        let say = |line: &str| (&control).write_all(format!("{line}\r\n").as_bytes());
        for (command, code) in [("USER a", "331"), ("PASS b", "230")] {
            say(command)?;
            wait_for(code)?;
        }
        for command in before {
            say(command)?;
            let last = answer.lines().last().unwrap_or_default();
            wait_for(last)?;
        }
        say(asks)?;
        let announced = control::address_in_227(&wait_for("227")?)?;
        ensure!(
            announced.ip() == WAN_ADDRESS,
            "{announced} is not the public address"
        );
        let data = TcpStream::connect_timeout(&announced, PATIENCE).context("cannot connect")?;
        data.set_read_timeout(Some(PATIENCE))?;
        say("RETR x")?;
        ensure!(control::read_all(&data)? == CONTENT, "another content");
        wait_for("226")?;
        Ok(())
    })
}

/// A socket whose port another one of the same process may have, too.
fn shared_socket(address: Ipv4Addr, port: u16) -> anyhow::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    rustix::net::sockopt::set_socket_reuseport(&socket, true)?;
    socket.bind(&SocketAddrV4::new(address, port).into())?;
    Ok(socket)
}

fn listen(host: &Host, address: Ipv4Addr, port: u16) -> anyhow::Result<TcpListener> {
    host.namespace.run(|| {
        let socket = shared_socket(address, port)?;
        socket.listen(4)?;
        Ok(socket.into())
    })
}

/// Waits for the server's connection, and gives what it sends and from which port.
fn accept(listener: &TcpListener) -> anyhow::Result<(Vec<u8>, u16)> {
    listener.set_nonblocking(true)?;
    let start = std::time::Instant::now();
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

/// Announces by `port`, fetches, and gives the server's port.
fn fetch_to(
    control: &mut Control,
    listener: &TcpListener,
    port: &str,
    path: &str,
) -> anyhow::Result<u16> {
    let reply = control.command(port)?;
    ensure!(reply.starts_with("200"), "{reply}");
    control.send(format!("RETR {path}\r\n"))?;
    let (content, from) = accept(listener)?;
    ensure!(content == CONTENT, "another content");
    control.expect("150")?;
    control.expect("226")?;
    Ok(from)
}

/// RFC 959 section 3.3: the client listens at its end of the control connection.
fn default_port(client: &Host, own: Ipv4Addr, server: SocketAddr) -> anyhow::Result<()> {
    const PORT: u16 = 40_021;
    let stream = client.namespace.run(|| {
        let socket = shared_socket(own, PORT)?;
        socket.connect_timeout(&server.into(), PATIENCE)?;
        Ok(TcpStream::from(socket))
    })?;
    let mut control = Control::over(stream)?;
    for (command, code) in [("USER a", "331"), ("PASS b", "230")] {
        let reply = control.command(command)?;
        ensure!(reply.starts_with(code), "{reply}");
    }
    let listener = listen(client, own, PORT)?;
    control.send("RETR x\r\n")?;
    let (content, _) = accept(&listener)?;
    ensure!(content == CONTENT, "another content");
    control.expect("150")?;
    control.expect("226")?;
    Ok(())
}

/// The same client port for one transfer after the other: the server's port 20 must stay.
fn same_port(client: &Host, server: &FtpServer, address: SocketAddr) -> anyhow::Result<()> {
    server.offer("file.txt", CONTENT)?;
    let mut control = Control::log_in(client, &server.target_at(address))?;
    let listener = listen(client, client.v4, 50_000)?;
    let [a, b, c, d] = client.v4.octets();
    for round in 1..=3 {
        let from = fetch_to(
            &mut control,
            &listener,
            &format!("PORT {a},{b},{c},{d},195,80"),
            FILE,
        )?;
        if from != 20 {
            bail!("transfer {round} comes from port {from}, not 20");
        }
    }
    Ok(())
}
