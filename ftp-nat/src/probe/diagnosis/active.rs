//! An active mode that does not work.

use super::finding::{Certainty, Fault, Findings, Side};
use crate::{
    model::address::is_inner,
    probe::seen::{Attempt, Listing, Seen},
};

pub(super) fn diagnose(seen: &Seen, attempt: &Attempt, findings: &mut Findings) {
    let Some(active) = &attempt.active else {
        return;
    };
    let mode = attempt.mode;
    let verb = mode.verb();
    let said = &active.reply;
    let local = seen.local_address.ip();
    let address = seen.address.ip();
    let is_behind_nat = is_inner(local) && !is_inner(address);
    let mut add = |cause, certainty, side, evidence: String| {
        findings.add(mode, cause, certainty, side, evidence);
    };

    if said.contains("XXXX") {
        add(
            Fault::Intercepted,
            Certainty::Certain,
            Side::Server,
            format!("{verb} arrived as XXXX ({said:?}): a gateway refuses the address in it"),
        );
        return;
    }
    if let Some(echoed) = active.echoed {
        add(
            Fault::Intercepted,
            Certainty::Likely,
            Side::Client,
            format!(
                "the server answers {verb} with another address than the one sent ({echoed}): \
                 something in between has changed it"
            ),
        );
    }
    if active.code == 0 {
        let evidence = format!("{verb} gets no answer that can be read: {said}");
        add(Fault::Server, Certainty::Likely, Side::Server, evidence);
        return;
    }
    if active.code / 100 != 2 {
        if is_behind_nat {
            add(
                Fault::NatNotTranslating,
                Certainty::Likely,
                Side::Client,
                format!(
                    "{verb} names this machine's inner address {local}, and the NAT in front of it \
                     did not change that; the server answers {said:?}"
                ),
            );
        } else {
            add(
                Fault::Server,
                Certainty::Likely,
                Side::Server,
                format!(
                    "the server refuses {verb}: {said:?}. Active mode is turned off there, or it \
                     sees this client under another address than {local}"
                ),
            );
        }
        return;
    }

    let Some(transfer) = &active.transfer else {
        return;
    };
    if let Some(from) = active.came_from {
        match transfer.listing {
            Listing::NotEncrypted => add(
                Fault::Tls,
                Certainty::Likely,
                Side::Server,
                format!(
                    "the data connection is there, but not encrypted: {}",
                    transfer.reply
                ),
            ),
            _ if from.ip().to_canonical() != address.to_canonical() => add(
                Fault::DoubleNat,
                Certainty::Likely,
                Side::Server,
                format!("the data connection comes from {from}, and {address} was dialled"),
            ),
            _ => add(
                Fault::Intercepted,
                Certainty::Likely,
                Side::Server,
                format!("the data connection came and broke: {}", transfer.reply),
            ),
        }
        return;
    }
    let nobody = format!(
        "the server accepted {verb}, but its connection never came ({})",
        transfer.reply
    );
    if is_behind_nat {
        add(
            Fault::NatNotTranslating,
            Certainty::Likely,
            Side::Client,
            format!("{nobody}; this machine's address {local} is an inner one"),
        );
        add(Fault::ClientSide, Certainty::Possible, Side::Client, nobody);
        return;
    }
    add(
        Fault::ClientSide,
        Certainty::Likely,
        Side::Client,
        format!("{nobody}: a firewall on this side lets no connection in"),
    );
    add(
        Fault::FirewallBlocks,
        Certainty::Possible,
        Side::Server,
        format!("{nobody}: the server's side may let none out"),
    );
}
