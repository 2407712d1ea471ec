//! The cluster: what keeps this gateway from taking over, or the others from taking over from it.

use super::{finding::Findings, subject::Subject};
use crate::{
    client::call,
    cluster::status::{Peer, Status},
};

/// From this difference on, two clocks differ, in seconds.
const CLOCKS_DIFFER: f64 = 1.0;
/// From this delay on, records are late, in seconds.
const LATE: f64 = 0.1;

pub(super) fn check(subject: &Subject, findings: &mut Findings) {
    let is_configured = subject
        .config
        .as_ref()
        .is_none_or(|config| config.cluster.is_some());
    let Some(loaded) = subject.loaded.as_ref().filter(|_| is_configured) else {
        return;
    };
    if let Some(status) = call::cluster(&loaded.gateway, &subject.state_dir) {
        judge(&status, findings);
    }
}

fn judge(status: &Status, findings: &mut Findings) {
    let name = &status.name;
    if let Some(error) = &status.engine_error {
        findings.error(
            "cluster-engine-away",
            None,
            format!(
                "nothing is shared by the engine of cluster {name}: {error}. What begins now is unknown to the \
                 other gateways, and ends if this one does"
            ),
            "repair the engine, or the way to it: nothing is lost that goes on until then, and everything is \
             told again",
        );
    } else if status.peers.iter().all(|peer| !peer.is_alive) {
        findings.warning(
            "cluster-alone",
            None,
            format!("no other gateway of cluster {name} is alive: nobody would take over"),
            "start it, or look whether it has the same engine and the same name of the cluster",
        );
    }
    if !status.is_ready {
        findings.warning(
            "cluster-not-ready",
            None,
            format!("not all is here yet that the other gateways of cluster {name} know"),
            "wait some seconds; `ftp-nat cluster status` shows from whom something is missing",
        );
    }
    if status.is_doubled {
        doubled(status.node, findings);
    }
    for peer in &status.peers {
        judge_peer(peer, findings);
    }
    if status.refused > 0 {
        findings.warning(
            "cluster-records-refused",
            None,
            format!(
                "{} records of other gateways were refused: the configuration here does not allow what \
                 they tell of",
                status.refused
            ),
            "the gateways' configurations must be the same (but for `node`); if they are, somebody else \
             writes to the engine",
        );
    }
    if status.unknown > 0 {
        findings.warning(
            "cluster-records-unknown",
            None,
            format!(
                "{} records of other gateways were not understood",
                status.unknown
            ),
            "run the same version everywhere; if it is the same, somebody else writes to the engine",
        );
    }
    if status.no_room > 0 {
        findings.error(
            "cluster-no-room",
            None,
            format!(
                "there was no room for {} records of other gateways: what they tell of would end if this \
                 one took over",
                status.no_room
            ),
            "give the tables the same size at all gateways ([limits])",
        );
    }
}

fn doubled(node: u8, findings: &mut Findings) {
    findings.error(
        "cluster-number-twice",
        None,
        format!("two gateways have number {node}: each takes what the other one tells for its own"),
        "give each its own `node` under [cluster], and restart the daemon",
    );
}

fn judge_peer(peer: &Peer, findings: &mut Findings) {
    let node = peer.node;
    if peer.is_doubled {
        doubled(node, findings);
    }
    if !peer.is_alive {
        return;
    }
    if let Some(address) = peer.shares_address {
        findings.error(
            "cluster-address-twice",
            None,
            format!("{address} is here and at gateway {node} too: both think that they are the master"),
            "they do not hear each other's VRRP advertisements (protocol 112, to 224.0.0.18 or ff02::12): \
             look at the network between them, at firewalls, and at the virtual router's number and \
             password in both configurations of keepalived",
        );
    }
    if !peer.has_same_config {
        findings.error(
            "cluster-configurations-differ",
            None,
            format!(
                "gateway {node} has another configuration, or another version: what it has let in may be \
                 refused here, and the reverse"
            ),
            "make [[publish]], [[masquerade]] and the addresses of pools the same at both; if they are, run \
             the same version",
        );
    }
    if peer.clock.abs() > CLOCKS_DIFFER {
        findings.warning(
            "cluster-clocks-differ",
            None,
            format!(
                "this gateway's clock is {:.1} s {} that of gateway {node}: their logs cannot be compared",
                peer.clock.abs(),
                if peer.clock > 0.0 { "ahead of" } else { "behind" },
            ),
            "let both keep their clocks by NTP; sessions are shared all the same",
        );
    }
    let late = peer.lag - peer.clock;
    if late > LATE {
        findings.warning(
            "cluster-late",
            None,
            format!(
                "what gateway {node} tells is {late:.1} s late: so much would be missing if it died"
            ),
            "look at the load of the engine, of both gateways and of the network between them",
        );
    }
}
