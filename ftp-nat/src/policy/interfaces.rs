//! Which interfaces a configuration means.

use std::net::SocketAddr;

use super::{
    destinations::{clients, published_networks, servers},
    obstacle::{Obstacle, no_interface},
};
use crate::{
    config::{self, Config, ControlNat, Lan, Problem, Spanned},
    kernel::network::{Link, Network, Route},
};

/// The loopback interface's name: the kernel gives it to the first interface of each network namespace.
const LOOPBACK: &str = "lo";

pub(super) fn named(
    names: &[Spanned<String>],
    network: &Network,
    obstacles: &mut Vec<Obstacle>,
) -> Vec<Link> {
    let mut links = Vec::new();
    for name in names {
        match network.named(&name.value) {
            Some(link) => links.push(link.clone()),
            None => obstacles.push(no_interface(&name.value, &name.origin, network)),
        }
    }
    links
}

pub(super) fn lans(
    config: &Config,
    network: &Network,
    wans: &[Link],
    obstacles: &mut Vec<Obstacle>,
) -> Vec<Link> {
    if !config.redirects() {
        return Vec::new();
    }
    let mut lans: Vec<Link> = Vec::new();
    match &config.lan {
        Lan::None => {}
        Lan::Named(names) => lans = named(names, network, obstacles),
        Lan::ByRoute => {
            for (publish, server) in servers(config) {
                match by_route(server, publish, network, wans) {
                    Ok(link) if lans.contains(link) => {}
                    Ok(link) => lans.push(link.clone()),
                    Err(obstacle) => obstacles.push(obstacle),
                }
            }
            let servers = published_networks(config).map(|it| (it, "servers"));
            let clients = clients(config).map(|it| (it.clone(), "clients"));
            for (inside, whose) in servers.chain(clients) {
                // A default route leads to everything, but not to the inside.
                let ways = network.ways_to(&inside.value);
                let ways: Vec<_> = ways.filter(|link| !wans.contains(link)).collect();
                if ways.is_empty() {
                    obstacles.push(Obstacle::NoRoute(Problem::new(
                        &inside.origin,
                        format!(
                            "there is no route to {} but by the WAN: add one, or name the \
                             {whose}' interface with --lan",
                            inside.value
                        ),
                    )));
                }
                for link in ways {
                    if !lans.contains(link) {
                        lans.push(link.clone());
                    }
                }
            }
            lans.extend(hairpins(config, network, wans, &lans));
        }
    }
    lans
}

/// The other interfaces by which a client may come that dials a public address from behind this
/// gateway, or on the gateway itself: those of the latter come by the loopback interface, if there is a way to a
/// server.
fn hairpins(config: &Config, network: &Network, wans: &[Link], lans: &[Link]) -> Vec<Link> {
    let is_dialled = servers(config).any(|(it, _)| it.control_nat == ControlNat::Ebpf);
    let by_address = network.addressed().filter(|link| link.name != LOOPBACK);
    let own = network.named(LOOPBACK).filter(|_| !lans.is_empty());
    let links = by_address.chain(own);
    let links = links.filter(|link| is_dialled && !wans.contains(link) && !lans.contains(link));
    links.cloned().collect()
}

pub(super) fn by_route<'n>(
    server: SocketAddr,
    publish: &config::Publish,
    network: &'n Network,
    wans: &[Link],
) -> Result<&'n Link, Obstacle> {
    let ip = server.ip();
    let problem = |what: String| Problem::new(&publish.server.origin, what);
    let link = match network.route(ip) {
        Route::Through(index) => network.numbered(index),
        Route::Here => {
            return Err(Obstacle::Mistake(problem(format!(
                "{ip} is this machine itself: a server here is `local`"
            ))));
        }
        Route::None => None,
    };
    let Some(link) = link else {
        return Err(Obstacle::NoRoute(problem(format!(
            "there is no route to the server {ip}: add one, or name its interface with --lan"
        ))));
    };
    if wans.contains(link) {
        return Err(Obstacle::NoRoute(problem(format!(
            "the route to the server {ip} leaves by {}, which is a WAN interface: check the route, \
             or name the server's own interface with --lan",
            link.name
        ))));
    }
    Ok(link)
}
