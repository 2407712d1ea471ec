//! Which server: what the command line names, and its addresses.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs as _},
    sync::mpsc,
    thread,
    time::Duration,
};

/// A server as it was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A name or an address, without brackets.
    pub host: String,
    /// The control port.
    pub port: u16,
}

impl Target {
    /// Reads `HOST[:PORT]`; also `ftp://HOST[:PORT]/...`, which people copy from elsewhere.
    ///
    /// # Errors
    ///
    /// What is wrong with it, for the user.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, String> {
        let text = text.trim();
        let rest = text.strip_prefix("ftp://").unwrap_or(text);
        if let Some((scheme, _)) = rest.split_once("://") {
            return Err(format!(
                "{text:?} is no FTP server: {scheme}:// is another protocol (write HOST[:PORT])"
            ));
        }
        let rest = rest.split_once('/').map_or(rest, |(server, _)| server);
        if rest.contains('@') {
            return Err(format!(
                "{text:?} has a user in it: give the user by --user"
            ));
        }
        let (host, port) = split(rest).map_err(|why| format!("{text:?} {why}"))?;
        if host.is_empty() {
            return Err(format!("{text:?} names no host: write HOST[:PORT]"));
        }
        let port = match port {
            None => default_port,
            Some(port) => port
                .parse()
                .ok()
                .filter(|port: &u16| *port != 0)
                .ok_or_else(|| format!("{port:?} is not a port: write 1 to 65535"))?,
        };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }

    /// The server's addresses, in the order of the system's resolver.
    ///
    /// # Errors
    ///
    /// Why there is none, for the user.
    pub fn addresses(&self, limit: Duration) -> Result<Vec<SocketAddr>, String> {
        let (answer, waiting) = mpsc::channel();
        let target = self.clone();
        // The resolver knows no limit: it is left behind when it takes too long.
        thread::spawn(move || {
            let found = (target.host.as_str(), target.port)
                .to_socket_addrs()
                .map(Iterator::collect::<Vec<_>>);
            drop(answer.send(found));
        });
        match waiting.recv_timeout(limit) {
            Ok(Ok(mut found)) => {
                let mut seen = Vec::new();
                found.retain(|address| {
                    let is_new = !seen.contains(address);
                    seen.push(*address);
                    is_new
                });
                if found.is_empty() {
                    return Err(format!("{} has no address", self.host));
                }
                Ok(found)
            }
            Ok(Err(error)) => Err(format!("{} cannot be resolved: {error}", self.host)),
            Err(_) => Err(format!(
                "{} was not resolved within {} s",
                self.host,
                limit.as_secs()
            )),
        }
    }
}

/// Host and port, as text.
fn split(text: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, behind) = rest
            .split_once(']')
            .ok_or("has a bracket that never closes")?;
        let address = host.split_once('%').map_or(host, |(address, _)| address);
        if address.parse::<Ipv6Addr>().is_err() {
            return Err(format!("has no IPv6 address in its brackets: {host:?}"));
        }
        return match behind.strip_prefix(':') {
            None if behind.is_empty() => Ok((host, None)),
            None => Err(format!("has {behind:?} behind its bracket")),
            Some(port) => Ok((host, Some(port))),
        };
    }
    if text.matches(':').count() > 1 {
        // An IPv6 address without brackets cannot have a port.
        let address = text.split_once('%').map_or(text, |(address, _)| address);
        return match address.parse::<IpAddr>() {
            Ok(_) => Ok((text, None)),
            Err(_) => Err("is not an IPv6 address; with a port write [ADDR]:PORT".to_owned()),
        };
    }
    Ok(match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_in_many_ways() {
        for (text, host, port) in [
            ("ftp.example.net", "ftp.example.net", 21),
            ("ftp.example.net:2121", "ftp.example.net", 2121),
            ("198.51.100.1", "198.51.100.1", 21),
            ("198.51.100.1:65535", "198.51.100.1", 65535),
            ("[2001:db8::1]", "2001:db8::1", 21),
            ("[2001:db8::1]:990", "2001:db8::1", 990),
            ("2001:db8::1", "2001:db8::1", 21),
            ("[fe80::1%eth0]:21", "fe80::1%eth0", 21),
            ("ftp://ftp.example.net/pub/file", "ftp.example.net", 21),
            ("ftp://[2001:db8::1]:2121/", "2001:db8::1", 2121),
        ] {
            let found = Target::parse(text, 21).unwrap();
            assert_eq!((found.host.as_str(), found.port), (host, port), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_name_is_said() {
        for (text, part) in [
            ("", "names no host"),
            (":21", "names no host"),
            ("host:", "\"\" is not a port"),
            ("host:0", "\"0\" is not a port"),
            ("host:65536", "\"65536\" is not a port"),
            ("host:ftp", "\"ftp\" is not a port"),
            ("host:+21x", "is not a port"),
            ("[2001:db8::1", "never closes"),
            ("[198.51.100.1]:21", "no IPv6 address in its brackets"),
            ("[2001:db8::1]21", "behind its bracket"),
            ("2001:db8:::1", "write [ADDR]:PORT"),
            ("https://example.net/", "another protocol"),
            ("ftp://me@example.net/", "--user"),
        ] {
            let error = Target::parse(text, 21).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn an_address_needs_no_resolver() {
        let found = Target::parse("[2001:db8::1]:2121", 21).unwrap();
        assert_eq!(
            found.addresses(Duration::from_secs(5)).unwrap(),
            ["[2001:db8::1]:2121".parse().unwrap()]
        );
    }
}
