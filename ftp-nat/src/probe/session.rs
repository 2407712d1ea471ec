//! A session: connected, encrypted where that is wanted, and logged in.

use std::net::{IpAddr, SocketAddr};

use super::{
    control::{Control, Trouble},
    dial::{Dial, Reach, Way, dial},
    limits::{Limits, since},
    password::Login,
    reply::Reply,
    seen::Encryption,
    server::Server,
    story::Story,
    stream::{Stream, Timed},
    tls::Tls,
};

/// What opens a session, as often as one is needed.
#[derive(Debug)]
pub struct Door<'s> {
    /// The control connection's address.
    pub address: SocketAddr,
    /// How to encrypt.
    pub encryption: Encryption,
    /// What encrypts, where something does.
    pub tls: Option<Tls>,
    /// Who logs in.
    pub login: Login,
    /// How long things may take.
    pub limits: Limits,
    /// What happened.
    pub story: &'s Story,
}

/// A session.
#[derive(Debug)]
pub struct Session<'s> {
    /// Its control connection.
    pub control: Control<'s>,
    /// This end of it.
    pub local_address: SocketAddr,
    /// What is known of the server.
    pub server: Server,
}

/// Why there is no session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The control port was not reached; the text says how it went.
    NotReached(String),
    /// What answers does not speak FTP, or not so that it can be understood.
    NotFtp(String),
    /// The server wants no session now: 421 and the like.
    Busy(String),
    /// The session cannot be encrypted.
    NotEncrypted(String),
    /// Encryption was taken out of the conversation by somebody on the way.
    Stripped(String),
    /// The login was refused.
    Login(String),
}

impl Refusal {
    /// Its name, for JSON.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotReached(_) => "not_reached",
            Self::NotFtp(_) => "not_ftp",
            Self::Busy(_) => "busy",
            Self::NotEncrypted(_) => "not_encrypted",
            Self::Stripped(_) => "encryption_stripped",
            Self::Login(_) => "login_refused",
        }
    }

    /// What happened and what to do, for the user.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::NotReached(text)
            | Self::NotFtp(text)
            | Self::Busy(text)
            | Self::NotEncrypted(text)
            | Self::Stripped(text)
            | Self::Login(text) => text,
        }
    }
}

