//! The words that arguments and configuration file share: addresses, interfaces, port ranges.
//!
//! A parser takes the text and gives the value or what is wrong with it, as a phrase that names
//! the wrong part; the caller knows where the text stood.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use ftp_nat_common::{
    abi::{POOL_SERVERS, mss},
    ftp::policy,
};

use crate::model::prefix::Prefix;

/// The longest interface name that the kernel allows (`IFNAMSIZ` less the final zero).
const INTERFACE_NAME_MAX: usize = 15;

/// What clients outside dial.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Public {
    /// This address.
    Address(SocketAddr),
    /// The address that the interface has, followed as it changes.
    Interface {
        /// Its name.
        name: String,
        /// The port.
        port: u16,
    },
    /// Any address of a network: its servers' own.
    Network {
        /// The network.
        network: Prefix,
        /// The port.
        port: u16,
    },
}

impl Public {
    /// The port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Interface { port, .. } | Self::Network { port, .. } => *port,
        }
    }
}

impl FromStr for Public {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            let (network, port) = network_and_port(text)?;
            return Ok(Self::Network { network, port });
        }
        let (host, port) = host_and_port(text)?;
        match host {
            Host::Address(ip) => {
                usable(ip)?;
                Ok(Self::Address(SocketAddr::new(ip, port)))
            }
            Host::Name(name) => Ok(Self::Interface {
                name: interface(name)?,
                port,
            }),
        }
    }
}

impl fmt::Display for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Interface { name, port } => write!(f, "{name}:{port}"),
            Self::Network { network, port } => write!(f, "{network}:{port}"),
        }
    }
}

/// Where a published server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Server {
    /// Behind the gateway.
    Behind(SocketAddr),
    /// Several behind the gateway, of one family, that share the clients.
    Pool(Vec<SocketAddr>),
    /// On this machine.
    Local,
    /// Behind the gateway, at the address that clients dial: nothing is translated.
    Itself,
}

impl Server {
    /// Those that are behind the gateway at an address of their own.
    pub fn behind(&self) -> &[SocketAddr] {
        match self {
            Self::Behind(server) => std::slice::from_ref(server),
            Self::Pool(servers) => servers,
            Self::Local | Self::Itself => &[],
        }
    }

    /// Adds a server to a pool's list.
    ///
    /// # Errors
    ///
    /// Why it cannot be in it.
    pub fn join(pool: &mut Vec<SocketAddr>, text: &str) -> Result<(), String> {
        let Self::Behind(server) = text.parse()? else {
            return Err(format!(
                "{text:?} cannot be one of several servers: each is ADDR:PORT or [V6]:PORT"
            ));
        };
        if pool.contains(&server) {
            return Err(format!("{server} is named twice"));
        }
        if let Some(first) = pool.first()
            && first.is_ipv4() != server.is_ipv4()
        {
            return Err(format!(
                "{first} and {server} are of two families: write an entry for each family"
            ));
        }
        if pool.len() == POOL_SERVERS {
            return Err(format!(
                "{server} is one server too many: a pool has room for {POOL_SERVERS}"
            ));
        }
        pool.push(server);
        Ok(())
    }
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "local" {
            return Ok(Self::Local);
        }
        if let Some((network, _)) = text.split_once('/') {
            return Err(format!(
                "{text:?} is a network, and a server is one address, such as {network}:21"
            ));
        }
        let (host, port) = host_and_port(text)?;
        match host {
            Host::Address(ip) => {
                usable(ip)?;
                Ok(Self::Behind(SocketAddr::new(ip, port)))
            }
            Host::Name(name) => Err(format!(
                "{name:?} is not an IP address, and names are not looked up; \
                 a server is ADDR:PORT, [V6]:PORT, a list of such or `local`"
            )),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Behind(address) => address.fmt(f),
            Self::Pool(servers) => {
                for (place, server) in servers.iter().enumerate() {
                    let between = if place == 0 { "" } else { ", " };
                    write!(f, "{between}{server}")?;
                }
                Ok(())
            }
            Self::Local => f.write_str("local"),
            Self::Itself => f.write_str("itself"),
        }
    }
}

