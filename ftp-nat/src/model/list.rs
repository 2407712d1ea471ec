//! Lists of networks outside: those that may not begin sessions, and those that alone may.

use std::{fmt, time::Duration};

use ftp_nat_common::abi::list;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::prefix::Prefix;

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum List {
    /// Who may not begin sessions.
    Deny,
    /// Who alone may.
    Allow,
}

impl List {
    /// Its number in the datapath's table ([`mod@list`]).
    pub const fn number(self) -> u32 {
        match self {
            Self::Deny => list::DENY,
            Self::Allow => list::ALLOW,
        }
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deny => "deny",
            Self::Allow => "allow",
        })
    }
}

/// A network in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which list.
    pub list: List,
    /// The network.
    pub network: Prefix,
    /// The published server, as the configuration names what clients dial; none: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<String>,
    /// Why, in the words of whoever has added it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Since when; none: it is the configuration's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Until when; none: until it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The number of the gateway of the cluster at which it was added; none: this one, or the
    /// configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u8>,
}

/// What there is one entry of at most: a network of a list, for a server or for all.
pub type Place = (List, Prefix, Option<String>);

impl Entry {
    /// Its place.
    pub fn place(&self) -> Place {
        (self.list, self.network, self.publish.clone())
    }

    /// Whether it has ended.
    pub fn has_ended(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// How long it goes on; none: until it is removed.
    pub fn left(&self, now: Timestamp) -> Option<Duration> {
        let until = self.until?;
        Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
    }
}

/// A network in a list, with how often it was met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The network.
    #[serde(flatten)]
    pub entry: Entry,
    /// First packets that were refused because of it.
    pub hits: u64,
}
