//! Interfaces, addresses and routes as the kernel has them now.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::Context as _;

use super::netlink::{Netlink, attributes, message, number, push_attribute, text};
use crate::model::prefix::Prefix;

/// Hardware types (linux/if_arp.h) whose packets have an Ethernet header.
const ETHERNET: u16 = 1;
const LOOPBACK: u16 = 772;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MTU, in bytes.
    pub mtu: u32,
    /// Whether its packets have an Ethernet header.
    pub ethernet: bool,
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    index: u32,
    ip: IpAddr,
    /// Whether an outsider can be told to use it: global, primary, not about to go away.
    presentable: bool,
}

/// Where packets to somewhere go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Out of the interface with this number.
    Through(u32),
    /// To this machine itself.
    Here,
    /// Nowhere.
    None,
}

/// A look at all of it.
#[derive(Debug, Default)]
pub struct Network {
    links: Vec<Link>,
    addresses: Vec<Address>,
    routes: HashMap<IpAddr, Route>,
    /// The addresses under which this machine itself would send to them.
    sources: HashMap<IpAddr, IpAddr>,
    /// The interfaces that lead to networks, or to parts of them.
    ways: HashMap<Prefix, BTreeSet<u32>>,
}

impl Network {
    /// What there is now; of routes those to the given addresses and networks.
    ///
    /// # Errors
    ///
    /// When the kernel does not answer.
    pub fn read(
        destinations: impl IntoIterator<Item = IpAddr>,
        networks: &[Prefix],
    ) -> anyhow::Result<Self> {
        let mut netlink = Netlink::open().context("cannot open a netlink socket")?;
        let mut network = Self {
            links: links(&mut netlink).context("cannot list the interfaces")?,
            addresses: addresses(&mut netlink).context("cannot list the addresses")?,
            routes: HashMap::new(),
            sources: HashMap::new(),
            ways: ways(&mut netlink, networks).context("cannot list the routes")?,
        };
        for ip in destinations {
            let (route, source) = route(&mut netlink, ip)
                .with_context(|| format!("cannot look up the route to {ip}"))?;
            network.routes.insert(ip, route);
            network.sources.extend(source.map(|source| (ip, source)));
        }
        Ok(network)
    }

    /// The interface of this name.
    pub fn named(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The interface of this number.
    pub fn numbered(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// All interfaces.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.iter()
    }

    /// The names of all interfaces.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.links.iter().map(|link| link.name.as_str())
    }

    /// The address that an interface shows to the outside.
    pub fn address_of(&self, index: u32, v4: bool) -> Option<IpAddr> {
        self.addresses
            .iter()
            .filter(|address| address.index == index && address.presentable)
            .map(|address| address.ip)
            .find(|ip| ip.is_ipv4() == v4)
    }

    /// All addresses of an interface.
    pub fn addresses_of(&self, index: u32) -> impl Iterator<Item = IpAddr> {
        let its = self.addresses.iter();
        its.filter(move |address| address.index == index)
            .map(|address| address.ip)
    }

    /// Whether an address is one of this machine's.
    pub fn has(&self, ip: IpAddr) -> bool {
        self.addresses.iter().any(|address| address.ip == ip)
    }

    /// The interfaces that lead to a network that was asked for, or to parts of it.
    pub fn ways_to(&self, network: &Prefix) -> impl Iterator<Item = &Link> {
        let ways = self.ways.get(network).into_iter().flatten();
        ways.filter_map(|index| self.numbered(*index))
    }

    /// The route to one of the destinations that were asked for.
    pub fn route(&self, ip: IpAddr) -> Route {
        self.routes.get(&ip).copied().unwrap_or(Route::None)
    }

    /// The address under which this machine itself sends to one of them.
    pub fn source_toward(&self, ip: IpAddr) -> Option<IpAddr> {
        self.sources.get(&ip).copied()
    }

    /// The interfaces with an Ethernet header by whose addresses hosts can reach this machine.
    pub fn addressed(&self) -> impl Iterator<Item = &Link> {
        let links = self.links.iter();
        links.filter(|link| {
            let has_address = self
                .addresses
                .iter()
                .any(|address| address.index == link.index && address.presentable);
            link.ethernet && has_address
        })
    }
}

