//! The same scenes over the kernel's own FTP helper and over ftp-nat, side by side.

mod attacks;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use ftp_nat_tests::{
    client::{Client, Job, Mode},
    control::{self, Control},
    dialogue::{self, CONTROL_IDLE},
    firewall,
    fleet::{
        self, Fleet,
        client::Files,
        moves::{Move, Stage},
    },
    gateway::Gateway,
    lab::{HOST_INTERFACE, Lab, Plan, WAN_ADDRESS, WAN_ADDRESS_V6},
    replies::{self, Case},
    scratch::Scratch,
    scripted::ScriptedServer,
    server::{FtpServer, Kind, Settings},
    tools::Tools,
};

use crate::{progress::step, workspace::Workspace};

/// Where the table of the last run is.
const DOCUMENT: &str = "docs/comparison.md";
/// The size of the files that are sent while packets are lost.
const LARGE: usize = 20_000_000;

/// Who translates.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nat {
    Kernel,
    FtpNat,
}

impl Nat {
    const BOTH: [Self; 2] = [Self::Kernel, Self::FtpNat];

    const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "the kernel's helper",
            Self::FtpNat => "ftp-nat",
        }
    }

    /// Publishes these control ports of the server, in the lab's router.
    fn publish<'lab>(self, lab: &'lab Lab, ports: &[u16]) -> anyhow::Result<Option<Gateway<'lab>>> {
        if self == Self::Kernel {
            let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
            let ports = format!("{{ {} }}", ports.join(", "));
            let rules = firewall::KERNEL_HELPER
                .replace("dport 21", &format!("dport {ports}"))
                .replace(
                    "dnat ip to 10.0.0.5",
                    &format!(
                        "dnat ip to 10.0.0.5\n        iifname \"wan\" tcp dport {ports} dnat ip6 to \
                         fd00:10::5"
                    ),
                );
            lab.router.nft(&rules)?;
            return Ok(None);
        }
        lab.router.nft(firewall::DROP_FORWARDED)?;
        let publishes: Vec<_> = ports
            .iter()
            .flat_map(|port| {
                [
                    format!("198.51.100.1:{port}=10.0.0.5:{port}"),
                    format!("[2001:db8:1::1]:{port}=[fd00:10::5]:{port}"),
                ]
            })
            .collect();
        let mut arguments = vec!["--wan", "wan"];
        for publish in &publishes {
            arguments.extend(["--publish", publish]);
        }
        Gateway::start(&lab.router, &arguments).map(Some)
    }

    /// Serves the clients inside.
    fn masquerade(self, lab: &Lab) -> anyhow::Result<Option<Gateway<'_>>> {
        if self == Self::Kernel {
            lab.router.nft(firewall::MASQUERADE_WITH_HELPER)?;
            return Ok(None);
        }
        lab.router.nft(firewall::MASQUERADE)?;
        let arguments = "--wan wan --masquerade 10.0.0.0/24 --masquerade fd00:10::/64";
        let arguments: Vec<_> = arguments.split(' ').collect();
        Gateway::start(&lab.router, &arguments).map(Some)
    }
}

impl Nat {
    /// Publishes the server, or serves the clients inside: with a policy, and with a time that control
    /// connections may rest, where there are keys for them.
    fn guard<'lab>(
        self,
        lab: &'lab Lab,
        scratch: &Scratch,
        is_published: bool,
        policy: &str,
        control_idle: u32,
    ) -> anyhow::Result<Option<Gateway<'lab>>> {
        if self == Self::Kernel {
            return if is_published {
                self.publish(lab, &[21])
            } else {
                self.masquerade(lab)
            };
        }
        let entries = if is_published {
            lab.router.nft(firewall::DROP_FORWARDED)?;
            format!(
                "[[publish]]\npublic = \"198.51.100.1:21\"\nserver = \"10.0.0.5:21\"\n{policy}\
                 [[publish]]\npublic = \"[2001:db8:1::1]:21\"\nserver = \"[fd00:10::5]:21\"\n{policy}"
            )
        } else {
            lab.router.nft(firewall::MASQUERADE)?;
            format!("[[masquerade]]\nclients = [\"10.0.0.0/24\", \"fd00:10::/64\"]\n{policy}")
        };
        let text = format!(
            "[gateway]\nwan = [\"wan\"]\n[timeouts]\ncontrol_idle = {control_idle}\n{entries}"
        );
        let file = scratch.write("ftp-nat.toml", text)?;
        Gateway::start(&lab.router, &["--config", &file.to_string_lossy()]).map(Some)
    }
}

