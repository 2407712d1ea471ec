//! Two real TCP stacks, a client's and a server's, with the gateway between them on networks that lose,
//! double and overtake packets. What each says at random, in pieces of random lengths, the other hears
//! byte for byte, but for the announced addresses; and so with the data that follows from them.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail, ensure};
use fastrand::Rng;
use ftp_nat_tests::{
    control::{address_in_227, connect, port_in_229},
    firewall,
    gateway::Gateway,
    lab::{Host, Lab, WAN_ADDRESS},
    medium::Medium,
    scripted::{address_in_eprt, address_in_port},
};

/// Names a seed, to repeat a run.
const SEED_VARIABLE: &str = "FTP_NAT_TEST_SEED";
/// Sessions at once, and groups of commands in each, of up to four.
const SESSIONS: u64 = 4;
const GROUPS: usize = 15;
/// Lost segments are repeated ever later.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one end of a control connection has sent and received.
#[derive(Default)]
struct Transcript {
    said: Vec<u8>,
    heard: Vec<u8>,
}

/// One end of a control connection.
struct End<'h> {
    host: &'h Host,
    stream: BufReader<TcpStream>,
    random: Rng,
    transcript: Transcript,
}

impl<'h> End<'h> {
    fn new(host: &'h Host, stream: TcpStream, seed: u64) -> anyhow::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            host,
            stream: BufReader::new(stream),
            random: Rng::with_seed(seed),
            transcript: Transcript::default(),
        })
    }

    /// Says `text` in pieces.
    fn say(&mut self, text: &str) -> anyhow::Result<()> {
        let mut rest = text.as_bytes();
        self.transcript.said.extend(rest);
        while !rest.is_empty() {
            let longest = rest.len().min([3, 30, 300][self.random.usize(..3)]);
            let (piece, others) = rest.split_at(self.random.usize(1..=longest));
            self.stream.get_mut().write_all(piece)?;
            rest = others;
            thread::sleep(Duration::from_micros(self.random.u64(..1500)));
        }
        Ok(())
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        ensure!(line.ends_with(b"\n"), "the connection has ended");
        self.transcript.heard.extend(&line);
        Ok(String::from_utf8(line)?)
    }

    /// The last line of a reply (RFC 959 section 4.2).
    fn reply(&mut self) -> anyhow::Result<String> {
        let mut line = self.line()?;
        let last = format!("{} ", &line[..3]);
        while !line.starts_with(&last) {
            line = self.line()?;
        }
        Ok(line)
    }

    fn listen(&self) -> anyhow::Result<(TcpListener, [u8; 2])> {
        let ip = self.host.v4;
        let listener = self
            .host
            .namespace
            .run(|| Ok(TcpListener::bind((ip, 0))?))?;
        // Whoever is to come may have no way to.
        rustix::net::sockopt::set_socket_timeout(
            &listener,
            rustix::net::sockopt::Timeout::Recv,
            Some(PATIENCE),
        )?;
        let port = listener.local_addr()?.port();
        Ok((listener, port.to_be_bytes()))
    }
}

/// What goes over each data connection: nothing repeats in it.
fn content() -> Vec<u8> {
    let mut random = Rng::with_seed(1);
    (0..20_000).map(|_| random.u8(..)).collect()
}

fn compare(mut data: &TcpStream) -> anyhow::Result<()> {
    data.set_read_timeout(Some(PATIENCE))?;
    let mut came = Vec::new();
    data.read_to_end(&mut came)?;
    ensure!(came == content(), "{} other bytes came", came.len());
    Ok(())
}

/// What the client says, beside what it announces.
const COMMANDS: [&str; 3] = ["NOOP", "CWD PORT 10,0,0,5,200,10", "TYPE I"];
/// Commands whose answers may hold anything, and such answers. A client that asks for a passive connection
/// in the same breath has to wait, and may get none: it is not sent with these.
const QUESTIONS: [&str; 4] = ["STAT", "HELP", "PWD", "SITE EPRT |1|10.0.0.5|2000|"];
const ANSWERS: [&str; 4] = [
    "214-Help\r\n 227 Entering Passive Mode (10,0,0,5,1,2).\r\n214 End\r\n",
    "211-Status of 10,0,0,5,200,10\r\n229 Entering Extended Passive Mode (|||2|)\r\n211 End\r\n",
    "502 227 is not what you want (10,0,0,5,4,5)\r\n",
    "257 \"/a (198,51,100,1,3,4)\" is the current directory\r\n",
];