/// `NET/BITS:PORT`: behind the slash there is no colon but the port's.
fn network_and_port(text: &str) -> Result<(Prefix, u16), String> {
    const FORM: &str = "a network with a port is written 2001:db8:5::/64:21 or 203.0.113.16/28:21";
    let (address, rest) = text.split_once('/').unwrap_or((text, ""));
    let Some((bits, port)) = rest.split_once(':') else {
        return Err(format!("{text:?} has no port: {FORM}"));
    };
    if address.starts_with('[') || bits.ends_with(']') {
        return Err(format!("{text:?} needs no brackets: {FORM}"));
    }
    let network: Prefix = format!("{address}/{bits}").parse()?;
    Ok((network, port_number(port)?))
}

enum Host<'a> {
    Address(IpAddr),
    Name(&'a str),
}

fn host_and_port(text: &str) -> Result<(Host<'_>, u16), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((host, port)) = rest.split_once("]:") else {
            return Err(format!("{text:?} has no `]:` before its port"));
        };
        let ip = host
            .parse::<Ipv6Addr>()
            .map_err(|_| format!("{host:?} is not an IPv6 address"))?;
        return Ok((Host::Address(plain(ip)), port_number(port)?));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(format!(
            "{text:?} has no port (an IPv6 address with a port is written [{text}]:21)"
        ));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!("{text:?} has no port (such as {text}:21)"));
    };
    if host.contains(':') {
        return Err(format!(
            "{host:?} needs brackets: an IPv6 address with a port is written [ADDR]:PORT"
        ));
    }
    let host = match host.parse::<Ipv4Addr>() {
        Ok(ip) => Host::Address(IpAddr::V4(ip)),
        // Nobody names an interface so, but a mistyped address looks like this.
        Err(_) if host.contains('.') && host.chars().all(|c| c.is_ascii_digit() || c == '.') => {
            return Err(format!("{host:?} is not an IPv4 address"));
        }
        Err(_) => Host::Name(host),
    };
    Ok((host, port_number(port)?))
}

/// An IPv4 address is one address, however it was written.
fn plain(ip: Ipv6Addr) -> IpAddr {
    IpAddr::V6(ip).to_canonical()
}

/// An address that a machine can be reached by.
///
/// # Errors
///
/// For the unspecified, loopback, multicast and broadcast addresses.
pub fn usable(ip: IpAddr) -> Result<IpAddr, String> {
    let kind = if ip.is_unspecified() {
        "stands for no or any address; name one, or the interface that has it"
    } else if ip.is_loopback() {
        "is a loopback address, which no packet on a wire carries; for a server on this machine \
         say `local`"
    } else if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        "is not the address of one machine"
    } else if matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        "is a link-local address, which no router forwards"
    } else {
        return Ok(ip);
    };
    Err(format!("{ip} {kind}"))
}

/// A TCP port, 1 to 65535.
///
/// # Errors
///
/// What is wrong with it.
pub fn port_number(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(format!("{text:?} is not a port: 1 to 65535")),
    }
}

/// An interface name that the kernel would accept.
///
/// # Errors
///
/// What is wrong with it.
pub fn interface(text: &str) -> Result<String, String> {
    let wrong = if text.is_empty() {
        "is empty"
    } else if text.len() > INTERFACE_NAME_MAX {
        "is longer than 15 bytes"
    } else if text == "." || text == ".." || text.contains(['/', ':']) {
        "holds what no interface name may hold"
    } else if text.contains(char::is_whitespace) {
        "holds blanks"
    } else {
        return Ok(text.to_owned());
    };
    Err(format!("{text:?} is not an interface name: it {wrong}"))
}

/// Ports from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

/// Lower ones belong to well-known services: no data connection may ask for them.
const DATA_PORT_MIN: u16 = 1024;

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (port_number(first.trim())?, port_number(last.trim())?);
        if first > last {
            return Err(format!(
                "{text:?} is upside down: {first} is above {last}; write {last}-{first}"
            ));
        }
        if first < DATA_PORT_MIN {
            return Err(format!(
                "{text:?} starts below {DATA_PORT_MIN}, where data connections are never let in"
            ));
        }
        Ok(Self { first, last })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// The segment size that redirected connections may agree on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MssClamp {
    /// What fits the interfaces that a connection goes through.
    #[default]
    Auto,
    /// Whatever the ends say.
    Off,
    /// So many bytes.
    Bytes(u16),
}