/// What came of a scene: nothing is wrong, or what is.
type Fault = Option<&'static str>;

/// A section of the table: scenes in their order, with what came of each over both.
struct Section {
    title: &'static str,
    scenes: Vec<(String, [Vec<Fault>; 2])>,
}

impl Section {
    fn of(title: &'static str, run: Play) -> anyhow::Result<Self> {
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        let mut scenes: Vec<(String, [Vec<Fault>; 2])> = Vec::new();
        for (column, nat) in Nat::BOTH.into_iter().enumerate() {
            for (name, fault) in step(&format!("{title}: {}", nat.name()), || run(nat))? {
                let place = *places.entry(name.clone()).or_insert_with(|| {
                    scenes.push((name, <[Vec<Fault>; 2]>::default()));
                    scenes.len() - 1
                });
                scenes[place].1[column].push(fault);
            }
        }
        Ok(Self { title, scenes })
    }

    /// As the document has it.
    fn table(&self) -> anyhow::Result<String> {
        let mut text = format!(
            "## {}\n| scene | the kernel's helper | ftp-nat |\n| --- | --- | --- |\n",
            self.title
        );
        for (name, columns) in &self.scenes {
            let [kernel, own] = columns.each_ref().map(|faults| cell(faults));
            writeln!(text, "| {} | {kernel} | {own} |", name.replace('|', "\\|"))?;
        }
        Ok(text)
    }
}

/// What to compare.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The attacks instead, and write their table into docs/security.md
    #[arg(long)]
    attacks: bool,
    /// Only the sections whose title has these words; the others stay in the document as they are
    #[arg(long, value_name = "WORDS")]
    section: Option<String>,
}

/// What plays a section's scenes over one of the two.
type Play = fn(Nat) -> anyhow::Result<Vec<(String, Fault)>>;

/// The sections in their order, by title.
const SECTIONS: [(&str, Play); 11] = [
    ("Forms of passive replies", |nat| {
        passive(nat, &replies::forms())
    }),
    ("Passive replies in pieces", |nat| {
        passive(nat, &replies::pieces())
    }),
    ("Replies that are no announcement", no_announcements),
    ("Odd servers and clients of public reports", odd),
    ("Transfers told and commands refused", told_and_refused),
    ("Server inside, real client outside", published),
    ("Client inside, real server outside", masqueraded),
    ("Several clients inside", several),
    ("Attacks and encryption", unannounced),
    ("Five percent of the packets lost", lossy),
    (
        "Two gateways, and the one that has the addresses is cut off",
        failover,
    ),
];

/// Runs everything, prints the table and writes it down.
pub(crate) fn run(
    workspace: &Workspace,
    tools: Tools,
    arguments: &Arguments,
) -> anyhow::Result<()> {
    if arguments.attacks {
        return attacks::run(workspace, &tools, arguments.section.as_deref());
    }
    tools.use_here();
    let path = workspace.root.join(DOCUMENT);
    let old = fs::read_to_string(&path).unwrap_or_default();
    let mut tables = Vec::new();
    for (title, play) in SECTIONS {
        let wanted = arguments.section.as_ref();
        if wanted.is_none_or(|words| title.contains(words.as_str())) {
            let table = Section::of(title, play)?.table()?;
            println!("{table}");
            tables.push(table);
        } else if let Some(table) = table_of(&old, title) {
            tables.push(table.to_owned());
        }
    }
    let text = document(&tables)?;
    fs::write(&path, text).with_context(|| format!("cannot write {DOCUMENT}"))
}

/// A section of the document as it stands there.
fn table_of<'text>(document: &'text str, title: &str) -> Option<&'text str> {
    let at = document.find(&format!("\n## {title}\n"))? + 1;
    let rest = &document[at..];
    let end = rest.find("\n## ").map_or(rest.len(), |end| end + 1);
    Some(rest[..end].trim_end())
}

fn odd(nat: Nat) -> anyhow::Result<Vec<(String, Fault)>> {
    let mut results = Vec::new();
    for (scenes, role) in [
        (dialogue::PUBLISHED, "server inside"),
        (dialogue::MASQUERADED, "client inside"),
        (dialogue::WORDS, "server inside"),
    ] {
        for scene in scenes {
            for over in scene.versions {
                let lab = Lab::new()?;
                let scratch = Scratch::new()?;
                let is_published = role == "server inside";
                let _gateway = nat.guard(&lab, &scratch, is_published, "", CONTROL_IDLE)?;
                let fault = (scene.play)(&lab, *over).err().map(fault_of);
                results.push((format!("{role}, {}: {}", over.name(), scene.name), fault));
            }
        }
    }
    Ok(results)
}

