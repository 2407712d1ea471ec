//! Where a setting was made, and mistakes that name it.

use std::{fmt, sync::Arc};

/// Where a setting was made, so that whoever finds fault with it can say where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is the default.
    Default,
    /// On the command line, as written there.
    Flag(String),
    /// In the configuration file.
    File {
        /// The file's path.
        file: Arc<str>,
        /// The line, from 1.
        line: usize,
        /// The key, dotted.
        key: String,
    },
}

impl Origin {
    /// The line of the file, from 1; 0 for what is not in it.
    pub const fn line(&self) -> usize {
        match self {
            Self::Default | Self::Flag(_) => 0,
            Self::File { line, .. } => *line,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("configuration"),
            Self::Flag(flag) => f.write_str(flag),
            Self::File { file, line, key } if key.is_empty() => write!(f, "{file}:{line}"),
            Self::File { file, line, key } => write!(f, "{file}:{line}: {key}"),
        }
    }
}

/// A setting with its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The setting.
    pub value: T,
    /// Where it was made.
    pub origin: Origin,
}

/// A mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is.
    pub origin: Origin,
    /// What is wrong and, where that is known, what would be right.
    pub what: String,
}

impl Problem {
    /// A mistake of this origin.
    pub fn new(origin: &Origin, what: impl Into<String>) -> Self {
        Self {
            origin: origin.clone(),
            what: what.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.what)
    }
}
