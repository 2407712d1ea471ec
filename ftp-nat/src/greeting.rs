//! Whether a server answers on its control port, and as an FTP server that is ready: a connection is
//! made, the greeting is read (RFC 959 section 5.4: 220), and QUIT is said.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// The longest greeting that is read.
const GREETING_MAX: usize = 512;
/// TLS from the first byte on: no greeting comes before the handshake.
const IMPLICIT_TLS: u16 = 990;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// The connection.
    pub connect: Duration,
    /// The greeting.
    pub greet: Duration,
}

/// What came of an attempt.
#[derive(Debug)]
pub enum Answer {
    /// An FTP server that is ready. On the port of implicit TLS: whoever accepts connections.
    Ready,
    /// It speaks, but not as an FTP server that is ready: its first line.
    Other(String),
    /// It accepts the connection, and hangs up without a word or breaks off.
    HungUp(Option<io::Error>),
    /// It accepts the connection and says nothing.
    Silent,
    /// No connection.
    NoConnection(io::Error),
    /// No answer at all.
    Nothing,
}

/// Asks a server, by a socket that is bound already or by a new one.
pub async fn ask(server: SocketAddr, from: Option<TcpSocket>, patience: Patience) -> Answer {
    let connecting = async {
        let socket = match from {
            Some(socket) => socket,
            None => socket(server)?,
        };
        socket.connect(server).await
    };
    let stream = match timeout(patience.connect, connecting).await {
        Err(_) => return Answer::Nothing,
        Ok(Err(error)) => return Answer::NoConnection(error),
        Ok(Ok(stream)) => stream,
    };
    if server.port() == IMPLICIT_TLS {
        return Answer::Ready;
    }
    greeting(stream, patience.greet).await
}

/// A socket of the server's family.
///
/// # Errors
///
/// `EMFILE`: too many are open.
pub fn socket(server: SocketAddr) -> io::Result<TcpSocket> {
    if server.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }
}

async fn greeting(mut stream: TcpStream, patience: Duration) -> Answer {
    let mut text = Vec::new();
    let reading = async {
        while text.len() < GREETING_MAX && !text.contains(&b'\n') {
            if stream.read_buf(&mut text).await? == 0 {
                break;
            }
        }
        Ok::<_, io::Error>(())
    };
    let ended = timeout(patience, reading).await;
    let line = String::from_utf8_lossy(&text);
    let line = line.lines().next().unwrap_or_default().trim();
    if line.starts_with("220") {
        // Leaving without a word would be a line in its log.
        let _ = timeout(patience, stream.write_all(b"QUIT\r\n")).await;
        return Answer::Ready;
    }
    match ended {
        Err(_) if line.is_empty() => Answer::Silent,
        Ok(Err(error)) => Answer::HungUp(Some(error)),
        _ if line.is_empty() => Answer::HungUp(None),
        _ => Answer::Other(line.to_owned()),
    }
}
