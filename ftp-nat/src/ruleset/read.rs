//! Reading the rules of this network namespace, by the programs that administrators use.

use std::{collections::HashMap, fs};

use anyhow::anyhow;

use super::{Chain, Ruleset, iptables, nft, program::output};

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// The rules.
    pub ruleset: Ruleset,
    /// What could not be read, and why.
    pub problems: Vec<(&'static str, anyhow::Error)>,
    /// Neither nft nor iptables-save is installed.
    pub is_without_programs: bool,
}

const IPTABLES: &str = "the rules of iptables";
const NFTABLES: &str = "the rules of nftables";

/// Reads all rules: those of nftables, and those of iptables in both its kinds.
pub(crate) fn read() -> Reading {
    let mut reading = Reading::default();
    let problems = &mut reading.problems;
    let mut chains = Vec::new();
    // Chains of nftables that iptables has shown, by table and name, and how many rules they have there.
    let mut shown = HashMap::new();
    let mut is_read = false;
    for (program, v4) in [
        ("iptables-save", true),
        ("ip6tables-save", false),
        ("iptables-legacy-save", true),
        ("ip6tables-legacy-save", false),
    ] {
        // The kernel module of the old kind makes its tables only when it is asked for them.
        let is_legacy = program.contains("legacy");
        if is_legacy && !has_legacy_tables(v4) {
            continue;
        }
        match output(program, &[]) {
            Ok(None) if has_legacy_tables(v4) => problems.push((
                IPTABLES,
                anyhow!("there are tables of iptables, but no {program}"),
            )),
            Ok(None) => {}
            Ok(Some(text)) => {
                let is_nft = text.contains("(nf_tables)");
                // The same rules by their other name.
                if is_legacy && !is_nft && chains_have(&chains, v4, false) {
                    continue;
                }
                let its = iptables::parse(&text, v4);
                if is_nft {
                    shown.extend(its.iter().map(by_nft));
                }
                is_read = true;
                chains.extend(its.into_iter().map(|chain| (chain, is_nft)));
            }
            Err(error) => problems.push((IPTABLES, error)),
        }
    }
    let mut chains: Vec<_> = chains.into_iter().map(|(chain, _)| chain).collect();
    match output("nft", &["-j", "list", "ruleset"]) {
        Ok(Some(text)) => match nft::parse(&text) {
            // Of those that iptables has shown it understands more.
            Ok(its) => chains.extend(its.into_iter().filter(|it| {
                let at = (it.table.clone(), it.name.clone());
                shown.get(&at).is_none_or(|rules| *rules < it.rules.len())
            })),
            Err(error) => problems.push((NFTABLES, error)),
        },
        Ok(None) => reading.is_without_programs = !is_read,
        Err(error) => problems.push((NFTABLES, error)),
    }
    reading.ruleset = Ruleset { chains };
    reading
}

/// How nftables calls a chain of iptables, and how many rules it has.
///
/// Of a table that somebody else has put chains into, `iptables-save` shows only its own, and built-in chains
/// without rules where there are none (nft_chain_builtin_init_cb in iptables).
fn by_nft(chain: &Chain) -> ((String, String), usize) {
    let family = if chain.v4 { "ip" } else { "ip6" };
    let table = chain.table.rsplit(' ').next().unwrap_or_default();
    let at = (format!("nft {family} {table}"), chain.name.clone());
    (at, chain.rules.len())
}

fn chains_have(chains: &[(Chain, bool)], v4: bool, is_nft: bool) -> bool {
    chains
        .iter()
        .any(|(chain, nft)| *nft == is_nft && chain.v4 == v4)
}

/// Whether there are tables of iptables' old kind, which nftables does not know of.
pub(crate) fn has_legacy_tables(v4: bool) -> bool {
    let file = if v4 {
        "ip_tables_names"
    } else {
        "ip6_tables_names"
    };
    fs::read_to_string(format!("/proc/self/net/{file}")).is_ok_and(|text| !text.trim().is_empty())
}