/// The interfaces by which networks, or parts of them, are reached: those of all routes into them,
/// and that of the route which leads to the whole.
fn ways(netlink: &mut Netlink, networks: &[Prefix]) -> io::Result<HashMap<Prefix, BTreeSet<u32>>> {
    let mut ways: HashMap<_, BTreeSet<_>> = HashMap::new();
    if networks.is_empty() {
        return Ok(ways);
    }
    for network in networks {
        let found = ways.entry(*network).or_default();
        if let (Route::Through(index), _) = route(netlink, network.first_host())? {
            found.insert(index);
        }
    }
    let found = netlink.dump(
        message::GET_ROUTE,
        &[0; ROUTE_INFO],
        |found: &mut HashMap<_, BTreeSet<u32>>, kind, payload| {
            if kind != message::NEW_ROUTE || payload.get(7) != Some(&TYPE_UNICAST) {
                return;
            }
            let Some((to, out)) = destination(payload) else {
                return;
            };
            for network in networks.iter().filter(|network| network.contains(&to)) {
                found.entry(*network).or_default().extend(&out);
            }
        },
    )?;
    for (network, interfaces) in found {
        ways.entry(network).or_default().extend(interfaces);
    }
    Ok(ways)
}

/// What a route leads to, and the interfaces by which it does.
fn destination(payload: &[u8]) -> Option<(Prefix, Vec<u32>)> {
    /// `struct rtnexthop`: length, flags, hops, interface.
    const HOP: usize = 8;
    let unspecified = match i32::from(*payload.first()?) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let bits = *payload.get(1)?;
    let (mut to, mut out) = (unspecified, Vec::new());
    for (kind, value) in attributes(payload, ROUTE_INFO) {
        match kind {
            ROUTE_DESTINATION => to = ip(value)?,
            ROUTE_OUT => out.extend(number(value, 0)),
            ROUTE_MULTIPATH => {
                let mut rest = value;
                while rest.len() >= HOP {
                    out.extend(number(rest, 4));
                    let len = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
                    rest = rest.get(len.max(HOP).next_multiple_of(4)..).unwrap_or(&[]);
                }
            }
            _ => {}
        }
    }
    Some((Prefix::of(to, bits), out))
}

/// `struct ifinfomsg` and its attributes (linux/if_link.h).
fn links(netlink: &mut Netlink) -> io::Result<Vec<Link>> {
    const INFO: usize = 16;
    const NAME: u16 = 3;
    const MTU: u16 = 4;
    netlink.dump(
        message::GET_LINK,
        &[0; INFO],
        |links: &mut Vec<_>, kind, payload| {
            let (Some(first), Some(index)) = (number(payload, 0), number(payload, 4)) else {
                return;
            };
            if kind != message::NEW_LINK {
                return;
            }
            let hardware = (first.to_ne_bytes()[2], first.to_ne_bytes()[3]);
            let hardware = u16::from_ne_bytes([hardware.0, hardware.1]);
            let mut link = Link {
                index,
                name: String::new(),
                mtu: 0,
                ethernet: matches!(hardware, ETHERNET | LOOPBACK),
            };
            for (kind, value) in attributes(payload, INFO) {
                match kind {
                    NAME => link.name = text(value),
                    MTU => link.mtu = number(value, 0).unwrap_or(0),
                    _ => {}
                }
            }
            links.push(link);
        },
    )
}

/// `struct ifaddrmsg` and its attributes (linux/if_addr.h).
fn addresses(netlink: &mut Netlink) -> io::Result<Vec<Address>> {
    const INFO: usize = 8;
    const ADDRESS: u16 = 1;
    const LOCAL: u16 = 2;
    const FLAGS: u16 = 8;
    // IFA_F_SECONDARY is IFA_F_TEMPORARY for IPv6; duplicate, failed, deprecated, tentative.
    const NOT_PRESENTABLE: u32 = 0x01 | 0x08 | 0x20 | 0x40;
    netlink.dump(
        message::GET_ADDRESS,
        &[0; INFO],
        |addresses: &mut Vec<_>, kind, payload| {
            let (Some(first), Some(index)) = (number(payload, 0), number(payload, 4)) else {
                return;
            };
            if kind != message::NEW_ADDRESS {
                return;
            }
            let [_family, _length, flags, scope] = first.to_ne_bytes();
            let (mut flags, mut local, mut address) = (u32::from(flags), None, None);
            for (kind, value) in attributes(payload, INFO) {
                match kind {
                    LOCAL => local = ip(value),
                    ADDRESS => address = ip(value),
                    FLAGS => flags = number(value, 0).unwrap_or(flags),
                    _ => {}
                }
            }
            // On point-to-point links ADDRESS is the other end.
            if let Some(ip) = local.or(address) {
                addresses.push(Address {
                    index,
                    ip,
                    presentable: scope == 0 && flags & NOT_PRESENTABLE == 0,
                });
            }
        },
    )
}

// `struct rtmsg` and its attributes (linux/rtnetlink.h).
const ROUTE_INFO: usize = 12;
const ROUTE_DESTINATION: u16 = 1;
const ROUTE_OUT: u16 = 4;
const ROUTE_SOURCE: u16 = 7;
const ROUTE_MULTIPATH: u16 = 9;
const TYPE_UNICAST: u8 = 1;
const TYPE_LOCAL: u8 = 2;

