//! What the doctor finds, and how bad it is.

use std::collections::BTreeMap;

use serde::Serialize;

pub use crate::model::cause::Cause;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// FTP does not work, or not for everybody.
    Error,
    /// It works, but not always, not well, or not as it was probably meant.
    Warning,
    /// Good to know; nothing is wrong.
    Note,
}

impl Severity {
    /// As people read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }

    /// Several of them.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Error => "errors",
            Self::Warning => "warnings",
            Self::Note => "notes",
        }
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its name: stable, for scripts.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Which of the classic causes it is; none: the gateway itself.
    pub cause: Option<Cause>,
    /// What was seen.
    pub seen: String,
    /// What to do about it.
    pub remedy: String,
}

/// Findings of one name that are told one by one: with ten thousand published servers, one fault
/// may show ten thousand times.
const SAME_MAX: usize = 20;

/// What has been found so far.
#[derive(Debug, Default)]
pub struct Findings {
    all: Vec<Finding>,
    /// Those of each name that were only counted.
    more: BTreeMap<&'static str, usize>,
}

impl Findings {
    /// Adds one, unless it is there already.
    pub fn add(
        &mut self,
        severity: Severity,
        name: &'static str,
        cause: Option<Cause>,
        seen: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let finding = Finding {
            name,
            severity,
            cause,
            seen: seen.into(),
            remedy: remedy.into(),
        };
        let mut same = self.all.iter().filter(|it| it.name == name);
        if same.clone().any(|it| *it == finding) {
            return;
        }
        if same.nth(SAME_MAX - 1).is_some() {
            *self.more.entry(name).or_default() += 1;
        } else {
            self.all.push(finding);
        }
    }

    /// FTP does not work, or not for everybody.
    pub fn error(
        &mut self,
        name: &'static str,
        cause: Option<Cause>,
        seen: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(Severity::Error, name, cause, seen, remedy);
    }

    /// It works, but not always, not well, or not as it was probably meant.
    pub fn warning(
        &mut self,
        name: &'static str,
        cause: Option<Cause>,
        seen: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(Severity::Warning, name, cause, seen, remedy);
    }

    /// Good to know.
    pub fn note(
        &mut self,
        name: &'static str,
        cause: Option<Cause>,
        seen: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(Severity::Note, name, cause, seen, remedy);
    }

    /// Something could not be looked at: that is no proof of health.
    pub fn unread(&mut self, what: &str, error: &anyhow::Error) {
        self.warning(
            "cannot-look",
            None,
            format!("{what}: {error:#}"),
            "run it as root in the gateway's own network namespace, with the tool at hand",
        );
    }

    /// All of them.
    pub fn all(&self) -> &[Finding] {
        &self.all
    }

    /// Gives them away; those of which there were too many with a word on how many more.
    pub fn into_all(mut self) -> Vec<Finding> {
        for (name, more) in self.more {
            self.all.push(Finding {
                name: "and-more",
                severity: Severity::Note,
                cause: None,
                seen: format!("{more} more of {name}"),
                remedy: "see those that were named".into(),
            });
        }
        self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_and_not_ten_thousand_times() {
        let mut findings = Findings::default();
        for _ in 0..3 {
            findings.error("no-route", None, "to a", "add it");
        }
        assert_eq!(findings.all().len(), 1);
        for server in 0..10_000 {
            findings.error("no-route", None, format!("to {server}"), "add it");
        }
        findings.note("ports-remapped", None, "some", "nothing");
        let all = findings.into_all();
        assert_eq!(all.len(), SAME_MAX + 2);
        assert_eq!(all[SAME_MAX + 1].seen, "9981 more of no-route");
    }
}
