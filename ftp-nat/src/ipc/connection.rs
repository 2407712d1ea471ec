//! Connecting to a daemon, and hearing who it is.

use std::{
    io::{self, BufRead as _, BufReader, Read as _},
    os::unix::net::UnixStream,
    time::Duration,
};

use rustix::{
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with,
        sockopt::socket_peercred,
    },
    process::Pid,
};

use super::{lock, message::Hello, runtime_dir::RuntimeDir, trust::Trust};

/// How long a daemon may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest line in which it does.
const HELLO_MAX: u64 = 4096;

/// A running daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Its process, as this process sees it where that is possible.
    pub pid: u32,
    /// What it says of itself.
    pub answer: Answer,
}

/// How a daemon answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is not ready yet.
    Starting,
    /// It has been ready, but does not answer: it hangs or is stopped.
    None,
    /// It answers.
    Hello(Hello),
}

impl Daemon {
    /// Who it is, if it answers.
    pub fn hello(&self) -> Option<&Hello> {
        match &self.answer {
            Answer::Hello(hello) => Some(hello),
            Answer::Starting | Answer::None => None,
        }
    }
}

/// The daemon of a WAN interface, if one runs.
pub fn daemon_of(dir: &RuntimeDir, wan: &str, trust: Trust) -> Option<Daemon> {
    let holder = lock::holder(dir, wan, trust)?;
    let opened = connect(dir, wan, trust).ok();
    let seen_pid = opened.as_ref().map_or(0, |(_, pid)| *pid);
    let hello = opened.and_then(|(stream, _)| hello(&mut BufReader::new(stream)));
    Some(Daemon {
        pid: if seen_pid == 0 { holder.pid } else { seen_pid },
        answer: match hello {
            Some(hello) => Answer::Hello(hello),
            None if holder.ready => Answer::None,
            None => Answer::Starting,
        },
    })
}

/// Opens a conversation with the daemon of a WAN interface: who it is, and the connection to send
/// requests by. None when no daemon answers.
pub fn open(dir: &RuntimeDir, wan: &str, trust: Trust) -> Option<(Hello, BufReader<UnixStream>)> {
    let (stream, _) = connect(dir, wan, trust).ok()?;
    let mut stream = BufReader::new(stream);
    let hello = hello(&mut stream)?;
    stream.get_ref().set_read_timeout(None).ok()?;
    Some((hello, stream))
}

/// Connects without waiting: a daemon that hangs must not make its clients hang. Gives the
/// daemon's process, 0 where it is not visible from here.
///
/// # Errors
///
/// `ENOENT` or `ECONNREFUSED`: no daemon. `EAGAIN`: its queue is full. `EACCES`: not this user's.
/// Or the process there is of a user that is not trusted.
fn connect(dir: &RuntimeDir, wan: &str, trust: Trust) -> io::Result<(UnixStream, u32)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(dir.socket(wan))?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    let peer = socket_peercred(&stream)?;
    if !trust.believes(peer.uid.as_raw()) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    // Zero, against its type, for a process of another process namespace.
    Ok((stream, Pid::as_raw(Some(peer.pid)).cast_unsigned()))
}

fn hello(stream: &mut BufReader<UnixStream>) -> Option<Hello> {
    stream.get_ref().set_read_timeout(Some(PATIENCE)).ok()?;
    let mut answer = String::new();
    stream.take(HELLO_MAX).read_line(&mut answer).ok()?;
    serde_json::from_str(answer.trim()).ok()
}
