//! The rules of nftables, as `nft -j list ruleset` prints them (libnftables-json(5)).

use std::{collections::HashMap, net::IpAddr, ops::RangeInclusive};

use anyhow::Context as _;
use serde_json::Value;

use super::{Action, Base, Chain, Condition, MarkChange, Rule, Test};
use crate::model::prefix::Prefix;

/// Where something stands: family, table, name.
type Origin = (String, String, String);

/// All chains of a ruleset.
pub(crate) fn parse(text: &str) -> anyhow::Result<Vec<Chain>> {
    let document: Value = serde_json::from_str(text).context("what nft printed is no JSON")?;
    let objects = document["nftables"]
        .as_array()
        .context("what nft printed has no \"nftables\"")?;
    let mut reader = Reader::default();
    for object in objects {
        reader.first_look(object);
    }
    for object in objects {
        if let Some(rule) = object.get("rule") {
            reader.rule(rule);
        }
    }
    Ok(reader.chains)
}

#[derive(Default)]
struct Reader {
    chains: Vec<Chain>,
    by_place: HashMap<Origin, usize>,
    /// Elements of named sets and maps.
    sets: HashMap<Origin, Vec<Value>>,
    /// Types of helper objects.
    helpers: HashMap<Origin, String>,
}

fn place(object: &Value, name: &str) -> Origin {
    (
        text(object, "family"),
        text(object, "table"),
        name.to_owned(),
    )
}

fn text(object: &Value, key: &str) -> String {
    object[key].as_str().unwrap_or_default().to_owned()
}

impl Reader {
    fn first_look(&mut self, object: &Value) {
        if let Some(chain) = object.get("chain") {
            self.chain(chain);
        } else if let Some(set) = object.get("set").or_else(|| object.get("map")) {
            let elements = set["elem"].as_array().cloned().unwrap_or_default();
            self.sets.insert(place(set, &text(set, "name")), elements);
        } else if let Some(helper) = object.get("ct helper") {
            self.helpers
                .insert(place(helper, &text(helper, "name")), text(helper, "type"));
        }
    }

    fn chain(&mut self, chain: &Value) {
        let (family, name) = (text(chain, "family"), text(chain, "name"));
        self.by_place.insert(place(chain, &name), self.chains.len());
        let base = chain["hook"].as_str().map(|hook| Base {
            hook: hook.to_owned(),
            is_nat: chain["type"] == "nat",
            priority: chain["prio"].as_i64().unwrap_or(0),
            drops: chain["policy"] == "drop",
        });
        self.chains.push(Chain {
            table: format!("nft {family} {}", text(chain, "table")),
            v4: matches!(&*family, "ip" | "inet"),
            v6: matches!(&*family, "ip6" | "inet"),
            name,
            base,
            rules: Vec::new(),
        });
    }

