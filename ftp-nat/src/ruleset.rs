//! The firewall's rules, whoever wrote them, and what they would do with a packet.
//!
//! Not every condition can be judged from outside (limits, sets that change, other modules). Those
//! are neither true nor false, and what depends on one is not called certain: the doctor says only
//! what is sure.

use std::{net::IpAddr, ops::RangeInclusive};

use crate::model::prefix::Prefix;

mod iptables;
mod nft;
mod program;
pub(crate) mod read;
pub(crate) mod translations;

/// Chains that call each other may be nested so deep (the kernel's own limit is 16).
const DEPTH: usize = 16;

/// A packet, as far as rules ask about it.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    /// The interface that it came by.
    pub input: String,
    /// The interface that it leaves by; none where that is not known yet.
    pub output: Option<String>,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Its destination port.
    pub port: u16,
    /// None: nobody can tell.
    pub mark: Option<u32>,
    /// Whether it is of a connection that the firewall knows already; else it is a first SYN.
    pub established: bool,
    /// Whether the kernel's NAT has changed its destination.
    pub translated: bool,
}

/// What a rule asks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Test {
    /// The interface that it came by; a `*` at the end stands for anything.
    Input(Vec<String>),
    /// The interface that it leaves by.
    Output(Vec<String>),
    Source(Vec<Prefix>),
    Destination(Vec<Prefix>),
    Port(Vec<RangeInclusive<u16>>),
    Mark(Vec<(u32, u32)>),
    /// TCP, or not.
    Tcp(bool),
    /// IPv4, or IPv6.
    V4(bool),
    /// `new`, `established`, `related` and so on.
    State(Vec<String>),
    /// `dnat` and so on.
    Status(Vec<String>),
    /// TCP flags: of these, just those are set.
    Flags(Vec<String>, Vec<String>),
    /// One of these rows, each true if all in it are.
    Rows(Vec<Vec<Test>>),
    /// What is always so, or never.
    Always(bool),
    /// What cannot be judged.
    Unknown,
}

/// A test, perhaps turned round.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Condition {
    pub test: Test,
    pub negated: bool,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    Accept,
    /// Drops or rejects.
    Drop,
    Return,
    Jump(String),
    Goto(String),
    /// Changes the destination: DNAT, redirect, TPROXY.
    Destination,
    /// Changes the source: SNAT, masquerade.
    Source,
    /// Gives the connection to one of the kernel's helpers.
    Helper(String),
    /// Changes the mark; none: nobody can tell to what.
    Mark(Option<MarkChange>),
    /// Something else that may end its way.
    Unknown,
    /// Counts, logs and so on.
    Nothing,
}

/// What becomes of a mark: the bits of `keep` stay as they are, the others are zero, and then those of
/// `flip` are turned round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MarkChange {
    pub keep: u32,
    pub flip: u32,
}

