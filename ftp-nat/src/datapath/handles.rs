//! Open descriptors of all of a gateway's maps: while the daemon holds them, the maps live on
//! though their pins are removed, and can be pinned again.

use std::{fs, io};

use anyhow::Context as _;
use aya::maps::{MapData, MapInfo};

use super::{maps, pins::Gateway};
use crate::kernel::bpf;

/// The descriptors.
pub struct Handles(Vec<(&'static str, MapData)>);

impl Handles {
    /// Opens all maps of a gateway.
    ///
    /// # Errors
    ///
    /// When one is not pinned, or `EPERM`: no CAP_BPF.
    pub fn open(gateway: &Gateway) -> anyhow::Result<Self> {
        let open = |name| {
            let map = MapData::from_pin(gateway.map(name))
                .with_context(|| format!("cannot open map {name}"))?;
            Ok((name, map))
        };
        maps::names()
            .map(open)
            .collect::<anyhow::Result<_>>()
            .map(Self)
    }

    /// Pins again the maps whose pins are gone, or lead to other maps. Gives their names.
    ///
    /// # Errors
    ///
    /// `EACCES` or `ENOENT`: the folder belongs to another user, or is not on a BPF file system.
    pub fn pin_again(&self, gateway: &Gateway) -> anyhow::Result<Vec<&'static str>> {
        let mut pinned = Vec::new();
        for (name, map) in &self.0 {
            let path = gateway.map(name);
            let own = map.info()?.id();
            if MapInfo::from_pin(&path).is_ok_and(|found| found.id() == own) {
                continue;
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            }
            bpf::pin(map.fd(), &path)
                .with_context(|| format!("cannot pin map {name} as {}", path.display()))?;
            pinned.push(*name);
        }
        Ok(pinned)
    }
}