    fn rule(&mut self, rule: &Value) {
        let its = place(rule, &text(rule, "chain"));
        let Some(index) = self.by_place.get(&its).copied() else {
            return;
        };
        let statements = rule["expr"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let rules = self.rules(&its, statements);
        if let Some(chain) = self.chains.get_mut(index) {
            chain.rules.extend(rules);
        }
    }

    /// A rule of nftables may hold several verdicts, by a map: each becomes a rule of its own.
    fn rules(&self, chain: &Origin, statements: &[Value]) -> Vec<Rule> {
        let mut conditions = Vec::new();
        let mut rules = Vec::new();
        for statement in statements {
            let Some((kind, body)) = statement.as_object().and_then(|it| it.iter().next()) else {
                conditions.push(unknown());
                continue;
            };
            let action = match kind.as_str() {
                "match" => {
                    conditions.push(self.condition(chain, body));
                    continue;
                }
                "dnat" if body["addr"].get("map").is_some() => {
                    rules.extend(self.dnat_map(chain, &conditions, &body["addr"]["map"]));
                    continue;
                }
                "vmap" => {
                    rules.extend(self.vmap(chain, &conditions, body));
                    continue;
                }
                "xt" if body["type"] == "match" => {
                    conditions.push(unknown());
                    continue;
                }
                "limit" | "quota" | "ct count" | "meter" => {
                    conditions.push(unknown());
                    continue;
                }
                "ct helper" => Action::Helper(self.helper(chain, body)),
                "mangle" if body["key"]["meta"]["key"] == "mark" => {
                    Action::Mark(mark_change(&body["value"]))
                }
                kind => action(kind, body),
            };
            if action != Action::Nothing {
                rules.push(Rule {
                    conditions: conditions.clone(),
                    action,
                    to: end(&body["addr"], &body["port"]),
                });
            }
        }
        rules
    }

    fn helper(&self, chain: &Origin, name: &Value) -> String {
        let name = name.as_str().unwrap_or_default();
        let its = (chain.0.clone(), chain.1.clone(), name.to_owned());
        self.helpers
            .get(&its)
            .cloned()
            .unwrap_or_else(|| name.to_owned())
    }

    fn condition(&self, chain: &Origin, body: &Value) -> Condition {
        let operator = body["op"].as_str().unwrap_or_default();
        let values = self.values(chain, &body["right"]);
        let test = match (operator, values) {
            ("==" | "!=" | "in", Some(values)) => test(&body["left"], &values),
            ("<" | ">" | "<=" | ">=", Some(values)) => compared(operator, &body["left"], &values),
            _ => Test::Unknown,
        };
        Condition {
            test,
            negated: operator == "!=",
        }
    }

    /// The values that a right side stands for; none for what cannot be told.
    fn values(&self, chain: &Origin, right: &Value) -> Option<Vec<Value>> {
        let values = match right {
            Value::String(name) if name.starts_with('@') => {
                let its = (chain.0.clone(), chain.1.clone(), name[1..].to_owned());
                self.sets.get(&its)?.clone()
            }
            Value::Array(values) => values.clone(),
            Value::Object(object) => match object.get("set") {
                Some(Value::Array(values)) => values.clone(),
                Some(_) => return None,
                None => vec![right.clone()],
            },
            other => vec![other.clone()],
        };
        let plain = |value: Value| match value.get("elem").and_then(|it| it.get("val")) {
            Some(inner) => inner.clone(),
            None => value,
        };
        Some(values.into_iter().map(plain).collect())
    }

    /// DNAT by a map: each of its elements becomes a rule.
    fn dnat_map(&self, chain: &Origin, conditions: &[Condition], map: &Value) -> Vec<Rule> {
        let rule = |test, to| Rule {
            conditions: [
                conditions,
                &[Condition {
                    test,
                    negated: false,
                }],
            ]
            .concat(),
            action: Action::Destination,
            to,
        };
        let Some(pairs) = self.values(chain, &map["data"]) else {
            return vec![rule(Test::Unknown, None)];
        };
        pairs
            .iter()
            .map(|pair| {
                let to = match pair[1]["concat"].as_array().map(Vec::as_slice) {
                    Some([address, port]) => end(address, port),
                    _ => end(&pair[1], &Value::Null),
                };
                rule(test(&map["key"], std::slice::from_ref(&pair[0])), to)
            })
            .collect()
    }

    fn vmap(&self, chain: &Origin, conditions: &[Condition], body: &Value) -> Vec<Rule> {
        let with = |test, action| Rule {
            conditions: [
                conditions,
                &[Condition {
                    test,
                    negated: false,
                }],
            ]
            .concat(),
            action,
            to: None,
        };
        let Some(pairs) = self.values(chain, &body["data"]) else {
            return vec![with(Test::Unknown, Action::Unknown)];
        };
        pairs
            .iter()
            .map(|pair| {
                let verdict = pair[1].as_object().and_then(|it| it.iter().next());
                let action = verdict.map_or(Action::Unknown, |(kind, body)| action(kind, body));
                with(test(&body["key"], std::slice::from_ref(&pair[0])), action)
            })
            .collect()
    }
}

/// Where DNAT leads; none for a range or what cannot be told.
fn end(address: &Value, port: &Value) -> Option<(IpAddr, Option<u16>)> {
    let address = address.as_str()?.parse().ok()?;
    let port = match port {
        Value::Null => None,
        port => Some(u16::try_from(port.as_u64()?).ok()?),
    };
    Some((address, port))
}

fn unknown() -> Condition {
    Condition {
        test: Test::Unknown,
        negated: false,
    }
}

fn action(kind: &str, body: &Value) -> Action {
    match kind {
        "accept" => Action::Accept,
        "drop" | "reject" => Action::Drop,
        "return" => Action::Return,
        "jump" => Action::Jump(text(body, "target")),
        "goto" => Action::Goto(text(body, "target")),
        "dnat" | "redirect" | "tproxy" => Action::Destination,
        "snat" | "masquerade" => Action::Source,
        "queue" => Action::Unknown,
        "xt" => match body["name"].as_str() {
            Some("DNAT" | "REDIRECT" | "TPROXY") => Action::Destination,
            Some("SNAT" | "MASQUERADE") => Action::Source,
            Some("LOG" | "NFLOG" | "TCPMSS") => Action::Nothing,
            _ => Action::Unknown,
        },
        _ => Action::Nothing,
    }
}

/// What is asked of the left side: one of these values.
fn test(left: &Value, values: &[Value]) -> Test {
    if let Some(parts) = left.get("concat").and_then(Value::as_array) {
        return rows(parts, values);
    }
    if let Some(masked) = left.get("&").and_then(Value::as_array) {
        return masked_test(masked, values);
    }
    let names = || -> Vec<String> {
        let texts = values.iter().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    };
    let has = |name: &str| values.iter().any(|it| it == name);
    if let Some(key) = left["meta"]["key"].as_str() {
        return match key {
            "iifname" | "iif" => Test::Input(names()),
            "oifname" | "oif" => Test::Output(names()),
            "mark" => marks(u32::MAX, values),
            "l4proto" => Test::Tcp(has("tcp")),
            "nfproto" | "protocol" => family(&names()),
            _ => Test::Unknown,
        };
    }
    if let Some(key) = left["ct"]["key"].as_str() {
        return match key {
            "state" => Test::State(names()),
            "status" => Test::Status(names()),
            "direction" => Test::Unknown,
            _ => Test::Unknown,
        };
    }
    let (protocol, field) = (&left["payload"]["protocol"], &left["payload"]["field"]);
    match (protocol.as_str(), field.as_str()) {
        (Some("ip" | "ip6"), Some("saddr")) => networks(values).map_or(Test::Unknown, Test::Source),
        (Some("ip" | "ip6"), Some("daddr")) => {
            networks(values).map_or(Test::Unknown, Test::Destination)
        }
        (Some("ip" | "ip6"), Some("protocol" | "nexthdr")) => Test::Tcp(has("tcp")),
        (Some("tcp" | "th"), Some("dport")) => ports(values).map_or(Test::Unknown, Test::Port),
        (Some("tcp"), Some("flags")) => Test::Unknown,
        (Some("udp" | "udplite" | "icmp" | "icmpv6" | "sctp" | "dccp"), _) => Test::Always(false),
        _ => Test::Unknown,
    }
}

fn rows(parts: &[Value], values: &[Value]) -> Test {
    let rows = values.iter().map(|value| {
        let columns = value.get("concat")?.as_array()?;
        let tests = parts.iter().zip(columns);
        Some(
            tests
                .map(|(part, it)| test(part, std::slice::from_ref(it)))
                .collect(),
        )
    });
    rows.collect::<Option<_>>()
        .map_or(Test::Unknown, Test::Rows)
}

fn masked_test(masked: &[Value], values: &[Value]) -> Test {
    let [field, mask] = masked else {
        return Test::Unknown;
    };
    if field["meta"]["key"] == "mark" {
        return mask
            .as_u64()
            .and_then(|mask| u32::try_from(mask).ok())
            .map_or(Test::Unknown, |mask| marks(mask, values));
    }
    if field["payload"]["field"] == "flags" {
        let names = |value: &Value| -> Vec<String> {
            match value {
                Value::Array(all) => all
                    .iter()
                    .filter_map(Value::as_str)
                    .map(Into::into)
                    .collect(),
                other => other.as_str().map(str::to_owned).into_iter().collect(),
            }
        };
        let set = values.iter().flat_map(names).collect();
        return Test::Flags(names(mask), set);
    }
    Test::Unknown
}

fn compared(operator: &str, left: &Value, values: &[Value]) -> Test {
    let number = values
        .first()
        .and_then(Value::as_u64)
        .and_then(|it| u16::try_from(it).ok());
    let is_port = left["payload"]["field"] == "dport" && left["payload"]["protocol"] != "udp";
    let (Some(number), true) = (number, is_port) else {
        return Test::Unknown;
    };
    let range = match operator {
        "<" if number == 0 => return Test::Always(false),
        ">" if number == u16::MAX => return Test::Always(false),
        "<" => 0..=number - 1,
        "<=" => 0..=number,
        ">" => number + 1..=u16::MAX,
        _ => number..=u16::MAX,
    };
    Test::Port(vec![range])
}

fn family(names: &[String]) -> Test {
    let has = |wanted: [&str; 2]| names.iter().any(|it| wanted.contains(&it.as_str()));
    match (has(["ipv4", "ip"]), has(["ipv6", "ip6"])) {
        (true, true) => Test::Always(true),
        (true, false) => Test::V4(true),
        (false, true) => Test::V4(false),
        (false, false) => Test::Always(false),
    }
}

/// What the mark becomes: a number, the mark itself, or one of these with a number by `&`, `|` or `^`.
fn mark_change(value: &Value) -> Option<MarkChange> {
    if let Some(number) = value.as_u64() {
        let flip = u32::try_from(number).ok()?;
        return Some(MarkChange { keep: 0, flip });
    }
    if value["meta"]["key"] == "mark" {
        return Some(MarkChange {
            keep: u32::MAX,
            flip: 0,
        });
    }
    let (operator, operands) = value.as_object()?.iter().next()?;
    let MarkChange { keep, flip } = mark_change(operands.get(0)?)?;
    let number = u32::try_from(operands.get(1)?.as_u64()?).ok()?;
    Some(match operator.as_str() {
        "&" => MarkChange {
            keep: keep & number,
            flip: flip & number,
        },
        "|" => MarkChange {
            keep: keep & !number,
            flip: flip | number,
        },
        "^" => MarkChange {
            keep,
            flip: flip ^ number,
        },
        _ => return None,
    })
}

fn marks(mask: u32, values: &[Value]) -> Test {
    let pairs = values
        .iter()
        .map(|value| Some((mask, u32::try_from(value.as_u64()?).ok()?)));
    pairs
        .collect::<Option<_>>()
        .map_or(Test::Unknown, Test::Mark)
}

fn ports(values: &[Value]) -> Option<Vec<RangeInclusive<u16>>> {
    let number = |value: &Value| match value {
        // nft names well-known ports when it was asked to.
        Value::String(name) => match name.as_str() {
            "ftp" => Some(21),
            "ftps" => Some(990),
            text => text.parse().ok(),
        },
        value => u16::try_from(value.as_u64()?).ok(),
    };
    let range = |value: &Value| match value.get("range") {
        Some(ends) => Some(number(&ends[0])?..=number(&ends[1])?),
        None => number(value).map(|port| port..=port),
    };
    values.iter().map(range).collect()
}

fn networks(values: &[Value]) -> Option<Vec<Prefix>> {
    let network = |value: &Value| match value.get("prefix") {
        Some(prefix) => {
            let bits = u8::try_from(prefix["len"].as_u64()?).ok()?;
            Some(Prefix::of(prefix["addr"].as_str()?.parse().ok()?, bits))
        }
        None => Some(Prefix::of(value.as_str()?.parse().ok()?, u8::MAX)),
    };
    values.iter().map(network).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::{Packet, Ruleset, Verdict, tests::syn};

    /// A forward chain with a policy of drop and this rule.
    fn forward(expressions: &str) -> Ruleset {
        let text = format!(
            r#"{{"nftables": [{{"metainfo": {{"json_schema_version": 1}}}},
            {{"set": {{"family": "inet", "name": "p", "table": "t", "type": "inet_service",
              "elem": [21, {{"range": [50000, 50010]}}, {{"elem": {{"val": 990, "timeout": 9}}}}]}}}},
            {{"chain": {{"family": "inet", "table": "t", "name": "f", "type": "filter",
              "hook": "forward", "prio": 0, "policy": "drop"}}}},
            {{"rule": {{"family": "inet", "table": "t", "chain": "f", "expr": [{expressions}]}}}}]}}"#
        );
        Ruleset {
            chains: parse(&text).unwrap(),
        }
    }

    fn accepts(matches: &[&str], packet: &Packet) -> bool {
        let all: Vec<_> = matches
            .iter()
            .map(|it| format!("{{\"match\": {it}}}"))
            .collect();
        let rule = format!("{}, {{\"accept\": null}}", all.join(", "));
        forward(&rule).verdict("forward", packet) == Verdict::Passes
    }

    #[test]
    fn a_changed_mark_is_read() {
        for (value, keep, flip) in [
            ("0", 0, 0),
            ("64", 0, 64),
            (r#"{"|": [{"meta": {"key": "mark"}}, 64]}"#, !64, 64),
            (r#"{"&": [{"meta": {"key": "mark"}}, 255]}"#, 255, 0),
            (
                r#"{"^": [{"&": [{"meta": {"key": "mark"}}, 255]}, 1]}"#,
                255,
                1,
            ),
        ] {
            let read = mark_change(&serde_json::from_str(value).unwrap());
            assert_eq!(read, Some(MarkChange { keep, flip }), "{value}");
        }
        let connection = serde_json::from_str(r#"{"ct": {"key": "mark"}}"#).unwrap();
        assert_eq!(mark_change(&connection), None);
    }

    #[test]
    fn conditions_are_judged_as_nft_prints_them() {
        let cases = [
            (
                r#"{"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "wan"}"#,
                true,
            ),
            (
                r#"{"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "wa*"}"#,
                true,
            ),
            (
                r#"{"op": "!=", "left": {"meta": {"key": "oifname"}}, "right": "lan"}"#,
                false,
            ),
            (
                r#"{"op": "==", "left": {"meta": {"key": "mark"}}, "right": 6714480}"#,
                true,
            ),
            (
                r#"{"op": "==", "left": {"&": [{"meta": {"key": "mark"}}, 65280]}, "right": 29696}"#,
                true,
            ),
            (
                r#"{"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}"#,
                false,
            ),
            (
                r#"{"op": "in", "left": {"ct": {"key": "state"}}, "right": "new"}"#,
                true,
            ),
            (
                r#"{"op": "in", "left": {"ct": {"key": "status"}}, "right": "dnat"}"#,
                false,
            ),
            (
                r#"{"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": "@p"}"#,
                true,
            ),
            (
                r#"{"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": {"set": [21, 990]}}"#,
                false,
            ),
            (
                r#"{"op": ">=", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 1024}"#,
                true,
            ),
            (
                r#"{"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": {"prefix": {"addr": "10.0.0.0", "len": 8}}}"#,
                true,
            ),
            (
                r#"{"op": "==", "left": {"concat": [{"payload": {"protocol": "ip", "field": "daddr"}}, {"payload": {"protocol": "tcp", "field": "dport"}}]}, "right": {"set": [{"concat": ["10.0.0.5", 50000]}]}}"#,
                true,
            ),
            (
                r#"{"op": "==", "left": {"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, ["fin", "syn", "ack"]]}, "right": "syn"}"#,
                true,
            ),
            (
                r#"{"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 50000}"#,
                false,
            ),
            (
                r#"{"op": "==", "left": {"meta": {"key": "nfproto"}}, "right": "ipv6"}"#,
                false,
            ),
            // What nobody can judge is not called dropped.
            (
                r#"{"op": "==", "left": {"meta": {"key": "cgroup"}}, "right": 1}"#,
                true,
            ),
        ];
        for (condition, expected) in cases {
            assert_eq!(accepts(&[condition], &syn()), expected, "{condition}");
        }
    }

    #[test]
    fn a_verdict_map_is_several_rules() {
        let rule = r#"{"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set":
            [["invalid", {"drop": null}], ["established", {"accept": null}]]}}}"#;
        let ruleset = forward(rule);
        assert_eq!(ruleset.chains[0].rules.len(), 2);
        assert_ne!(ruleset.verdict("forward", &syn()), Verdict::Passes);
        let known = Packet {
            established: true,
            ..syn()
        };
        assert_eq!(ruleset.verdict("forward", &known), Verdict::Passes);
    }

    #[test]
    fn what_is_no_ruleset_is_refused() {
        assert!(parse("").is_err());
        assert!(parse("{}").is_err());
    }
}