/// What a scene's error is, in a few words.
fn fault_of(error: anyhow::Error) -> &'static str {
    let error = format!("{error:#}");
    for (words, fault) in [
        (
            "not the server's address",
            "announces an address that leads nowhere",
        ),
        ("cannot connect", "no data connection"),
        ("not 20", "comes from another port"),
        ("heard otherwise", "the server hears another command"),
        ("no final reply", "the transfer's end is not heard"),
        ("not the words", "other words"),
    ] {
        if error.contains(words) {
            return fault;
        }
    }
    "the session hangs"
}

/// What an operator is told, and what is refused for one: by a real server and curl, over both families, and with
/// the server on either side.
fn told_and_refused(nat: Nat) -> anyhow::Result<Vec<(String, Fault)>> {
    let mut results = Vec::new();
    for is_published in [true, false] {
        let lab = Lab::new()?;
        let (client, host) = if is_published {
            (lab.client(), lab.server())
        } else {
            (lab.server(), lab.client())
        };
        let server = FtpServer::start(Kind::Vsftpd, host, &Settings::default())?;
        server.offer("file.bin", b"a small file")?;
        let scratch = Scratch::new()?;
        let local = scratch.write("local", b"a small file")?;
        let policy = "read_only = true\ndeny_commands = [\"SYST\"]\n";
        let gateway = nat.guard(&lab, &scratch, is_published, policy, CONTROL_IDLE)?;
        for is_v6 in [false, true] {
            let address = match (is_published, is_v6) {
                (true, false) => (WAN_ADDRESS, 21).into(),
                (true, true) => (WAN_ADDRESS_V6, 21).into(),
                (false, false) => host.at(21),
                (false, true) => (host.v6, 21).into(),
            };
            let target = server.target_at(address);
            let mode = if is_v6 { Mode::Epsv } else { Mode::Pasv };
            let place = format!(
                "{}, {}",
                if is_published {
                    "server inside"
                } else {
                    "client inside"
                },
                if is_v6 { "IPv6" } else { "IPv4" }
            );
            let fetch = Job::Fetch("/download/file.bin");
            let fetched = Client::Curl.perform(client, &target, mode, fetch)?;
            anyhow::ensure!(fetched.outcome.success(), "{place}: {:?}", fetched.outcome);
            let is_told = gateway
                .as_ref()
                .is_some_and(|it| is_told(it, client, is_v6).unwrap_or(false));
            results.push((
                format!("{place}: who has fetched which file"),
                (!is_told).then_some("nobody is told"),
            ));
            let store = Job::Store(&local, "/upload/local");
            let stored = Client::Curl.perform(client, &target, mode, store)?;
            let is_refused = !stored.outcome.success() && server.stored("local").is_err();
            results.push((
                format!("{place}: a server that may only be read from"),
                (!is_refused).then_some("is written to"),
            ));
            let mut control = Control::log_in(client, &target)?;
            let first = control.command("SYST")?;
            let is_refused = first.starts_with('5') && !first.contains("UNIX");
            results.push((
                format!("{place}: SYST is denied"),
                (!is_refused).then_some("is answered"),
            ));
        }
    }
    Ok(results)
}

