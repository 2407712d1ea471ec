//! What a changed configuration changes, in an operator's words, and what of it must wait for a
//! restart.

use std::{collections::HashMap, fmt::Display, path::PathBuf};

use crate::model::prefix::Prefix;

use super::{
    options::{Commands, Config, Health, Lan, Limits, Masquerade, Publish},
    value::Public,
};

/// What changes from one configuration to another, a line each.
pub fn changes(old: &Config, new: &Config) -> Vec<String> {
    let mut changes = Vec::new();
    let mut note = |key: &str, old: String, new: String| {
        if old != new {
            changes.push(format!("{key}: {old} -> {new}"));
        }
    };
    note("gateway.lan", lan(&old.lan), lan(&new.lan));
    note("gateway.datapath", word(&old.datapath), word(&new.datapath));
    note(
        "gateway.first_packet",
        word(&old.first_packet),
        word(&new.first_packet),
    );
    note("gateway.mark", hex(old.mark), hex(new.mark));
    note(
        "gateway.remap_ports",
        old.remap_ports.to_string(),
        new.remap_ports.to_string(),
    );
    note(
        "gateway.mss_clamp",
        old.mss_clamp.to_string(),
        new.mss_clamp.to_string(),
    );
    let address = |config: &Config| optional(config.metrics_listen.as_ref().map(|it| it.value));
    note("gateway.metrics_listen", address(old), address(new));
    note(
        "gateway.transfers",
        old.transfers.to_string(),
        new.transfers.to_string(),
    );
    let health = |it: &Health| {
        let Health {
            interval,
            timeout,
            rise,
            fall,
        } = it;
        let (interval, timeout) = (interval.as_secs(), timeout.as_secs());
        format!("every {interval} s, {timeout} s each, rise {rise}, fall {fall}")
    };
    note("health", health(&old.health), health(&new.health));
    for (key, old, new) in [
        ("gateway.deny", &old.lists.deny, &new.lists.deny),
        ("gateway.allow", &old.lists.allow, &new.lists.allow),
    ] {
        note(key, networks(old), networks(new));
    }
    for (key, old, new) in [
        (
            "timeouts.mapping",
            old.timeouts.mapping,
            new.timeouts.mapping,
        ),
        (
            "timeouts.data_idle",
            old.timeouts.data_idle,
            new.timeouts.data_idle,
        ),
        (
            "timeouts.control_idle",
            old.timeouts.control_idle,
            new.timeouts.control_idle,
        ),
    ] {
        note(
            key,
            format!("{} s", old.as_secs()),
            format!("{} s", new.as_secs()),
        );
    }
    for (key, old, new) in [
        (
            "limits.client_sessions",
            old.limits.client_sessions(),
            new.limits.client_sessions(),
        ),
        (
            "limits.client_connections",
            old.limits.client_connections(),
            new.limits.client_connections(),
        ),
        (
            "limits.client_half_open",
            old.limits.client_half_open,
            new.limits.client_half_open,
        ),
        (
            "limits.client_announcements",
            old.limits.client_announcements,
            new.limits.client_announcements,
        ),
        (
            "limits.session_announcements",
            old.limits.session_announcements,
            new.limits.session_announcements,
        ),
    ] {
        note(key, old.to_string(), new.to_string());
    }
    for (key, old, new) in [
        ("gateway.standby", old.standby, new.standby),
        (
            "gateway.symmetric_return",
            old.symmetric_return,
            new.symmetric_return,
        ),
    ] {
        if old != new {
            changes.push(format!("{key}: {old} -> {new}"));
        }
    }
    publishes(old, new, &mut changes);
    masquerades(old, new, &mut changes);
    changes
}

