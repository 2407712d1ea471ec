//! An honest client: sessions of a few files each, every one compared byte for byte.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    time::Instant,
};

use anyhow::Context as _;
use ftp_nat_tests::{
    control::{Control, connect},
    lab::Host,
};

/// What went wrong.
pub(super) enum Failure {
    /// A new connection was refused or not answered; begun then.
    NotConnected(Instant, anyhow::Error),
    /// Anything else.
    Broken(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Broken(error)
    }
}

/// How a data connection is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verb {
    Pasv,
    Epsv,
    Port,
    Eprt,
}

impl Verb {
    /// Those that a client of this family has.
    pub(super) const fn all(v4: bool) -> &'static [Self] {
        if v4 {
            &[Self::Pasv, Self::Epsv, Self::Port, Self::Eprt]
        } else {
            &[Self::Epsv, Self::Eprt]
        }
    }
}

/// A data connection that was asked for.
enum Asked {
    /// It is there.
    Passive(TcpStream),
    /// The server will come.
    Active(TcpListener),
}

/// A new connection, whose failure is told apart.
pub(super) fn dial(host: &Host, address: SocketAddr) -> Result<TcpStream, Failure> {
    let start = Instant::now();
    connect(host, address).map_err(|error| Failure::NotConnected(start, error))
}

fn ask(control: &mut Control, host: &Host, verb: Verb) -> Result<Asked, Failure> {
    match verb {
        Verb::Pasv | Verb::Epsv => {
            let verb = if matches!(verb, Verb::Pasv) {
                "PASV"
            } else {
                "EPSV"
            };
            let address = control.announce(verb)?;
            dial(host, address).map(Asked::Passive)
        }
        Verb::Port | Verb::Eprt => {
            let ip = control.local_address()?.ip();
            let listener = host
                .namespace
                .run(|| Ok(TcpListener::bind((ip, 0))?))
                .context("cannot listen")?;
            let port = listener.local_addr().context("no address")?.port();
            let line = match verb {
                Verb::Port => {
                    let [high, low] = port.to_be_bytes();
                    let ip = ip.to_string().replace('.', ",");
                    format!("PORT {ip},{high},{low}")
                }
                _ => {
                    let family = if ip.is_ipv4() { 1 } else { 2 };
                    format!("EPRT |{family}|{ip}|{port}|")
                }
            };
            let reply = control.command(&line)?;
            if !reply.starts_with("200") {
                return Err(anyhow::anyhow!("{line}: {reply}").into());
            }
            Ok(Asked::Active(listener))
        }
    }
}

fn come(asked: Asked) -> anyhow::Result<TcpStream> {
    match asked {
        Asked::Passive(stream) => Ok(stream),
        Asked::Active(listener) => {
            // The server's SYN is repeated for longer than this.
            rustix::net::sockopt::set_socket_timeout(
                &listener,
                rustix::net::sockopt::Timeout::Recv,
                Some(std::time::Duration::from_secs(20)),
            )?;
            let (stream, _) = listener.accept().context("the server did not come")?;
            stream.set_read_timeout(Some(std::time::Duration::from_secs(20)))?;
            Ok(stream)
        }
    }
}

/// Fetches a file and compares it.
pub(super) fn fetch(
    control: &mut Control,
    host: &Host,
    verb: Verb,
    name: &str,
    content: &[u8],
) -> Result<(), Failure> {
    let asked = ask(control, host, verb)?;
    control.send(format!("RETR /download/{name}\r\n"))?;
    let mut fetched = Vec::new();
    let transfer = |control: &mut Control, fetched: &mut Vec<u8>| {
        control.expect("150")?;
        come(asked)?.read_to_end(fetched)?;
        control.expect("226")
    };
    transfer(control, &mut fetched).with_context(|| {
        format!(
            "{verb:?} RETR {name} from {}, {} bytes",
            host.v4,
            fetched.len()
        )
    })?;
    if fetched != content {
        return Err(anyhow::anyhow!("{verb:?} RETR {name}: another content").into());
    }
    Ok(())
}

/// Stores a file.
pub(super) fn store(
    control: &mut Control,
    host: &Host,
    verb: Verb,
    name: &str,
    content: &[u8],
) -> Result<(), Failure> {
    let asked = ask(control, host, verb)?;
    control.send(format!("STOR /upload/{name}\r\n"))?;
    let transfer = |control: &mut Control| {
        control.expect("150")?;
        let mut stream = come(asked)?;
        stream.write_all(content)?;
        stream.shutdown(Shutdown::Write)?;
        drop(stream);
        control.expect("226")
    };
    transfer(control).with_context(|| format!("{verb:?} STOR {name} from {}", host.v4))?;
    Ok(())
}

/// Ends a session as polite clients do.
pub(super) fn quit(control: &mut Control) -> anyhow::Result<()> {
    control.send("QUIT\r\n")?;
    control.expect("221").map(drop)
}
