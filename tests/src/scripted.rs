//! A small FTP server that announces its data connections in whatever words a test wants: for the
//! replies of servers that nobody can unpack any more, and for those that only an attacker sends.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::{
    client::{Target, TlsVersion},
    lab::Host,
};

/// How long a session waits for its client.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where an answer is cut into segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cuts {
    /// Nowhere.
    None,
    /// After so many bytes each.
    Pieces(Vec<usize>),
    /// Once, so many bytes before its end.
    BeforeEnd(usize),
    /// Everywhere: each byte for itself.
    EveryByte,
}

impl Cuts {
    /// The pieces of a text.
    fn pieces<'t>(&self, text: &'t [u8]) -> Vec<&'t [u8]> {
        let lengths = match self {
            Self::None => Vec::new(),
            Self::Pieces(lengths) => lengths.clone(),
            Self::BeforeEnd(bytes) => vec![text.len().saturating_sub(*bytes)],
            Self::EveryByte => vec![1; text.len().saturating_sub(1)],
        };
        let mut pieces = Vec::new();
        let mut rest = text;
        for length in lengths {
            let Some((piece, after)) = rest.split_at_checked(length) else {
                break;
            };
            pieces.push(piece);
            rest = after;
        }
        pieces.push(rest);
        pieces
    }
}

/// What the server says and serves.
#[derive(Clone, Debug)]
pub struct Script {
    /// The answer to PASV, line ends included. `{h}` stands for the four numbers of the address,
    /// `{p}` for the two of the port, `{port}` for the port in one number, `{address}` for the
    /// address with its dots.
    pub pasv: String,
    /// The answer to EPSV, with the same placeholders.
    pub epsv: String,
    /// The address in both, if not the server's own.
    pub announce: Option<Ipv4Addr>,
    /// Where these answers are cut into segments.
    pub cuts: Cuts,
    /// Between two pieces of an answer. Without Nagle's algorithm each piece is a segment of its
    /// own whatever the pause is.
    pub pause: Duration,
    /// Whether Nagle's algorithm is off: with it, a piece waits until the one before it is
    /// acknowledged.
    pub no_delay: bool,
    /// Commands that get no answer of their own, because another's contains it.
    pub silent: Vec<&'static str>,
    /// Whole answers to lines that begin with these words, line ends included: they go before all
    /// other answers.
    pub replies: Vec<(&'static str, String)>,
    /// What every file contains, and every listing.
    pub content: Vec<u8>,
    /// How long the server waits behind each byte of it.
    pub byte_pause: Duration,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            pasv: "227 Entering Passive Mode ({h},{p}).\r\n".to_owned(),
            epsv: "229 Entering Extended Passive Mode (|||{port}|)\r\n".to_owned(),
            announce: None,
            cuts: Cuts::None,
            pause: Duration::from_millis(30),
            no_delay: true,
            silent: Vec::new(),
            replies: Vec::new(),
            content: b"as scripted\n".to_vec(),
            byte_pause: Duration::ZERO,
        }
    }
}

/// The running server; it ends when this value is dropped.
#[derive(Debug)]
pub struct ScriptedServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    script: Script,
    stop: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    commands: Vec<String>,
    stored: Vec<u8>,
    announced: Option<(String, Instant)>,
}

impl Shared {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ScriptedServer {
    /// Listens on `port` of `host`.
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub fn start(host: &Host, port: u16, script: Script) -> anyhow::Result<Self> {
        Self::start_at(host, host.at(port), script)
    }