impl<'s> Door<'s> {
    /// Opens a session, telling each step of it.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn open(&self) -> Result<Session<'s>, Refusal> {
        let (control, local_address) = self.connect()?;
        let (mut control, mut server) = self.greet(control)?;
        if self.encryption == Encryption::Explicit {
            control = self.ask_for_tls(control)?;
        }
        self.log_in(&mut control)?;
        self.look_around(&mut control, &mut server)?;
        Ok(Session {
            control,
            local_address,
            server,
        })
    }

    fn connect(&self) -> Result<(Control<'s>, SocketAddr), Refusal> {
        let (dialled, stream) = dial(self.address, Way::default(), self.limits.left());
        let outcome = dialled.outcome();
        let Some(stream) = stream else {
            self.story.step(
                "connect",
                false,
                format!("{}: {outcome}", self.address),
                dialled.ms,
            );
            return Err(Refusal::NotReached(not_reached(&dialled)));
        };
        let timed = Timed::new(stream, self.limits.deadline());
        let start = std::time::Instant::now();
        let mut stream = match &self.tls {
            Some(tls) if self.encryption == Encryption::Implicit => {
                tls.encrypt(timed).map_err(|error| {
                    self.story.step("TLS", false, error.clone(), since(start));
                    Refusal::NotEncrypted(format!(
                        "no TLS at {}: {error}; a server on port 21 mostly wants --tls instead",
                        self.address
                    ))
                })?
            }
            _ => Stream::Plain(timed),
        };
        let local_address = stream
            .local_address()
            .map_err(|error| Refusal::NotReached(error.to_string()))?;
        self.story.step(
            "connect",
            true,
            format!("{}, from {local_address}", self.address),
            dialled.ms,
        );
        if matches!(stream, Stream::Tls(_)) {
            self.story.step("TLS", true, "encrypted", since(start));
        }
        let local_address = canonical(local_address);
        Ok((Control::new(stream, self.limits, self.story), local_address))
    }

    fn greet(&self, mut control: Control<'s>) -> Result<(Control<'s>, Server), Refusal> {
        let start = std::time::Instant::now();
        let mut reply = control.reply();
        // "120 ready in a minute" (RFC 959): another one follows.
        if matches!(&reply, Ok(reply) if reply.code / 100 == 1) {
            reply = control.reply();
        }
        let ms = since(start);
        match reply {
            Ok(reply) if reply.is_done() => {
                self.story.step("greeting", true, reply.last(), ms);
                let server = Server::greeting(&reply);
                Ok((control, server))
            }
            Ok(reply) => {
                self.story.step("greeting", false, reply.last(), ms);
                Err(not_greeted(&reply))
            }
            Err(trouble) => {
                self.story.step("greeting", false, trouble.to_string(), ms);
                Err(self.no_greeting(&trouble))
            }
        }
    }

    fn no_greeting(&self, trouble: &Trouble) -> Refusal {
        let address = self.address;
        match trouble {
            Trouble::TimedOut(None) if self.encryption == Encryption::None => {
                Refusal::NotFtp(format!(
                    "{address} accepts connections but says nothing: {trouble}. A server that \
                     waits for TLS from the first byte on (port 990) needs --implicit-tls; \
                     a server that looks its clients up first needs a longer --timeout; otherwise \
                     something in between accepts connections in the server's place"
                ))
            }
            Trouble::Closed | Trouble::Reset => Refusal::NotFtp(format!(
                "{address} accepts the connection and ends it at once: {trouble}. Its access rules \
                 (tcp_wrappers, a limit of connections), or a gateway whose server is down"
            )),
            _ => Refusal::NotFtp(format!(
                "{address} does not greet as an FTP server does: {trouble}"
            )),
        }
    }

    fn ask_for_tls(&self, mut control: Control<'s>) -> Result<Control<'s>, Refusal> {
        let start = std::time::Instant::now();
        let reply = self.get(control.command("AUTH TLS"), "AUTH TLS")?;
        if !matches!(reply.code, 234 | 334) {
            self.story
                .step("AUTH TLS", false, reply.last(), since(start));
            // A server that lists it and does not know it is not the one that lists it.
            let mut server = Server::default();
            if let Ok(features) = control.command("FEAT") {
                server.take_features(&features);
            }
            if server.offers("AUTH") == Some(true) {
                return Err(Refusal::Stripped(format!(
                    "the server lists AUTH TLS among its features, but AUTH TLS is answered by \
                     {:?}: something in between takes encryption out of the conversation (a \
                     firewall's FTP inspection, for instance ASA `inspect ftp`, or a proxy). Exempt \
                     this connection from inspection",
                    reply.last()
                )));
            }
            return Err(Refusal::NotEncrypted(format!(
                "the server does not encrypt: AUTH TLS is answered by {:?}. Turn TLS on there \
                 (vsftpd: ssl_enable=YES; ProFTPD: TLSEngine on; Pure-FTPd: --tls=1), try \
                 --implicit-tls on port 990, or do without --tls; where the server has it turned \
                 on, something in between takes it out of the conversation",
                reply.last()
            )));
        }
        if let Some(unread) = control.unread() {
            return Err(Refusal::NotEncrypted(format!(
                "somebody sent more behind the answer to AUTH TLS, in the clear: {unread:?}. That \
                 is an attack, or a broken gateway"
            )));
        }
        let (Stream::Plain(timed), Some(tls)) = (control.into_stream(), &self.tls) else {
            return Err(Refusal::NotEncrypted("it is encrypted already".into()));
        };
        let mut stream = Stream::Plain(timed);
        stream.until(self.limits.deadline());
        let Stream::Plain(timed) = stream else {
            return Err(Refusal::NotEncrypted("it is encrypted already".into()));
        };
        match tls.encrypt(timed) {
            Ok(stream) => {
                self.story
                    .step("AUTH TLS", true, reply.last(), since(start));
                Ok(Control::new(stream, self.limits, self.story))
            }
            Err(error) => {
                self.story
                    .step("AUTH TLS", false, error.clone(), since(start));
                Err(Refusal::NotEncrypted(format!(
                    "the server agreed to TLS, but it does not come about: {error}"
                )))
            }
        }
    }

    fn log_in(&self, control: &mut Control<'s>) -> Result<(), Refusal> {
        let start = std::time::Instant::now();
        let user = &self.login.user;
        let mut reply = self.get(control.command(&format!("USER {user}")), "USER")?;
        if reply.code == 331 {
            reply = self.get(control.secret("PASS", &self.login.password), "PASS")?;
        }
        let is_in = reply.is_done();
        self.story.step(
            "login",
            is_in,
            format!("{user}: {}", reply.last()),
            since(start),
        );
        if is_in {
            return Ok(());
        }
        let said = reply.last();
        if reply.code == 421 {
            return Err(Refusal::Busy(format!(
                "the server ends the session: {said:?}{}",
                self.tls_hint(&reply)
            )));
        }
        if reply.code == 0 {
            return Err(Refusal::NotFtp(format!(
                "the answer to the login is no FTP: {said:?}"
            )));
        }
        let hint = self.tls_hint(&reply);
        let hint = match hint.is_empty() {
            false => hint,
            true if self.login.is_given => "; check the user's name and the password".into(),
            true => "; it lets nobody in anonymously: give a user by --user".into(),
        };
        Err(Refusal::Login(format!(
            "the server does not let {user} in: {said:?}{hint}. Data connections can only be \
             tested in a session"
        )))
    }

    /// A server that wants encryption says so in many ways.
    fn tls_hint(&self, reply: &Reply) -> String {
        let text = reply.lowercase();
        let signs = ["tls", "ssl", "encrypt", "cleartext"];
        if self.encryption == Encryption::None && signs.iter().any(|sign| text.contains(sign)) {
            return "; it wants encryption: use --tls".into();
        }
        String::new()
    }

    /// Learns what the server is, and protects data connections.
    fn look_around(&self, control: &mut Control<'s>, server: &mut Server) -> Result<(), Refusal> {
        server.take_system(&self.get(control.command("SYST"), "SYST")?);
        server.take_features(&self.get(control.command("FEAT"), "FEAT")?);
        if self.encryption == Encryption::None {
            return Ok(());
        }
        self.get(control.command("PBSZ 0"), "PBSZ")?;
        let start = std::time::Instant::now();
        let reply = self.get(control.command("PROT P"), "PROT")?;
        self.story
            .step("PROT P", reply.is_done(), reply.last(), since(start));
        if !reply.is_done() {
            return Err(Refusal::NotEncrypted(format!(
                "the server does not encrypt data connections: PROT P is answered by {:?}",
                reply.last()
            )));
        }
        Ok(())
    }

    /// A reply to a command of the login; without one there is no session.
    fn get(&self, reply: Result<Reply, Trouble>, verb: &str) -> Result<Reply, Refusal> {
        reply.map_err(|trouble| {
            self.story.fact(false, verb, false, trouble.to_string());
            Refusal::NotFtp(format!("no answer to {verb}: {trouble}"))
        })
    }
}

