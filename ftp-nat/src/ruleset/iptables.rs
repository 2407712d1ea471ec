//! The rules of iptables, as `iptables-save` and `ip6tables-save` print them.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
};

use super::{Action, Base, Chain, Condition, MarkChange, Rule, Test};
use crate::model::prefix::Prefix;

/// Modules whose options are understood below, or say nothing.
const MODULES: [&str; 8] = [
    "tcp",
    "multiport",
    "mark",
    "conntrack",
    "state",
    "comment",
    "addrtype",
    "udp",
];

/// All chains of one family.
pub(crate) fn parse(text: &str, v4: bool) -> Vec<Chain> {
    let program = if v4 { "iptables" } else { "ip6tables" };
    let mut chains: Vec<Chain> = Vec::new();
    let mut table = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = Some(name);
            continue;
        }
        let Some(table) = table else {
            continue;
        };
        let title = format!("{program} {table}");
        if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split(' ');
            let name = words.next().unwrap_or_default();
            let policy = words.next().unwrap_or_default();
            chains.push(Chain {
                base: base(table, name, policy),
                table: title,
                v4,
                v6: !v4,
                name: name.to_owned(),
                rules: Vec::new(),
            });
        } else if let Some((name, rule)) = rule(line) {
            let its = chains
                .iter_mut()
                .find(|it| it.table == title && it.name == name);
            if let Some(chain) = its {
                chain.rules.push(rule);
            }
        }
    }
    chains
}

fn base(table: &str, chain: &str, policy: &str) -> Option<Base> {
    if policy == "-" {
        return None;
    }
    let priority = match table {
        "raw" => -300,
        "mangle" => -150,
        "nat" => -100,
        _ => 0,
    };
    Some(Base {
        hook: chain.to_ascii_lowercase(),
        is_nat: table == "nat",
        priority,
        drops: policy == "DROP",
    })
}

/// A line `-A CHAIN ...`.
fn rule(line: &str) -> Option<(String, Rule)> {
    let words = words(line);
    let mut words = words.iter().map(String::as_str).peekable();
    // With counters in front: `[1:60] -A ...`.
    if words.peek()?.starts_with('[') {
        words.next();
    }
    if words.next()? != "-A" {
        return None;
    }
    let chain = words.next()?.to_owned();
    let mut rule = Rule {
        conditions: Vec::new(),
        action: Action::Nothing,
        to: None,
    };
    let mut negated = false;
    while let Some(word) = words.next() {
        if word == "!" {
            negated = true;
            continue;
        }
        let test = match word {
            "-j" | "-g" => {
                let target = words.next().unwrap_or_default();
                rule.action = action(target, word == "-g", &mut words);
                // What follows are the target's own options.
                let to = words.skip_while(|it| *it != "--to-destination").nth(1);
                rule.to = to.and_then(end);
                break;
            }
            "-m" => match words.next() {
                Some(module) if MODULES.contains(&module) => None,
                _ => Some(Test::Unknown),
            },
            "--comment" => {
                words.next();
                None
            }
            "--syn" => Some(flags("SYN,RST,ACK,FIN", "SYN")),
            "--tcp-flags" => {
                let mask = words.next().unwrap_or_default();
                Some(flags(mask, words.next().unwrap_or_default()))
            }
            option => Some(test(option, words.next().unwrap_or_default())),
        };
        if let Some(test) = test {
            rule.conditions.push(Condition { test, negated });
        }
        negated = false;
    }
    Some((chain, rule))
}

/// Where DNAT leads: `ADDR`, `ADDR:PORT` or `[ADDR]:PORT`; none for a range.
fn end(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(end) = text.parse::<SocketAddr>() {
        return Some((end.ip(), Some(end.port())));
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    Some((bare.parse().ok()?, None))
}

fn action<'w>(target: &str, goes: bool, options: &mut impl Iterator<Item = &'w str>) -> Action {
    match target {
        "ACCEPT" => Action::Accept,
        "DROP" | "REJECT" => Action::Drop,
        "RETURN" => Action::Return,
        "DNAT" | "REDIRECT" | "TPROXY" => Action::Destination,
        "SNAT" | "MASQUERADE" => Action::Source,
        // Whichever option it was, it is saved as this one: VALUE/MASK.
        "MARK" => {
            let value = options.skip_while(|it| *it != "--set-xmark").nth(1);
            let change = value
                .and_then(mark)
                .map(|(mask, flip)| MarkChange { keep: !mask, flip });
            Action::Mark(change)
        }
        "CONNMARK" if options.any(|it| it == "--restore-mark") => Action::Mark(None),
        "CT" => options
            .skip_while(|it| *it != "--helper")
            .nth(1)
            .map_or(Action::Nothing, |name| Action::Helper(name.to_owned())),
        "QUEUE" | "NFQUEUE" => Action::Unknown,
        // A user's own chain, unless it is a target that only notes or changes something.
        name if name
            .chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
            && TARGETS.contains(&name) =>
        {
            Action::Nothing
        }
        name if goes => Action::Goto(name.to_owned()),
        name => Action::Jump(name.to_owned()),
    }
}

/// Targets behind which a packet goes on.
const TARGETS: [&str; 15] = [
    "LOG", "NFLOG", "ULOG", "TCPMSS", "TTL", "HL", "DSCP", "TOS", "CLASSIFY", "CHECKSUM", "AUDIT",
    "TRACE", "NOTRACK", "CONNMARK", "SET",
];