    /// Listens on an address of `host`.
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub fn start_at(host: &Host, address: SocketAddr, script: Script) -> anyhow::Result<Self> {
        let listener = host
            .namespace
            .run(|| Ok(TcpListener::bind(address)?))
            .with_context(|| format!("cannot listen on {address}"))?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            script,
            stop: AtomicBool::new(false),
            seen: Mutex::default(),
        });
        let its = Arc::clone(&shared);
        // Threads live in the namespace of the thread that starts them, so the sessions' data
        // connections will be this host's.
        let listener = host.namespace.spawn(move || accept(&listener, &its))?;
        Ok(Self {
            address,
            shared,
            listener: Some(listener),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a client needs that reaches this server at `address`.
    #[must_use]
    pub fn target_at(&self, address: SocketAddr) -> Target {
        Target {
            address,
            user: "anonymous".to_owned(),
            password: "lab@example.net".to_owned(),
            tls: false,
            tls_version: TlsVersion::Newest,
            implicit_tls: false,
        }
    }

    /// The last answer to PASV or EPSV, as it left the server, and when its last piece did.
    #[must_use]
    pub fn announced(&self) -> Option<(String, Instant)> {
        self.shared.seen().announced.clone()
    }

    /// The command lines of all sessions so far, as they came, without their ends.
    #[must_use]
    pub fn commands(&self) -> Vec<String> {
        self.shared.seen().commands.clone()
    }

    /// What was stored last.
    #[must_use]
    pub fn stored(&self) -> Vec<u8> {
        self.shared.seen().stored.clone()
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(listener) = self.listener.take() {
            // A panic in it has been shown already.
            drop(listener.join());
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                let shared = Arc::clone(shared);
                thread::spawn(move || {
                    if let Err(error) = Session::new(stream, shared).and_then(Session::serve) {
                        eprintln!("scripted server: {error:#}");
                    }
                });
            }
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// One control connection.
struct Session {
    control: BufReader<TcpStream>,
    data: Option<Data>,
    shared: Arc<Shared>,
}

/// How the next data connection will come about.
enum Data {
    /// The client connects.
    Passive(TcpListener),
    /// The server connects.
    Active(SocketAddr),
}

impl Session {
    fn new(stream: TcpStream, shared: Arc<Shared>) -> anyhow::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            control: BufReader::new(stream),
            data: None,
            shared,
        })
    }

    fn serve(mut self) -> anyhow::Result<()> {
        self.say("220 as scripted")?;
        loop {
            let mut line = Vec::new();
            if self.control.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n', ' ', '\t']);
            self.shared.seen().commands.push(line.to_owned());
            let Some(line) = behind_records(line) else {
                // A handshake's record is answered by one, and so is data.
                let answer = format!("{}\u{3}\u{3}\u{0}\u{5}okok\n", &line[..1]);
                self.control.get_mut().write_all(answer.as_bytes())?;
                continue;
            };
            // Telnet's commands in front of a verb.
            let line = line.trim_start_matches(|first: char| !first.is_ascii_alphabetic());
            let (verb, argument) = match line.get(..4) {
                Some(verb @ "EPRT") => (verb, line[4..].trim_start()),
                _ => line.split_once(' ').unwrap_or((line, "")),
            };
            if self.shared.script.silent.contains(&verb) {
                continue;
            }
            let mut own = self.shared.script.replies.iter();
            if let Some((_, reply)) = own.find(|(word, _)| line.starts_with(word)) {
                self.control.get_mut().write_all(reply.as_bytes())?;
                continue;
            }
            match verb.to_ascii_uppercase().as_str() {
                "USER" => self.say("331 any password")?,
                "PASS" => self.say("230 logged in")?,
                "SYST" => self.say("215 UNIX Type: L8")?,
                "PWD" => self.say("257 \"/\" is here")?,
                "CWD" => self.say("250 there")?,
                "TYPE" => self.say("200 as you like")?,
                "SIZE" => {
                    let size = self.shared.script.content.len();
                    self.say(&format!("213 {size}"))?;
                }
                "PASV" | "P@SW" => self.announce(|script| &script.pasv)?,
                "EPSV" => self.announce(|script| &script.epsv)?,
                "PORT" => self.listen_to(address_in_port(argument))?,
                "EPRT" => self.listen_to(address_in_eprt(argument))?,
                "RETR" | "LIST" | "NLST" => self.send_content()?,
                "STOR" => self.take_content()?,
                "QUIT" => return self.say("221 bye"),
                _ => self.say("502 not in the script")?,
            }
        }
    }

    fn say(&mut self, line: &str) -> anyhow::Result<()> {
        let line = format!("{line}\r\n");
        Ok(self.control.get_mut().write_all(line.as_bytes())?)
    }

    /// Opens a port and announces it in the script's words.
    fn announce(&mut self, template: fn(&Script) -> &String) -> anyhow::Result<()> {
        let own = self.control.get_ref().local_addr()?.ip();
        let listener = TcpListener::bind((own, 0))?;
        let port = listener.local_addr()?.port();
        self.data = Some(Data::Passive(listener));

        let script = &self.shared.script;
        let address = script
            .announce
            .map_or_else(|| own.to_string(), |address| address.to_string());
        let [high, low] = port.to_be_bytes();
        let reply = template(script)
            .replace("{h}", &address.replace('.', ","))
            .replace("{p}", &format!("{high},{low}"))
            .replace("{port}", &port.to_string())
            .replace("{address}", &address);
        let control = self.control.get_mut();
        control.set_nodelay(script.no_delay)?;
        for (index, piece) in script.cuts.pieces(reply.as_bytes()).into_iter().enumerate() {
            if index > 0 {
                thread::sleep(script.pause);
            }
            control.write_all(piece)?;
        }
        control.set_nodelay(true)?;
        self.shared.seen().announced = Some((reply, Instant::now()));
        Ok(())
    }

    fn listen_to(&mut self, address: Option<SocketAddr>) -> anyhow::Result<()> {
        match address {
            Some(address) => {
                self.data = Some(Data::Active(address));
                self.say("200 will connect")
            }
            None => self.say("501 no address"),
        }
    }

    fn data_connection(&mut self) -> anyhow::Result<TcpStream> {
        let stream = match self.data.take() {
            // RFC 959 section 3.3: the client's end of the control connection.
            None => {
                let default = self.control.get_ref().peer_addr()?;
                TcpStream::connect_timeout(&default, PATIENCE)?
            }
            Some(Data::Active(address)) => TcpStream::connect_timeout(&address, PATIENCE)?,
            Some(Data::Passive(listener)) => accept_in_time(&listener)?,
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    fn send_content(&mut self) -> anyhow::Result<()> {
        self.say("150 here it comes")?;
        match self.data_connection() {
            Ok(mut data) => {
                let script = &self.shared.script;
                if script.byte_pause.is_zero() {
                    data.write_all(&script.content)?;
                } else {
                    for byte in &script.content {
                        data.write_all(&[*byte])?;
                        thread::sleep(script.byte_pause);
                    }
                }
                drop(data);
                self.say("226 that was it")
            }
            Err(_) => self.say("425 no data connection"),
        }
    }

    fn take_content(&mut self) -> anyhow::Result<()> {
        self.say("150 go on")?;
        match self.data_connection() {
            Ok(mut data) => {
                let mut bytes = Vec::new();
                data.read_to_end(&mut bytes)?;
                self.shared.seen().stored = bytes;
                self.say("226 taken")
            }
            Err(_) => self.say("425 no data connection"),
        }
    }
}

/// A command line without the TLS records in front of it; none: it is of such records alone. Nothing in
/// them is encrypted here.
fn behind_records(line: &str) -> Option<&str> {
    let mut rest = line;
    while let [0x15..=0x17, 3, _, high, low, ..] = rest.as_bytes() {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        // The line's end belongs to its last record.
        rest = rest.get(5 + length..)?;
    }
    Some(rest)
}

/// Waits for one client, but not for ever.
fn accept_in_time(listener: &TcpListener) -> anyhow::Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(_) if start.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(error).context("nobody came to the announced port"),
        }
    }
}

