//! The servers and networks that a configuration depends on a route to.

use std::net::{IpAddr, SocketAddr};

use crate::{
    config::{self, Config, Spanned, value::Server},
    model::prefix,
};

/// The addresses whose routes a policy depends on.
pub fn destinations(config: &Config) -> Vec<IpAddr> {
    let mut servers: Vec<_> = servers(config).map(|(_, server)| server.ip()).collect();
    servers.sort_unstable();
    servers.dedup();
    servers
}

/// The networks of clients that a policy must find.
pub fn networks(config: &Config) -> Vec<prefix::Prefix> {
    let mut networks: Vec<_> = clients(config).map(|network| network.value).collect();
    networks.sort_unstable_by_key(|it| (it.address, it.bits));
    networks.dedup();
    networks
}

pub(super) fn clients(config: &Config) -> impl Iterator<Item = &Spanned<prefix::Prefix>> {
    config.masquerade.iter().flat_map(|it| &it.clients)
}

pub(super) fn servers(config: &Config) -> impl Iterator<Item = (&config::Publish, SocketAddr)> {
    config.publish.iter().filter_map(|publish| {
        let Server::Behind(server) = publish.server.value else {
            return None;
        };
        Some((publish, server))
    })
}
