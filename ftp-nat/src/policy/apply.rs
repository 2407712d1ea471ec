//! Writing a policy to the datapath's tables.

use std::{collections::HashMap, hash::Hash, io};

use anyhow::Context as _;
use bytemuck::Pod;
use ftp_nat_common::abi::port;

use super::desired::Policy;
use crate::{
    datapath::maps::{Maps, Trie},
    kernel::clock::Clock,
};

impl Policy {
    /// Writes what differs from what the tables hold.
    ///
    /// # Errors
    ///
    /// When a table cannot be read or written: `E2BIG` when one is full, `EPERM` without CAP_BPF.
    pub fn apply(&self, maps: &Maps, clock: &Clock) -> anyhow::Result<()> {
        self.mark_ports(maps, clock);
        let tried = "cannot write the published servers";
        // A pool is there before the entry that leads to it, and for as long.
        maps.pools.set_servers(&self.pools).context(tried)?;
        let old: HashMap<_, _> = maps.published.all().context(tried)?.into_iter().collect();
        let published = self.published_and_addresses();
        for (key, entry) in &published {
            if old.get(key) != Some(entry) {
                maps.published.set(key, entry).context(tried)?;
            }
        }
        for key in old.keys().filter(|key| !published.contains_key(key)) {
            maps.published.delete(key).context(tried)?;
        }
        maps.pools.keep_only(&self.pools).context(tried)?;
        let tried = "cannot write the published networks";
        write(&maps.routed, &self.routed).context(tried)?;
        let tried = "cannot write the clients' networks";
        write(&maps.inside, &self.inside).context(tried)?;
        let tried = "cannot write the interfaces";
        let old = maps.interfaces.all().context(tried)?;
        for (index, interface) in &self.interfaces {
            maps.interfaces.set(index, interface).context(tried)?;
        }
        for (index, _) in old {
            if !self.interfaces.contains_key(&index) {
                maps.interfaces.delete(&index).context(tried)?;
            }
        }
        Ok(())
    }

    /// Sets the control ports' bits and clears those that are none any more. Sessions on such a
    /// port go on, so it stays of interest as an announced one does: until the sweep finds that
    /// nobody uses it. The datapath writes the same bytes without a lock, and once in a long while
    /// that undoes a bit: so this is repeated with every sweep.
    pub fn mark_ports(&self, maps: &Maps, clock: &Clock) {
        const CONTROL: u8 = port::PUBLISHED | port::MASQUERADED;
        for (number, bits) in &self.ports {
            maps.ports.set_bits(*number, *bits);
        }
        let epoch = port::epoch(clock.now(), clock.hz());
        for number in self.takeover_ports().into_iter().flatten() {
            maps.ports.set_epoch(number, epoch);
        }
        for (number, byte) in maps.ports.marked() {
            let wanted = self.ports.get(&number).copied().unwrap_or(0);
            let surplus = byte & CONTROL & !wanted;
            if surplus != 0 {
                let fresh = byte & !surplus & !port::EPOCH | epoch;
                maps.ports.replace(number, byte, fresh);
            }
        }
    }
}

/// Writes what differs from what a map of networks holds.
fn write<K: Pod + Eq + Hash, V: Pod + PartialEq>(
    trie: &Trie<K, V>,
    wanted: &HashMap<K, V>,
) -> io::Result<()> {
    let old: HashMap<_, _> = trie.all()?.into_iter().collect();
    for (network, value) in wanted {
        if old.get(network) != Some(value) {
            trie.set(network, value)?;
        }
    }
    for network in old.keys().filter(|it| !wanted.contains_key(it)) {
        trie.delete(network)?;
    }
    Ok(())
}
