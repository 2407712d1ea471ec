//! One daemon for a WAN interface: whoever holds the interface's name holds the gateway.
//!
//! The name is that of an abstract unix socket: bound to the network namespace, seen from every
//! mount namespace, and gone with its process, SIGKILL or not. Who connects is told who it is, and
//! may ask for more: see [`crate::client::call`].

use std::{
    collections::BTreeSet,
    fmt, fs,
    io::{self, BufRead as _, BufReader, Read as _},
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::MetadataExt as _,
            net::{SocketAddr, UnixListener, UnixStream},
        },
    },
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use log::warn;
use rustix::{
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with,
        sockopt::socket_peercred,
    },
    process::Pid,
};

use super::message::Hello;

const PREFIX: &str = "ftp-nat/";

/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_millis(200);

/// How often and how long a killed daemon's end is waited for.
const DYING_TRIES: u32 = 4;

const DYING_PAUSE: Duration = Duration::from_millis(50);

/// The longest answer.
const ANSWER_MAX: u64 = 4096;

/// The process that holds a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number, 0 where it is not visible from here.
    pub pid: u32,
    uid: u32,
}

/// Whom to believe that it is a daemon: anybody may take a name.
#[derive(Clone, Copy, Debug)]
pub struct Trust {
    owner: Option<u32>,
}

impl Trust {
    /// Root, who runs as we do, and whoever owns the folder that the pins are in: a daemon may run
    /// as a user of its own.
    pub fn of(state_dir: &Path) -> Self {
        let owner = fs::metadata(state_dir).ok().map(|folder| folder.uid());
        Self { owner }
    }

    fn believes(self, uid: u32) -> bool {
        is_trusted(uid) || self.owner == Some(uid)
    }
}

/// Whether a user may tell this process what to do: root, and who runs as we do.
pub fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            0 => f.write_str("a process that is not visible from here"),
            pid => write!(f, "process {pid}"),
        }
    }
}

fn name_of(wan: &str) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("{PREFIX}{wan}"))
}

/// Connects without ever waiting: a daemon that hangs must not make others hang.
fn connect(wan: &str) -> io::Result<(UnixStream, Holder)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let name = format!("{PREFIX}{wan}");
    rustix::net::connect(
        &socket,
        &SocketAddrUnix::new_abstract_name(name.as_bytes())?,
    )?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    let peer = socket_peercred(&stream)?;
    let holder = Holder {
        // Zero, against its type, for a process of another process namespace.
        pid: Pid::as_raw(Some(peer.pid)).cast_unsigned(),
        uid: peer.uid.as_raw(),
    };
    Ok((stream, holder))
}

/// Takes the names of all these interfaces.
///
/// # Errors
///
/// When a daemon holds one of them.
pub fn take<'a>(
    wans: impl IntoIterator<Item = &'a str>,
    trust: Trust,
) -> anyhow::Result<Vec<UnixListener>> {
    let mut listeners = Vec::new();
    for wan in wans {
        match bind(wan) {
            Ok(listener) => listeners.push(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => match holder(wan, trust) {
                Some(holder) => bail!(
                    "{wan} has a gateway already: {holder} runs it; stop that first, or ask it \
                     with `ftp-nat status`"
                ),
                None => warn!(
                    "the name that guards {wan} is held by a process without privileges, which \
                     is no ftp-nat: going on without the guard against a second daemon"
                ),
            },
            Err(error) => return Err(error).with_context(|| format!("cannot guard {wan}")),
        }
    }
    Ok(listeners)
}

/// Takes a name; one that a dying process holds for some milliseconds more is waited for.
fn bind(wan: &str) -> io::Result<UnixListener> {
    let name = name_of(wan)?;
    for _ in 0..DYING_TRIES {
        match UnixListener::bind_addr(&name) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => thread::sleep(DYING_PAUSE),
            result => return result,
        }
    }
    UnixListener::bind_addr(&name)
}

/// The daemon that holds an interface's name, if one does.
pub fn holder(wan: &str, trust: Trust) -> Option<Holder> {
    let (_, holder) = connect(wan).ok()?;
    trust.believes(holder.uid).then_some(holder)
}

/// Asks the daemon of an interface who it is; one that is still starting does not answer yet.
pub fn ask(wan: &str, trust: Trust) -> Option<(Holder, Option<Hello>)> {
    let (stream, holder) = connect(wan)
        .ok()
        .filter(|(_, holder)| trust.believes(holder.uid))?;
    Some((holder, hello(&mut BufReader::new(stream))))
}

/// Opens a conversation with the daemon of an interface: who it is, and the connection to ask more
/// by.
pub fn call(wan: &str, trust: Trust) -> Option<(Hello, BufReader<UnixStream>)> {
    let (stream, _) = connect(wan)
        .ok()
        .filter(|(_, holder)| trust.believes(holder.uid))?;
    let mut stream = BufReader::new(stream);
    let hello = hello(&mut stream)?;
    stream.get_ref().set_read_timeout(None).ok()?;
    Some((hello, stream))
}

fn hello(stream: &mut BufReader<UnixStream>) -> Option<Hello> {
    stream.get_ref().set_read_timeout(Some(PATIENCE)).ok()?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_line(&mut answer).ok()?;
    serde_json::from_str(answer.trim()).ok()
}

/// The interfaces whose names are held, in this network namespace.
pub fn held() -> BTreeSet<String> {
    let sockets = fs::read_to_string("/proc/self/net/unix").unwrap_or_default();
    names(&sockets).map(str::to_owned).collect()
}

fn names(sockets: &str) -> impl Iterator<Item = &str> {
    sockets.lines().filter_map(|line| {
        let path = line.split_whitespace().last()?;
        path.strip_prefix('@')?.strip_prefix(PREFIX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_name_is_held_once_and_its_holder_known() {
        let name = format!("t{}", std::process::id());
        let trust = Trust { owner: None };
        let listeners = take([name.as_str()], trust).unwrap();
        assert!(held().contains(&name));
        assert_eq!(holder(&name, trust).unwrap().pid, std::process::id());
        let error = take([name.as_str()], trust).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(listeners);
        assert_eq!(holder(&name, trust), None);
        take([name.as_str()], trust).unwrap();
    }

    #[test]
    fn a_daemon_says_who_it_is() {
        let name = format!("u{}", std::process::id());
        let trust = Trust { owner: None };
        let listener = take([name.as_str()], trust).unwrap().remove(0);
        let hello = Hello {
            version: "1".into(),
            gateway: "wan".into(),
            state_dir: "/x".into(),
        };
        let text = serde_json::to_string(&hello).unwrap() + "\n";
        let answering = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(text.as_bytes()).unwrap();
        });
        assert_eq!(ask(&name, trust).unwrap().1, Some(hello));
        answering.join().unwrap();
    }

    #[test]
    fn names_are_found_among_other_sockets() {
        let sockets = "Num RefCount Protocol Flags Type St Inode Path\n\
            0: 00000002 00000000 00010000 0001 01 1 @ftp-nat/eth0\n\
            0: 00000002 00000000 00010000 0001 01 2 /run/x\n\
            0: 00000002 00000000 00010000 0001 01 3\n";
        assert_eq!(names(sockets).collect::<Vec<_>>(), ["eth0"]);
    }
}
