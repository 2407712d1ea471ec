//! The kernel's own packet filter and NAT: who else touches FTP's connections, and who drops them?

use std::{collections::BTreeSet, fs, net::IpAddr};

use ftp_nat_common::abi::interface_flag;

use super::{
    finding::{Cause, Findings},
    kernel_routes,
    subject::{Service, Subject},
};
use crate::{
    kernel::{netlink::Netlink, network::Route, sysctl},
    ruleset::{Action, Packet, Ruleset, Verdict, read::read as read_rules},
};

/// Services that are judged: with more of them, the rules are the same ones.
const SERVICES_MAX: usize = 64;

/// A passive port, where no range is configured.
const SOME_DATA_PORT: u16 = 50_000;
/// A client's port.
const SOME_CLIENT_PORT: u16 = 40_000;

/// Reads all rules.
pub(super) fn read(findings: &mut Findings) -> Ruleset {
    let reading = read_rules();
    for (what, error) in &reading.problems {
        findings.unread(what, error);
    }
    if reading.is_without_programs {
        findings.note(
            "firewall-not-read",
            None,
            "there is neither nft nor iptables-save here: the firewall was not looked at",
            "if the machine has a firewall, install the nftables or iptables package",
        );
    }
    reading.ruleset
}

/// Somebody far outside, of the same family.
fn stranger(like: IpAddr) -> IpAddr {
    let text = if like.is_ipv4() {
        "1.1.1.1"
    } else {
        "2606:4700:4700::1111"
    };
    text.parse().unwrap_or(like)
}

/// The control connection's SYN as rules may see it: as it came, and as ftp-nat hands it on.
fn control(subject: &Subject, service: &Service) -> [Packet; 2] {
    let come = Packet {
        input: wan(subject),
        output: None,
        source: stranger(service.public.ip()),
        destination: service.public.ip(),
        port: service.public.port(),
        mark: Some(0),
        established: false,
        translated: false,
    };
    let handed_on = Packet {
        destination: service.server.ip(),
        port: service.server.port(),
        mark: Some(subject.mark),
        ..come.clone()
    };
    [come, handed_on]
}

fn wan(subject: &Subject) -> String {
    subject
        .interfaces(interface_flag::WAN)
        .next()
        .map_or_else(|| subject.name.clone(), |link| link.name.clone())
}

/// The kernel's own FTP helper on our control ports.
pub(super) fn helper(subject: &Subject, ruleset: &Ruleset, findings: &mut Findings) {
    let mut packets: Vec<_> = subject
        .services
        .iter()
        .take(SERVICES_MAX)
        .flat_map(|service| control(subject, service))
        .collect();
    for clients in &subject.clients {
        for port in &subject.outside_ports {
            packets.push(outgoing(subject, clients.network.first_host(), *port));
        }
    }
    let is_helper = |action: &Action| matches!(action, Action::Helper(name) if name == "ftp");
    let places: Vec<_> = ruleset
        .acting(&packets, is_helper)
        .map(|(place, _)| place)
        .collect();
    for place in places {
        findings.error(
            "kernel-helper",
            Some(Cause::Nat),
            format!(
                "the kernel's own FTP helper (nf_conntrack_ftp) takes the same connections, by \
                 {place}"
            ),
            "delete that rule: of two that rewrite the same replies, one breaks what the other \
             made",
        );
    }
    let by_itself = sysctl::number("net/netfilter/nf_conntrack_helper") == Some(1);
    if by_itself && fs::exists("/sys/module/nf_conntrack_ftp").unwrap_or(false) {
        findings.error(
            "kernel-helper",
            Some(Cause::Nat),
            "the kernel's own FTP helper (nf_conntrack_ftp) takes every connection to port 21 \
             (net.netfilter.nf_conntrack_helper is 1)",
            "sysctl -w net.netfilter.nf_conntrack_helper=0, and keep it in /etc/sysctl.d/",
        );
    }
}

/// A client's connection to a server outside.
fn outgoing(subject: &Subject, client: IpAddr, port: u16) -> Packet {
    let inside = subject.interfaces(interface_flag::LAN).next();
    Packet {
        input: inside.map_or_else(|| "*inside".to_owned(), |link| link.name.clone()),
        output: Some(wan(subject)),
        source: client,
        destination: stranger(client),
        port,
        mark: Some(0),
        established: false,
        translated: false,
    }
}

/// What else asks for bits of our mark, which packets carry that go through the stack.
pub(super) fn mark(subject: &Subject, ruleset: &Ruleset, findings: &mut Findings) {
    let mark = subject.mark;
    let rules = match Netlink::open().and_then(|mut it| kernel_routes::mark_rules(&mut it)) {
        Ok(rules) => rules,
        Err(error) => return findings.unread("the routing rules", &error.into()),
    };
    let routed = rules
        .into_iter()
        .filter(|rule| (mark & rule.mask == rule.mark) != (rule.mark == 0))
        .map(|rule| format!("the routing rule {} (`ip rule`)", rule.priority));
    let places: BTreeSet<_> = ruleset.colliding(mark).chain(routed).collect();
    if mark == 0 || places.is_empty() {
        return;
    }
    let places: Vec<_> = places.into_iter().take(4).collect();
    findings.warning(
        "mark-collides",
        Some(Cause::Nat),
        format!(
            "{} asks for bits that ftp-nat's mark {mark:#x} has too, and takes its packets for others",
            places.join(", ")
        ),
        "give ftp-nat a bit of its own: [gateway] mark = 0x40 collides with no program known \
         (docs/decisions.md); a rule of yours that accepts the mark must name the same",
    );
}

