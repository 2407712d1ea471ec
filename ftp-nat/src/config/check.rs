//! What is wrong with a configuration whose single values are all right: contradictions.

use std::{collections::HashMap, net::SocketAddr, ops::RangeInclusive};

use redis::IntoConnectionInfo as _;

use super::{
    options::{Config, ControlNat, FirstPacket, Lan, Publish, TowardServer},
    origin::{Origin, Problem, Spanned},
    value::{Public, Server},
};

/// The largest table that is offered: the kernel takes memory for its buckets at once.
const LIMIT_MAX: u32 = 1 << 25;

/// The networks that the datapath has room for, of clients and of servers (its maps INSIDE and ROUTED).
const PREFIXES_MAX: usize = 1024;

/// A table's size.
///
/// # Errors
///
/// When it is none.
pub fn limit(entries: u32) -> Result<u32, String> {
    if (1..=LIMIT_MAX).contains(&entries) {
        return Ok(entries);
    }
    Err(format!("{entries} is out of range: {}", limit_range()))
}

/// The sizes that a table may have.
pub fn limit_range() -> String {
    format!("1 to {LIMIT_MAX} entries")
}

/// What contradicts itself in a configuration in which other mistakes were found: what is missing may
/// only have been mistaken, and is not missing as well.
pub fn check_the_rest(config: &Config) -> Vec<Problem> {
    let mut problems = check(config);
    problems.retain(|problem| !matches!(problem.origin, Origin::Default));
    problems
}

/// The highest number of a gateway in a cluster.
pub const NODES: u8 = 63;

/// How the address of a sentinel begins (`sentinel://HOST:PORT/MASTER`; the other one by TLS), and the
/// scheme of the engine's own address then.
pub const SENTINELS: [(&str, &str); 2] = [("sentinel://", "redis"), ("sentinels://", "rediss")];

/// Where a cluster's engine is.
///
/// # Errors
///
/// What is wrong with it.
pub fn engine(address: &str) -> Result<(), String> {
    let sentinel = SENTINELS
        .iter()
        .find_map(|(prefix, _)| address.strip_prefix(prefix));
    if let Some(rest) = sentinel {
        return match rest.rsplit_once('/') {
            Some((host, name)) if !host.is_empty() && !name.is_empty() => Ok(()),
            _ => Err(format!(
                "{address:?} names no master: sentinel://HOST:26379/MASTER"
            )),
        };
    }
    address
        .into_connection_info()
        .map(drop)
        .map_err(|error| format!("{address:?} is no address of an engine: {error}; such as redis://10.9.0.1:6379, rediss://USER:PASSWORD@HOST:6379, unix:///run/redis/redis.sock or sentinel://HOST:26379/MASTER"))
}

/// A cluster's name.
///
/// # Errors
///
/// When it is none.
pub fn cluster_name(name: &str) -> Result<(), String> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if (1..=64).contains(&name.len()) && name.bytes().all(is_word) {
        return Ok(());
    }
    Err("must be 1 to 64 letters, digits, `-`, `_` or `.`".to_owned())
}

/// A gateway's number in its cluster.
///
/// # Errors
///
/// When it is none.
pub fn cluster_node(number: u32) -> Result<u8, String> {
    u8::try_from(number)
        .ok()
        .filter(|number| (1..=NODES).contains(number))
        .ok_or_else(|| format!("must be 1 to {NODES}, and another one at each gateway"))
}

/// How much a client or a session may have of something; 0: no bound.
///
/// # Errors
///
/// When there is no table that large.
pub fn bound(most: u32) -> Result<u32, String> {
    if most <= LIMIT_MAX {
        return Ok(most);
    }
    Err(format!("must be {}", bound_range()))
}

/// What [`bound`] takes.
pub fn bound_range() -> String {
    format!("0 (no bound) to {LIMIT_MAX}")
}

