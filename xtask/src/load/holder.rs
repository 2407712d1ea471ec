//! A process that holds both ends of a part of the sessions: one process may not have as many files open
//! as all of them need.

use std::{
    env,
    io::{BufRead as _, BufReader, stdin},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use ftp_nat_tests::{
    attack::crowd::address,
    lab::{Host, Lab, WAN_ADDRESS},
    namespace::Namespace,
};

use super::{
    ends::{Ends, exchange, listen, v4},
    open_files,
};

/// Clients' addresses. None begins more sessions within ten seconds than a client may.
pub(super) const CLIENTS: u32 = 500;

/// The address of the client that begins this session.
pub(super) fn client(session: u32) -> std::net::Ipv4Addr {
    address((session % CLIENTS) as usize)
}

/// Which sessions, and where: `CLIENT'S NAMESPACE,SERVER'S NAMESPACE,FIRST,NUMBER`.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    client: String,
    server: String,
    first: u32,
    number: u32,
}

impl FromStr for Part {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let words: Vec<_> = text.split(',').collect();
        let [client, server, first, number] = words[..] else {
            anyhow::bail!("four words, not {text:?}");
        };
        Ok(Self {
            client: client.to_owned(),
            server: server.to_owned(),
            first: first.parse()?,
            number: number.parse()?,
        })
    }
}

/// Opens the sessions, and does what is asked for, a line each: `speak NUMBER`, `transfer NUMBER`,
/// `leave NUMBER`. Each is answered with `done` and the microseconds of the slowest one. Ends with its
/// input.
///
/// # Errors
///
/// When a session was not let in, or says nothing any more.
pub(crate) fn hold(part: &Part) -> anyhow::Result<()> {
    open_files::raise()?;
    let server = Host {
        namespace: Namespace::existing(&part.server)?,
        v4: "10.0.0.5".parse()?,
        v6: "fd00:10::5".parse()?,
    };
    let listener = listen(&server, v4(server.at(21))?)?;
    Namespace::existing(&part.client)?.run(|| {
        let sessions = part.first..part.first + part.number;
        let public = (WAN_ADDRESS, 21).into();
        let open = |number| Ends::open(client(number), public, &listener);
        let mut live = sessions.map(open).collect::<anyhow::Result<Vec<_>>>()?;
        drop(listener);
        println!("done 0");
        for line in stdin().lines() {
            let line = line?;
            let (verb, number) = line.split_once(' ').context("a verb and a number")?;
            let number = number.parse::<usize>()?.min(live.len());
            let step = live.len().checked_div(number).unwrap_or(1).max(1);
            let chosen = live.iter().step_by(step).take(number);
            let mut slowest = Duration::ZERO;
            match verb {
                "leave" => live.truncate(live.len() - number),
                "speak" | "transfer" => {
                    for session in chosen {
                        let start = Instant::now();
                        if verb == "speak" {
                            session.noop()?;
                        } else {
                            exchange(&session.passive(&server)?)?;
                        }
                        slowest = slowest.max(start.elapsed());
                    }
                }
                _ => anyhow::bail!("{verb} is nothing that can be asked for"),
            }
            println!("done {}", slowest.as_micros());
        }
        Ok(())
    })
}

/// Such a process, seen from the one that started it.
pub(super) struct Holder {
    child: Child,
    /// None: it is to end.
    asks: Option<ChildStdin>,
    says: BufReader<ChildStdout>,
}

impl Holder {
    /// Starts it and waits until its sessions are live.
    ///
    /// # Errors
    ///
    /// When they do not get that far.
    pub(super) fn start(lab: &Lab, first: u32, number: u32) -> anyhow::Result<Self> {
        let [client, server] = [lab.client(), lab.server()].map(|host| host.namespace.name());
        let mut child = Command::new(env::current_exe()?)
            .args(["load", "--hold"])
            .arg(format!("{client},{server},{first},{number}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let asks = child.stdin.take();
        let says = child.stdout.take().context("it says nothing")?;
        let mut holder = Self {
            child,
            asks,
            says: BufReader::new(says),
        };
        holder.answer()?;
        Ok(holder)
    }

    /// So many of its sessions speak, transfer or leave; gives the time of the slowest one.
    ///
    /// # Errors
    ///
    /// When one of them fails.
    pub(super) fn ask(&mut self, verb: &str, number: u32) -> anyhow::Result<Duration> {
        use std::io::Write as _;
        let asks = self.asks.as_mut().context("it has ended")?;
        writeln!(asks, "{verb} {number}")?;
        self.answer()
    }

    fn answer(&mut self) -> anyhow::Result<Duration> {
        let mut line = String::new();
        self.says.read_line(&mut line)?;
        let time = line.trim().strip_prefix("done ");
        ensure!(time.is_some(), "a process that holds sessions ended");
        Ok(Duration::from_micros(time.unwrap_or_default().parse()?))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.asks.take());
        drop(self.child.wait());
    }
}
