//! A data port at the right address that is not reached: by whose doing?

use super::finding::{Certainty, Fault, Findings, Side};
use crate::{
    model::address::is_inner,
    probe::{
        dial::{Dial, Reach},
        path::{DataEnd, Path},
        seen::{Mode, Seen},
    },
};

pub(super) fn diagnose(seen: &Seen, mode: Mode, dial: &Dial, findings: &mut Findings) {
    let mut judge = Judge {
        seen,
        mode,
        dial,
        findings,
    };
    match dial.reach {
        Reach::Connected => {}
        Reach::Forbidden => judge.client(
            Certainty::Certain,
            "this machine's own firewall forbids the connection",
        ),
        Reach::NoRoute => judge.client(Certainty::Likely, "this machine has no route"),
        Reach::Unreachable => judge.unreachable(),
        Reach::Refused => judge.refused(),
        Reach::TimedOut | Reach::Expired => judge.lost(),
        Reach::Failed => judge.client(Certainty::Possible, "the connection could not be tried"),
    }
}

struct Judge<'a> {
    seen: &'a Seen,
    mode: Mode,
    dial: &'a Dial,
    findings: &'a mut Findings,
}

impl Judge<'_> {
    fn add(&mut self, cause: Fault, certainty: Certainty, side: Side, why: &str) {
        // Without the port: of several that end alike one line is enough.
        let evidence = format!(
            "data connections to {}: {}; {why}",
            self.dial.to.ip(),
            self.dial.outcome()
        );
        self.findings
            .add(self.mode, cause, certainty, side, evidence);
    }

    fn client(&mut self, certainty: Certainty, why: &str) {
        self.add(Fault::ClientSide, certainty, Side::Client, why);
    }

    fn server(&mut self, cause: Fault, certainty: Certainty, why: &str) {
        self.add(cause, certainty, Side::Server, why);
    }

    /// Somebody says so.
    fn unreachable(&mut self) {
        let address = self.seen.address.ip();
        let Some(by) = self.dial.by else {
            self.server(
                Fault::FirewallBlocks,
                Certainty::Likely,
                "the control port of the same address is reached",
            );
            self.client(Certainty::Possible, "nobody says who rejects it");
            return;
        };
        let path = self.seen.path.as_ref();
        let distance = path.and_then(|path| path.distance(by));
        let is_near = match (path, distance) {
            (Some(path), Some(distance)) => path.is_near(distance, address),
            _ => is_inner(by) && !is_inner(address),
        };
        if by == address {
            self.server(
                Fault::FirewallBlocks,
                Certainty::Certain,
                "a firewall at that very address rejects it",
            );
        } else if by == self.seen.local_address.ip() {
            self.client(Certainty::Certain, "this machine rejects it itself");
        } else if is_near {
            let why = format!("{by} is a router on this client's own side");
            self.client(Certainty::Certain, &why);
        } else {
            let why = format!("{by} is a router on the server's side, or on the way");
            self.server(Fault::FirewallBlocks, Certainty::Likely, &why);
        }
    }

    /// Somebody reset it: who that is, the distance tells.
    fn refused(&mut self) {
        let address = self.seen.address.ip();
        let path = self.seen.path.as_ref();
        let ends = path.and_then(|path| match path.data_end() {
            DataEnd::Refused(distance) => Some((path, distance, path.server()?)),
            _ => None,
        });
        let Some((path, distance, server)) = ends else {
            self.server(
                Fault::NatNotTranslating,
                Certainty::Likely,
                "the control port of the same address is answered: that port goes to the server, \
                 this one to nobody",
            );
            self.server(
                Fault::FirewallBlocks,
                Certainty::Possible,
                "a firewall may have sent the reset",
            );
            return;
        };
        if distance < server && path.router(distance) == Some(address) {
            let why = format!(
                "the machine at {address} passes the control port on to a server behind it, but \
                 resets this port itself"
            );
            self.server(Fault::NatNotTranslating, Certainty::Certain, &why);
        } else if path.is_sent_on_by(address) {
            let why = format!(
                "{address} translates this port, and behind that it is reset: by a firewall there, \
                 or on the machine that it is translated to"
            );
            self.server(Fault::FirewallBlocks, Certainty::Likely, &why);
            self.server(
                Fault::PassiveRange,
                Certainty::Possible,
                "or it is translated to another machine, or another port, than the server's",
            );
        } else if distance < server {
            // A router looks at a packet's time to live first, and at its rules for forwarding
            // after that: so it may be the one before as well.
            let suspects: Vec<_> = [distance - 1, distance]
                .into_iter()
                .filter_map(|at| path.router(at))
                .map(|router| router.to_string())
                .collect();
            let why = format!(
                "the reset comes from {}, and the server is {server} hops away",
                match &suspects[..] {
                    [] => format!("hop {distance}"),
                    some => some.join(" or "),
                }
            );
            if path.is_near(distance - 1, address) {
                self.client(Certainty::Likely, &why);
            } else {
                self.server(Fault::FirewallBlocks, Certainty::Likely, &why);
            }
        } else {
            self.server(
                Fault::FirewallBlocks,
                Certainty::Likely,
                "it is reset where the control port is answered: a firewall on that machine \
                 rejects it",
            );
            self.server(
                Fault::NatNotTranslating,
                Certainty::Possible,
                "or that machine hands the control port on to a server, and not this one",
            );
        }
    }

    /// Nobody says anything: how far did it get?
    fn lost(&mut self) {
        let address = self.seen.address.ip();
        let path = self.seen.path.as_ref();
        let ends = path.and_then(|path| match path.data_end() {
            DataEnd::Lost(distance) => Some((path, distance, path.server()?)),
            _ => None,
        });
        let Some((path, last, server)) = ends else {
            self.lost_somewhere();
            return;
        };
        let next = last + 1;
        if path.is_sent_on_by(address) {
            let why = format!(
                "{address} translates this port and sends it on, and behind that it is lost: a \
                 firewall there drops it"
            );
            self.server(Fault::FirewallBlocks, Certainty::Certain, &why);
        } else if path.router(next) == Some(address) {
            let why = format!(
                "{address} passes the control port on, but drops this one without a word: its \
                 firewall does"
            );
            self.server(Fault::FirewallBlocks, Certainty::Likely, &why);
            self.server(
                Fault::NatNotTranslating,
                Certainty::Possible,
                "nor does it show that it translates this port",
            );
        } else if next < server && path.is_near(last, address) {
            let why = format!(
                "packets to this port are lost {} (to the control port: {})",
                lost_behind(path, last),
                Path::text(&path.control)
            );
            self.client(Certainty::Certain, &why);
        } else if next < server {
            let why = format!(
                "packets to this port are lost on the way, {}",
                lost_behind(path, last)
            );
            self.server(Fault::FirewallBlocks, Certainty::Likely, &why);
        } else {
            self.server(
                Fault::FirewallBlocks,
                Certainty::Likely,
                "packets to this port get as far as the last router before the server, and are \
                 lost there or at the server's own firewall",
            );
            if path.is_near(last, address) {
                self.client(
                    Certainty::Possible,
                    "that last router is also this client's own",
                );
            }
        }
    }

    fn lost_somewhere(&mut self) {
        self.server(
            Fault::FirewallBlocks,
            Certainty::Likely,
            "the control port of the same address is answered, this one is dropped",
        );
        self.server(
            Fault::NatNotTranslating,
            Certainty::Possible,
            "a NAT that does not translate it may drop it as well",
        );
        self.client(
            Certainty::Possible,
            "a firewall on this side that lets port 21 out, and no high ports, looks the same: try \
             from another network",
        );
    }
}

fn lost_behind(path: &Path, last: u8) -> String {
    match (last, path.router(last)) {
        (0, _) => "before the first router".into(),
        (_, Some(router)) => format!("at or behind {router}, hop {last}"),
        (_, None) => format!("at or behind hop {last}"),
    }
}