/// Takes back what cannot change while the gateway runs, and says what that was and what to do.
pub fn keep_what_stays(old: &Config, new: &mut Config) -> Vec<String> {
    let mut kept = Vec::new();
    let names = |config: &Config| -> Vec<String> {
        config.wan.iter().map(|name| name.value.clone()).collect()
    };
    let (was, wanted) = (names(old), names(new));
    if was != wanted {
        kept.push(format!(
            "gateway.wan: {} -> {}: restart the daemon",
            was.join(", "),
            wanted.join(", ")
        ));
        new.wan.clone_from(&old.wan);
    }
    for (key, was, wanted) in [
        (
            "limits.connections",
            old.limits.connections,
            new.limits.connections,
        ),
        ("limits.sessions", old.limits.sessions, new.limits.sessions),
        ("limits.mappings", old.limits.mappings, new.limits.mappings),
    ] {
        if was != wanted {
            kept.push(format!(
                "{key}: {was} -> {wanted}: stop the daemon, `ftp-nat unload` (which ends its \
                 connections) and start it again"
            ));
        }
    }
    new.limits = Limits {
        connections: old.limits.connections,
        sessions: old.limits.sessions,
        mappings: old.limits.mappings,
        ..new.limits
    };
    if old.order != new.order {
        kept.push(format!(
            "gateway.order: {} -> {}: stop the daemon, `ftp-nat unload` (which ends its connections) and \
             start it again",
            old.order, new.order
        ));
        new.order.clone_from(&old.order);
    }
    for (key, was, wanted) in [
        ("audit_log", &old.audit_log, &mut new.audit_log),
        ("xferlog", &old.xferlog, &mut new.xferlog),
    ] {
        if was != wanted {
            let file = |path: &Option<PathBuf>| optional(path.as_ref().map(|it| it.display()));
            kept.push(format!(
                "gateway.{key}: {} -> {}: restart the daemon",
                file(was),
                file(wanted)
            ));
            wanted.clone_from(was);
        }
    }
    if old.cluster != new.cluster {
        kept.push("cluster: changed: restart the daemon".to_owned());
        new.cluster.clone_from(&old.cluster);
    }
    if old.lists_file() != new.lists_file() {
        kept.push(format!(
            "gateway.lists_file: {} -> {}: restart the daemon",
            old.lists_file().display(),
            new.lists_file().display()
        ));
        new.lists_file.clone_from(&old.lists_file);
    }
    new.state_dir.clone_from(&old.state_dir);
    kept
}

fn lan(lan: &Lan) -> String {
    match lan {
        Lan::ByRoute => "found by route".into(),
        Lan::None => "none".into(),
        Lan::Named(names) => {
            let names: Vec<_> = names.iter().map(|name| name.value.as_str()).collect();
            names.join(", ")
        }
    }
}

