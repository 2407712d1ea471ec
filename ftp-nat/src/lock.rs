//! One daemon for a WAN interface: whoever holds the interface's name holds the gateway.
//!
//! The name is that of an abstract unix socket: bound to the network namespace, seen from every
//! mount namespace, and gone with its process, SIGKILL or not. Who connects is told who it is.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    io::Read as _,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
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
use serde::{Deserialize, Serialize};

const PREFIX: &str = "ftp-nat/";

/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_millis(200);

/// How often and how long a killed daemon's end is waited for.
const DYING_TRIES: u32 = 4;
const DYING_PAUSE: Duration = Duration::from_millis(50);

/// The longest answer.
const ANSWER_MAX: u64 = 4096;

/// What a daemon tells whoever connects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Its version.
    pub version: String,
    /// Its gateway's name.
    pub gateway: String,
    /// Where its pins are, as it sees them.
    pub state_dir: String,
}

/// The process that holds a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number, 0 where it is not visible from here.
    pub pid: u32,
    uid: u32,
}

impl Holder {
    /// Anybody may take a name: only root, and who runs as we do, is taken for a daemon.
    fn is_believed(self) -> bool {
        self.uid == 0 || self.uid == rustix::process::geteuid().as_raw()
    }
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
pub fn take<'a>(wans: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Vec<UnixListener>> {
    let mut listeners = Vec::new();
    for wan in wans {
        match bind(wan) {
            Ok(listener) => listeners.push(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => match holder(wan) {
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
pub fn holder(wan: &str) -> Option<Holder> {
    let (_, holder) = connect(wan).ok()?;
    holder.is_believed().then_some(holder)
}

/// Asks the daemon of an interface who it is; one that is still starting does not answer yet.
pub fn ask(wan: &str) -> Option<(Holder, Option<Hello>)> {
    let (stream, holder) = connect(wan)
        .ok()
        .filter(|(_, holder)| holder.is_believed())?;
    Some((holder, hello(stream)))
}

fn hello(stream: UnixStream) -> Option<Hello> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut answer).ok()?;
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
        let listeners = take([name.as_str()]).unwrap();
        assert!(held().contains(&name));
        assert_eq!(holder(&name).unwrap().pid, std::process::id());
        let error = take([name.as_str()]).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(listeners);
        assert_eq!(holder(&name), None);
        take([name.as_str()]).unwrap();
    }

    #[test]
    fn a_daemon_says_who_it_is() {
        let name = format!("u{}", std::process::id());
        let listener = take([name.as_str()]).unwrap().remove(0);
        let hello = Hello {
            version: "1".into(),
            gateway: "wan".into(),
            state_dir: "/x".into(),
        };
        let text = serde_json::to_string(&hello).unwrap();
        let answering = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(text.as_bytes()).unwrap();
        });
        assert_eq!(ask(&name).unwrap().1, Some(hello));
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