/// The server's end of one session: what it has said and heard.
fn serve(host: &Host, stream: TcpStream, seed: u64) -> anyhow::Result<Transcript> {
    let mut end = End::new(host, stream, seed)?;
    end.say("220 Ready\r\n")?;
    loop {
        let line = end.line()?;
        let (verb, argument) = line
            .trim_end()
            .split_once(' ')
            .unwrap_or((line.trim_end(), ""));
        let mut announced = None;
        let reply = match verb {
            "PASV" | "EPSV" => {
                let (listener, [high, low]) = end.listen()?;
                announced = Some(listener);
                let ip = host.v4.to_string().replace('.', ",");
                match verb {
                    "PASV" => format!("227 Entering Passive Mode ({ip},{high},{low}).\r\n"),
                    _ => {
                        let port = u16::from_be_bytes([high, low]);
                        format!("229 Entering Extended Passive Mode (|||{port}|)\r\n")
                    }
                }
            }
            "PORT" | "EPRT" => format!("200 {verb} it is\r\n"),
            "QUIT" => "221 Bye\r\n".to_owned(),
            "NOOP" | "CWD" | "TYPE" | "USER" => "200 Command okay.\r\n".to_owned(),
            _ => ANSWERS[end.random.usize(..ANSWERS.len())].to_owned(),
        };
        end.say(&reply)?;
        let address = match verb {
            "PORT" => address_in_port(argument),
            "EPRT" => address_in_eprt(argument),
            _ => None,
        };
        let data = match (announced, address) {
            (Some(listener), _) => Some(listener.accept().with_context(|| line.clone())?.0),
            (_, Some(address)) => Some(connect(host, address)?),
            _ => None,
        };
        if let Some(mut data) = data {
            data.write_all(&content())?;
        }
        if verb == "QUIT" {
            return Ok(end.transcript);
        }
    }
}

/// The client's end of one session.
fn talk(host: &Host, public: SocketAddr, number: u64, seed: u64) -> anyhow::Result<Transcript> {
    let mut end = End::new(host, connect(host, public)?, seed)?;
    end.reply()?;
    end.say(&format!("USER {number}\r\n"))?;
    end.reply()?;
    for _ in 0..GROUPS {
        // Several at once, but one announcement of a kind: another one takes its place.
        let (mut text, mut asked, mut listening) = (String::new(), Vec::new(), None);
        let asks = end.random.u8(..3) == 0;
        for _ in 0..end.random.usize(1..=4) {
            let verb = ["PASV", "EPSV", "PORT", "EPRT", "", ""][end.random.usize(..6)];
            let kind = |verb: &str| matches!(verb, "PASV" | "EPSV");
            let again = asked
                .iter()
                .any(|other: &&str| !other.is_empty() && kind(other) == kind(verb));
            let verb = if again || asks { "" } else { verb };
            match verb {
                "PASV" | "EPSV" => text += &format!("{verb}\r\n"),
                "PORT" | "EPRT" => {
                    let (listener, [high, low]) = end.listen()?;
                    listening = Some(listener);
                    let ip = host.v4;
                    text += &match verb {
                        "PORT" => {
                            let ip = ip.to_string().replace('.', ",");
                            format!("PORT {ip},{high},{low}\r\n")
                        }
                        _ => format!("EPRT |1|{ip}|{}|\r\n", u16::from_be_bytes([high, low])),
                    };
                }
                _ => {
                    let all: &[&str] = if asks { &QUESTIONS } else { &COMMANDS };
                    text += &format!("{}\r\n", all[end.random.usize(..all.len())]);
                }
            }
            asked.push(verb);
        }
        end.say(&text)?;
        for verb in asked {
            let reply = end.reply()?;
            let data = match verb {
                "PASV" => connect(host, address_in_227(&reply)?)?,
                "EPSV" => connect(host, (public.ip(), port_in_229(&reply)?).into())?,
                "PORT" | "EPRT" => {
                    let listener = listening.take().context("nobody listens")?;
                    listener.accept().with_context(|| text.clone())?.0
                }
                _ => continue,
            };
            compare(&data).with_context(|| format!("after {verb}: {reply}"))?;
        }
    }
    end.say("QUIT\r\n")?;
    end.reply()?;
    Ok(end.transcript)
}

/// The address that a line announces, if it announces one.
fn announced(line: &str) -> Option<SocketAddr> {
    if line.starts_with("227 ") {
        return address_in_227(line).ok();
    }
    let (verb, argument) = line.trim_end().split_once(' ')?;
    match verb {
        "PORT" => address_in_port(argument),
        "EPRT" => address_in_eprt(argument),
        _ => None,
    }
}

/// What was said is what was heard, but for addresses, which became the public one. Gives how many.
fn same(said: &[u8], heard: &[u8]) -> anyhow::Result<usize> {
    let (said, heard) = (str::from_utf8(said)?, str::from_utf8(heard)?);
    let mut changed = 0;
    ensure!(
        said.lines().count() == heard.lines().count(),
        "said:\n{said}\nheard:\n{heard}"
    );
    for (one, other) in said.split_inclusive('\n').zip(heard.split_inclusive('\n')) {
        if one == other {
            continue;
        }
        match (announced(one), announced(other)) {
            (Some(_), Some(public)) if public.ip() == IpAddr::from(WAN_ADDRESS) => changed += 1,
            _ => bail!("said {one:?}, heard {other:?}"),
        }
    }
    Ok(changed)
}