/// The route to an address, and this machine's own address on it.
fn route(netlink: &mut Netlink, to: IpAddr) -> io::Result<(Route, Option<IpAddr>)> {
    let mut request = vec![0; ROUTE_INFO];
    match to {
        IpAddr::V4(ip) => {
            request[0] = libc::AF_INET as u8;
            request[1] = 32;
            push_attribute(&mut request, ROUTE_DESTINATION, &ip.octets());
        }
        IpAddr::V6(ip) => {
            request[0] = libc::AF_INET6 as u8;
            request[1] = 128;
            push_attribute(&mut request, ROUTE_DESTINATION, &ip.octets());
        }
    }
    let mut found = (Route::None, None);
    let answer = netlink.ask(message::GET_ROUTE, &request, |kind, payload| {
        let out = attributes(payload, ROUTE_INFO).find(|(kind, _)| *kind == ROUTE_OUT);
        let out = out.and_then(|(_, value)| number(value, 0));
        let source = attributes(payload, ROUTE_INFO).find(|(kind, _)| *kind == ROUTE_SOURCE);
        if kind == message::NEW_ROUTE {
            let route = match (payload.get(7), out) {
                (Some(&TYPE_LOCAL), _) => Route::Here,
                (Some(&TYPE_UNICAST), Some(out)) => Route::Through(out),
                _ => Route::None,
            };
            found = (route, source.and_then(|(_, value)| ip(value)));
        }
    });
    match answer {
        Ok(()) => Ok(found),
        // How the kernel says that there is no route, or a route of type unreachable, blackhole
        // or prohibit.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL)
            ) =>
        {
            Ok((Route::None, None))
        }
        Err(error) => Err(error),
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// A network made up for a test.
#[cfg(test)]
impl Network {
    pub(crate) fn with_link(mut self, index: u32, name: &str, ethernet: bool) -> Self {
        self.links.push(Link {
            index,
            name: name.into(),
            mtu: 1500,
            ethernet,
        });
        self
    }

    pub(crate) fn with_address(mut self, index: u32, ip: &str) -> Self {
        self.addresses.push(Address {
            index,
            ip: ip.parse().unwrap(),
            presentable: true,
        });
        self
    }

    pub(crate) fn with_way(mut self, network: &str, index: u32) -> Self {
        let ways = self.ways.entry(network.parse().unwrap()).or_default();
        ways.insert(index);
        self
    }

    pub(crate) fn with_route(mut self, ip: &str, route: Route) -> Self {
        self.routes.insert(ip.parse().unwrap(), route);
        self
    }

    pub(crate) fn with_source(mut self, toward: &str, source: &str) -> Self {
        let ends: (IpAddr, IpAddr) = (toward.parse().unwrap(), source.parse().unwrap());
        self.sources.extend([ends]);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_namespace_has_a_loopback_interface() {
        let network = Network::read(["127.0.0.1".parse().unwrap()], &[]).unwrap();
        let lo = network.named("lo").unwrap();
        assert_eq!(network.numbered(lo.index), Some(lo));
        assert!(lo.ethernet);
        assert_eq!(network.named("no-such-interface"), None);
        assert_eq!(network.route("127.0.0.1".parse().unwrap()), Route::Here);
    }

    #[test]
    fn a_route_names_its_network_and_its_interfaces() {
        let attribute = |kind: u16, value: &[u8]| {
            let mut bytes = Vec::new();
            push_attribute(&mut bytes, kind, value);
            bytes
        };
        let mut route = [0; ROUTE_INFO];
        route[0] = libc::AF_INET as u8;
        route[1] = 16;
        let hop = |index: u32| [&[8, 0, 0, 0][..], &index.to_ne_bytes()].concat();
        let two = [hop(3), hop(4)].concat();
        for (attributes, to, out) in [
            (
                [
                    attribute(1, &[10, 1, 0, 0]),
                    attribute(4, &7_u32.to_ne_bytes()),
                ]
                .concat(),
                "10.1.0.0/16",
                &[7][..],
            ),
            (
                [attribute(1, &[10, 1, 0, 0]), attribute(9, &two)].concat(),
                "10.1.0.0/16",
                &[3, 4],
            ),
            (attribute(9, &two[..11]), "0.0.0.0/16", &[3]),
        ] {
            let (found, interfaces) = destination(&[&route[..], &attributes].concat()).unwrap();
            assert_eq!(found.to_string(), to);
            assert_eq!(interfaces, out);
        }
        assert!(destination(&[]).is_none());
    }
}
