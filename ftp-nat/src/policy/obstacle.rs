//! Why a configuration cannot be put into effect.

use std::fmt;

use crate::{
    config::{Origin, Problem},
    kernel::network::Network,
};

/// Why the configuration cannot be put into effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It is wrong, whatever becomes of the machine.
    Mistake(Problem),
    /// It names an interface that is not there.
    NoInterface(Problem),
    /// There is no way to a server, or to clients.
    NoRoute(Problem),
}

impl Obstacle {
    /// What and where.
    pub const fn problem(&self) -> &Problem {
        match self {
            Self::Mistake(problem) | Self::NoInterface(problem) | Self::NoRoute(problem) => problem,
        }
    }

    /// Whether it is waited for to go away: a configuration file is read at a time when interfaces
    /// and routes may not be up yet, but who names them on a command line means those that are.
    pub const fn is_awaited(&self) -> bool {
        let in_file = matches!(self.problem().origin, Origin::File { .. });
        in_file && !matches!(self, Self::Mistake(_))
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem().fmt(f)
    }
}

pub(super) fn no_interface(name: &str, origin: &Origin, network: &Network) -> Obstacle {
    let mut there: Vec<_> = network.names().filter(|name| *name != "lo").collect();
    there.sort_unstable();
    there.truncate(12);
    let hint = if there.is_empty() {
        "only lo is there; is this the right network namespace?".to_owned()
    } else {
        format!("there are {}", there.join(", "))
    };
    Obstacle::NoInterface(Problem::new(
        origin,
        format!("there is no interface {name}: {hint}"),
    ))
}
