//! A control connection by hand, for what no real client does: odd commands, odd segments, waiting
//! between one step and the next.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, bail};

use crate::{client::Target, lab::Host};

/// How long a reply, or a connection, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A control connection from a host of the lab.
#[derive(Debug)]
pub struct Control {
    stream: BufReader<TcpStream>,
}

impl Control {
    /// Connects and reads the greeting.
    ///
    /// # Errors
    ///
    /// When nobody answers, or not with 220.
    pub fn connect(host: &Host, address: SocketAddr) -> anyhow::Result<Self> {
        Self::over(connect(host, address)?)
    }

    /// Reads the greeting of a connection that was made already.
    ///
    /// # Errors
    ///
    /// When it does not come, or is not 220.
    pub fn over(stream: TcpStream) -> anyhow::Result<Self> {
        Self::over_within(stream, PATIENCE)
    }

    /// The same, where a reply may take so long.
    ///
    /// # Errors
    ///
    /// As [`Self::over`].
    pub fn over_within(stream: TcpStream, patience: Duration) -> anyhow::Result<Self> {
        stream.set_read_timeout(Some(patience))?;
        let mut control = Self {
            stream: BufReader::new(stream),
        };
        control.expect("220")?;
        Ok(control)
    }

    /// Connects and logs in, without TLS.
    ///
    /// # Errors
    ///
    /// When nobody answers, or the server does not let the user in.
    pub fn log_in(host: &Host, target: &Target) -> anyhow::Result<Self> {
        let mut control = Self::connect(host, target.address)?;
        if control
            .command(&format!("USER {}", target.user))?
            .starts_with("331")
        {
            control.send(format!("PASS {}\r\n", target.password))?;
            control.expect("230")?;
        }
        control.send("TYPE I\r\n")?;
        control.expect("200")?;
        Ok(control)
    }

    /// The address of this end.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub fn local_address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.stream.get_ref().local_addr()?)
    }

    /// The connection itself.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// Sends `bytes` as they are. Each call is a segment of its own, as long as no earlier one
    /// waits for a retransmission.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> anyhow::Result<()> {
        Ok(self.stream.get_mut().write_all(bytes.as_ref())?)
    }

    /// Sends one command line and gives the reply.
    ///
    /// # Errors
    ///
    /// When the connection is gone, or no reply comes in time.
    pub fn command(&mut self, line: &str) -> anyhow::Result<String> {
        self.send(format!("{line}\r\n"))?;
        self.reply()
            .with_context(|| format!("no reply to \"{line}\""))
    }

    /// Asks for a passive data connection by `verb`, PASV or EPSV, and gives where it is announced.
    ///
    /// # Errors
    ///
    /// As [`Self::command`], or when the reply announces nothing.
    pub fn announce(&mut self, verb: &str) -> anyhow::Result<SocketAddr> {
        let reply = self.command(verb)?;
        if verb == "PASV" {
            return address_in_227(&reply);
        }
        let server = self.stream.get_ref().peer_addr()?.ip();
        Ok((server, port_in_229(&reply)?).into())
    }

    /// Fetches a file over the passive connection that `verb` asks for.
    ///
    /// # Errors
    ///
    /// When any step of it fails.
    pub fn fetch(&mut self, host: &Host, verb: &str, path: &str) -> anyhow::Result<Vec<u8>> {
        let address = self.announce(verb)?;
        let data = connect(host, address)?;
        self.fetch_over(&data, path)
    }

    /// Fetches a file over a data connection that is there.
    ///
    /// # Errors
    ///
    /// When any step of it fails.
    pub fn fetch_over(&mut self, data: &TcpStream, path: &str) -> anyhow::Result<Vec<u8>> {
        self.send(format!("RETR {path}\r\n"))?;
        let reply = self.reply()?;
        // 125: the data connection is open already (RFC 959, section 4.2).
        if !reply.starts_with("150") && !reply.starts_with("125") {
            bail!("expected a reply 150, got {reply:?}");
        }
        let bytes = read_all(data)?;
        self.expect("226")?;
        Ok(bytes)
    }

    /// Reads one reply, all its lines (RFC 959, section 4.2), and gives it as it came.
    ///
    /// # Errors
    ///
    /// When the connection is gone, or no whole reply comes in time.
    pub fn reply(&mut self) -> anyhow::Result<String> {
        let mut reply = String::new();
        loop {
            let mut line = Vec::new();
            if self.stream.read_until(b'\n', &mut line)? == 0 {
                bail!("the connection ended after {reply:?}");
            }
            reply.push_str(&String::from_utf8_lossy(&line));
            // A reply of several lines begins with "123-" and ends with a line "123 ".
            let code = reply.get(..3).unwrap_or_default();
            let is_last = line.starts_with(code.as_bytes()) && line.get(3) == Some(&b' ');
            if is_last || reply.get(3..4) != Some("-") {
                return Ok(reply);
            }
        }
    }

    /// Reads one reply, which must begin with `code`.
    ///
    /// # Errors
    ///
    /// As [`Self::reply`], or when it is another.
    pub fn expect(&mut self, code: &str) -> anyhow::Result<String> {
        let reply = self.reply()?;
        if !reply.starts_with(code) {
            bail!("expected a reply {code}, got {reply:?}");
        }
        Ok(reply)
    }
}

/// Opens a connection from `host`; the stream can be used anywhere.
///
/// # Errors
///
/// When the other end refuses or does not answer.
pub fn connect(host: &Host, address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = host
        .namespace
        .run(|| Ok(TcpStream::connect_timeout(&address, PATIENCE)?))
        .with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // Otherwise small segments would wait for each other.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads a connection to its end: what RETR and LIST send.
///
/// # Errors
///
/// When it breaks, or nothing comes for too long.
pub fn read_all(mut stream: &TcpStream) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The address in a 227 reply: the six numbers between the parentheses.
///
/// # Errors
///
/// When there are none.
pub fn address_in_227(reply: &str) -> anyhow::Result<SocketAddr> {
    let numbers = reply
        .split_once('(')
        .and_then(|(_, rest)| rest.split_once(')'))
        .map(|(inside, _)| {
            inside
                .split(',')
                .map(str::parse)
                .collect::<Result<Vec<u8>, _>>()
        });
    match numbers {
        Some(Ok(n)) if n.len() == 6 => Ok(SocketAddr::from((
            Ipv4Addr::new(n[0], n[1], n[2], n[3]),
            u16::from_be_bytes([n[4], n[5]]),
        ))),
        _ => bail!("no address in {reply:?}"),
    }
}

/// The port in a 229 reply: `(|||port|)`.
///
/// # Errors
///
/// When there is none.
pub fn port_in_229(reply: &str) -> anyhow::Result<u16> {
    let within = reply
        .split_once('(')
        .and_then(|(_, rest)| rest.split_once(')'));
    within
        .and_then(|(fields, _)| fields.split('|').nth(3)?.parse().ok())
        .with_context(|| format!("no port in {reply:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_are_read() {
        assert_eq!(
            address_in_227("227 Entering Passive Mode (10,0,0,5,195,80).\r\n").unwrap(),
            "10.0.0.5:50000".parse().unwrap()
        );
        assert!(address_in_227("227 Entering Passive Mode (10,0,0,5,195).").is_err());
        assert_eq!(
            port_in_229("229 Entering Extended Passive Mode (|||50000|).").unwrap(),
            50000
        );
        assert_eq!(port_in_229("229 Ok (|2|::1|50000|)").unwrap(), 50000);
        assert!(port_in_229("229 no").is_err());
    }
}