/// Everything that contradicts itself.
pub fn check(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    interfaces(config, &mut problems);
    publishes(config, &mut problems);
    let prefixes: Vec<_> = config
        .masquerade
        .iter()
        .flat_map(|it| &it.clients)
        .collect();
    let publics = config.publish.iter().map(|it| &it.public);
    let networks: Vec<_> = publics
        .filter(|it| matches!(it.value, Public::Network { .. }))
        .collect();
    let one_too_many = [
        prefixes.get(PREFIXES_MAX).map(|it| &it.origin),
        networks.get(PREFIXES_MAX).map(|it| &it.origin),
    ];
    for origin in one_too_many.into_iter().flatten() {
        let what = format!("is one network too many: there is room for {PREFIXES_MAX}");
        problems.push(Problem::new(origin, what));
    }
    if config.publish.is_empty() && config.masquerade.is_empty() {
        problems.push(Problem::new(
            &Origin::Default,
            "nothing to do: publish a server with --publish PUBLIC=SERVER or [[publish]], or serve \
             clients with --masquerade NET or [[masquerade]]",
        ));
    }
    problems
}

fn interfaces(config: &Config, problems: &mut Vec<Problem>) {
    if config.wan.is_empty() {
        problems.push(Problem::new(
            &Origin::Default,
            "no WAN interface: name it with --wan IF or gateway.wan",
        ));
    }
    let lan: &[Spanned<String>] = match &config.lan {
        Lan::Named(names) => names,
        Lan::ByRoute | Lan::None => &[],
    };
    let mut seen: HashMap<&str, &str> = HashMap::new();
    let wan = config.wan.iter().map(|name| ("WAN", name));
    for (role, name) in wan.chain(lan.iter().map(|name| ("LAN", name))) {
        if let Some(before) = seen.insert(&name.value, role) {
            let what = if before == role {
                format!("{} is named twice", name.value)
            } else {
                format!("{} cannot be WAN and LAN at once", name.value)
            };
            problems.push(Problem::new(&name.origin, what));
        }
    }
}

fn publishes(config: &Config, problems: &mut Vec<Problem>) {
    let mut seen: HashMap<(&Public, bool), String> = HashMap::new();
    for publish in &config.publish {
        let public = &publish.public;
        let mut fault = |origin: &Origin, what: String| problems.push(Problem::new(origin, what));
        let is_interface = matches!(public.value, Public::Interface { .. });
        // An interface may have an address of each family, and a server for each.
        let families = if is_interface {
            publish.families()
        } else {
            &[true]
        };
        let server = publish.server.value.to_string();
        let before = families
            .iter()
            .filter_map(|v4| seen.insert((&public.value, *v4), server.clone()))
            .next_back();
        if let Some(before) = before {
            fault(
                &public.origin,
                format!("{} is already published, for {before}", public.value),
            );
        }
        if is_interface && config.standby {
            fault(
                &public.origin,
                format!(
                    "{}: on a standby (gateway.standby) the interface has not got the address that \
                     clients dial: name the address itself, such as 203.0.113.10:21",
                    public.value
                ),
            );
        }
        let servers = publish.server.value.behind();
        if let Some(what) = itself(publish).or_else(|| pool(publish)) {
            fault(&publish.server.origin, what);
        }
        if let Public::Address(address) = &public.value
            && let Some(server) = servers.iter().find(|it| {
                address.is_ipv4() != it.is_ipv4()
                    || (*it == address && publish.control_nat == ControlNat::Ebpf)
            })
        {
            if address.is_ipv4() != server.is_ipv4() {
                fault(
                    &publish.server.origin,
                    format!(
                        "{address} is {} and {server} is {}: translation between the two is not \
                         possible",
                        family(address),
                        family(server)
                    ),
                );
            } else {
                fault(
                    &publish.server.origin,
                    format!(
                        "{server} is its own public address: leave `server` out where nothing is \
                         translated (a server on this machine is `local`)"
                    ),
                );
            }
        }
        if publish.toward_server.value == TowardServer::Gateway
            && let Some(what) = hidden_clients(config, publish)
        {
            fault(&publish.toward_server.origin, what.to_owned());
        }
        let announced = match (&public.value, servers.first()) {
            (Public::Address(address), _) => Some(address.is_ipv4()),
            (Public::Interface { .. }, Some(server)) => Some(server.is_ipv4()),
            (Public::Network { network, .. }, _) => Some(network.address.is_ipv4()),
            (Public::Interface { .. }, None) => None,
        };
        if let (Some(advertise), Some(v4)) = (&publish.advertise, announced)
            && advertise.value.is_ipv4() != v4
        {
            fault(
                &advertise.origin,
                format!(
                    "{} is not of the same family as {}",
                    advertise.value, public.value
                ),
            );
        }
    }
}

