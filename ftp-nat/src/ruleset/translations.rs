//! The ports that rules translate: connections to them are somebody's already.

use std::{net::IpAddr, ops::RangeInclusive};

use super::{Action, Chain, Condition, DEPTH, Ruleset, Test, is_one_of};
use crate::model::prefix::Prefix;

/// A rule that names more ports than these says nothing of who uses one of them: it hands over
/// whatever nobody else wants, as for a host that gets everything.
const MOST_PORTS: u16 = 16_384;

/// Ports whose connections from outside a rule translates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Translation {
    /// At this address; none: at any of these families.
    pub address: Option<IpAddr>,
    pub v4: bool,
    pub v6: bool,
    pub ports: RangeInclusive<u16>,
    /// Where they lead, as far as that is one end; without a port it stays the same.
    pub to: Option<(IpAddr, Option<u16>)>,
}

impl Ruleset {
    /// What is translated of connections that come in by one of these interfaces. Rules for all
    /// ports are left out. What cannot be judged is taken to be so.
    pub(crate) fn translations(&self, inputs: &[String]) -> Vec<Translation> {
        let mut found = Vec::new();
        for chain in &self.chains {
            if chain
                .base
                .as_ref()
                .is_some_and(|it| it.hook == "prerouting")
            {
                let any = Reach {
                    networks: Vec::new(),
                    ports: 0..=u16::MAX,
                };
                self.follow(chain, &[any], inputs, 0, &mut found);
            }
        }
        found
    }

