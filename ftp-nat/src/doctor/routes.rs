//! Forwarding, routes and the reverse-path filter: does the kernel send a packet where it must go?

use std::{collections::BTreeSet, net::IpAddr};

use ftp_nat_common::abi::{interface_flag, session_flag};

use super::{
    finding::{Cause, Findings},
    kernel_routes::{self, Way},
    subject::{Service, Subject},
};
use crate::{
    kernel::{
        netlink::Netlink,
        network::{Link, Route},
        sysctl,
    },
    policy::Obstacle,
};

/// Addresses far outside, to ask for the way to. No packet is sent to them.
const FAR: [&str; 2] = ["1.1.1.1", "2606:4700:4700::1111"];

/// Peers of live sessions that are asked about.
const PEERS_MAX: usize = 16;
/// Servers that are asked about.
const SERVERS_MAX: usize = 64;

/// Forwarding.
pub(super) fn forwarding(subject: &Subject, findings: &mut Findings) {
    let links: BTreeSet<_> = subject
        .interfaces(interface_flag::WAN | interface_flag::LAN)
        .map(|link| link.name.clone())
        .collect();
    if subject.forwards(true) {
        let off: Vec<_> = links
            .iter()
            .filter(|name| sysctl::number(&format!("net/ipv4/conf/{name}/forwarding")) == Some(0))
            .map(String::as_str)
            .collect();
        if !off.is_empty() {
            findings.error(
                "forwarding-off",
                Some(Cause::Firewall),
                format!("IPv4 forwarding is off on {}", off.join(", ")),
                "sysctl -w net.ipv4.ip_forward=1, and keep it in /etc/sysctl.d/",
            );
        }
    }
    if subject.forwards(false) && sysctl::number("net/ipv6/conf/all/forwarding") == Some(0) {
        findings.error(
            "forwarding-off",
            Some(Cause::Firewall),
            "IPv6 forwarding is off",
            "sysctl -w net.ipv6.conf.all.forwarding=1, and keep it in /etc/sysctl.d/ (a WAN that \
             takes its routes from router advertisements needs accept_ra=2 then)",
        );
    }
}

/// Routes and the reverse-path filter.
pub(super) fn routes(subject: &Subject, findings: &mut Findings) {
    for obstacle in &subject.obstacles {
        let problem = obstacle.to_string();
        match obstacle {
            Obstacle::NoRoute(_) => no_route(findings, problem),
            Obstacle::NoInterface(_) => findings.error(
                "interface-missing",
                None,
                problem,
                "correct the name, or bring the interface up",
            ),
            Obstacle::Mistake(_) => {
                findings.error("configuration-wrong", None, problem, "correct it");
            }
        }
    }
    let mut netlink = match Netlink::open() {
        Ok(netlink) => netlink,
        Err(error) => return findings.unread("the routes", &error.into()),
    };
    let outside = outside(subject);
    for service in subject
        .services
        .iter()
        .filter(|it| !it.local)
        .take(SERVERS_MAX)
    {
        match service.route {
            Route::Through(index) => {
                let inside = subject.network.numbered(index);
                for far in outside
                    .iter()
                    .filter(|far| far.is_ipv4() == service.server.is_ipv4())
                {
                    inwards(subject, service, *far, &mut netlink, findings);
                    if let Some(inside) = inside {
                        outwards(subject, service, *far, inside, &mut netlink, findings);
                    }
                }
            }
            Route::None if subject.obstacles.is_empty() => {
                no_route(
                    findings,
                    format!("there is no route to the server {}", service.server),
                );
            }
            Route::None | Route::Here => {}
        }
    }
}

fn no_route(findings: &mut Findings, seen: String) {
    findings.error(
        "no-route",
        None,
        seen,
        "add the route, or correct the address",
    );
}