/// NAT rules beside ours, and those that ours relies on.
pub(super) fn nat(subject: &Subject, ruleset: &Ruleset, findings: &mut Findings) {
    for service in subject.services.iter().take(SERVICES_MAX) {
        let [come, handed_on] = control(subject, service);
        let place_of = |packet: Packet| {
            let packets = [packet];
            let mut rules = ruleset.acting(&packets, |action| *action == Action::Destination);
            rules.next().map(|(place, _)| place)
        };
        if service.local || (service.routed && service.kernel_nat) {
            continue;
        }
        let public = service.title();
        if service.kernel_nat {
            if place_of(come).is_none() {
                findings.error(
                    "control-not-translated",
                    Some(Cause::Nat),
                    format!(
                        "{public} is published with control_nat = \"kernel\", but no rule of \
                         nftables or iptables translates it"
                    ),
                    format!(
                        "add the rule (nft: `tcp dport {} dnat to {}`), or let ftp-nat do it: \
                         control_nat = \"ebpf\"",
                        service.public.port(),
                        service.server
                    ),
                );
            }
            continue;
        }
        let remedy = "delete that rule: ftp-nat translates the control connection itself. Where \
                      that rule must stay, say control_nat = \"kernel\"";
        if let Some(place) = place_of(handed_on).filter(|_| !service.redirects) {
            findings.error(
                "second-nat-rule",
                Some(Cause::Nat),
                format!("what ftp-nat has translated for {public} is translated again by {place}"),
                remedy,
            );
        } else if let Some(place) = place_of(come) {
            findings.warning(
                "second-nat-rule",
                Some(Cause::Nat),
                format!("{public} is translated by ftp-nat and by {place} too"),
                format!(
                    "{remedy}. Connections that were made by that rule and still live collide \
                     with ftp-nat's: they end by themselves, or by `conntrack -D -p tcp --dport {}`",
                    service.public.port()
                ),
            );
        }
    }
    for clients in &subject.clients {
        let (keep_theirs, clients) = (!clients.translate, clients.network);
        let packets = [outgoing(subject, clients.first_host(), 21)];
        let mut rules = ruleset.acting(&packets, |action| *action == Action::Source);
        let rule = rules.next().map(|(place, _)| place);
        if let Some(place) = rule.as_ref().filter(|_| keep_theirs) {
            findings.warning(
                "clients-translated",
                Some(Cause::Nat),
                format!(
                    "{place} translates the clients {clients}, whose addresses the outside knows \
                     (translate = false): what they announce in active mode is another one than \
                     the server sees"
                ),
                "leave them out of that rule; or, where they are to be translated, let ftp-nat \
                 know: [[masquerade]] without translate = false",
            );
        }
        if rule.is_none() && !keep_theirs {
            findings.warning(
                "clients-not-translated",
                Some(Cause::Nat),
                format!(
                    "no rule of nftables or iptables translates the clients {clients}, whose \
                     control connections ftp-nat leaves to the kernel's NAT"
                ),
                format!(
                    "add the rule (nft: `oifname \"{}\" masquerade`); where the outside knows the \
                     clients' own addresses, say so: [[masquerade]] translate = false",
                    wan(subject)
                ),
            );
        }
    }
}

/// Rules that drop what must pass through the stack.
pub(super) fn drops(subject: &Subject, ruleset: &Ruleset, findings: &mut Findings) {
    for service in subject.services.iter().take(SERVICES_MAX) {
        if service.local {
            local(subject, service, ruleset, findings);
        } else {
            forwarded(subject, service, ruleset, findings);
        }
    }
    let has_inside = subject.interfaces(interface_flag::LAN).next().is_some();
    for clients in subject.clients.iter().filter(|_| !has_inside) {
        let clients = clients.network;
        let packet = Packet {
            input: wan(subject),
            output: None,
            source: stranger(clients.address),
            destination: clients.first_host(),
            port: SOME_CLIENT_PORT,
            mark: Some(subject.mark),
            established: false,
            translated: false,
        };
        let what = format!("data connections to the clients {clients}");
        judge(
            subject,
            ruleset,
            &["prerouting", "forward"],
            &packet,
            DATA,
            &what,
            findings,
        );
    }
}

const CONTROL: &str = "firewall-drops-control";
const DATA: &str = "firewall-drops-data";
const REPLIES: &str = "firewall-drops-replies";

