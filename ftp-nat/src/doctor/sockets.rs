//! Ports that both this machine and the gateway may want to use.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    finding::{Cause, Findings},
    subject::Subject,
};
use crate::kernel::{sockets, sysctl};

/// A passive range with fewer ports runs out: each connection that has ended keeps its port for
/// another minute.
const RANGE_LEAST: u16 = 16;

pub(super) fn check(subject: &Subject, findings: &mut Findings) {
    local_range(subject, findings);
    match sockets::listening() {
        Ok(listening) => listeners(subject, &listening, findings),
        Err(error) => findings.unread("this machine's sockets", &error.into()),
    }
    for service in &subject.services {
        if let Some((first, last)) = service.passive
            && last - first < RANGE_LEAST - 1
        {
            findings.warning(
                "passive-range-small",
                Some(Cause::Ports),
                format!(
                    "the passive ports of {}, {first}-{last}, are only {}",
                    service.public,
                    last - first + 1
                ),
                "give the server more (vsftpd pasv_min_port and pasv_max_port, ProFTPD \
                 PassivePorts, Pure-FTPd PassivePortRange): each transfer takes one, and keeps it \
                 for a minute after its end",
            );
        }
    }
}

/// The ports out of which the kernel takes those of its own connections.
fn local_range(subject: &Subject, findings: &mut Findings) {
    let Some(text) = sysctl::setting("net/ipv4/ip_local_port_range") else {
        return;
    };
    let mut numbers = text
        .split_whitespace()
        .filter_map(|it| it.parse::<u16>().ok());
    let (Some(first), Some(last)) = (numbers.next(), numbers.next()) else {
        return;
    };
    let (from, to) = subject.remap;
    let (low, high) = (first.max(from), last.min(to));
    let reserved = sysctl::setting("net/ipv4/ip_local_reserved_ports").unwrap_or_default();
    if low <= high && !is_reserved(&reserved, low, high) {
        findings.warning(
            "remap-range-collides",
            Some(Cause::Ports),
            format!(
                "ports {low}-{high} are both for remaps ({from}-{to}) and for this machine's own \
                 and masqueraded connections (net.ipv4.ip_local_port_range {first}-{last})"
            ),
            format!(
                "keep them apart: sysctl -w net.ipv4.ip_local_port_range=\"32768 60999\", \
                 --remap-ports, or net.ipv4.ip_local_reserved_ports={low}-{high}"
            ),
        );
    }
}

/// Whether a list like `8080,61000-65535` has all these ports.
fn is_reserved(list: &str, first: u16, last: u16) -> bool {
    let mut ranges: Vec<(u16, u16)> = list
        .split(',')
        .filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
        })
        .collect();
    ranges.sort_unstable();
    let mut next = u32::from(first);
    for (from, to) in ranges {
        if u32::from(from) <= next && u32::from(to) >= next {
            next = u32::from(to) + 1;
        }
    }
    next > u32::from(last)
}

fn listeners(subject: &Subject, listening: &BTreeSet<(IpAddr, u16)>, findings: &mut Findings) {
    for service in subject
        .services
        .iter()
        .filter(|it| !it.local && !it.kernel_nat)
    {
        let public = service.public;
        let takes = |ip: &IpAddr| {
            *ip == public.ip() || ip.is_unspecified() && (ip.is_ipv6() || public.is_ipv4())
        };
        if let Some((ip, port)) = listening
            .iter()
            .find(|(ip, port)| *port == public.port() && takes(ip))
        {
            findings.warning(
                "local-listener",
                None,
                format!(
                    "a program of this machine listens on port {port} ({}), but connections to \
                     {public} from outside go to {}",
                    if ip.is_unspecified() {
                        "all addresses".to_owned()
                    } else {
                        ip.to_string()
                    },
                    service.server
                ),
                "stop it or bind it to another address; if it is the server that is meant, publish \
                 it as `local`",
            );
        }
    }
    let (from, to) = subject.remap;
    let within: BTreeSet<_> = listening
        .iter()
        .filter(|(ip, port)| !ip.is_loopback() && (from..=to).contains(port))
        .map(|(_, port)| port.to_string())
        .collect();
    if !within.is_empty() {
        let ports: Vec<_> = within.into_iter().take(8).collect();
        findings.warning(
            "remap-port-in-use",
            Some(Cause::Ports),
            format!(
                "a program of this machine listens on port {}, which is one of those for remaps \
                 ({from}-{to})",
                ports.join(", ")
            ),
            "move that program, or name other ports with --remap-ports",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_ports_are_counted_together() {
        for (list, all) in [
            ("", false),
            ("61000-65535", true),
            ("61001-65535", false),
            ("61000-62000,62001-65535", true),
            ("62001-65535,60000-62000", true),
            ("61000-62000,62002-65535", false),
        ] {
            assert_eq!(is_reserved(list, 61000, 65535), all, "{list}");
        }
    }
}
