//! An announced address that is not the one dialled.

use super::finding::{Certainty, Fault, Findings, Side};
use crate::probe::{
    reply::printable,
    seen::{Mode, Passive, Relation, Seen},
};

pub(super) fn diagnose(seen: &Seen, mode: Mode, sample: &Passive, findings: &mut Findings) {
    let (Some(announced), Some(relation)) = (sample.announced, sample.relation) else {
        return;
    };
    let (announced, dialled) = (announced.ip(), seen.address.ip());
    let mut evidence = format!(
        "{} announces {announced}, {}; {dialled} was dialled",
        mode.verb(),
        relation.text()
    );
    let outcome = match &sample.dial {
        Some(dial) => dial.outcome(),
        None => "not tried".into(),
    };
    if sample.works_instead() {
        evidence += &format!(
            "; at {announced}: {outcome}; at {dialled} the same port works (so clients that ignore \
             the announced address work)"
        );
    } else {
        evidence += &format!("; at {announced}: {outcome}");
    }

    let signs = signs_of_two_nats(seen, sample, relation);
    let is_proven = signs
        .iter()
        .any(|(certainty, _)| *certainty == Certainty::Certain);
    if !is_proven {
        let certainty = match relation {
            // Somebody's own idea of where the server is may be right elsewhere.
            Relation::Other if !sample.works_instead() => Certainty::Likely,
            _ => Certainty::Certain,
        };
        findings.add(
            mode,
            Fault::AnnouncedAddress,
            certainty,
            Side::Server,
            evidence,
        );
    } else {
        findings.add(
            mode,
            Fault::DoubleNat,
            Certainty::Certain,
            Side::Server,
            evidence,
        );
    }
    for (certainty, sign) in signs {
        findings.add(mode, Fault::DoubleNat, certainty, Side::Server, sign);
    }
}

/// What says that the address is not the server's, but that of a gateway with another in front.
fn signs_of_two_nats(
    seen: &Seen,
    sample: &Passive,
    relation: Relation,
) -> Vec<(Certainty, String)> {
    let Some(announced) = sample.announced.map(|to| to.ip()) else {
        return Vec::new();
    };
    if !matches!(
        relation,
        Relation::Private | Relation::Shared | Relation::Other
    ) {
        return Vec::new();
    }
    let dialled = seen.address.ip();
    let server = &seen.server;
    let mut signs = Vec::new();
    let mut add = |certainty, sign| signs.push((certainty, sign));
    if relation == Relation::Shared {
        add(
            Certainty::Certain,
            format!(
                "{announced} is of 100.64.0.0/10, a provider's inner network: the server's gateway is \
             behind the provider's NAT"
            ),
        );
    }
    if server.is_rewritten(&sample.reply) {
        add(
            Certainty::Certain,
            format!(
                "{:?} is not how {} writes it: a gateway has put its own outer address in, and that is \
             not {dialled}",
                printable(sample.reply.as_bytes()),
                server.program.name()
            ),
        );
    }
    if let Some(own) = server
        .own_address
        .filter(|own| *own != announced && own.is_ipv4() == announced.is_ipv4() && *own != dialled)
    {
        // A wrong address that somebody configured is hardly ever an inner one.
        let certainty = match relation {
            Relation::Other => Certainty::Possible,
            _ => Certainty::Certain,
        };
        add(
            certainty,
            format!(
                "the server calls itself {own} in its greeting, so {announced} is not its own address \
             but one that was put in for it"
            ),
        );
    }
    if let Some(other) = seen.announced_in_tls.filter(|other| *other != announced) {
        add(
            Certainty::Certain,
            format!(
                "asked by TLS, which nobody on the way can read, the server announces {other}: a \
             gateway has put {announced} in for it, and that is not {dialled}"
            ),
        );
    }
    if let Some(path) = &seen.path
        && path.routers_as(dialled) > 1
    {
        // They need not be NATs.
        add(
            Certainty::Likely,
            format!(
                "behind {dialled} there are {} more routers before the server",
                path.routers_as(dialled) - 1
            ),
        );
    }
    signs
}