impl MarkChange {
    /// The mark afterwards; `mark`: before, none where nobody can tell.
    fn after(self, mark: Option<u32>) -> Option<u32> {
        match mark {
            None if self.keep == 0 => Some(self.flip),
            mark => Some((mark? & self.keep) ^ self.flip),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rule {
    pub conditions: Vec<Condition>,
    pub action: Action,
    /// Where [`Action::Destination`] leads, as far as that is one end. Without a port it stays as it
    /// is.
    pub to: Option<(IpAddr, Option<u16>)>,
}

/// Where a chain is hooked in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Base {
    /// `prerouting`, `forward` and so on.
    pub hook: String,
    pub is_nat: bool,
    pub priority: i64,
    pub drops: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chain {
    /// The table, as people name it: `nft inet filter`, `iptables filter`.
    pub table: String,
    pub v4: bool,
    pub v6: bool,
    pub name: String,
    pub base: Option<Base>,
    pub rules: Vec<Rule>,
}

impl Chain {
    fn serves(&self, packet: &Packet) -> bool {
        if packet.source.is_ipv4() {
            self.v4
        } else {
            self.v6
        }
    }

    fn title(&self) -> String {
        format!("chain {} of {}", self.name, self.table)
    }
}

/// All chains of all tables.
#[derive(Debug, Default)]
pub(crate) struct Ruleset {
    pub chains: Vec<Chain>,
}

/// What becomes of a packet at a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It passes, or nobody can tell.
    Passes,
    /// It is dropped for sure, here.
    Dropped(String),
}

/// How a way through a chain ends.
enum End {
    Accept,
    Drop(String),
    /// Behind the last rule, or by `return`.
    Through,
}

impl Ruleset {
    /// What becomes of a packet at a hook.
    #[cfg(test)]
    pub fn verdict(&self, hook: &str, packet: &Packet) -> Verdict {
        self.pass(hook, &mut packet.clone())
    }

    /// What becomes of a packet at a hook. Its mark is afterwards what the rules have made of it.
    pub fn pass(&self, hook: &str, packet: &mut Packet) -> Verdict {
        let mut chains: Vec<_> = self
            .chains
            .iter()
            .filter(|chain| chain.serves(packet))
            .filter_map(|chain| Some((chain.base.as_ref()?, chain)))
            .filter(|(base, _)| base.hook == hook && !base.is_nat)
            .collect();
        chains.sort_by_key(|(base, _)| base.priority);
        let mut unsure = false;
        for (base, chain) in chains {
            let end = match self.walk(chain, packet, &mut unsure, 0) {
                End::Through if base.drops => End::Drop(format!("the policy of {}", chain.title())),
                end => end,
            };
            match end {
                End::Drop(place) if !unsure => return Verdict::Dropped(place),
                // Whether it comes to the next chain nobody can tell.
                End::Drop(_) => return Verdict::Passes,
                End::Accept | End::Through => {}
            }
        }
        Verdict::Passes
    }

    /// Walks through a chain; `unsure` becomes true where nobody can tell whether a rule ends the way.
    fn walk(&self, chain: &Chain, packet: &mut Packet, unsure: &mut bool, depth: usize) -> End {
        for (place, rule) in chain.rules.iter().enumerate() {
            let answer = rule.matches(packet);
            if answer == Some(false) {
                continue;
            }
            match (&rule.action, answer) {
                (Action::Mark(Some(change)), Some(_)) => packet.mark = change.after(packet.mark),
                (Action::Mark(_), _) => packet.mark = None,
                (Action::Nothing | Action::Destination | Action::Source | Action::Helper(_), _) => {
                }
                (Action::Unknown, _) | (_, None) => *unsure = true,
                (Action::Accept, _) => return End::Accept,
                (Action::Drop, _) => {
                    return End::Drop(format!("rule {} of {}", place + 1, chain.title()));
                }
                (Action::Return, _) => return End::Through,
                (Action::Jump(name) | Action::Goto(name), _) => {
                    let called = self
                        .chains
                        .iter()
                        .find(|it| it.table == chain.table && it.name == *name);
                    let Some(called) = called.filter(|_| depth < DEPTH) else {
                        *unsure = true;
                        continue;
                    };
                    match self.walk(called, packet, unsure, depth + 1) {
                        End::Through if matches!(rule.action, Action::Jump(_)) => {}
                        end => return end,
                    }
                }
            }
        }
        End::Through
    }

    /// The rules that take packets with this mark for others than they are.
    pub fn colliding(&self, mark: u32) -> impl Iterator<Item = String> {
        self.chains.iter().flat_map(move |chain| {
            let its = chain.rules.iter().enumerate();
            its.filter(move |(_, rule)| rule.collides_with(mark))
                .map(move |(place, _)| format!("rule {} of {}", place + 1, chain.title()))
        })
    }

    /// The rules that may act on one of these packets, whether or not their chain is reached.
    pub fn acting<'r>(
        &'r self,
        packets: &'r [Packet],
        wanted: impl Fn(&Action) -> bool + 'r,
    ) -> impl Iterator<Item = (String, &'r Rule)> {
        self.chains.iter().flat_map(move |chain| {
            let its = chain.rules.iter().enumerate().filter(|(_, rule)| {
                wanted(&rule.action)
                    && packets
                        .iter()
                        .any(|packet| chain.serves(packet) && rule.matches(packet) != Some(false))
            });
            its.map(|(place, rule)| (format!("rule {} of {}", place + 1, chain.title()), rule))
                .collect::<Vec<_>>()
        })
    }
}

impl Rule {
    /// Whether all conditions hold; none where that cannot be judged.
    fn matches(&self, packet: &Packet) -> Option<bool> {
        all(self.conditions.iter().map(|it| it.holds(packet)))
    }
}

impl Rule {
    /// Whether it takes packets with this mark for others than those without, and is not just about
    /// this mark.
    pub fn collides_with(&self, mark: u32) -> bool {
        self.conditions.iter().any(|condition| {
            let Test::Mark(pairs) = &condition.test else {
                return false;
            };
            let holds = |mark: u32| pairs.iter().any(|(mask, value)| mark & mask == *value);
            let is_about_ours = pairs
                .iter()
                .any(|(mask, value)| *value == mark && (*mask == mark || *mask == u32::MAX));
            holds(0) != holds(mark) && !is_about_ours
        })
    }
}

/// Whether all are true: one that is not settles it, whatever the others are.
fn all(answers: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut result = Some(true);
    for answer in answers {
        match answer {
            Some(false) => return Some(false),
            None => result = None,
            Some(true) => {}
        }
    }
    result
}

impl Condition {
    fn holds(&self, packet: &Packet) -> Option<bool> {
        Some(self.test.holds(packet)? != self.negated)
    }
}

impl Test {
    fn holds(&self, packet: &Packet) -> Option<bool> {
        let within = |networks: &[Prefix], ip: IpAddr| {
            let bits = if ip.is_ipv4() { 32 } else { 128 };
            networks
                .iter()
                .any(|network| network.contains(&Prefix::of(ip, bits)))
        };
        Some(match self {
            Self::Input(names) => is_one_of(&packet.input, names),
            Self::Output(names) => is_one_of(packet.output.as_ref()?, names),
            Self::Source(networks) => within(networks, packet.source),
            Self::Destination(networks) => within(networks, packet.destination),
            Self::Port(ranges) => ranges.iter().any(|range| range.contains(&packet.port)),
            Self::Mark(pairs) => {
                let mark = packet.mark?;
                pairs.iter().any(|(mask, value)| mark & mask == *value)
            }
            Self::Tcp(yes) => *yes,
            Self::V4(yes) => packet.source.is_ipv4() == *yes,
            Self::State(states) => {
                let has = |wanted: &str| states.iter().any(|it| it.eq_ignore_ascii_case(wanted));
                // iptables asks so whether the kernel's NAT translates the connection.
                if packet.translated && has("dnat") {
                    return Some(true);
                }
                if has("snat") {
                    return None;
                }
                let state = if packet.established {
                    "established"
                } else {
                    "new"
                };
                states.iter().any(|it| it.eq_ignore_ascii_case(state))
            }
            Self::Status(all) => {
                if all.iter().any(|it| !it.eq_ignore_ascii_case("dnat")) {
                    return None;
                }
                packet.translated
            }
            Self::Flags(mask, set) => {
                if packet.established {
                    return None;
                }
                let masked: Vec<_> = mask.iter().filter(|it| *it == "syn").collect();
                masked.iter().all(|it| set.contains(it))
                    && set.iter().all(|it| masked.contains(&it))
            }
            Self::Rows(rows) => {
                let mut unknown = false;
                for row in rows {
                    match all(row.iter().map(|test| test.holds(packet))) {
                        Some(true) => return Some(true),
                        None => unknown = true,
                        Some(false) => {}
                    }
                }
                return if unknown { None } else { Some(false) };
            }
            Self::Always(yes) => *yes,
            Self::Unknown => return None,
        })
    }
}

fn is_one_of(name: &str, patterns: &[String]) -> bool {
    patterns
        .iter()
        .any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == pattern,
        })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A marked SYN from the WAN to the server.
    pub(crate) fn syn() -> Packet {
        Packet {
            input: "wan".into(),
            output: Some("lan".into()),
            source: "1.1.1.1".parse().unwrap(),
            destination: "10.0.0.5".parse().unwrap(),
            port: 50000,
            mark: Some(0x66_7470),
            established: false,
            translated: false,
        }
    }

    fn chain(name: &str, drops: Option<bool>, rules: Vec<(Vec<Test>, Action)>) -> Chain {
        Chain {
            table: "t".into(),
            v4: true,
            v6: true,
            name: name.into(),
            base: drops.map(|drops| Base {
                hook: "forward".into(),
                is_nat: false,
                priority: 0,
                drops,
            }),
            rules: rules
                .into_iter()
                .map(|(tests, action)| Rule {
                    conditions: tests
                        .into_iter()
                        .map(|test| Condition {
                            test,
                            negated: false,
                        })
                        .collect(),
                    action,
                    to: None,
                })
                .collect(),
        }
    }

    fn dropped(chains: Vec<Chain>) -> bool {
        Ruleset { chains }.verdict("forward", &syn()) != Verdict::Passes
    }

    #[test]
    fn only_what_is_certain_is_called_dropped() {
        let yes = || vec![Test::Always(true)];
        let no = || vec![Test::Always(false)];
        let perhaps = || vec![Test::Unknown];
        let sub = |rules| chain("sub", None, rules);
        for (chains, expected) in [
            (vec![chain("c", Some(true), vec![])], true),
            (vec![chain("c", Some(false), vec![])], false),
            (
                vec![chain("c", Some(true), vec![(yes(), Action::Accept)])],
                false,
            ),
            (
                vec![chain("c", Some(true), vec![(no(), Action::Accept)])],
                true,
            ),
            (
                vec![chain("c", Some(true), vec![(perhaps(), Action::Accept)])],
                false,
            ),
            (
                vec![chain("c", Some(false), vec![(yes(), Action::Drop)])],
                true,
            ),
            (
                vec![chain("c", Some(false), vec![(perhaps(), Action::Drop)])],
                false,
            ),
            (
                vec![
                    chain("c", Some(true), vec![(yes(), Action::Jump("sub".into()))]),
                    sub(vec![(yes(), Action::Accept)]),
                ],
                false,
            ),
            (
                vec![
                    chain(
                        "c",
                        Some(true),
                        vec![(yes(), Action::Jump("sub".into())), (yes(), Action::Accept)],
                    ),
                    sub(vec![(yes(), Action::Return), (yes(), Action::Drop)]),
                ],
                false,
            ),
            (
                vec![
                    chain(
                        "c",
                        Some(true),
                        vec![(yes(), Action::Goto("sub".into())), (yes(), Action::Accept)],
                    ),
                    sub(vec![]),
                ],
                true,
            ),
            // Every chain has its say.
            (
                vec![
                    chain("a", Some(true), vec![(yes(), Action::Accept)]),
                    chain("b", Some(true), vec![]),
                ],
                true,
            ),
            // One that calls itself.
            (
                vec![chain(
                    "c",
                    Some(true),
                    vec![(yes(), Action::Jump("c".into()))],
                )],
                false,
            ),
        ] {
            assert_eq!(dropped(chains.clone()), expected, "{chains:?}");
        }
    }

    #[test]
    fn a_mark_that_was_changed_is_not_ours_for_sure() {
        let ours = || vec![Test::Mark(vec![(u32::MAX, 0x66_7470)])];
        let accept = (ours(), Action::Accept);
        assert!(!dropped(vec![chain("c", Some(true), vec![accept.clone()])]));
        let changed = (vec![], Action::Mark(None));
        let other = (vec![Test::Mark(vec![(u32::MAX, 1)])], Action::Accept);
        assert!(dropped(vec![chain("c", Some(true), vec![other.clone()])]));
        assert!(!dropped(vec![chain("c", Some(true), vec![changed, other])]));
        // What it is changed to may be known.
        let set = |keep, flip| (vec![], Action::Mark(Some(MarkChange { keep, flip })));
        for (change, drops) in [
            (set(0, 0), true),
            (set(0, 0x66_7470), false),
            (set(u32::MAX, 0), false),
            (set(!0x70, 0), true),
            (set(u32::MAX, 0x100_0000), true),
        ] {
            let rules = vec![change.clone(), accept.clone()];
            assert_eq!(
                dropped(vec![chain("c", Some(true), rules)]),
                drops,
                "{change:?}"
            );
        }
        // A mark that is set anew is known, whatever it was.
        let rules = vec![(vec![], Action::Mark(None)), set(0, 0x66_7470), accept];
        let mut packet = syn();
        let ruleset = Ruleset {
            chains: vec![chain("c", Some(true), rules)],
        };
        assert_eq!(ruleset.pass("forward", &mut packet), Verdict::Passes);
        assert_eq!(packet.mark, Some(0x66_7470));
    }
}