fn test(option: &str, value: &str) -> Test {
    let list = || value.split(',');
    match option {
        "-i" => Test::Input(vec![pattern(value)]),
        "-o" => Test::Output(vec![pattern(value)]),
        "-s" => value
            .parse::<Prefix>()
            .map_or(Test::Unknown, |it| Test::Source(vec![it])),
        "-d" => value
            .parse::<Prefix>()
            .map_or(Test::Unknown, |it| Test::Destination(vec![it])),
        "-p" => match value {
            "all" => Test::Always(true),
            protocol => Test::Tcp(matches!(protocol, "tcp" | "6")),
        },
        "--dport" | "--dports" => list()
            .map(port_range)
            .collect::<Option<_>>()
            .map_or(Test::Unknown, Test::Port),
        "--mark" => mark(value).map_or(Test::Unknown, |it| Test::Mark(vec![it])),
        "--ctstate" | "--state" => Test::State(list().map(str::to_owned).collect()),
        "--ctstatus" => Test::Status(list().map(str::to_owned).collect()),
        _ => Test::Unknown,
    }
}

/// iptables writes `+` for anything at the end.
fn pattern(name: &str) -> String {
    match name.strip_suffix('+') {
        Some(start) => format!("{start}*"),
        None => name.to_owned(),
    }
}

fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

fn mark(text: &str) -> Option<(u32, u32)> {
    let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    Some((number(mask)?, number(value)?))
}

fn flags(mask: &str, set: &str) -> Test {
    let names = |text: &str| -> Vec<String> {
        text.split(',')
            .filter(|name| *name != "NONE")
            .map(str::to_ascii_lowercase)
            .collect()
    };
    Test::Flags(names(mask), names(set))
}

/// The words of a line; quoted ones may hold blanks.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut quoted, mut any) = (false, false);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => (quoted, any) = (!quoted, true),
            '\\' if quoted => word.extend(letters.next()),
            ' ' if !quoted => {
                if any {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            letter => {
                word.push(letter);
                any = true;
            }
        }
    }
    if any {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::{Packet, Ruleset, Verdict, tests::syn};

    fn save(policy: &str, rules: &[&str]) -> Ruleset {
        let text = format!(
            "# Generated by iptables-save v1.8.9 (nf_tables)\n*filter\n:INPUT ACCEPT [0:0]\n\
             :FORWARD {policy} [3:180]\n:mine - [0:0]\n{}\nCOMMIT\n",
            rules.join("\n")
        );
        let chains = parse(&text, true);
        Ruleset { chains }
    }

    #[test]
    fn rules_are_judged_as_iptables_prints_them() {
        for (rule, passes) in [
            ("-A FORWARD -m mark --mark 0x667470 -j ACCEPT", true),
            (
                "[1:60] -A FORWARD -m mark --mark 0x667470/0xffffff -j ACCEPT",
                true,
            ),
            ("-A FORWARD -m mark --mark 0x1 -j ACCEPT", false),
            (
                "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
                false,
            ),
            ("-A FORWARD -m conntrack --ctstate NEW -j ACCEPT", true),
            (
                "-A FORWARD -i wan -o lan -p tcp -m tcp --dport 1024:65535 -j ACCEPT",
                true,
            ),
            ("-A FORWARD ! -i wa+ -j ACCEPT", false),
            ("-A FORWARD -p udp -j ACCEPT", false),
            (
                "-A FORWARD -d 10.0.0.0/24 -p tcp -m multiport --dports 21,50000:50010 -j ACCEPT",
                true,
            ),
            (
                "-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST,ACK SYN -j ACCEPT",
                true,
            ),
            (
                "-A FORWARD -m comment --comment \"-j ACCEPT \\\" all\" -j LOG --log-prefix \"x y \"",
                false,
            ),
            // Nobody can tell: not called dropped.
            ("-A FORWARD -m limit --limit 3/sec -j ACCEPT", true),
            ("-A FORWARD -j mine", false),
        ] {
            let verdict = save("DROP", &[rule]).verdict("forward", &syn());
            assert_eq!(verdict == Verdict::Passes, passes, "{rule}");
        }
        for (change, passes) in [
            ("--set-xmark 0x0/0xffffffff", false),
            ("--set-xmark 0x0/0xff000000", true),
            ("--set-xmark 0x667470/0xffffffff", true),
        ] {
            let set = format!("-A FORWARD -j MARK {change}");
            let accept = "-A FORWARD -m mark --mark 0x667470 -j ACCEPT";
            let verdict = save("DROP", &[&set, accept]).verdict("forward", &syn());
            assert_eq!(verdict == Verdict::Passes, passes, "{change}");
        }
        let own = [
            "-A FORWARD -g mine",
            "-A mine -p tcp -j REJECT --reject-with tcp-reset",
        ];
        assert_eq!(
            save("ACCEPT", &own).verdict("forward", &syn()),
            Verdict::Dropped("rule 1 of chain mine of iptables filter".into())
        );
    }

    #[test]
    fn a_helper_and_a_translation_are_found() {
        let text = "*raw\n:PREROUTING ACCEPT [0:0]\n\
            -A PREROUTING -p tcp -m tcp --dport 21 -j CT --helper ftp\nCOMMIT\n\
            *nat\n:PREROUTING ACCEPT [0:0]\n\
            -A PREROUTING -i wan -p tcp -m tcp --dport 21 -j DNAT --to-destination 10.0.0.5\n\
            COMMIT\n";
        let chains = parse(text, true);
        let ruleset = Ruleset { chains };
        let control = [Packet { port: 21, ..syn() }];
        let found: Vec<_> = ruleset
            .acting(&control, |_| true)
            .map(|(_, it)| &it.action)
            .collect();
        assert_eq!(found, [&Action::Helper("ftp".into()), &Action::Destination]);
        assert_eq!(ruleset.acting(&[syn()], |_| true).count(), 0);
    }
}
