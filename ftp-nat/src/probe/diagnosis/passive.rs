//! A passive mode that does not work.

use super::{
    address,
    finding::{Certainty, Fault, Findings, Side},
    port,
};
use crate::probe::{
    path::DataEnd,
    reply::printable,
    seen::{Attempt, Encryption, Listing, Mode, Passive, Relation, Seen, Transfer},
};

pub(super) fn diagnose(seen: &Seen, attempt: &Attempt, findings: &mut Findings) {
    let mode = attempt.mode;
    if diagnose_range(attempt, findings) {
        return;
    }
    // What failed in the same way need not be said again.
    let mut judged = Vec::new();
    for sample in attempt.passive.iter().filter(|sample| !sample.works()) {
        if sample.announced.is_none() {
            diagnose_refusal(mode, sample, findings);
            continue;
        }
        if sample.relation != Some(Relation::Same) {
            address::diagnose(seen, mode, sample, findings);
        }
        // What happened at the address that was dialled, whatever was announced.
        let is_same = sample.relation == Some(Relation::Same);
        let (dial, transfer) = if is_same {
            (&sample.dial, &sample.transfer)
        } else {
            (&sample.instead, &sample.instead_transfer)
        };
        match (dial, transfer) {
            (_, Some(transfer)) if !transfer.works() => {
                diagnose_transfer(seen, mode, transfer, findings);
                diagnose_distance(seen, mode, findings);
            }
            (Some(dial), None) if !judged.contains(&(dial.reach, dial.by)) => {
                judged.push((dial.reach, dial.by));
                port::diagnose(seen, mode, dial, findings);
            }
            _ => {}
        }
    }
}

/// Ports of which some work and some do not. True: that explains it all.
fn diagnose_range(attempt: &Attempt, findings: &mut Findings) -> bool {
    let ports = |wanted: bool| -> Vec<String> {
        let tried = attempt.passive.iter();
        let of_kind = tried.filter(|sample| {
            let works = sample.works() || sample.works_instead();
            let is_about_the_port = sample.transfer.is_none() && sample.instead_transfer.is_none();
            if wanted {
                works
            } else {
                !works && is_about_the_port
            }
        });
        let mut ports: Vec<u16> = of_kind
            .filter_map(|sample| Some(sample.announced?.port()))
            .collect();
        ports.sort_unstable();
        ports.dedup();
        ports.iter().map(ToString::to_string).collect()
    };
    let (open, closed) = (ports(true), ports(false));
    if open.is_empty() || closed.is_empty() || closed.iter().any(|port| open.contains(port)) {
        return false;
    }
    findings.add(
        attempt.mode,
        Fault::PassiveRange,
        Certainty::Certain,
        Side::Server,
        format!(
            "some announced ports are open and others are not: {} open, {} not",
            open.join(", "),
            closed.join(", ")
        ),
    );
    // A wrong address is a fault of its own.
    attempt
        .passive
        .iter()
        .all(|sample| sample.relation == Some(Relation::Same))
}

/// A reply without an address.
fn diagnose_refusal(mode: Mode, sample: &Passive, findings: &mut Findings) {
    let verb = mode.verb();
    let said = printable(sample.reply.as_bytes());
    let text = said.to_lowercase();
    let mut add = |cause, certainty, evidence| {
        findings.add(mode, cause, certainty, Side::Server, evidence);
    };
    let is_about_ports = [
        "listening port",
        "bind",
        "free port",
        "port range",
        "address already",
    ]
    .iter()
    .any(|sign| text.contains(sign));
    match sample.code {
        _ if is_about_ports => add(
            Fault::PassiveRange,
            Certainty::Certain,
            format!("{verb} is answered by {said:?}: the server found no free port in its range"),
        ),
        425 | 450..=452 | 500 => add(
            Fault::PassiveRange,
            Certainty::Likely,
            format!("{verb} is answered by {said:?}: the server had no port to announce"),
        ),
        227..=229 => add(
            Fault::AnnouncedAddress,
            Certainty::Likely,
            format!("no address can be read in {said:?}"),
        ),
        0 => add(
            Fault::Server,
            Certainty::Likely,
            format!("{verb} gets no answer that can be read: {said}"),
        ),
        _ => add(
            Fault::Server,
            Certainty::Likely,
            format!("{verb} is answered by {said:?}"),
        ),
    }
}