/// `h1,h2,h3,h4,p1,p2`: the argument of a PORT.
#[must_use]
pub fn address_in_port(argument: &str) -> Option<SocketAddr> {
    let numbers: Vec<u8> = argument
        .split(',')
        .map(|number| number.trim().parse().ok())
        .collect::<Option<_>>()?;
    let [a, b, c, d, high, low] = numbers[..] else {
        return None;
    };
    Some((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])).into())
}

/// `|1|192.0.2.1|50000|`, with any delimiter.
#[must_use]
pub fn address_in_eprt(argument: &str) -> Option<SocketAddr> {
    let delimiter = argument.chars().next()?;
    let mut parts = argument.split(delimiter).skip(2);
    let address: std::net::IpAddr = parts.next()?.parse().ok()?;
    Some((address, parts.next()?.parse().ok()?).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_cut_where_the_script_says() {
        for (cuts, pieces) in [
            (Cuts::None, &["abcd"][..]),
            (Cuts::Pieces(vec![1, 2]), &["a", "bc", "d"]),
            (Cuts::Pieces(vec![1, 9]), &["a", "bcd"]),
            (Cuts::BeforeEnd(1), &["abc", "d"]),
            (Cuts::EveryByte, &["a", "b", "c", "d"]),
        ] {
            let pieces: Vec<_> = pieces.iter().map(|it| it.as_bytes()).collect();
            assert_eq!(cuts.pieces(b"abcd"), pieces, "{cuts:?}");
        }
    }

    #[test]
    fn records_in_front_of_a_command_are_stepped_over() {
        let alert = "\u{15}\u{3}\u{3}\u{0}\u{2}\u{1}\u{0}";
        for (line, rest) in [
            ("PASV".to_owned(), Some("PASV")),
            (String::new(), Some("")),
            (format!("{alert}PASV"), Some("PASV")),
            (format!("{alert}{alert}PASV"), Some("PASV")),
            ("\u{16}\u{3}\u{1}\u{0}\u{5}hell".to_owned(), None),
        ] {
            assert_eq!(behind_records(&line), rest, "{line:?}");
        }
    }

    #[test]
    fn addresses_in_commands_are_read() {
        assert_eq!(
            address_in_port("10,0,0,5,195,80"),
            "10.0.0.5:50000".parse().ok()
        );
        assert_eq!(address_in_port("10,0,0,5,195"), None);
        assert_eq!(
            address_in_eprt("|1|192.0.2.1|50000|"),
            "192.0.2.1:50000".parse().ok()
        );
        assert_eq!(
            address_in_eprt("!2!2001:db8::1!21!"),
            "[2001:db8::1]:21".parse().ok()
        );
        assert_eq!(address_in_eprt(""), None);
    }
}
