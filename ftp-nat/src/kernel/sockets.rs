//! The TCP sockets of this network namespace that listen (linux/inet_diag.h).

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::netlink::{Netlink, attributes};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// Length of `struct inet_diag_req_v2`.
const REQUEST: usize = 56;
/// Length of `struct inet_diag_msg`.
const ANSWER: usize = 72;
/// `1 << TCP_LISTEN`.
const LISTENING: u32 = 1 << 10;
/// `INET_DIAG_SKV6ONLY`.
const V6_ONLY: u16 = 11;
/// `AF_INET6`, as the kernel's structs have it.
const V6: u8 = libc::AF_INET6 as u8;

/// The addresses and ports that somebody listens on. A socket of IPv6 that takes connections of IPv4
/// at all addresses is there for both.
///
/// # Errors
///
/// `ENOENT`: a kernel without inet_diag.
pub fn listening() -> io::Result<BTreeSet<(IpAddr, u16)>> {
    let mut netlink = Netlink::open_sock_diag()?;
    let mut found = BTreeSet::new();
    for family in [libc::AF_INET as u8, V6] {
        let mut request = [0; REQUEST];
        request[0] = family;
        request[1] = libc::IPPROTO_TCP as u8;
        request[4..8].copy_from_slice(&LISTENING.to_ne_bytes());
        found.extend(netlink.dump(
            BY_FAMILY,
            &request,
            |found: &mut Vec<(IpAddr, u16)>, kind, payload| {
                if kind == BY_FAMILY {
                    found.extend(listener(payload).into_iter().flatten());
                }
            },
        )?);
    }
    Ok(found)
}

/// What a socket listens on: one address, or those of two families.
fn listener(message: &[u8]) -> Option<[(IpAddr, u16); 2]> {
    let port = u16::from_be_bytes(message.get(4..6)?.try_into().ok()?);
    let address: [u8; 16] = message.get(8..24)?.try_into().ok()?;
    if message.first() != Some(&V6) {
        let [a, b, c, d, ..] = address;
        let ip = IpAddr::from([a, b, c, d]);
        return Some([(ip, port); 2]);
    }
    let ip = Ipv6Addr::from(address);
    let is_v6_only = attributes(message, ANSWER)
        .any(|(kind, value)| kind == V6_ONLY && value.first().is_some_and(|is_set| *is_set != 0));
    let other = if ip.is_unspecified() && !is_v6_only {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(ip).to_canonical()
    };
    Some([(IpAddr::V6(ip).to_canonical(), port), (other, port)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn what_listens_is_found() {
        let any: IpAddr = Ipv4Addr::UNSPECIFIED.into();
        for (address, both) in [("127.0.0.1:0", false), ("[::1]:0", false), ("[::]:0", true)] {
            let Ok(socket) = TcpListener::bind(address) else {
                continue;
            };
            let address = socket.local_addr().unwrap();
            let found = listening().unwrap();
            assert!(found.contains(&(address.ip(), address.port())), "{address}");
            let is_for_both = found.contains(&(any, address.port()));
            assert_eq!(is_for_both, both, "{address}");
        }
    }
}