fn forwarded(subject: &Subject, service: &Service, ruleset: &Ruleset, findings: &mut Findings) {
    let Route::Through(index) = service.route else {
        return;
    };
    let Some(inside) = subject
        .network
        .numbered(index)
        .map(|link| link.name.clone())
    else {
        return;
    };
    let through = ["prerouting", "forward"];
    let [come, handed_on] = control(subject, service);
    let server = service.server;
    let replies = Packet {
        input: inside.clone(),
        output: Some(wan(subject)),
        source: server.ip(),
        destination: stranger(server.ip()),
        port: SOME_CLIENT_PORT,
        mark: Some(0),
        established: true,
        translated: service.kernel_nat && !service.routed,
    };
    let what = format!("control connections to {}", service.title());
    if service.kernel_nat {
        judge(
            subject,
            ruleset,
            &["prerouting"],
            &come,
            CONTROL,
            &what,
            findings,
        );
        let translated = Packet {
            output: Some(inside.clone()),
            mark: Some(0),
            translated: !service.routed,
            ..handed_on.clone()
        };
        judge(
            subject,
            ruleset,
            &["forward"],
            &translated,
            CONTROL,
            &what,
            findings,
        );
        judge(
            subject,
            ruleset,
            &["forward"],
            &replies,
            REPLIES,
            &what,
            findings,
        );
    }
    if service.redirects && !subject.first_by_firewall {
        return;
    }
    if !service.kernel_nat {
        let control = Packet {
            output: Some(inside.clone()),
            ..handed_on.clone()
        };
        judge(
            subject, ruleset, &through, &control, CONTROL, &what, findings,
        );
    }
    if service.redirects {
        return;
    }
    if !service.kernel_nat {
        judge(
            subject,
            ruleset,
            &["forward"],
            &replies,
            REPLIES,
            &what,
            findings,
        );
    }
    let data = Packet {
        output: Some(inside.clone()),
        port: service.passive.map_or(SOME_DATA_PORT, |(first, _)| first),
        ..handed_on
    };
    let what = format!("data connections of {}", service.title());
    judge(subject, ruleset, &through, &data, DATA, &what, findings);
    let active = Packet {
        established: false,
        translated: false,
        ..replies
    };
    let (who, source) = match &service.network {
        Some(network) => (format!("a server of {network}"), network.to_string()),
        None => (server.to_string(), server.ip().to_string()),
    };
    if let Verdict::Dropped(place) = ruleset.pass("forward", &mut active.clone()) {
        findings.note(
            "firewall-drops-active",
            Some(Cause::Firewall),
            format!("in active mode {who} connects to its clients: {place} drops that"),
            format!(
                "if active mode is wanted: nft `iifname \"{inside}\" oifname \"{}\" {} saddr \
                 {source} accept`",
                wan(subject),
                if server.is_ipv4() { "ip" } else { "ip6" }
            ),
        );
    }
}

/// A server on this machine: its connections end here.
fn local(subject: &Subject, service: &Service, ruleset: &Ruleset, findings: &mut Findings) {
    let [control, _] = control(subject, service);
    let here = ["prerouting", "input"];
    let what = format!("control connections to {}", service.public);
    judge(subject, ruleset, &here, &control, CONTROL, &what, findings);
    let data = Packet {
        port: service.passive.map_or(SOME_DATA_PORT, |(first, _)| first),
        mark: Some(subject.mark),
        ..control.clone()
    };
    let data_of = format!("data connections to {}", service.public);
    judge(subject, ruleset, &here, &data, DATA, &data_of, findings);
    let established = Packet {
        established: true,
        ..control
    };
    judge(
        subject,
        ruleset,
        &here,
        &established,
        REPLIES,
        &what,
        findings,
    );
}

fn judge(
    subject: &Subject,
    ruleset: &Ruleset,
    hooks: &[&str],
    packet: &Packet,
    name: &'static str,
    what: &str,
    findings: &mut Findings,
) {
    let mut passing = packet.clone();
    let mark = packet.mark.filter(|mark| *mark != 0);
    for hook in hooks {
        let Verdict::Dropped(place) = ruleset.pass(hook, &mut passing) else {
            continue;
        };
        let accept = if name == REPLIES {
            "ct state established,related accept".to_owned()
        } else if let Some(mark) = mark {
            format!("meta mark and {mark:#x} == {mark:#x} accept")
        } else if packet.translated {
            "ct status dnat accept".to_owned()
        } else {
            format!("tcp dport {} accept", packet.port)
        };
        let subject_of = if name == REPLIES { "replies on " } else { "" };
        let mut remedy = format!("in front of it, add the rule: nft `{accept}`");
        if passing.mark != packet.mark {
            remedy = "a rule in front of it changes ftp-nat's mark: let it leave that bit as it is"
                .to_owned();
        } else if let Some(mark) = mark {
            remedy += &format!(" (iptables: `-m mark --mark {mark:#x}/{mark:#x} -j ACCEPT`)");
            if subject.interfaces(interface_flag::LAN).next().is_none() && *hook == "forward" {
                remedy += ", or attach to the inside interface as well (--lan), so that packets \
                           do not go through the firewall at all";
            }
        }
        findings.error(
            name,
            Some(Cause::Firewall),
            format!("{place} drops {subject_of}{what}"),
            remedy,
        );
        return;
    }
}
