//! Public addresses: does this machine have them, and can clients use what is announced?

use ftp_nat_common::abi::interface_flag;

use super::{
    finding::{Cause, Findings},
    subject::{Service, Subject},
};
use crate::{config::Config, kernel::network::Link, model::address::is_inner};

pub(super) fn check(subject: &Subject, findings: &mut Findings) {
    for warning in &subject.policy.warnings {
        // What is said below in other words.
        if !warning.contains("no address of this machine") {
            findings.warning(
                "configuration",
                None,
                warning.clone(),
                "see the configuration",
            );
        }
    }
    // One that keeps its address is elsewhere, and its clients know that address.
    for service in subject.services.iter().filter(|it| !it.routed) {
        place(subject, service, findings);
        announced(service, findings);
    }
}

/// Where the public address is.
fn place(subject: &Subject, service: &Service, findings: &mut Findings) {
    let public = service.public.ip();
    let network = &subject.network;
    let may_lack = |it: &Config| it.may_lack_addresses();
    if !network.has(public) {
        if subject.config.as_ref().is_some_and(may_lack) {
            return;
        }
        let seen = format!(
            "the public address {public} is on no interface of this machine: packets come here \
             only if somebody routes them here, and nobody answers for it on the link"
        );
        let remedy = if service.advertise == public {
            format!(
                "behind a 1:1 address (a cloud's, another NAT's) publish the address that the WAN \
                 has and set advertise = \"{public}\"; else add {public} to the WAN interface"
            )
        } else {
            format!("publish the address that the WAN has, or add {public} to it")
        };
        findings.warning(
            "public-address-not-here",
            Some(Cause::DoubleNat),
            seen,
            remedy,
        );
        return;
    }
    let has_it = |link: &Link| network.addresses_of(link.index).any(|ip| ip == public);
    if subject.interfaces(interface_flag::WAN).any(has_it) {
        return;
    }
    if subject.interfaces(interface_flag::LAN).any(has_it) {
        findings.warning(
            "public-address-not-on-wan",
            None,
            format!("the public address {public} is on an inside interface, not on a WAN"),
            "publish an address of the WAN; clients outside must be able to reach it",
        );
    } else {
        findings.note(
            "public-address-not-on-wan",
            None,
            format!("the public address {public} is on another interface than the WAN"),
            "nothing, if clients' packets for it come in by the WAN",
        );
    }
}

/// What replies announce.
fn announced(service: &Service, findings: &mut Findings) {
    let (public, advertise) = (service.public.ip(), service.advertise);
    if is_inner(advertise) {
        let what = if advertise == public {
            format!("{} is published", service.public)
        } else {
            format!("advertise is {advertise}")
        };
        findings.warning(
            "advertises-private",
            Some(Cause::Address),
            format!(
                "{what}: replies announce a private address, which only clients of the same \
                 network reach"
            ),
            format!(
                "where a second NAT or a 1:1 address is in front, set advertise to the address \
                 that clients dial ([[publish]] advertise = \"...\") and let that NAT forward the \
                 passive ports to {public}; where an FTP-aware one is in front, leave it"
            ),
        );
    } else if advertise != public {
        findings.note(
            "advertises-another",
            Some(Cause::DoubleNat),
            format!("replies of {} announce {advertise}", service.public),
            format!(
                "nothing, if {advertise} is the address that clients dial, translated 1:1 to \
                 {public}: `ftp-nat probe` from outside tells"
            ),
        );
    }
}
