//! What a daemon and those who ask it write to each other: one JSON object a line.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    config::{Origin, Problem},
    model::{list::List, prefix::Prefix},
};

/// What a daemon tells whoever connects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Its version.
    pub version: String,
    /// Its gateway's name.
    pub gateway: String,
    /// Where its pins are, as it sees them.
    pub state_dir: String,
    /// Since when it is ready (RFC 3339, UTC).
    #[serde(default)]
    pub since: Option<String>,
    /// The last reload of its configuration; none since it was started.
    #[serde(default)]
    pub last_reload: Option<LastReload>,
}

/// What became of the last reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastReload {
    /// When (RFC 3339, UTC).
    pub time: String,
    /// Whether the new configuration was put into effect; if not, the old one is.
    pub applied: bool,
}

/// The longest request, in bytes.
pub const REQUEST_MAX: usize = 4096;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Read the configuration anew and put it into effect: one [`Reloaded`] comes back.
    Reload,
    /// The events of late, and with `follow` those to come: one [`crate::model::event::Record`] a line.
    Events {
        /// Whether to go on.
        follow: bool,
    },
    /// Add a network to a list or take it out: one [`Listing`] comes back.
    ChangeList(NetworkChange),
    /// The networks of a list: one [`crate::model::list::Shown`] a line.
    ShowList {
        /// Which list.
        list: List,
    },
    /// The metrics: one array of [`crate::metrics::Family`] comes back.
    Metrics,
    /// What is known of the cluster: one [`crate::cluster::status::Status`] comes back.
    Cluster,
    /// Send no new sessions to a server of a pool, or send them again: one [`Drained`] comes back.
    Drain {
        /// The server's address.
        address: IpAddr,
        /// Its port; none: any.
        port: Option<u16>,
        /// Whether it is to have none.
        draining: bool,
    },
}

/// The servers that were meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// One for each pool that has such a server.
    pub servers: Vec<DrainedServer>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainedServer {
    /// What the pool's clients dial.
    pub public: String,
    /// The server.
    pub server: String,
    /// Whether it is drained now.
    pub draining: bool,
    /// Whether it was not what was asked for before.
    pub changed: bool,
}

/// A network that is added to a list, or taken out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkChange {
    /// Which list.
    pub list: List,
    /// The network.
    pub network: Prefix,
    /// Whether it is taken out.
    #[serde(default)]
    pub removes: bool,
    /// The published server, by what clients dial; none: all.
    #[serde(default)]
    pub publish: Option<String>,
    /// For how long, in seconds; none: until it is taken out.
    #[serde(default)]
    pub seconds: Option<u64>,
    /// Why.
    #[serde(default)]
    pub why: Option<String>,
}

/// What a change of a list has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Whether anything is other than before.
    pub changed: bool,
    /// The sessions that were ended.
    pub ended: Vec<u32>,
}

/// A request that cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Why.
    pub error: String,
}

/// A mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mistake {
    /// The file, where it stands in one.
    pub file: Option<String>,
    /// The line, from 1.
    pub line: Option<usize>,
    /// The key, dotted.
    pub key: Option<String>,
    /// What is wrong and what would be right.
    pub problem: String,
    /// All of it in one line.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub text: String,
}

impl From<&Problem> for Mistake {
    fn from(problem: &Problem) -> Self {
        let (file, line, key) = match &problem.origin {
            Origin::File { file, line, key } => (
                Some(file.to_string()),
                Some(*line),
                Some(key.clone()).filter(|key| !key.is_empty()),
            ),
            Origin::Flag(_) | Origin::Default => (None, None, None),
        };
        Self {
            file,
            line,
            key,
            problem: problem.what.clone(),
            text: problem.to_string(),
        }
    }
}

/// What became of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Whether the new configuration is in effect; if not, the old one is, untouched.
    pub applied: bool,
    /// What has changed.
    pub changed: Vec<String>,
    /// What would have to change too, but can only with a restart, and how.
    pub needs_restart: Vec<String>,
    /// What works, but perhaps not as meant.
    pub warnings: Vec<String>,
    /// What is wrong with the configuration.
    pub mistakes: Vec<Mistake>,
    /// Why a right configuration was not put into effect.
    pub failed: Option<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_words_of_json() {
        for (request, text) in [
            (Request::Reload, r#"{"request":"reload"}"#),
            (
                Request::Events { follow: true },
                r#"{"request":"events","follow":true}"#,
            ),
            (Request::Metrics, r#"{"request":"metrics"}"#),
        ] {
            assert_eq!(serde_json::to_string(&request).unwrap(), text);
            assert_eq!(serde_json::from_str::<Request>(text).unwrap(), request);
        }
        assert!(serde_json::from_str::<Request>(r#"{"request":"format_disk"}"#).is_err());
    }
}