impl MssClamp {
    /// The smallest that is taken: what every IPv4 host must be able to receive (RFC 9293 section
    /// 3.7.1).
    const MIN: u16 = 536;

    /// As the datapath has it.
    pub const fn number(self) -> u16 {
        match self {
            Self::Auto => mss::AUTO,
            Self::Off => mss::OFF,
            Self::Bytes(bytes) => bytes,
        }
    }

    /// From what the datapath has.
    pub const fn of(number: u16) -> Self {
        match number {
            mss::AUTO => Self::Auto,
            mss::OFF => Self::Off,
            bytes => Self::Bytes(bytes),
        }
    }
}

impl FromStr for MssClamp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            _ => match text.parse() {
                Ok(bytes) if bytes >= Self::MIN => Ok(Self::Bytes(bytes)),
                _ => Err(format!(
                    "{text:?} is not auto, off or a size of {} to {} bytes",
                    Self::MIN,
                    u16::MAX
                )),
            },
        }
    }
}

impl fmt::Display for MssClamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::Bytes(bytes) => write!(f, "{bytes}"),
        }
    }
}

/// Inside clients, and the control port of their servers: `NET[:PORT]`.
///
/// # Errors
///
/// What is wrong with it.
pub fn clients(text: &str) -> Result<(Prefix, u16), String> {
    // Behind the slash there is no colon but the port's.
    let (network, port) = match text.split_once('/') {
        Some((_, bits)) => match bits.split_once(':') {
            Some((bits, port)) => {
                let end = text.len() - port.len() - 1;
                debug_assert!(text[..end].ends_with(bits), "{text}");
                (&text[..end], Some(port))
            }
            None => (text, None),
        },
        None if text.parse::<IpAddr>().is_ok() => (text, None),
        None => match text.rsplit_once(':') {
            Some((host, port)) => {
                let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
                (bare.unwrap_or(host), Some(port))
            }
            None => (text, None),
        },
    };
    let port = port.map_or(Ok(21), port_number)?;
    Ok((network.parse()?, port))
}

/// A command that a policy may deny, in any case; gives it in capitals.
///
/// # Errors
///
/// That it cannot be denied, and which ones can.
pub fn command(text: &str) -> Result<String, String> {
    if policy::bit_of(text).is_some() {
        return Ok(text.to_ascii_uppercase());
    }
    let known = policy::DENIABLE.join(", ");
    Err(format!(
        "{text:?} is no command that can be denied; those are {known}"
    ))
}