/// Whether ftp-nat tells the fetched file with its client.
fn is_told(
    gateway: &Gateway<'_>,
    client: &ftp_nat_tests::lab::Host,
    is_v6: bool,
) -> anyhow::Result<bool> {
    let peer = if is_v6 {
        client.v6.to_string()
    } else {
        client.v4.to_string()
    };
    for _ in 0..40 {
        let told = gateway.ask(&["transfers", "--json"])?.text();
        let is_it = |line: &str| {
            line.contains("\"RETR\"")
                && line.contains("file.bin")
                && line.contains("\"anonymous\"")
                && line.contains(&peer)
                && line.contains("\"completed\"")
        };
        if told.lines().any(is_it) {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(false)
}

fn passive(nat: Nat, cases: &[Case]) -> anyhow::Result<Vec<(String, Fault)>> {
    let lab = Lab::new()?;
    let ports: Vec<_> = replies::ports(cases.len()).collect();
    let _gateway = nat.publish(&lab, &ports)?;
    let results = replies::each(cases, |port, case| replies::transfers(&lab, port, case));
    let faults = results.into_iter().map(|result| {
        let error = format!("{:#}", result.err()?);
        Some(if error.contains("not the public address") {
            "announces an address that leads nowhere"
        } else if error.contains("cannot connect") {
            "no data connection"
        } else {
            "the session hangs"
        })
    });
    // A way to cut a reply is one scene, whatever the pauses.
    let names = cases.iter().map(|case| match case.name.find(" ms, Nagle") {
        Some(_) => case.name.split(',').next().unwrap_or_default().to_owned(),
        None => case.name.clone(),
    });
    Ok(names.zip(faults).collect())
}

fn no_announcements(nat: Nat) -> anyhow::Result<Vec<(String, Fault)>> {
    let lab = Lab::new()?;
    let cases = replies::no_addresses();
    let ports: Vec<_> = replies::ports(cases.len()).collect();
    let _gateway = nat.publish(&lab, &ports)?;
    let faults = replies::each(&cases, |port, case| {
        let server = ScriptedServer::start(lab.server(), port, case.script.clone()).ok()?;
        match replies::ask(&lab, &server, case) {
            Ok((_, read)) if read.announcement == case.name => None,
            Ok(_) => Some("arrives changed"),
            Err(_) => Some("the session hangs"),
        }
    });
    let names = cases
        .iter()
        .map(|case| format!("`{}`", case.name.trim_end().replace("\r\n", " ⏎ ")));
    Ok(names.zip(faults).collect())
}

/// One file fetched and one stored.
fn moves(
    host: &ftp_nat_tests::lab::Host,
    server: &FtpServer,
    address: SocketAddr,
    mode: Mode,
    content: &[u8],
) -> anyhow::Result<Fault> {
    let scratch = Scratch::new()?;
    let local = scratch.write("local", content)?;
    server.offer("file.bin", content)?;
    let name = format!("{mode:?}-{}.bin", u8::from(address.is_ipv6()));
    let path = format!("/upload/{name}");
    let target = server.target_at(address);
    let fetched = Client::Curl.perform(host, &target, mode, Job::Fetch("/download/file.bin"))?;
    if !fetched.outcome.success() || fetched.content != content {
        return Ok(Some("fails"));
    }
    let stored = Client::Curl.perform(host, &target, mode, Job::Store(&local, &path))?;
    let is_whole = stored.outcome.success() && server.stored(&name)? == content;
    Ok((!is_whole).then_some("fails"))
}

fn published(nat: Nat) -> anyhow::Result<Vec<(String, Fault)>> {
    let lab = Lab::new()?;
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default())?;
    let _gateway = nat.publish(&lab, &[21])?;
    let (v4, v6) = ((WAN_ADDRESS, 21).into(), (WAN_ADDRESS_V6, 21).into());
    each_mode(lab.client(), &server, v4, v6)
}

fn masqueraded(nat: Nat) -> anyhow::Result<Vec<(String, Fault)>> {
    let lab = Lab::new()?;
    let outside = lab.client();
    let server = FtpServer::start(Kind::Vsftpd, outside, &Settings::default())?;
    let _gateway = nat.masquerade(&lab)?;
    each_mode(
        lab.server(),
        &server,
        outside.at(21),
        (outside.v6, 21).into(),
    )
}

fn each_mode(
    host: &ftp_nat_tests::lab::Host,
    server: &FtpServer,
    v4: SocketAddr,
    v6: SocketAddr,
) -> anyhow::Result<Vec<(String, Fault)>> {
    [
        ("PASV", v4, Mode::Pasv),
        ("EPSV", v4, Mode::Epsv),
        ("PORT", v4, Mode::Port),
        ("EPRT", v4, Mode::Eprt),
        ("EPSV over IPv6", v6, Mode::Epsv),
        ("EPRT over IPv6", v6, Mode::Eprt),
    ]
    .into_iter()
    .map(|(name, address, mode)| {
        let fault = moves(host, server, address, mode, b"a small file")?;
        Ok((name.to_owned(), fault))
    })
    .collect()
}

/// Two clients inside announce the same port to the same server, and fetch at once.
fn several(nat: Nat) -> anyhow::Result<Vec<(String, Fault)>> {
    let lab = Lab::with(Plan {
        outside: 1,
        inside: 2,
    })?;
    let outside = lab.client();
    let server = FtpServer::start(Kind::Vsftpd, outside, &Settings::default())?;
    server.offer("file.txt", b"for both")?;
    let _gateway = nat.masquerade(&lab)?;
    let both = || -> anyhow::Result<()> {
        let mut ends = Vec::new();
        for client in &lab.inside {
            let mut control = Control::log_in(client, &server.target_at(outside.at(21)))?;
            let listener = client
                .namespace
                .run(|| Ok(TcpListener::bind((client.v4, 50_000))?))?;
            listener.set_nonblocking(true)?;
            let [a, b, c, d] = client.v4.octets();
            let reply = control.command(&format!("PORT {a},{b},{c},{d},195,80"))?;
            anyhow::ensure!(reply.starts_with("200"), "{reply}");
            ends.push((control, listener));
        }
        for (control, listener) in &mut ends {
            control.send("RETR /download/file.txt\r\n")?;
            control.expect("150")?;
            // The server has connected before it says so.
            let (data, _) = listener.accept().context("nobody came")?;
            data.set_nonblocking(false)?;
            anyhow::ensure!(control::read_all(&data)? == b"for both");
            control.expect("226")?;
        }
        Ok(())
    };
    let fault = both().err().map(|_| "one of them fails");
    Ok(vec![("the same port announced by two".to_owned(), fault)])
}

/// A port that nobody announces, but that a server can be made to name.
const SECRET_PORT: u16 = 6000;

/// What must not open anything, and what cannot be read.
fn unannounced(nat: Nat) -> anyhow::Result<Vec<(String, Fault)>> {
    let lab = Lab::new()?;
    let server = lab.server();
    let [echo, secret] = server.namespace.run(|| {
        Ok([
            TcpListener::bind((server.v4, 2121))?,
            TcpListener::bind((server.v4, SECRET_PORT))?,
        ])
    })?;
    let settings = Settings {
        tls: true,
        ..Settings::default()
    };
    let ftps = FtpServer::start(Kind::Vsftpd, server, &settings)?;
    let _gateway = nat.publish(&lab, &[21, 2121])?;
    let is_let_in = std::thread::scope(|scope| {
        scope.spawn(move || repeat_once(&echo));
        lab.client().namespace.run(|| {
            let control = connect(2121)?;
            let mut lines = BufReader::new(&control).lines();
            lines.next().context("no greeting")??;
            let [a, b, c, d] = server.v4.octets();
            let [high, low] = SECRET_PORT.to_be_bytes();
            (&control).write_all(
                format!("227 Entering Passive Mode ({a},{b},{c},{d},{high},{low}).\r\n").as_bytes(),
            )?;
            lines.next().context("no echo")??;
            Ok(connect(SECRET_PORT).is_ok())
        })
    })?;
    drop(secret);
    let v4 = (WAN_ADDRESS, 21).into();
    let encrypted = moves(lab.client(), &ftps, v4, Mode::Pasv, b"a small file")?;
    let target = ftps.target_at(v4);
    // The control connection alone: what the server answers within TLS.
    let session = Client::Curl.perform(lab.client(), &target, Mode::Pasv, Job::List("/"))?;
    let is_logged_in = session.replies("230").next().is_some();
    Ok(vec![
        (
            "a server that repeats a 227 which its client sent opens nothing".to_owned(),
            is_let_in.then_some("an attacker is let in"),
        ),
        (
            "AUTH TLS: log in".to_owned(),
            (!is_logged_in).then_some("fails"),
        ),
        (
            "AUTH TLS: PASV, announced where nobody can read it".to_owned(),
            encrypted,
        ),
    ])
}

fn connect(port: u16) -> anyhow::Result<TcpStream> {
    let limit = Duration::from_secs(2);
    let stream = TcpStream::connect_timeout(&(WAN_ADDRESS, port).into(), limit)?;
    stream.set_read_timeout(Some(limit))?;
    Ok(stream)
}

/// Greets one client and says its first line back.
fn repeat_once(listener: &TcpListener) {
    let talk = || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.write_all(b"220 Hello\r\n")?;
        let mut line = String::new();
        BufReader::new(stream.try_clone()?).read_line(&mut line)?;
        stream.write_all(line.as_bytes())
    };
    // What goes wrong here the client notices.
    drop(talk());
}

