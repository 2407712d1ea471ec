//! What the kernel would do with a packet, and what it knows of neighbours: asked over netlink.

use std::{io, net::IpAddr};

use crate::kernel::netlink::{Netlink, attributes, message, number, push_attribute};

// `struct rtmsg` and its attributes (linux/rtnetlink.h).
const ROUTE_INFO: usize = 12;
const DESTINATION: u16 = 1;
const SOURCE: u16 = 2;
const IN: u16 = 3;
const OUT: u16 = 4;
const GATEWAY: u16 = 5;

/// A route that the kernel chose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Way {
    /// The interface; none for a packet to this machine.
    pub out: Option<u32>,
    /// The next hop; none where the destination itself is on the link.
    pub gateway: Option<IpAddr>,
}

/// How the kernel would send a packet on: one that comes in by `from_interface`, or, without one,
/// its own.
///
/// # Errors
///
/// The kernel's reason to refuse it: `EHOSTUNREACH` where forwarding is off or there is no route;
/// for the reverse-path filter `EXDEV`, but `EINVAL` since Linux 6.13 (ip_route_input_rcu gives
/// reasons to drop in place of error numbers).
pub(super) fn way(
    netlink: &mut Netlink,
    source: Option<IpAddr>,
    destination: IpAddr,
    from_interface: Option<u32>,
) -> io::Result<Way> {
    let mut request = vec![0; ROUTE_INFO];
    let mut push = |kind, ip: IpAddr, bits: usize| match ip {
        IpAddr::V4(ip) => {
            request[0] = libc::AF_INET as u8;
            request[bits] = 32;
            push_attribute(&mut request, kind, &ip.octets());
        }
        IpAddr::V6(ip) => {
            request[0] = libc::AF_INET6 as u8;
            request[bits] = 128;
            push_attribute(&mut request, kind, &ip.octets());
        }
    };
    push(DESTINATION, destination, 1);
    if let Some(source) = source {
        push(SOURCE, source, 2);
    }
    if let Some(index) = from_interface {
        push_attribute(&mut request, IN, &index.to_ne_bytes());
    }
    let mut way = Way::default();
    netlink.ask(message::GET_ROUTE, &request, |kind, payload| {
        if kind != message::NEW_ROUTE {
            return;
        }
        for (kind, value) in attributes(payload, ROUTE_INFO) {
            match kind {
                OUT => way.out = number(value, 0),
                GATEWAY => way.gateway = address(value),
                _ => {}
            }
        }
    })?;
    Ok(way)
}

/// A policy-routing rule that asks for the packet's mark.
#[derive(Clone, Copy, Debug)]
pub(super) struct MarkRule {
    /// Its place among the rules.
    pub priority: u32,
    /// The bits that it asks for, and what they must be.
    pub mask: u32,
    pub mark: u32,
}

/// All of them, of both families.
pub(super) fn mark_rules(netlink: &mut Netlink) -> io::Result<Vec<MarkRule>> {
    // `struct fib_rule_hdr` and its attributes (linux/fib_rules.h).
    const INFO: usize = 12;
    const PRIORITY: u16 = 6;
    const MARK: u16 = 10;
    const MASK: u16 = 16;
    let mut all = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut request = [0; INFO];
        request[0] = family as u8;
        let rules = netlink.dump(
            message::GET_RULE,
            &request,
            |rules: &mut Vec<_>, kind, payload| {
                let (mut priority, mut mark, mut mask) = (0, None, u32::MAX);
                for (kind, value) in attributes(payload, INFO) {
                    match kind {
                        PRIORITY => priority = number(value, 0).unwrap_or(0),
                        MARK => mark = number(value, 0),
                        MASK => mask = number(value, 0).unwrap_or(u32::MAX),
                        _ => {}
                    }
                }
                if let Some(mark) = mark.filter(|_| kind == message::NEW_RULE) {
                    rules.push(MarkRule {
                        priority,
                        mask,
                        mark,
                    });
                }
            },
        )?;
        all.extend(rules);
    }
    Ok(all)
}

/// Whether the kernel has tried in vain to find the neighbour.
pub(super) fn has_failed(netlink: &mut Netlink, interface: u32, ip: IpAddr) -> io::Result<bool> {
    // `struct ndmsg` and its attributes (linux/neighbour.h).
    const INFO: usize = 12;
    const DESTINATION: u16 = 1;
    const INCOMPLETE: u16 = 0x01;
    const FAILED: u16 = 0x20;
    netlink.dump(GET_NEIGHBOUR, &[0; INFO], |failed, _, payload| {
        let state = payload
            .get(8..10)
            .map(|it| u16::from_ne_bytes([it[0], it[1]]));
        let is_it = number(payload, 4) == Some(interface)
            && attributes(payload, INFO)
                .any(|(kind, value)| kind == DESTINATION && address(value) == Some(ip));
        if is_it && state.is_some_and(|state| state & (INCOMPLETE | FAILED) != 0) {
            *failed = true;
        }
    })
}

/// `RTM_GETNEIGH`.
const GET_NEIGHBOUR: u16 = 30;

/// The flags (`IFF_*`) of an interface.
pub(super) fn flags(netlink: &mut Netlink, interface: u32) -> io::Result<Option<u32>> {
    const INFO: usize = 16;
    netlink.dump(
        message::GET_LINK,
        &[0; INFO],
        |found: &mut Option<_>, kind, payload| {
            if kind == message::NEW_LINK && number(payload, 4) == Some(interface) {
                *found = number(payload, 8);
            }
        },
    )
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_its_way_to_loopback_and_that_it_is_up() {
        let mut netlink = Netlink::open().unwrap();
        let way = way(&mut netlink, None, "127.0.0.1".parse().unwrap(), None).unwrap();
        assert_eq!(way.gateway, None);
        let index = way.out.unwrap();
        assert_eq!(flags(&mut netlink, index).unwrap().unwrap() & 1, 1);
        assert_eq!(flags(&mut netlink, u32::MAX).unwrap(), None);
    }
}