/// Addresses that stand for the clients: live ones, and one far away where a route leads there.
fn outside(subject: &Subject) -> Vec<IpAddr> {
    let mut peers = BTreeSet::new();
    if let Some(loaded) = &subject.loaded {
        // Sessions that cannot be read are another check's matter.
        let _ = loaded.maps.sessions.each(|_, session| {
            // Clients behind the gateway are answered by its inside.
            let is_outside = session.flags & session_flag::HAIRPIN == 0;
            if is_outside && peers.len() < PEERS_MAX {
                peers.insert(session.outside.addr.to_ip());
            }
        });
    }
    let far = FAR.iter().filter_map(|text| text.parse::<IpAddr>().ok());
    peers.extend(far);
    peers.into_iter().collect()
}

/// A client's packet on its way to the server, as the stack sees it.
fn inwards(
    subject: &Subject,
    service: &Service,
    client: IpAddr,
    netlink: &mut Netlink,
    findings: &mut Findings,
) {
    if kernel_routes::way(netlink, None, client, None).is_err() {
        return;
    }
    for wan in subject.interfaces(interface_flag::WAN) {
        let way = kernel_routes::way(netlink, Some(client), service.server.ip(), Some(wan.index));
        if is_reverse_path(&way, wan) {
            let who = format!("packets from {client} to {}", service.server);
            reverse_path(findings, wan, &who, service);
        }
    }
}

/// A server's packet on its way to the client.
fn outwards(
    subject: &Subject,
    service: &Service,
    client: IpAddr,
    inside: &Link,
    netlink: &mut Netlink,
    findings: &mut Findings,
) {
    let way = if service.redirects && subject.network.has(service.public.ip()) {
        kernel_routes::way(netlink, Some(service.public.ip()), client, None)
    } else {
        kernel_routes::way(
            netlink,
            Some(service.server.ip()),
            client,
            Some(inside.index),
        )
    };
    if is_reverse_path(&way, inside) {
        let who = format!("packets from {} to {client}", service.server);
        reverse_path(findings, inside, &who, service);
    }
    let Ok(Way { out: Some(out), .. }) = way else {
        return;
    };
    if subject
        .interfaces(interface_flag::WAN)
        .any(|wan| wan.index == out)
    {
        return;
    }
    let name = subject
        .network
        .numbered(out)
        .map_or("another interface", |link| &link.name);
    findings.error(
        "replies-leave-elsewhere",
        Some(Cause::Nat),
        format!(
            "what {} sends to {client} leaves by {name}, where ftp-nat does not translate",
            service.server
        ),
        format!(
            "add {name} with --wan if it is one, or route by source (`ip rule`) so that answers \
             leave by the interface that the request came by"
        ),
    );
}

fn is_reverse_path(way: &std::io::Result<Way>, link: &Link) -> bool {
    let refused = match way {
        Ok(_) => false,
        Err(error) => matches!(error.raw_os_error(), Some(libc::EXDEV | libc::EINVAL)),
    };
    let is_on = |name: &str| {
        sysctl::number(&format!("net/ipv4/conf/{name}/rp_filter")).is_some_and(|value| value > 0)
    };
    // An impossible source is refused with the same words.
    refused && (is_on("all") || is_on(&link.name))
}

fn reverse_path(findings: &mut Findings, link: &Link, who: &str, service: &Service) {
    let seen = format!("the reverse-path filter of {} drops {who}", link.name);
    let remedy = format!(
        "sysctl -w net.ipv4.conf.{0}.rp_filter=2 (the larger one of this and \
         net.ipv4.conf.all.rp_filter counts), or correct the routes",
        link.name
    );
    if service.redirects {
        // What goes straight from interface to interface does not meet it.
        let seen = format!("{seen}, wherever they go through the stack");
        findings.warning("reverse-path-filter", Some(Cause::Firewall), seen, remedy);
    } else {
        findings.error("reverse-path-filter", Some(Cause::Firewall), seen, remedy);
    }
}