fn not_greeted(reply: &Reply) -> Refusal {
    let said = reply.last();
    if reply.code != 0 {
        return Refusal::Busy(format!("the server wants no session now: {said:?}"));
    }
    let protocol = match said {
        _ if said.starts_with("SSH-") => ": it speaks SSH (SFTP is not FTP)",
        _ if said.starts_with("HTTP/") => ": it speaks HTTP",
        _ if said.starts_with("+OK") => ": it speaks POP3",
        _ if said.starts_with("* OK") => ": it speaks IMAP",
        _ => "",
    };
    Refusal::NotFtp(format!("this is no FTP server{protocol}; it says {said:?}"))
}

fn not_reached(dialled: &Dial) -> String {
    let to = dialled.to;
    let outcome = dialled.outcome();
    let why = match dialled.reach {
        Reach::Refused => {
            "nothing listens there: the server is down or on another port, or the gateway does not \
             translate this port to it"
        }
        Reach::TimedOut => {
            "a firewall on the way drops it, here or there, or nobody has that address"
        }
        Reach::Unreachable => "a firewall or a missing route on the way",
        Reach::NoRoute => "check this machine's addresses and routes",
        Reach::Forbidden => "a firewall on this very machine",
        Reach::Connected | Reach::Expired | Reach::Failed => "it could not be tried",
    };
    format!("the control port {to} is not reached: {outcome} ({why})")
}

/// Without the clothing of an IPv4 address on an IPv6 socket.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => (v4, address.port()).into(),
        IpAddr::V6(_) => address,
    }
}
