//! What the doctor says: as text, and as JSON.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;

use super::{
    finding::{Finding, Findings, Severity},
    subject::Subject,
};

/// A finding, as JSON has it.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    severity: Severity,
    /// None: it is about the machine.
    gateway: Option<String>,
    check: &'static str,
    cause: Option<CauseRow>,
    seen: String,
    remedy: String,
}

#[derive(Debug, Serialize)]
struct CauseRow {
    number: u8,
    text: &'static str,
}

/// A group of checks that was gone through.
#[derive(Debug, Serialize)]
struct Group {
    gateway: Option<String>,
    check: &'static str,
    findings: usize,
}

/// A gateway that was examined.
#[derive(Debug, Serialize)]
struct Examined {
    name: String,
    loaded: bool,
    daemon: Option<u32>,
    services: usize,
    client_networks: usize,
}

/// All of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    gateways: Vec<Examined>,
    checks: Vec<Group>,
    findings: Vec<Row>,
    /// How many of each severity.
    summary: BTreeMap<&'static str, usize>,
}

impl Report {
    /// Begins with a gateway.
    pub fn begin(&mut self, subject: &Subject) {
        let daemon = subject.loaded.as_ref().and_then(|it| it.daemon.as_ref());
        self.gateways.push(Examined {
            name: subject.name.clone(),
            loaded: subject.loaded.is_some(),
            daemon: daemon.map(|it| it.pid),
            services: subject.services.len(),
            client_networks: subject.clients.len(),
        });
    }

    /// Adds what a group of checks found.
    pub fn add(&mut self, subject: Option<&Subject>, check: &'static str, findings: Findings) {
        let gateway = subject.map(|subject| subject.name.clone());
        let findings = findings.into_all();
        self.checks.push(Group {
            gateway: gateway.clone(),
            check,
            findings: findings.len(),
        });
        for finding in findings {
            let Finding {
                name,
                severity,
                cause,
                seen,
                remedy,
            } = finding;
            self.findings.push(Row {
                name,
                severity,
                gateway: gateway.clone(),
                check,
                cause: cause.map(|cause| CauseRow {
                    number: cause.number(),
                    text: cause.text(),
                }),
                seen,
                remedy,
            });
        }
        for severity in [Severity::Error, Severity::Warning, Severity::Note] {
            self.summary.insert(severity.plural(), self.count(severity));
        }
    }

    /// How many findings are so bad.
    pub fn count(&self, severity: Severity) -> usize {
        let findings = self.findings.iter();
        findings.filter(|it| it.severity == severity).count()
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for gateway in &self.gateways {
            let _ = writeln!(
                text,
                "gateway {}: {} published, {} client networks, {}",
                gateway.name,
                gateway.services,
                gateway.client_networks,
                match (gateway.loaded, gateway.daemon) {
                    (false, _) => "not loaded".to_owned(),
                    (true, None) => "loaded, no daemon".to_owned(),
                    (true, Some(pid)) => format!("run by process {pid}"),
                }
            );
        }
        text.push('\n');
        for group in &self.checks {
            let mut its: Vec<_> = self
                .findings
                .iter()
                .filter(|it| it.check == group.check && it.gateway == group.gateway)
                .collect();
            its.sort_by_key(|it| it.severity);
            let worst = its.first().map_or("ok", |it| it.severity.name());
            let _ = writeln!(text, "{worst:<8} {}", self.title(group));
            for finding in its {
                finding.write(&mut text);
            }
        }
        let count = |severity| {
            let count = self.count(severity);
            let name: &str = severity.name();
            format!("{count} {name}{}", if count == 1 { "" } else { "s" })
        };
        let _ = writeln!(
            text,
            "\n{}, {}, {} in {} groups of checks",
            count(Severity::Error),
            count(Severity::Warning),
            count(Severity::Note),
            self.checks.len()
        );
        text
    }

    fn title(&self, group: &Group) -> String {
        match &group.gateway {
            Some(gateway) if self.gateways.len() > 1 => format!("{} ({gateway})", group.check),
            _ => group.check.to_owned(),
        }
    }
}

impl Row {
    fn write(&self, text: &mut String) {
        let _ = writeln!(text, "         {} [{}]", self.severity.name(), self.name);
        paragraph(text, "seen", &self.seen);
        if let Some(cause) = &self.cause {
            paragraph(text, "cause", &format!("{}: {}", cause.number, cause.text));
        }
        paragraph(text, "do", &self.remedy);
    }
}

/// A labelled paragraph, broken at blanks.
fn paragraph(text: &mut String, label: &str, words: &str) {
    const WIDTH: usize = 80;
    const INDENT: usize = 19;
    let mut line = format!("           {label:<6}  ");
    let mut is_empty = true;
    for word in words.split(' ') {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = " ".repeat(INDENT);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Cause;

    #[test]
    fn each_group_shows_its_worst_first_and_the_end_counts() {
        let mut report = Report::default();
        report.add(None, "kernel and privileges", Findings::default());
        let mut findings = Findings::default();
        findings.note("ports-remapped", Some(Cause::Ports), "some", "nothing");
        findings.error(
            "server-refuses",
            None,
            "10.0.0.5:21 refuses connections: nothing listens there, or a firewall rejects it",
            "start it",
        );
        report.add(None, "servers", findings);
        assert_eq!(
            report.text(),
            "
ok       kernel and privileges
error    servers
         error [server-refuses]
           seen    10.0.0.5:21 refuses connections: nothing listens there, or a
                   firewall rejects it
           do      start it
         note [ports-remapped]
           seen    some
           cause   4: the passive port range is too small, unforwarded or
                   collides
           do      nothing

1 error, 0 warnings, 1 note in 2 groups of checks
"
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["summary"]["errors"], 1);
        assert_eq!(json["findings"][0]["cause"]["number"], 4);
        assert_eq!(json["findings"][1]["cause"], serde_json::Value::Null);
    }
}