/// A choice, as the file writes it.
fn word(choice: &impl serde::Serialize) -> String {
    match serde_json::to_value(choice) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

fn hex(mark: u32) -> String {
    format!("{mark:#x}")
}

/// A publish entry's own bound.
fn bound(of: Option<u32>) -> String {
    of.map_or_else(|| "as in limits".into(), |bound| bound.to_string())
}

fn optional(value: Option<impl Display>) -> String {
    value.map_or_else(|| "none".into(), |value| value.to_string())
}

fn publishes(old: &Config, new: &Config, changes: &mut Vec<String>) {
    // An interface may be published twice, once for each family.
    let key = |it: &Publish| (it.public.value.clone(), it.families());
    let of = |config: &Config| -> HashMap<(Public, &[bool]), Publish> {
        let all = config.publish.iter();
        all.map(|it| (key(it), it.clone())).collect()
    };
    let (before, after) = (of(old), of(new));
    for publish in &old.publish {
        if !after.contains_key(&key(publish)) {
            changes.push(format!(
                "no longer published: {} (sessions that are there go on)",
                publish.public.value
            ));
        }
    }
    for publish in &new.publish {
        let public = &publish.public.value;
        let Some(was) = before.get(&key(publish)) else {
            changes.push(format!("published: {public} = {}", publish.server.value));
            continue;
        };
        let differences = differences(was, publish);
        if !differences.is_empty() {
            changes.push(format!(
                "changed for new sessions: {public}: {}",
                differences.join(", ")
            ));
        }
    }
}

fn differences(old: &Publish, new: &Publish) -> Vec<String> {
    let advertise = |it: &Publish| optional(it.advertise.as_ref().map(|it| it.value));
    [
        (
            "server",
            old.server.value.to_string(),
            new.server.value.to_string(),
        ),
        ("advertise", advertise(old), advertise(new)),
        (
            "control_nat",
            word(&old.control_nat),
            word(&new.control_nat),
        ),
        (
            "passive_ports",
            optional(old.passive_ports),
            optional(new.passive_ports),
        ),
        ("peer", word(&old.peer), word(&new.peer)),
        (
            "deny_commands",
            denied(&old.commands),
            denied(&new.commands),
        ),
        (
            "read_only",
            old.commands.read_only.to_string(),
            new.commands.read_only.to_string(),
        ),
        (
            "hide_greeting",
            old.commands.hide_greeting.to_string(),
            new.commands.hide_greeting.to_string(),
        ),
        (
            "require_tls",
            old.commands.require_tls.to_string(),
            new.commands.require_tls.to_string(),
        ),
        (
            "toward_server",
            word(&old.toward_server.value),
            word(&new.toward_server.value),
        ),
        (
            "client_sessions",
            bound(old.client_sessions),
            bound(new.client_sessions),
        ),
        (
            "client_connections",
            bound(old.client_connections),
            bound(new.client_connections),
        ),
        ("deny", networks(&old.lists.deny), networks(&new.lists.deny)),
        (
            "allow",
            networks(&old.lists.allow),
            networks(&new.lists.allow),
        ),
    ]
    .into_iter()
    .filter(|(_, old, new)| old != new)
    .map(|(key, old, new)| format!("{key} {old} -> {new}"))
    .collect()
}

fn denied(commands: &Commands) -> String {
    if commands.deny.is_empty() {
        return "none".into();
    }
    commands.deny.join(", ")
}

fn networks(networks: &[Prefix]) -> String {
    if networks.is_empty() {
        return "nobody".into();
    }
    let names: Vec<_> = networks.iter().map(ToString::to_string).collect();
    names.join(" ")
}

fn masquerades(old: &Config, new: &Config, changes: &mut Vec<String>) {
    let of =
        |config: &Config| -> Vec<String> { config.masquerade.iter().map(masquerade).collect() };
    let (before, after) = (of(old), of(new));
    for gone in before.iter().filter(|it| !after.contains(it)) {
        changes.push(format!(
            "no longer masqueraded: {gone} (sessions that are there go on)"
        ));
    }
    for come in after.iter().filter(|it| !before.contains(it)) {
        changes.push(format!("masqueraded: {come}"));
    }
}

fn masquerade(of: &Masquerade) -> String {
    let clients: Vec<_> = of.clients.iter().map(|it| it.value.to_string()).collect();
    let ports: Vec<_> = of.control_ports.iter().map(ToString::to_string).collect();
    let mut text = format!("{} to port {}", clients.join(", "), ports.join(", "));
    for (is_set, word) in [
        (
            !of.commands.deny.is_empty(),
            format!("denied {}", denied(&of.commands)),
        ),
        (!of.translate, "not translated".into()),
        (of.commands.read_only, "read only".into()),
        (of.commands.hide_greeting, "greeting hidden".into()),
        (of.commands.require_tls, "TLS required".into()),
    ] {
        if is_set {
            text.push_str("; ");
            text.push_str(&word);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file;

    fn config(text: &str) -> Config {
        let mut config = Config::default();
        assert_eq!(file::parse(&"f.toml".into(), text, &mut config), []);
        config
    }

    const OLD: &str = r#"
[gateway]
wan = ["eth0"]
[[publish]]
public = "203.0.113.10:21"
server = "10.0.0.5:21"
[[publish]]
public = "203.0.113.10:2121"
server = "10.0.0.6:21"
"#;

    #[test]
    fn what_stays_the_same_is_no_change_wherever_it_stands() {
        let moved = format!("# a comment\n{OLD}\n[timeouts]\nmapping = 60\n");
        let (old, mut new) = (config(OLD), config(&moved));
        assert_eq!(keep_what_stays(&old, &mut new), [""; 0]);
        assert_eq!(changes(&old, &new), [""; 0]);
    }

    #[test]
    fn changes_are_named_with_what_was_and_what_is() {
        let new = r#"
[gateway]
wan = ["eth0"]
lan = "none"
metrics_listen = "127.0.0.1:9810"
[[publish]]
public = "203.0.113.10:2121"
server = "10.0.0.7:21"
peer = "any"
deny_commands = ["site", "DELE"]
read_only = true
client_sessions = 0
[[publish]]
public = "203.0.113.10:990"
server = "local"
[[masquerade]]
clients = ["192.168.0.0/16"]
require_tls = true
[timeouts]
mapping = 30
[limits]
client_half_open = 1000
"#;
        assert_eq!(
            changes(&config(OLD), &config(new)),
            [
                "gateway.lan: found by route -> none",
                "gateway.metrics_listen: none -> 127.0.0.1:9810",
                "timeouts.mapping: 60 s -> 30 s",
                "limits.client_half_open: 256 -> 1000",
                "no longer published: 203.0.113.10:21 (sessions that are there go on)",
                "changed for new sessions: 203.0.113.10:2121: server 10.0.0.6:21 -> 10.0.0.7:21, \
                 peer same -> any, deny_commands none -> SITE, DELE, read_only false -> true, \
                 client_sessions as in limits -> 0",
                "published: 203.0.113.10:990 = local",
                "masqueraded: 192.168.0.0/16 to port 21; TLS required",
            ]
        );
    }

    #[test]
    fn what_needs_a_restart_stays_as_it_was() {
        let new = OLD.replace("eth0", "eth1") + "[limits]\nsessions = 7\n";
        let (old, mut new) = (config(OLD), config(&new));
        let kept = keep_what_stays(&old, &mut new).join("\n");
        for named in ["gateway.wan: eth0 -> eth1", "limits.sessions: 32768 -> 7"] {
            assert!(kept.contains(named), "{named} is not in {kept}");
        }
        assert_eq!((&new.wan, new.limits.sessions), (&old.wan, 32768));
    }
}