/// What is wrong with an entry whose servers keep their addresses, or should.
fn itself(publish: &Publish) -> Option<String> {
    let public = &publish.public.value;
    match (public, &publish.server.value) {
        (Public::Interface { name, .. }, Server::Itself) => Some(format!(
            "`server` is missing: {name} is an interface of this machine (a server on this machine \
             is `local`)"
        )),
        (Public::Network { .. }, Server::Behind(_) | Server::Pool(_) | Server::Local) => {
            Some(format!(
                "{public} is a network, whose servers keep their addresses: leave `server` out"
            ))
        }
        (Public::Network { .. }, Server::Itself) if publish.advertise.is_some() => Some(format!(
            "{public} is a network, whose servers announce their own addresses: leave `advertise` out"
        )),
        _ => None,
    }
}

/// Why the servers of an entry cannot share its clients.
fn pool(publish: &Publish) -> Option<String> {
    let is_pool = matches!(publish.server.value, Server::Pool(_));
    (is_pool && publish.control_nat == ControlNat::Kernel).then(|| {
        "several servers need `control_nat = \"ebpf\"`: where the kernel's own NAT translates, its \
         rules choose the server"
            .to_owned()
    })
}

/// Why a server's clients cannot appear to it as this gateway.
fn hidden_clients(config: &Config, publish: &Publish) -> Option<&'static str> {
    if publish.server.value == Server::Itself {
        return Some("needs a server whose address is translated: name it with `server`");
    }
    if publish.server.value == Server::Local {
        return Some("a local server sees its clients as they come: leave `toward_server` out");
    }
    if publish.control_nat == ControlNat::Kernel {
        return Some(
            "needs `control_nat = \"ebpf\"`: the kernel's own NAT would have to translate the \
             clients' addresses as well",
        );
    }
    if config.first_packet == FirstPacket::Firewall {
        return Some(
            "contradicts gateway.first_packet = \"firewall\": the stack refuses what comes in with an \
             address of this machine's own. Use `ftp-nat deny` for bans",
        );
    }
    (!config.redirects()).then_some(
        "needs packets that are redirected: the stack refuses those that come in with an address \
         of this machine's own. Set `datapath` to \"auto\" and leave `lan` to be found, or name it",
    )
}

fn family(address: &SocketAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// How many seconds a mapping may wait: the datapath's port epochs go round in about half an hour.
pub const MAPPING: RangeInclusive<u32> = 1..=1800;
/// How many seconds a connection may be idle: thirty days, past which a dead one is a leak.
pub const IDLE: RangeInclusive<u32> = 10..=30 * 86400;
/// How many seconds may lie between two checks of a server.
pub const INTERVAL: RangeInclusive<u32> = 1..=3600;
/// How many seconds a check may take.
pub const TIMEOUT: RangeInclusive<u32> = 1..=60;
/// How many checks in a row must agree.
pub const IN_A_ROW: RangeInclusive<u32> = 1..=100;

/// What a range takes, with its unit: "1 to 60 seconds".
pub fn range(of: &RangeInclusive<u32>, unit: &str) -> String {
    format!("{} to {} {unit}", of.start(), of.end())
}

/// A number of this range.
///
/// # Errors
///
/// When it is less or more.
pub fn within(number: u32, of: &RangeInclusive<u32>, unit: &str) -> Result<u32, String> {
    if of.contains(&number) {
        return Ok(number);
    }
    Err(format!("{number} is out of range: {}", range(of, unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_engines_are_known() {
        for good in [
            "redis://10.9.0.1:6379",
            "rediss://user:secret@engine.example:6379",
            "unix:///run/redis/redis.sock",
            "sentinel://10.9.0.1:26379/mymaster",
            "sentinels://user:secret@10.9.0.1:26379/mymaster",
        ] {
            assert_eq!(engine(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "10.9.0.1:6379:x",
            "http://x",
            "sentinel://10.9.0.1:26379",
        ] {
            assert!(engine(bad).is_err(), "{bad}");
        }
    }
}
