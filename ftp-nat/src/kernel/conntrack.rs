//! Asking connection tracking whose connection it translates (linux/netfilter/nfnetlink_conntrack.h).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::netlink::{Netlink, attributes, push_attribute};

/// `NFNL_SUBSYS_CTNETLINK`, in a message type's high byte.
const SUBSYSTEM: u16 = 1 << 8;
/// `IPCTNL_MSG_CT_NEW`: an entry.
const ENTRY: u16 = SUBSYSTEM;
/// `IPCTNL_MSG_CT_GET`.
const GET: u16 = SUBSYSTEM | 1;
/// `struct nfgenmsg`: family, version, resource.
const HEADER: usize = 4;

/// `enum ctattr_type`.
mod tuple {
    pub(super) const ORIGINAL: u16 = 1;
    pub(super) const REPLY: u16 = 2;
}

/// `enum ctattr_tuple`.
mod part {
    pub(super) const IP: u16 = 1;
    pub(super) const PROTOCOL: u16 = 2;
}

/// `enum ctattr_ip`.
mod ip {
    pub(super) const V4_SOURCE: u16 = 1;
    pub(super) const V4_DESTINATION: u16 = 2;
    pub(super) const V6_SOURCE: u16 = 3;
    pub(super) const V6_DESTINATION: u16 = 4;
}

/// `enum ctattr_l4proto`.
mod protocol {
    pub(super) const NUMBER: u16 = 1;
    pub(super) const SOURCE_PORT: u16 = 2;
    pub(super) const DESTINATION_PORT: u16 = 3;
}

/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;

/// A socket to ask by.
#[derive(Debug)]
pub struct Conntrack(Netlink);

impl Conntrack {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// `EPROTONOSUPPORT`: a kernel without netfilter's netlink.
    pub fn open() -> io::Result<Self> {
        Netlink::open_netfilter().map(Self)
    }

    /// Who began the TCP connection whose answers come from `server` to `public`: its end before
    /// translation. None: connection tracking knows no such connection.
    ///
    /// # Errors
    ///
    /// `EPERM`: no CAP_NET_ADMIN. `EINVAL`: a kernel without nf_conntrack_netlink.
    pub fn client_of(
        &mut self,
        server: SocketAddr,
        public: SocketAddr,
    ) -> io::Result<Option<SocketAddr>> {
        let mut request = vec![family(server.ip()), 0, 0, 0];
        push_attribute(&mut request, tuple::REPLY | NESTED, &encode(server, public));
        let mut client = None;
        let asked = self.0.ask(GET, &request, |kind, payload| {
            if kind == ENTRY {
                client = attributes(payload, HEADER)
                    .find(|(kind, _)| *kind == tuple::ORIGINAL)
                    .and_then(|(_, original)| source(original));
            }
        });
        match asked {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            other => other.map(|()| client),
        }
    }
}

fn family(of: IpAddr) -> u8 {
    let family = if of.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    family as u8
}

/// A TCP tuple's attributes.
fn encode(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut addresses = Vec::new();
    for (end, v4, v6) in [
        (source, ip::V4_SOURCE, ip::V6_SOURCE),
        (destination, ip::V4_DESTINATION, ip::V6_DESTINATION),
    ] {
        match end.ip() {
            IpAddr::V4(it) => push_attribute(&mut addresses, v4, &it.octets()),
            IpAddr::V6(it) => push_attribute(&mut addresses, v6, &it.octets()),
        }
    }
    let mut ports = Vec::new();
    push_attribute(&mut ports, protocol::NUMBER, &[libc::IPPROTO_TCP as u8]);
    for (end, kind) in [
        (source, protocol::SOURCE_PORT),
        (destination, protocol::DESTINATION_PORT),
    ] {
        push_attribute(&mut ports, kind, &end.port().to_be_bytes());
    }
    let mut tuple = Vec::new();
    push_attribute(&mut tuple, part::IP | NESTED, &addresses);
    push_attribute(&mut tuple, part::PROTOCOL | NESTED, &ports);
    tuple
}

/// A tuple's source.
fn source(tuple: &[u8]) -> Option<SocketAddr> {
    let (mut address, mut port) = (None, None);
    for (kind, value) in attributes(tuple, 0) {
        for (field, value) in attributes(value, 0) {
            match (kind, field) {
                (part::IP, ip::V4_SOURCE) => {
                    address = <[u8; 4]>::try_from(value)
                        .ok()
                        .map(|it| IpAddr::V4(Ipv4Addr::from(it)));
                }
                (part::IP, ip::V6_SOURCE) => {
                    address = <[u8; 16]>::try_from(value)
                        .ok()
                        .map(|it| IpAddr::V6(Ipv6Addr::from(it)));
                }
                (part::PROTOCOL, protocol::SOURCE_PORT) => {
                    port = <[u8; 2]>::try_from(value).ok().map(u16::from_be_bytes);
                }
                _ => {}
            }
        }
    }
    Some(SocketAddr::new(address?, port?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuple_is_read_as_it_was_written() {
        for (source_end, destination) in [
            ("192.0.2.1:21", "198.51.100.1:40000"),
            ("[2001:db8::1]:21", "[2001:db8::2]:40000"),
        ] {
            let source_end = source_end.parse().unwrap();
            let tuple = encode(source_end, destination.parse().unwrap());
            assert_eq!(source(&tuple), Some(source_end));
        }
    }

    #[test]
    fn a_tuple_without_addresses_has_no_source() {
        assert_eq!(source(&[]), None);
    }
}
