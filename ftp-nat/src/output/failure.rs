//! How a command ends: what it says and with which exit code.

use std::{fmt, process::ExitCode};

/// Why a command did not do what it was asked to do.
#[derive(Debug)]
pub enum Failure {
    /// It was tried and failed: exit code 1.
    Failed(anyhow::Error),
    /// The arguments or the configuration are wrong, one line for each mistake: exit code 2.
    Usage(Vec<String>),
    /// What was looked for was found, and has been printed: exit code 1.
    Found,
    /// No gateway is loaded that could be asked: exit code 3.
    NotRunning(String),
}

impl Failure {
    /// A single mistake in the arguments.
    pub fn usage(line: impl Into<String>) -> Self {
        Self::Usage(vec![line.into()])
    }

    /// The exit code: part of the command line's contract.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) | Self::Found => 1,
            Self::Usage(_) => 2,
            Self::NotRunning(_) => 3,
        })
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "ftp-nat: {error:#}"),
            Self::Usage(lines) => {
                for (place, line) in lines.iter().enumerate() {
                    if place > 0 {
                        writeln!(f)?;
                    }
                    write!(f, "ftp-nat: {line}")?;
                }
                Ok(())
            }
            Self::Found => Ok(()),
            Self::NotRunning(what) => write!(f, "ftp-nat: {what}"),
        }
    }
}
