//! The interfaces: up, of a kind that can be translated on, and without what slows them down.

use std::collections::BTreeSet;

use ftp_nat_common::{abi::interface_flag, counter::Counter};

use super::{ethtool, finding::Findings, kernel_routes, subject::Subject};
use crate::kernel::{netlink::Netlink, network::Link};

/// `IFF_UP` and `IFF_LOWER_UP` of linux/if.h.
const UP: u32 = 0x1;
const CARRIER: u32 = 0x1_0000;

/// The smallest MTUs that the protocols allow (RFC 791, RFC 8200).
const SMALLEST: [(bool, u32); 2] = [(true, 576), (false, 1280)];

/// A share of packets too big for their way that is more than path MTU discovery at work.
const TOO_BIG_SHARE: u64 = 100;
const TOO_BIG_LEAST: u64 = 100;

pub(super) fn check(subject: &Subject, findings: &mut Findings) {
    let mut netlink = match Netlink::open() {
        Ok(netlink) => netlink,
        Err(error) => return findings.unread("the interfaces", &error.into()),
    };
    for link in subject.interfaces(interface_flag::WAN | interface_flag::LAN) {
        is_up(link, &mut netlink, findings);
        for (v4, smallest) in SMALLEST {
            if subject.uses(v4) && link.mtu < smallest {
                findings.warning(
                    "mtu-too-small",
                    None,
                    format!(
                        "the MTU of {} is {}, below the {smallest} that {} wants",
                        link.name,
                        link.mtu,
                        if v4 { "IPv4" } else { "IPv6" }
                    ),
                    format!(
                        "ip link set {} mtu 1500, or what its medium allows",
                        link.name
                    ),
                );
            }
        }
        offloads(link, findings);
    }
    mtus_differ(subject, findings);
    too_big(subject, findings);
}

fn is_up(link: &Link, netlink: &mut Netlink, findings: &mut Findings) {
    let flags = match kernel_routes::flags(netlink, link.index) {
        Ok(flags) => flags.unwrap_or(0),
        Err(error) => {
            return findings.unread(&format!("the state of {}", link.name), &error.into());
        }
    };
    if flags & UP == 0 {
        findings.error(
            "interface-down",
            None,
            format!("{} is down", link.name),
            format!("ip link set {} up", link.name),
        );
    } else if flags & CARRIER == 0 {
        findings.error(
            "interface-down",
            None,
            format!("{} is up but has no carrier", link.name),
            "look at the cable, the switch port, or the other end of the veth pair",
        );
    }
}

fn offloads(link: &Link, findings: &mut Findings) {
    if ethtool::has_lro(&link.name) {
        findings.warning(
            "lro-on",
            None,
            format!(
                "large receive offload is on at {}: it merges packets in a way that cannot be \
                 forwarded",
                link.name
            ),
            format!("ethtool -K {} lro off gro on", link.name),
        );
    }
    let is_hardware = ethtool::driver(&link.name)
        .is_some_and(|driver| !["veth", "tun", "bridge", "dummy", "macvlan"].contains(&&*driver));
    if is_hardware && ethtool::has_gro(&link.name) == Some(false) {
        findings.warning(
            "gro-off",
            None,
            format!(
                "generic receive offload is off at {}: large transfers cost several times the CPU",
                link.name
            ),
            format!("ethtool -K {} gro on", link.name),
        );
    }
}

fn mtus_differ(subject: &Subject, findings: &mut Findings) {
    let mtus = |flag| -> BTreeSet<u32> {
        let links = subject.interfaces(flag);
        links.map(|link| link.mtu).collect()
    };
    let (wan, lan) = (mtus(interface_flag::WAN), mtus(interface_flag::LAN));
    let (Some(narrowest), Some(widest)) = (wan.first(), lan.last()) else {
        return;
    };
    if widest > narrowest {
        findings.note(
            "mtu-differs",
            None,
            format!(
                "the inside has an MTU of {widest}, the WAN one of {narrowest}: servers learn the \
                 smaller one by ICMP errors, once for each connection"
            ),
            "nothing, as long as servers hear ICMP; else give them the WAN's MTU or clamp the MSS",
        );
    }
}

fn too_big(subject: &Subject, findings: &mut Findings) {
    // Counters that cannot be read are another check's matter.
    let Some(Ok(counts)) = subject.loaded.as_ref().map(|it| it.maps.counters()) else {
        return;
    };
    let of = |counter: Counter| counts.get(counter as usize).map_or(0, |it| it.packets);
    let big = of(Counter::PassedTooBig);
    let all = of(Counter::InboundRedirected) + of(Counter::OutboundRedirected) + big;
    if big >= TOO_BIG_LEAST && big > all / TOO_BIG_SHARE {
        findings.warning(
            "mtu-hurts",
            None,
            format!("{big} of {all} packets were too big for the next interface"),
            "somebody ignores the ICMP errors: let ICMP type 3 code 4 (IPv6: type 2) through on \
             the servers and in between, or give the servers the smaller MTU",
        );
    }
}