/// The value of a counter of TCP's, by its name, of this host's own kernel.
fn counter(host: &Host, file: &str, name: &str) -> u64 {
    let text = host
        .namespace
        .run(|| Ok(fs::read_to_string(format!("/proc/thread-self/net/{file}"))?))
        .unwrap();
    let lines: Vec<_> = text.lines().collect();
    let values = lines.chunks(2).find_map(|lines| {
        let names = lines[0].split(' ');
        let mut both = names.zip(lines[1].split(' '));
        both.find(|(it, _)| *it == name)
    });
    values.unwrap().1.parse().unwrap()
}

fn seed() -> u64 {
    let seed = match env::var(SEED_VARIABLE) {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            u64::from(now.subsec_nanos())
        }
    };
    println!("{SEED_VARIABLE}={seed}");
    seed
}

/// Plays all sessions at once; gives how many announcements were rewritten.
fn play(lab: &Lab, client: &Host, server: &Host, public: SocketAddr, seed: u64) -> usize {
    let listener = server
        .namespace
        .run(|| Ok(TcpListener::bind((server.v4, 21))?))
        .unwrap();
    let (sender, served) = mpsc::channel();
    let changed = thread::scope(|scope| {
        for number in 0..SESSIONS {
            let (listener, sender) = (&listener, sender.clone());
            scope.spawn(move || {
                let (stream, _) = listener.accept().unwrap();
                let transcript = serve(server, stream, seed ^ number << 32 ^ 1);
                drop(sender.send(transcript));
            });
        }
        let talks: Vec<_> = (0..SESSIONS)
            .map(|number| scope.spawn(move || talk(client, public, number, seed ^ number << 32)))
            .collect();
        let mut changed = 0;
        let talks: Vec<_> = talks.into_iter().map(|it| it.join().unwrap()).collect();
        let servers: Vec<_> = (0..SESSIONS)
            .map(|_| served.recv_timeout(PATIENCE).unwrap())
            .collect();
        for (number, talk) in talks.iter().enumerate() {
            if let Err(error) = talk {
                eprintln!("session {number}: {error:#}");
            }
        }
        let servers: Vec<_> = servers.into_iter().map(Result::unwrap).collect();
        for (number, talk) in talks.into_iter().enumerate() {
            let talk = talk.unwrap_or_else(|error| panic!("session {number}: {error:#}"));
            let user = format!("USER {number}\r\n");
            let mut servers = servers.iter();
            let its = servers.find(|it| it.heard.starts_with(user.as_bytes()));
            let its = its.unwrap();
            changed += same(&talk.said, &its.heard).unwrap();
            changed += same(&its.said, &talk.heard).unwrap();
        }
        changed
    });
    // Otherwise nothing was shown.
    for host in [&lab.outside[0], &lab.inside[0]] {
        let repeated = counter(host, "snmp", "RetransSegs");
        let early = counter(host, "netstat", "TCPOFOQueue");
        println!(
            "{}: {repeated} segments repeated, {early} came too early",
            host.v4
        );
        assert!(repeated > 0 && early > 0);
    }
    changed
}

#[test]
fn streams_of_a_published_server_are_the_same_but_for_its_addresses() {
    let seed = seed();
    let lab = Lab::over(Medium::RoughTun(seed), Medium::RoughTun(!seed)).unwrap();
    let run = ["--wan", "wan", "--publish", "198.51.100.1:21=10.0.0.5:21"];
    let gateway = Gateway::start(&lab.router, &run).unwrap();
    let public = (WAN_ADDRESS, 21).into();
    let changed = play(&lab, lab.client(), lab.server(), public, seed);
    println!("{changed} announcements rewritten");
    assert!(changed > 0);
    drop(gateway);
}

#[test]
fn streams_of_a_masqueraded_client_are_the_same_but_for_its_addresses() {
    let seed = seed();
    let lab = Lab::over(Medium::RoughTun(seed), Medium::RoughTun(!seed)).unwrap();
    lab.router.nft(firewall::MASQUERADE).unwrap();
    let run = ["--wan", "wan", "--masquerade", "10.0.0.0/24"];
    let gateway = Gateway::start(&lab.router, &run).unwrap();
    let (client, server) = (lab.server(), lab.client());
    let changed = play(&lab, client, server, server.at(21), seed);
    println!("{changed} announcements rewritten");
    assert!(changed > 0);
    drop(gateway);
}