fn lossy(nat: Nat) -> anyhow::Result<Vec<(String, Fault)>> {
    let lab = Lab::new()?;
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default())?;
    let _gateway = nat.publish(&lab, &[21])?;
    for host in [lab.client(), lab.server()] {
        host.namespace.nft(firewall::LOSE_FIVE_PERCENT)?;
        firewall::single_segments(&host.namespace, HOST_INTERFACE)?;
    }
    let content: Vec<u8> = (0..LARGE).map(|at| (at % 251 + at / 251) as u8).collect();
    [
        ("PASV", Mode::Pasv),
        ("EPSV", Mode::Epsv),
        ("PORT", Mode::Port),
    ]
    .into_iter()
    .map(|(name, mode)| {
        let address = (WAN_ADDRESS, 21).into();
        let fault = moves(lab.client(), &server, address, mode, &content)?;
        let name = format!("{name}, {} MB fetched and stored", LARGE / 1_000_000);
        Ok((name, fault))
    })
    .collect()
}

/// How often each failover is played.
const FAILOVERS: usize = 5;

/// keepalived moves the addresses to the other gateway; the kernel's connections are shared by conntrackd (FTFW,
/// what is expected too, no external cache), those of ftp-nat by Redis.
fn failover(nat: Nat) -> anyhow::Result<Vec<(String, Fault)>> {
    let mut results = Vec::new();
    for (pause, rest) in [
        ("without a pause", Duration::ZERO),
        ("with 300 ms between them", Duration::from_millis(300)),
    ] {
        for _ in 0..FAILOVERS {
            let is_broken = match nat {
                Nat::Kernel => fleet::kernel::is_broken_by_a_cut(rest)?,
                Nat::FtpNat => {
                    let fleet = Fleet::new()?;
                    let mut stage = Stage::set(&fleet, "")?;
                    let length = 20_000;
                    let fetching = stage.fetch(&Files { length, rest })?;
                    let round = stage.play(Move::Cut, &fetching)?;
                    !round.failures.is_empty()
                }
            };
            let name = format!("small files are fetched in one session, {pause}");
            results.push((name, is_broken.then_some("the session hangs or is reset")));
        }
    }
    Ok(results)
}

