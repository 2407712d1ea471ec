//! The servers and networks that a configuration depends on a route to.

use std::net::{IpAddr, SocketAddr};

use crate::{
    config::{
        self, Config, Spanned,
        value::{Public, Server},
    },
    model::prefix,
};

/// The addresses whose routes a policy depends on.
pub fn destinations(config: &Config) -> Vec<IpAddr> {
    let mut servers: Vec<_> = servers(config).map(|(_, server)| server.ip()).collect();
    servers.sort_unstable();
    servers.dedup();
    servers
}

/// The networks of clients and servers that a policy must find.
pub fn networks(config: &Config) -> Vec<prefix::Prefix> {
    let clients = clients(config).map(|network| network.value);
    let servers = published_networks(config).map(|network| network.value);
    let mut networks: Vec<_> = clients.chain(servers).collect();
    networks.sort_unstable_by_key(|it| (it.address, it.bits));
    networks.dedup();
    networks
}

pub(super) fn clients(config: &Config) -> impl Iterator<Item = &Spanned<prefix::Prefix>> {
    config.masquerade.iter().flat_map(|it| &it.clients)
}

/// The networks of servers that keep their addresses.
pub(super) fn published_networks(config: &Config) -> impl Iterator<Item = Spanned<prefix::Prefix>> {
    config.publish.iter().filter_map(|publish| {
        let Public::Network { network, .. } = publish.public.value else {
            return None;
        };
        Some(Spanned {
            value: network,
            origin: publish.public.origin.clone(),
        })
    })
}

pub(super) fn servers(config: &Config) -> impl Iterator<Item = (&config::Publish, SocketAddr)> {
    config.publish.iter().flat_map(|publish| {
        let servers = match (&publish.server.value, &publish.public.value) {
            (Server::Itself, Public::Address(address)) => std::slice::from_ref(address),
            (server, _) => server.behind(),
        };
        servers.iter().map(move |server| (publish, *server))
    })
}
