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
}

impl Entry {
    /// Whether another one is of the same list and network, for the same servers.
    pub fn is_same_place(&self, other: &Self) -> bool {
        (self.list, self.network, &self.publish) == (other.list, other.network, &other.publish)
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
