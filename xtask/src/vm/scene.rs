//! What is run in a machine: which tests of which test program.

use std::time::Duration;

use clap::ValueEnum;

/// A scene as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Scene {
    /// Every program loads, at what cost, and attaches
    Load,
}

impl Scene {
    /// All of them.
    pub(crate) fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether it needs the daemon and real servers.
    pub(crate) const fn needs_lab(self) -> bool {
        match self {
            Self::Load => false,
        }
    }

    /// The test program, as Cargo calls it.
    pub(crate) const fn program(self) -> &'static str {
        match self {
            Self::Load => "kernel",
        }
    }

    /// Which of its tests, each by a part of its name; all when there is none.
    pub(crate) const fn filters(self) -> &'static [&'static str] {
        match self {
            Self::Load => &[],
        }
    }

    /// How long it may take in a machine: some ten times as long as outside.
    pub(crate) const fn limit(self) -> Duration {
        match self {
            Self::Load => Duration::from_secs(120),
        }
    }
}