/// A packet mark, decimal or hexadecimal.
///
/// # Errors
///
/// What is wrong with it.
pub fn mark(text: &str) -> Result<u32, String> {
    let mark = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    mark.map_err(|_| format!("{text:?} is not a mark: 0 to 0xffffffff"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_end_is_an_address_or_an_interface_with_a_port() {
        let address = |text: &str| Ok(Public::Address(text.parse().unwrap()));
        let eth0 = Public::Interface {
            name: "eth0.7".into(),
            port: 990,
        };
        assert_eq!("203.0.113.1:21".parse(), address("203.0.113.1:21"));
        assert_eq!("[2001:db8::1]:21".parse(), address("[2001:db8::1]:21"));
        assert_eq!("[::ffff:203.0.113.1]:21".parse(), address("203.0.113.1:21"));
        assert_eq!("eth0.7:990".parse(), Ok(eth0));
    }

    #[test]
    fn clients_are_a_network_and_perhaps_a_port() {
        for (text, network, port) in [
            ("192.168.0.0/16", "192.168.0.0/16", 21),
            ("192.168.7.9/16:2121", "192.168.0.0/16", 2121),
            ("192.168.7.9", "192.168.7.9/32", 21),
            ("192.168.7.9:990", "192.168.7.9/32", 990),
            ("fd00::1/8", "fd00::/8", 21),
            ("fd00::/8:2121", "fd00::/8", 2121),
            ("fd00::7", "fd00::7/128", 21),
            ("[fd00::7]:2121", "fd00::7/128", 2121),
            ("0.0.0.0/0", "0.0.0.0/0", 21),
            ("::/0", "::/0", 21),
        ] {
            let (prefix, number) = clients(text).unwrap();
            assert_eq!((prefix.to_string().as_str(), number), (network, port));
        }
        for (text, named) in [
            ("", "\"\" is not an IP address"),
            ("lan", "\"lan\" is not an IP address"),
            ("192.168.0.0/33", "\"33\" is not a prefix length"),
            ("192.168.0.0/16:0", "\"0\" is not a port"),
            ("192.168.0.0/16:", "\"\" is not a port"),
            ("fd00::/129:21", "\"129\" is not a prefix length"),
        ] {
            let error = clients(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn a_network_contains_itself_and_its_parts() {
        let prefix = |text: &str| text.parse::<Prefix>().unwrap();
        let outer = prefix("10.0.0.0/8");
        for (inner, is_part) in [
            ("10.0.0.0/8", true),
            ("10.1.2.0/24", true),
            ("10.0.0.0/7", false),
            ("11.0.0.0/24", false),
            ("fd00::/8", false),
        ] {
            assert_eq!(outer.contains(&prefix(inner)), is_part, "{inner}");
        }
        assert_eq!(outer.first_host().to_string(), "10.0.0.1");
        assert_eq!(prefix("10.0.0.7").first_host().to_string(), "10.0.0.7");
    }

    #[test]
    fn what_is_wrong_with_an_end_is_named() {
        for (text, named) in [
            ("300.1.1.1:21", "\"300.1.1.1\" is not an IPv4 address"),
            ("203.0.113.1", "has no port"),
            ("203.0.113.1:0", "\"0\" is not a port"),
            ("203.0.113.1:ftp", "\"ftp\" is not a port"),
            ("203.0.113.1:65536", "\"65536\" is not a port"),
            ("2001:db8::1", "has no port"),
            ("2001:db8::zz:21", "needs brackets"),
            (
                "[2001:db8::zz]:21",
                "\"2001:db8::zz\" is not an IPv6 address",
            ),
            ("[2001:db8::1]", "has no `]:`"),
            ("0.0.0.0:21", "0.0.0.0 stands for no or any address"),
            ("127.0.0.1:21", "say `local`"),
            ("224.0.0.1:21", "not the address of one machine"),
            ("[fe80::1]:21", "link-local"),
            ("a name:21", "blanks"),
            ("sixteen-byte-nam:21", "longer than 15"),
            (":21", "is empty"),
        ] {
            let error = text.parse::<Public>().unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn a_server_is_an_address_or_this_machine() {
        assert_eq!("local".parse(), Ok(Server::Local));
        assert_eq!(
            "10.0.0.5:2121".parse(),
            Ok(Server::Behind("10.0.0.5:2121".parse().unwrap()))
        );
        let error = "ftp.example.com:21".parse::<Server>().unwrap_err();
        assert!(error.contains("names are not looked up"), "{error}");
    }

    #[test]
    fn port_ranges_rise() {
        let range = |first, last| Ok(PortRange { first, last });
        assert_eq!("50000-50999".parse(), range(50000, 50999));
        assert_eq!("50000".parse(), range(50000, 50000));
        for (text, named) in [
            ("50999-50000", "write 50000-50999"),
            ("20-30", "below 1024"),
            ("a-b", "not a port"),
        ] {
            let error = text.parse::<PortRange>().unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn prefixes_and_marks() {
        assert_eq!("10.0.0.0/8".parse::<Prefix>().unwrap().bits, 8);
        assert_eq!("2001:db8::1".parse::<Prefix>().unwrap().bits, 128);
        assert!("10.0.0.0/33".parse::<Prefix>().is_err());
        assert_eq!(mark("0x667470"), Ok(0x66_7470));
        assert_eq!(mark("7"), Ok(7));
        assert!(mark("-1").is_err());
    }
}