fn document(tables: &[String]) -> anyhow::Result<String> {
    let mut text = String::from(
        "# Beside the kernel's own helper\n\
         \n\
         The same scenes over nf_conntrack_ftp with nf_nat_ftp and over ftp-nat, in the same lab:\n\
         what `cargo xtask compare` printed last, which writes this file.\n\
         \n\
         Passive scenes: a scripted server inside answers in these words, and a client outside\n\
         connects to what it reads. The kernel's helper has a firewall that accepts what is\n\
         established, related or translated; ftp-nat has one that forwards nothing at all. A cut\n\
         reply is tried with pauses of 0, 20 and 300 ms between its pieces, with Nagle's algorithm\n\
         and without; the numbers say how many of the attempts worked. A server inside and the\n\
         long transfer: connections may rest for 10 s with both. The words that ftp-nat shortens are\n\
         a choice: docs/decisions.md has the readers.\n",
    );
    for table in tables {
        write!(text, "\n{}\n", table.trim_end())?;
    }
    let rows: Vec<_> = tables
        .iter()
        .flat_map(|table| table.lines().filter(|line| line.starts_with("| ")).skip(2))
        .collect();
    // A cell says in bold what is wrong; the last one is ftp-nat's.
    let count = |column: usize| {
        rows.iter()
            .filter(|row| {
                let cell = row.rsplit(" | ").nth(1 - column).unwrap_or_default();
                !cell.starts_with("**")
            })
            .count()
    };
    write!(
        text,
        "\n## In all\nOf {} scenes {} work over the kernel's helper and {} over ftp-nat.\n{POOLS}",
        rows.len(),
        count(0),
        count(1)
    )?;
    Ok(text)
}

/// What no scene compares: other programs that share clients among servers.
const POOLS: &str = "
## Several servers behind one address
ftp-nat has this (`server = [..]`, [topologies.md](topologies.md#several-servers-behind-one-address)), the
kernel's helper only as far as NAT rules share clients, without checks. Of load balancers, which
were not tried here: LVS follows data connections with ip_vs_ftp, in clear text alone and where LVS translates itself;
HAProxy and a cloud's network load balancer read no FTP, so each server needs a passive range of its own that is
forwarded as so many services, PORT does not work through HAProxy, and inside TLS anybody may connect to the
range.
";

fn cell(faults: &[Fault]) -> String {
    let works = faults.iter().filter(|fault| fault.is_none()).count();
    let first = faults.iter().flatten().next();
    match (first, faults.len()) {
        (None, 1) => "works".to_owned(),
        (Some(fault), 1) => format!("**{fault}**"),
        (None, all) => format!("{all} of {all}"),
        (Some(fault), all) => format!("**{works} of {all}**: {fault}"),
    }
}
