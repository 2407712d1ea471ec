//! The kernel's trie of networks.

use std::sync::{Mutex, PoisonError};

use aya::maps::{
    MapData, MapError,
    lpm_trie::{Key, LpmTrie},
};
use ftp_nat_common::addr::Addr;

use crate::config::value::Prefix;

/// Bits in front of an IPv4 address: [`Addr`] holds it as `::ffff:a.b.c.d`.
const V4_FROM: u32 = 96;

/// A set of networks.
pub struct Prefixes(Mutex<LpmTrie<MapData, Addr, u32>>);

impl Prefixes {
    /// The trie as a set; that its sizes are right has been checked (see [`crate::maps`]).
    pub(crate) fn new(trie: LpmTrie<MapData, Addr, u32>) -> Self {
        Self(Mutex::new(trie))
    }

    /// Makes the set just what is wanted. What is in it and stays is not touched.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn set(&self, wanted: &[Prefix]) -> Result<(), MapError> {
        let mut trie = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted: Vec<_> = wanted.iter().map(key).collect();
        let old = trie.keys().collect::<Result<Vec<_>, _>>()?;
        let parts = |key: &Key<Addr>| (key.prefix_len(), key.data());
        for key in &wanted {
            if !old.iter().any(|it| parts(it) == parts(key)) {
                trie.insert(key, 0, 0)?;
            }
        }
        for key in &old {
            if !wanted.iter().any(|it| parts(it) == parts(key)) {
                trie.remove(key)?;
            }
        }
        Ok(())
    }
}

fn key(prefix: &Prefix) -> Key<Addr> {
    let from = if prefix.address.is_ipv4() { V4_FROM } else { 0 };
    Key::new(from + u32::from(prefix.bits), Addr::from(prefix.address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_becomes_what_is_wanted() {
        let Some(maps) = crate::maps::scratch(16) else {
            return;
        };
        let held = || {
            let trie = maps.inside.0.lock().unwrap();
            let mut keys: Vec<_> = trie
                .keys()
                .map(|key| key.unwrap())
                .map(|key| format!("{}/{}", key.data(), key.prefix_len()))
                .collect();
            keys.sort();
            keys
        };
        let networks = |texts: &[&str]| -> Vec<Prefix> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        maps.inside
            .set(&networks(&["10.0.0.0/8", "fd00::/8"]))
            .unwrap();
        assert_eq!(held(), ["10.0.0.0/104", "fd00::/8"]);
        maps.inside
            .set(&networks(&["10.0.0.0/9", "fd00::/8"]))
            .unwrap();
        assert_eq!(held(), ["10.0.0.0/105", "fd00::/8"]);
    }
}
