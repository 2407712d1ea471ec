//! `ftp-nat deny` and `ftp-nat allow`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::selection::Selection;
use crate::model::prefix::Prefix;

/// Arguments of `ftp-nat deny` and `ftp-nat allow`.
#[derive(Debug, Args)]
pub struct NetworksArgs {
    /// What to do with the list.
    #[command(subcommand)]
    pub what: NetworksCommand,
}

/// What to do with a list.
#[derive(Debug, Subcommand)]
pub enum NetworksCommand {
    /// Add networks, or change how long and why they are in the list
    Add(AddNetworksArgs),
    /// Take networks out; one that is not there is no error
    Remove(RemoveNetworksArgs),
    /// Show the list: networks, until when, how often each was met, why
    List(ListNetworksArgs),
}

/// Arguments of `add`.
#[derive(Debug, Args)]
pub struct AddNetworksArgs {
    /// Network, such as 198.51.100.0/24 or 2001:db8::/32, or one address
    #[arg(value_name = "NETWORK", required = true)]
    pub networks: Vec<Prefix>,
    /// For how long: 90s, 30m, 1h, 7d, a number of seconds; -1 stands for until it is removed, which
    /// is the default
    #[arg(long = "for", value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    pub time: Option<Time>,
    /// Why, for whoever looks at the list
    #[arg(long, value_name = "TEXT")]
    pub why: Option<String>,
    /// Send no resets to the ends of sessions that a denied network loses: their packets are dropped
    /// all the same
    #[arg(long)]
    pub silently: bool,
    /// For which servers.
    #[command(flatten)]
    pub servers: ServersArg,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Which gateway.
    #[command(flatten)]
    pub selection: Selection,
}

/// Arguments of `remove`.
#[derive(Debug, Args)]
pub struct RemoveNetworksArgs {
    /// Network, as it was added
    #[arg(value_name = "NETWORK", required = true)]
    pub networks: Vec<Prefix>,
    /// For which servers.
    #[command(flatten)]
    pub servers: ServersArg,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Which gateway.
    #[command(flatten)]
    pub selection: Selection,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct ListNetworksArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Which gateway.
    #[command(flatten)]
    pub selection: Selection,
}

/// For which servers.
#[derive(Debug, Args)]
pub struct ServersArg {
    /// Only for one published server: what its clients dial, as the configuration has it, such as
    /// 203.0.113.10:21 or eth0:21 [default: all]
    #[arg(long, value_name = "PUBLIC")]
    pub publish: Option<String>,
}

/// How long a network is in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// So long.
    For(Duration),
    /// Until it is removed.
    ForEver,
}

fn time(text: &str) -> Result<Time, String> {
    if text == "-1" {
        return Ok(Time::ForEver);
    }
    let (number, unit) = match text.find(|it: char| !it.is_ascii_digit()) {
        Some(place) => text.split_at(place),
        None => (text, "s"),
    };
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return Err("a number and s, m, h, d or w, such as 1h".into()),
    };
    let seconds = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|seconds| (1..=MOST_SECONDS).contains(seconds))
        .ok_or("from one second to a hundred years")?;
    Ok(Time::For(Duration::from_secs(seconds)))
}

/// A hundred years.
const MOST_SECONDS: u64 = 3_155_760_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_or_are_seconds() {
        for (text, seconds) in [
            ("90s", 90),
            ("30m", 1_800),
            ("1h", 3_600),
            ("7d", 604_800),
            ("600", 600),
        ] {
            let wanted = Time::For(Duration::from_secs(seconds));
            assert_eq!(time(text), Ok(wanted), "{text}");
        }
        assert_eq!(time("-1"), Ok(Time::ForEver));
        for text in ["", "0", "h", "1y", "1h30", "-2", "99999999999d"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