    fn follow(
        &self,
        chain: &Chain,
        reached: &[Reach],
        inputs: &[String],
        depth: usize,
        found: &mut Vec<Translation>,
    ) {
        for rule in &chain.rules {
            let mut reached = reached.to_vec();
            for condition in &rule.conditions {
                reached = narrowed(reached, condition, inputs);
            }
            match &rule.action {
                Action::Destination => found.extend(
                    reached
                        .iter()
                        .filter_map(|it| it.translation(chain, rule.to)),
                ),
                Action::Jump(name) | Action::Goto(name) if depth < DEPTH => {
                    let called = self
                        .chains
                        .iter()
                        .find(|it| it.table == chain.table && it.name == *name);
                    if let Some(called) = called {
                        self.follow(called, &reached, inputs, depth + 1, found);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Destinations that come to a rule.
#[derive(Clone, Debug)]
struct Reach {
    /// The networks that they are in, all of them.
    networks: Vec<Prefix>,
    ports: RangeInclusive<u16>,
}

impl Reach {
    fn translation(&self, chain: &Chain, to: Option<(IpAddr, Option<u16>)>) -> Option<Translation> {
        let (first, last) = (*self.ports.start(), *self.ports.end());
        if last - first >= MOST_PORTS {
            return None;
        }
        let is_host = |it: &&Prefix| it.bits == if it.address.is_ipv4() { 32 } else { 128 };
        let family = self.networks.first().map(|it| it.address.is_ipv4());
        Some(Translation {
            address: self.networks.iter().find(is_host).map(|it| it.address),
            v4: chain.v4 && family != Some(false),
            v6: chain.v6 && family != Some(true),
            ports: self.ports.clone(),
            to,
        })
    }
}

/// What is left of these destinations behind a condition.
fn narrowed(reached: Vec<Reach>, condition: &Condition, inputs: &[String]) -> Vec<Reach> {
    let is_met = match &condition.test {
        Test::Input(names) => inputs
            .iter()
            .any(|input| is_one_of(input, names) != condition.negated),
        Test::Always(yes) | Test::Tcp(yes) => *yes != condition.negated,
        _ => true,
    };
    if !is_met {
        return Vec::new();
    }
    // What is left out of a range may be somebody's or not: a port too many is kept for others.
    if condition.negated {
        return reached;
    }
    let each = |narrow: &dyn Fn(&Reach) -> Vec<Reach>| reached.iter().flat_map(narrow).collect();
    match &condition.test {
        Test::Port(ranges) => each(&|it: &Reach| {
            let within = ranges.iter().map(|range| {
                let first = *range.start().max(it.ports.start());
                let last = *range.end().min(it.ports.end());
                Reach {
                    networks: it.networks.clone(),
                    ports: first..=last,
                }
            });
            within.filter(|it| !it.ports.is_empty()).collect()
        }),
        Test::Destination(networks) => each(&|it: &Reach| {
            let within = networks.iter().map(|network| Reach {
                networks: [&it.networks[..], &[*network]].concat(),
                ports: it.ports.clone(),
            });
            within.collect()
        }),
        Test::Rows(rows) => each(&|it: &Reach| {
            rows.iter()
                .flat_map(|row| {
                    row.iter().fold(vec![it.clone()], |left, test| {
                        let condition = Condition {
                            test: test.clone(),
                            negated: false,
                        };
                        narrowed(left, &condition, inputs)
                    })
                })
                .collect()
        }),
        _ => reached,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::{iptables, nft};

    /// As `ADDRESS:FIRST-LAST to END`.
    fn shown(chains: Vec<Chain>) -> Vec<String> {
        let translations = Ruleset { chains }.translations(&["wan".to_owned()]);
        let address = |it: &Translation| match (it.address, it.v4, it.v6) {
            (Some(address), ..) => address.to_string(),
            (None, true, false) => "any4".to_owned(),
            (None, false, true) => "any6".to_owned(),
            (None, ..) => "any".to_owned(),
        };
        let to = |it: &Translation| match it.to {
            Some((ip, Some(port))) => format!("{ip} {port}"),
            Some((ip, None)) => ip.to_string(),
            None => "?".to_owned(),
        };
        translations
            .iter()
            .map(|it| {
                let (first, last) = (it.ports.start(), it.ports.end());
                format!("{}:{first}-{last} to {}", address(it), to(it))
            })
            .collect()
    }

    #[test]
    fn rules_of_iptables_say_which_ports_are_translated() {
        for (rules, expected) in [
            (
                "-A PREROUTING -i wan -p tcp -m tcp --dport 8443 -j DNAT --to-destination 10.0.0.6",
                &["any4:8443-8443 to 10.0.0.6"][..],
            ),
            (
                "-A PREROUTING -d 198.51.100.1/32 -p tcp -m multiport --dports 80,8000:8010 -j DNAT \
                 --to-destination 10.0.0.6:8080",
                &[
                    "198.51.100.1:80-80 to 10.0.0.6 8080",
                    "198.51.100.1:8000-8010 to 10.0.0.6 8080",
                ],
            ),
            // As Docker writes them.
            (
                ":DOCKER - [0:0]\n\
                 -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n\
                 -A DOCKER -i docker0 -j RETURN\n\
                 -A DOCKER ! -i docker0 -p tcp -m tcp --dport 5000 -j DNAT --to-destination \
                 172.17.0.2:80",
                &["any4:5000-5000 to 172.17.0.2 80"],
            ),
            (
                "-A PREROUTING -p tcp -m tcp --dport 3128 -j REDIRECT --to-ports 3129",
                &["any4:3128-3128 to ?"],
            ),
            // Of another interface, of UDP, and for everything that nobody else wants.
            (
                "-A PREROUTING -i lan -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.0.0.6\n\
                 -A PREROUTING -i wan -p udp -m udp --dport 8080 -j DNAT --to-destination 10.0.0.6\n\
                 -A PREROUTING -i wan -j DNAT --to-destination 10.0.0.6\n\
                 -A PREROUTING -p tcp -m tcp --dport 1024:65535 -j DNAT --to-destination 10.0.0.6",
                &[],
            ),
        ] {
            let text = format!("*nat\n:PREROUTING ACCEPT [0:0]\n{rules}\nCOMMIT\n");
            let chains = iptables::parse(&text, true);
            assert_eq!(shown(chains), expected, "{rules}");
        }
    }

    /// A prerouting chain of nftables with one rule, as JSON has them.
    fn nftables(family: &str, expressions: &str) -> Vec<Chain> {
        let text = format!(
            r#"{{"nftables": [
                {{"chain": {{"family": "{family}", "table": "t", "name": "c", "type": "nat",
                             "hook": "prerouting", "prio": -100, "policy": "accept"}}}},
                {{"map": {{"family": "{family}", "table": "t", "name": "m",
                           "elem": [[9000, "10.0.0.9"]]}}}},
                {{"rule": {{"family": "{family}", "table": "t", "chain": "c",
                            "expr": [{expressions}]}}}}]}}"#
        );
        nft::parse(&text).unwrap()
    }

    #[test]
    fn rules_of_nftables_say_which_ports_are_translated() {
        const DPORT: &str = r#"{"payload": {"protocol": "tcp", "field": "dport"}}"#;
        const DADDR: &str = r#"{"payload": {"protocol": "ip", "field": "daddr"}}"#;
        for (family, expressions, expected) in [
            (
                "inet",
                format!(
                    r#"{{"match": {{"op": "==", "left": {DPORT},
                        "right": {{"set": [21, {{"range": [50000, 50009]}}]}}}}}},
                    {{"dnat": {{"family": "ip", "addr": "10.0.0.5"}}}}"#
                ),
                &["any:21-21 to 10.0.0.5", "any:50000-50009 to 10.0.0.5"][..],
            ),
            (
                "ip",
                format!(
                    r#"{{"match": {{"op": "==", "left": {DADDR}, "right": "198.51.100.1"}}}},
                    {{"match": {{"op": "==", "left": {DPORT}, "right": 8443}}}},
                    {{"dnat": {{"addr": "10.0.0.6", "port": 443}}}}"#
                ),
                &["198.51.100.1:8443-8443 to 10.0.0.6 443"],
            ),
            (
                "ip",
                format!(
                    r#"{{"dnat": {{"addr": {{"map": {{"key": {DPORT}, "data": {{"set":
                        [[8001, "10.0.0.7"], [8002, {{"concat": ["10.0.0.8", 80]}}]]}}}}}}}}}}"#
                ),
                &[
                    "any4:8001-8001 to 10.0.0.7",
                    "any4:8002-8002 to 10.0.0.8 80",
                ],
            ),
            (
                "ip",
                format!(r#"{{"dnat": {{"addr": {{"map": {{"key": {DPORT}, "data": "@m"}}}}}}}}"#),
                &["any4:9000-9000 to 10.0.0.9"],
            ),
            (
                "ip",
                format!(
                    r#"{{"match": {{"op": "==", "left": {{"concat": [{DADDR}, {DPORT}]}}, "right":
                        {{"set": [{{"concat": ["198.51.100.2", 7000]}}]}}}}}},
                    {{"redirect": {{"port": 7001}}}}"#
                ),
                &["198.51.100.2:7000-7000 to ?"],
            ),
            (
                "ip",
                format!(
                    r#"{{"match": {{"op": "==", "left": {{"meta": {{"key": "iifname"}}}},
                        "right": "lan"}}}},
                    {{"match": {{"op": "==", "left": {DPORT}, "right": 8443}}}},
                    {{"dnat": {{"addr": "10.0.0.6"}}}}"#
                ),
                &[],
            ),
        ] {
            assert_eq!(
                shown(nftables(family, &expressions)),
                expected,
                "{expressions}"
            );
        }
    }
}