/// A data connection that ends somewhere else than the control connection.
fn diagnose_distance(seen: &Seen, mode: Mode, findings: &mut Findings) {
    let Some(path) = &seen.path else { return };
    let (Some(server), DataEnd::Accepted(distance)) = (path.server(), path.data_end()) else {
        return;
    };
    if distance == server {
        return;
    }
    let router = path.router(distance.min(server));
    let who = router.map_or_else(String::new, |router| format!(" ({router})"));
    let (nearer, side) = if distance < server {
        (
            "data connections are accepted",
            path.is_near(distance, seen.address.ip()),
        )
    } else {
        (
            "control connections are answered",
            path.is_near(server, seen.address.ip()),
        )
    };
    findings.add(
        mode,
        Fault::Intercepted,
        Certainty::Certain,
        if side { Side::Client } else { Side::Server },
        format!(
            "{nearer} by a machine{who} that is nearer than the other's end: {distance} hops for \
             data, {server} for control"
        ),
    );
}

/// A connection that was accepted and carried nothing.
fn diagnose_transfer(seen: &Seen, mode: Mode, transfer: &Transfer, findings: &mut Findings) {
    let said = &transfer.reply;
    let text = said.to_lowercase();
    let mut add = |cause, certainty, evidence: String| {
        findings.add(mode, cause, certainty, Side::Server, evidence);
    };
    let is_about_tls = ["ssl", "tls", "session reuse", "session_reuse"]
        .iter()
        .any(|sign| text.contains(sign));
    match transfer.listing {
        Listing::NoConnection if text.contains("bad ip") || text.contains("foreign") => add(
            Fault::DoubleNat,
            Certainty::Likely,
            format!(
                "the server took the data connection for somebody else's ({said:?}): it comes from \
                 another address than the control connection"
            ),
        ),
        Listing::NotEncrypted => add(
            Fault::Tls,
            Certainty::Likely,
            format!("the data connection is there, but not encrypted: {said}"),
        ),
        Listing::NoConnection | Listing::Rejected | Listing::Cut
            if is_about_tls || transfer.reply.starts_with("522") =>
        {
            let hint = match seen.encryption {
                Encryption::None => "the server wants encrypted data connections: use --tls",
                _ => "the server refuses this data connection's TLS session",
            };
            add(Fault::Tls, Certainty::Certain, format!("{hint} ({said:?})"));
        }
        Listing::NoConnection => add(
            Fault::Intercepted,
            Certainty::Likely,
            format!(
                "somebody accepted the data connection, but the server says that it has none \
                 ({said:?}): a proxy or a gateway answered in its place"
            ),
        ),
        Listing::Cut | Listing::ControlLost => add(
            Fault::Intercepted,
            Certainty::Likely,
            format!("the data connection was accepted and then broken ({said})"),
        ),
        Listing::Stalled if transfer.bytes == 0 => add(
            Fault::Intercepted,
            Certainty::Likely,
            format!(
                "the data connection was accepted, but nothing came over it ({said}): somebody \
                 else accepted it, or packets of full size do not get through (MTU)"
            ),
        ),
        Listing::Stalled => add(
            Fault::Intercepted,
            Certainty::Possible,
            format!(
                "the listing stopped after {} bytes ({said}): packets of full size may not get \
                 through (MTU), or something in between broke the connection",
                transfer.bytes
            ),
        ),
        Listing::Rejected => add(
            Fault::Server,
            Certainty::Likely,
            format!("LIST is answered by {said:?}"),
        ),
        Listing::Complete | Listing::Declined => {}
    }
}
