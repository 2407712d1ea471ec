//! The gateway itself: loaded, attached, alone, and what the configuration says?

use ftp_nat_common::abi::{Publish, interface_flag};

use super::{finding::Findings, subject::Subject};
use crate::{config::Order, datapath::attach, ipc::connection::Answer};

pub(super) fn check(subject: &Subject, findings: &mut Findings) {
    let Some(loaded) = &subject.loaded else {
        findings.error(
            "not-loaded",
            None,
            format!(
                "no gateway is loaded for {} in this network namespace, below {}: nothing is \
                 translated",
                subject.name,
                subject.state_dir.display()
            ),
            "start it: `systemctl start ftp-nat`, or `ftp-nat run`",
        );
        foreign_programs(subject, findings);
        return;
    };
    match &loaded.daemon {
        None => findings.warning(
            "daemon-not-running",
            None,
            format!(
                "the programs of {} are loaded, but no daemon runs: nothing is swept, and changed \
                 addresses and routes are not followed",
                subject.name
            ),
            "start it again: `systemctl start ftp-nat`, or `ftp-nat run`; connections go on",
        ),
        Some(daemon) => match daemon.answer {
            Answer::Starting => findings.note(
                "daemon-starting",
                None,
                format!("process {} is starting", daemon.pid),
                "look again in a second",
            ),
            Answer::None => findings.error(
                "daemon-hangs",
                None,
                format!(
                    "the daemon, process {}, does not answer: it hangs or is stopped (SIGSTOP); \
                     nothing is swept, and changed addresses and routes are not followed",
                    daemon.pid
                ),
                "restart it: `systemctl restart ftp-nat`; connections go on",
            ),
            Answer::Hello(_) => {}
        },
    }
    hooks(subject, findings);
    foreign_programs(subject, findings);
    in_front(subject, findings);
    differences(subject, findings);
    wan_is_there(subject, findings);
}

/// Programs that should be attached and are not.
fn hooks(subject: &Subject, findings: &mut Findings) {
    let Some(loaded) = &subject.loaded else {
        return;
    };
    let attached = match attach::attached(&loaded.gateway, &subject.network) {
        Ok(attached) => attached,
        Err(error) => return findings.unread("what is attached", &error),
    };
    for hook in &subject.policy.hooks {
        let is_there = attached
            .iter()
            .any(|it| it.interface == hook.link.name && it.program == hook.program);
        if !is_there {
            findings.error(
                "not-attached",
                None,
                format!(
                    "{} is not attached to {}",
                    hook.program.name(),
                    hook.link.name
                ),
                "restart the daemon, which attaches what is missing; if it goes away again, \
                 something else on this machine detaches it",
            );
        }
    }
    if subject.policy.hooks.is_empty() {
        findings.error(
            "not-attached",
            None,
            "the gateway is attached to no interface that is there",
            "bring its interfaces up, or correct their names",
        );
    }
}

/// Another translator on the same interfaces.
fn foreign_programs(subject: &Subject, findings: &mut Findings) {
    let gateway = match (&subject.loaded, subject.pins()) {
        (Some(loaded), _) => loaded.gateway.clone(),
        (None, Ok(pins)) => pins.gateway(&subject.name),
        (None, Err(error)) => return findings.unread("other gateways", &error),
    };
    let hooks = &subject.policy.hooks;
    if let Err(error) = attach::refuse_foreign_programs(&[&gateway], &subject.network, hooks) {
        findings.error(
            "second-translator",
            None,
            format!("{error:#}"),
            "one of the two must go: packets that are translated twice arrive nowhere",
        );
    }
}

/// Somebody else's programs in front of ours.
fn in_front(subject: &Subject, findings: &mut Findings) {
    let Some(loaded) = &subject.loaded else {
        return;
    };
    let chains = match attach::in_front(&loaded.gateway, &subject.network) {
        Ok(chains) => chains,
        Err(error) => return findings.unread("the programs in front of ours", &error),
    };
    let is_wanted = subject
        .config
        .as_ref()
        .is_some_and(|config| config.order != Order::First);
    for (ours, names) in chains {
        let seen = format!(
            "in front of {} on {} packets meet {}: if that ends the chain (TC_ACT_OK, a redirect), \
             ftp-nat does not see them",
            ours.program.name(),
            ours.interface,
            names.join(", ")
        );
        // Who says where it is to stand has seen that it works there.
        if is_wanted {
            let remedy = "nothing, if that program hands packets on (TCX_NEXT, TC_ACT_UNSPEC)";
            findings.note("program-in-front", None, seen, remedy);
        } else {
            let remedy = "let that program hand packets on (TCX_NEXT, TC_ACT_UNSPEC), or put ftp-nat \
                          in front again: `ftp-nat unload`, which ends its connections, and start it";
            findings.warning("program-in-front", None, seen, remedy);
        }
    }
}

/// What is in effect and not configured, or the other way round.
fn differences(subject: &Subject, findings: &mut Findings) {
    let (Some(loaded), Some(_)) = (&subject.loaded, &subject.config) else {
        return;
    };
    let mut published = match loaded.maps.published.all() {
        Ok(published) => published,
        Err(error) => return findings.unread("the published servers", &error.into()),
    };
    // Those without a port are only addresses.
    published.retain(|(key, _)| key.port.number() != 0);
    let wanted = &subject.policy.published;
    // The address toward the server is the routes' matter, and follows them.
    let same = |one: &Publish, other: &Publish| {
        let near = other.near;
        Publish { near, ..*one } == *other
    };
    let name = |addr: ftp_nat_common::wire::addr::Addr, port: u16| {
        std::net::SocketAddr::new(addr.to_ip(), port).to_string()
    };
    let mut different: Vec<_> = published
        .iter()
        .filter(|(key, entry)| !wanted.get(key).is_some_and(|it| same(it, entry)))
        .map(|(key, _)| name(key.addr, key.port.number()))
        .collect();
    for key in wanted.keys() {
        if !published.iter().any(|(other, _)| other == key) {
            different.push(name(key.addr, key.port.number()));
        }
    }
    match loaded.maps.routed.all() {
        Ok(routed) => {
            let wanted = &subject.policy.routed;
            let there: std::collections::HashMap<_, _> = routed.into_iter().collect();
            let all = there
                .keys()
                .chain(wanted.keys().filter(|it| !there.contains_key(it)));
            let differ = all.filter(|it| there.get(it) != wanted.get(it));
            different.extend(differ.map(|it| it.network().to_string()));
        }
        Err(error) => return findings.unread("the published networks", &error.into()),
    }
    different.sort();
    if !different.is_empty() {
        different.truncate(8);
        findings.warning(
            "configuration-not-in-effect",
            None,
            format!(
                "what is loaded is not what is configured: {} differ",
                different.join(", ")
            ),
            "let the daemon read its configuration again, or restart it; no connection breaks",
        );
    }
}

/// Where there is a configuration, its interfaces are looked at with the routes.
fn wan_is_there(subject: &Subject, findings: &mut Findings) {
    if subject.config.is_none() && subject.interfaces(interface_flag::WAN).next().is_none() {
        findings.error(
            "interface-missing",
            None,
            format!("the WAN interface {} is not there", subject.name),
            "bring it up; the daemon attaches to it when it comes back",
        );
    }
}
