//! What servers in the field answer to PASV and EPSV, whole and in pieces, and a client that goes
//! where the answer sends it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::{
    control::{self, Control},
    lab::{Lab, WAN_ADDRESS},
    scripted::{Cuts, Script, ScriptedServer},
};
use anyhow::{Context as _, bail, ensure};

/// Cases that run at the same time: most of them mostly wait.
const AT_ONCE: usize = 8;
/// The first of the control ports; each case has its own.
pub const FIRST_PORT: u16 = 2100;
/// What every file contains.
pub const CONTENT: &[u8] = b"as scripted\n";

/// One answer, and what the client asks for.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is special about it.
    pub name: String,
    /// What the client sends, in one segment.
    pub asks: &'static str,
    /// How many replies it gets in front of the announcement, and behind it.
    pub around: (usize, usize),
    /// The server's part.
    pub script: Script,
}

impl Case {
    fn new(name: impl Into<String>, asks: &'static str, answer: &str) -> Self {
        let mut script = Script::default();
        match asks {
            "EPSV" => answer.clone_into(&mut script.epsv),
            _ => answer.clone_into(&mut script.pasv),
        }
        Self {
            name: name.into(),
            asks,
            around: (0, 0),
            script,
        }
    }
}

/// What a client read, and when.
#[derive(Debug)]
pub struct Read {
    /// The announcement, as it came.
    pub announcement: String,
    /// The time since its last piece left the server.
    pub delay: Duration,
}

/// Logs in and asks; gives the control connection and the announcement as it came.
///
/// # Errors
///
/// When no announcement comes in time.
pub fn ask(lab: &Lab, server: &ScriptedServer, case: &Case) -> anyhow::Result<(Control, Read)> {
    let public = (WAN_ADDRESS, server.address().port()).into();
    let mut control = Control::log_in(lab.client(), &server.target_at(public))?;
    control.send(format!("{}\r\n", case.asks.replace(' ', "\r\n")))?;
    for _ in 0..case.around.0 {
        control.expect("200")?;
    }
    let announcement = control.reply()?;
    let read = Instant::now();
    for _ in 0..case.around.1 {
        control.expect("200")?;
    }
    // The server writes down what it sent right after it did.
    let sent = loop {
        match server.announced() {
            Some((_, sent)) => break sent,
            None if read.elapsed() < Duration::from_secs(5) => {
                thread::sleep(Duration::from_millis(1));
            }
            None => bail!("the server announced nothing"),
        }
    };
    let read = Read {
        announcement,
        delay: read.saturating_duration_since(sent),
    };
    Ok((control, read))
}

/// Where the announcement sends the client.
fn announced(reply: &str) -> anyhow::Result<SocketAddr> {
    if let Some((_, rest)) = reply.split_once("(")
        && let Some(delimiter) = rest.chars().next()
        && !delimiter.is_ascii_digit()
        && delimiter != ' '
    {
        // (|1|address|port|), where network and address may be missing.
        let parts: Vec<&str> = rest.split(delimiter).collect();
        let address = match parts.get(2) {
            Some(&"") => IpAddr::V4(WAN_ADDRESS),
            Some(address) => address.parse()?,
            None => bail!("no address in {reply:?}"),
        };
        let port = parts.get(3).context("no port")?;
        return Ok((address, port.parse()?).into());
    }
    // Six numbers with commas between, wherever they are behind the code.
    let is_part = |c: char| c.is_ascii_digit() || c == ',' || c == ' ';
    let text = reply.strip_prefix("227").unwrap_or(reply);
    for run in text.split(|c| !is_part(c)) {
        let run = run.trim_matches([',', ' ']);
        let numbers = run.rsplit_once("  ").map_or(run, |(_, last)| last);
        let numbers: Result<Vec<u8>, _> = numbers.split(',').map(|it| it.trim().parse()).collect();
        if let Ok([a, b, c, d, high, low]) = numbers.as_deref() {
            let address = Ipv4Addr::new(*a, *b, *c, *d);
            return Ok((address, u16::from_be_bytes([*high, *low])).into());
        }
    }
    bail!("no address in {reply:?}")
}

/// The whole of one case, with a server on this port; gives the added delay.
///
/// # Errors
///
/// When the announcement does not come, is of another address than the public one, or leads to no
/// file.
pub fn transfers(lab: &Lab, port: u16, case: &Case) -> anyhow::Result<Duration> {
    let server = ScriptedServer::start(lab.server(), port, case.script.clone())?;
    let (mut control, read) = ask(lab, &server, case)?;
    let (sent, _) = server.announced().context("nothing was announced")?;
    let reply = &read.announcement;
    let whole = || format!("sent {sent:?}, got {reply:?}");
    let end = announced(reply).with_context(whole)?;
    ensure!(
        end.ip() == WAN_ADDRESS,
        "not the public address: {}",
        whole()
    );
    let data = control::connect(lab.client(), end).with_context(whole)?;
    control.send("RETR /file\r\n")?;
    control.expect("150")?;
    ensure!(control::read_all(&data)? == CONTENT, "another content");
    control.expect("226")?;
    Ok(read.delay)
}

