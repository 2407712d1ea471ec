//! What the doctor finds, and how bad it is.

use serde::Serialize;

pub use crate::cause::Cause;

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

/// What has been found so far.
#[derive(Debug, Default)]
pub struct Findings {
    all: Vec<Finding>,
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
        if !self.all.contains(&finding) {
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

    /// Gives them away.
    pub fn into_all(self) -> Vec<Finding> {
        self.all
    }
}