/// The ports of so many cases.
pub fn ports(cases: usize) -> impl Iterator<Item = u16> {
    (FIRST_PORT..).take(cases)
}

/// Does something for each case, some at a time, each with its own port; gives what came of it, in
/// the cases' order.
///
/// # Panics
///
/// When `work` panics.
pub fn each<T: Send>(cases: &[Case], work: impl Fn(u16, &Case) -> T + Sync) -> Vec<T> {
    let left = Mutex::new(cases.iter().enumerate());
    let results = Mutex::new(Vec::new());
    let take = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((index, case)) = take()
                    && let Some(port) = ports(cases.len()).nth(index)
                {
                    let result = work(port, case);
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    results.push((index, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Every form that announces an address.
#[must_use]
pub fn forms() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        (
            "vsftpd, ProFTPD",
            "227 Entering Passive Mode ({h},{p}).\r\n",
        ),
        ("Pure-FTPd", "227 Entering Passive Mode ({h},{p})\r\n"),
        ("pyftpdlib", "227 Entering passive mode ({h},{p}).\r\n"),
        ("short", "227 PASV ok ({h},{p})\r\n"),
        ("RFC 959's example", "227 ={h},{p}\r\n"),
        ("bare numbers", "227 {h},{p}\r\n"),
        ("no parentheses", "227 Entering Passive Mode {h},{p}\r\n"),
        (
            "long text",
            "227 Data transfer will passively listen to {h},{p}\r\n",
        ),
        ("LF alone", "227 Entering Passive Mode ({h},{p}).\n"),
        (
            "blanks in the tuple",
            "227 Entering Passive Mode ( 10, 0, 0, 5, {p} )\r\n",
        ),
        (
            "a digit in the text",
            "227 Entering Passive Mode 2 for you ({h},{p}).\r\n",
        ),
        ("numbers in the text", "227 1,2,3 and 4.5 ({h},{p}).\r\n"),
        (
            "a German text",
            "227 Wechsle in den passiven Modus für Sie ({h},{p}).\r\n",
        ),
        ("a Chinese text", "227 进入被动模式 ({h},{p})。\r\n"),
        (
            "text behind",
            "227 Entering Passive Mode ({h},{p}) for a while\r\n",
        ),
        (
            "two lines",
            "227-Entering\r\n227 Passive Mode ({h},{p}).\r\n",
        ),
        (
            "three lines",
            "227-One\r\n two\r\n227 Passive Mode ({h},{p}).\r\n",
        ),
        (
            "address on the first line",
            "227-Passive Mode ({h},{p})\r\n227 End\r\n",
        ),
        (
            "229 for PASV",
            "229 Entering Extended Passive Mode (|||{port}|)\r\n",
        ),
    ]
    .into_iter()
    .map(|(name, answer)| Case::new(name, "PASV", answer))
    .collect();
    cases.extend(
        [
            (
                "EPSV",
                "229 Entering Extended Passive Mode (|||{port}|)\r\n",
            ),
            ("busybox", "229 EPSV ok (|||{port}|)\r\n"),
            ("bare EPSV", "229 (|||{port}|)\r\n"),
            (
                "another delimiter",
                "229 Extended Passive Mode (!!!{port}!)\r\n",
            ),
            (
                "a letter as delimiter",
                "229 Extended Passive Mode (xxx{port}x)\r\n",
            ),
            (
                "the long form",
                "229 Extended Passive Mode (|1|{address}|{port}|)\r\n",
            ),
            ("227 for EPSV", "227 Entering Passive Mode ({h},{p}).\r\n"),
            (
                "EPSV, LF alone",
                "229 Entering Extended Passive Mode (|||{port}|)\n",
            ),
            (
                "EPSV, two lines",
                "229-Entering\r\n229 Extended (|||{port}|)\r\n",
            ),
        ]
        .into_iter()
        .map(|(name, answer)| Case::new(name, "EPSV", answer)),
    );
    for (name, address) in [
        ("0.0.0.0", Ipv4Addr::UNSPECIFIED),
        ("a wrong public address", Ipv4Addr::new(203, 0, 113, 77)),
        ("another inner address", Ipv4Addr::new(192, 168, 100, 200)),
        ("loopback", Ipv4Addr::LOCALHOST),
    ] {
        let mut case = Case::new(name, "PASV", "227 Entering Passive Mode ({h},{p}).\r\n");
        case.script.announce = Some(address);
        cases.push(case);
    }
    for (name, asks, around, answer) in [
        (
            "last in its segment",
            "NOOP PASV",
            (1, 0),
            "200 no\r\n227 ({h},{p})\r\n",
        ),
        (
            "first in its segment",
            "PASV NOOP",
            (0, 1),
            "227 ({h},{p})\r\n200 no\r\n",
        ),
        (
            "in the middle of its segment",
            "NOOP PASV NOOP",
            (1, 1),
            "200 no\r\n227 Entering Passive Mode ({h},{p}).\r\n200 no\r\n",
        ),
    ] {
        let mut case = Case::new(name, asks, answer);
        case.around = around;
        case.script.silent = vec!["NOOP"];
        cases.push(case);
    }
    cases
}

/// Every way to cut a reply.
#[must_use]
pub fn pieces() -> Vec<Case> {
    const PASV: &str = "227 Entering Passive Mode ({h},{p}).\r\n";
    let mut cases = Vec::new();
    let mut add = |name: String, asks, answer, cuts, pause, no_delay| {
        let mut case = Case::new(name, asks, answer);
        case.script.cuts = cuts;
        case.script.pause = Duration::from_millis(pause);
        case.script.no_delay = no_delay;
        cases.push(case);
    };
    for (where_, cuts) in [
        ("in the code", Cuts::Pieces(vec![2])),
        ("behind the code", Cuts::Pieces(vec![4])),
        ("in the text", Cuts::Pieces(vec![12])),
        ("before the parenthesis", Cuts::Pieces(vec![26])),
        ("in the address", Cuts::Pieces(vec![31])),
        ("in the port", Cuts::BeforeEnd(6)),
        ("before CR", Cuts::BeforeEnd(2)),
        ("between CR and LF", Cuts::BeforeEnd(1)),
        ("in three pieces", Cuts::Pieces(vec![12, 19])),
        ("in five pieces", Cuts::Pieces(vec![2, 10, 15, 8])),
    ] {
        for pause in [0, 20, 300] {
            for no_delay in [true, false] {
                let nagle = if no_delay { "Nagle off" } else { "Nagle on" };
                let name = format!("{where_}, {pause} ms, {nagle}");
                add(name, "PASV", PASV, cuts.clone(), pause, no_delay);
            }
        }
    }
    for no_delay in [true, false] {
        let nagle = if no_delay { "Nagle off" } else { "Nagle on" };
        let bytes = Cuts::EveryByte;
        for pause in [0, 20] {
            let name = format!("byte by byte, {pause} ms, {nagle}");
            add(name, "PASV", PASV, bytes.clone(), pause, no_delay);
        }
        add(
            format!("EPSV byte by byte, 20 ms, {nagle}"),
            "EPSV",
            "229 Entering Extended Passive Mode (|||{port}|)\r\n",
            bytes.clone(),
            20,
            no_delay,
        );
        add(
            format!("a short one byte by byte, 300 ms, {nagle}"),
            "PASV",
            "227 {h},{p}\r\n",
            bytes.clone(),
            300,
            no_delay,
        );
        add(
            format!("two lines byte by byte, 20 ms, {nagle}"),
            "PASV",
            "227-Entering\r\n227 Passive Mode ({h},{p}).\r\n",
            bytes.clone(),
            20,
            no_delay,
        );
    }
    cases
}

/// Answers that announce nothing: they pass as they are, and open nothing.
#[must_use]
pub fn no_addresses() -> Vec<Case> {
    [
        ("PASV", "227 Logout.\r\n"),
        ("PASV", "227 \r\n"),
        ("PASV", "227\r\n"),
        ("PASV", "227 Entering Passive Mode (256,0,0,5,195,80).\r\n"),
        ("PASV", "227 Entering Passive Mode (10,0,0,5,256,80).\r\n"),
        ("PASV", "227 Entering Passive Mode (10,0,0,5,0,0).\r\n"),
        ("PASV", "227 Entering Passive Mode (10,0,0,5,195).\r\n"),
        ("PASV", "227 Entering Passive Mode (10,0,0,5,195,80,1).\r\n"),
        ("PASV", "227 Entering Passive Mode (1005195).\r\n"),
        ("PASV", "227 Entering Passive Mode (10.0.0.5.195.80).\r\n"),
        ("PASV", "227 Entering Passive Mode (10,0,0,5,,195,80).\r\n"),
        ("PASV", "227-Logout.\r\n227 (10,0,0,5)\r\n"),
        ("PASV", "425 Cannot (10,0,0,5,195,80).\r\n"),
        ("PASV", "200 Fine (10,0,0,5,195,80).\r\n"),
        (
            "PASV",
            "228 Entering Long Passive Mode (4,4,10,0,0,5,2,195,80)\r\n",
        ),
        ("PASV", "2275 (10,0,0,5,195,80)\r\n"),
        ("EPSV", "229 Extended Passive Mode (|||0|)\r\n"),
        ("EPSV", "229 Extended Passive Mode (|||65536|)\r\n"),
        ("EPSV", "229 Extended Passive Mode (||50000|)\r\n"),
        ("EPSV", "229 Extended Passive Mode\r\n"),
        ("EPSV", "522 Use PASV (|||50000|)\r\n"),
    ]
    .map(|(asks, answer)| Case::new(answer, asks, answer))
    .into()
}
