//! All gateways of this machine, whichever network namespace they are in.

use std::path::Path;

use crate::{
    datapath::{
        attach,
        pins::{Gateway, Pins},
    },
    kernel::namespaces::{self, Namespace},
};

/// The gateways of one network namespace.
pub struct Home {
    /// The namespace's number.
    pub cookie: u64,
    /// The gateways' pins.
    pub pins: Pins,
    /// The namespace, if it is found.
    pub state: State,
}

/// What has become of a gateway's network namespace.
pub enum State {
    /// It is there.
    Alive(Namespace),
    /// Its interfaces are there, but nothing leads to it: an open file keeps it.
    Hidden,
    /// It is gone; what is pinned only takes memory.
    Gone,
}

impl Home {
    /// Its gateways, those of other versions of ftp-nat too.
    ///
    /// # Errors
    ///
    /// When the folder of the pins may not be read.
    pub fn gateways(&self) -> anyhow::Result<Vec<Gateway>> {
        let mut gateways = self.pins.gateways()?;
        gateways.extend(self.pins.of_other_versions());
        Ok(gateways)
    }
}

/// The namespaces that have gateways with pins below this folder.
///
/// # Errors
///
/// When the namespaces that are alive cannot be found: see [`namespaces::living`].
pub fn homes(state_dir: &Path) -> anyhow::Result<Vec<Home>> {
    let living = namespaces::living()?;
    let mut homes = Vec::new();
    for (cookie, pins) in Pins::of_all_namespaces(state_dir)? {
        let mut home = Home {
            cookie,
            pins,
            state: State::Gone,
        };
        if let Some(found) = living.iter().find(|it| it.cookie == cookie) {
            home.state = State::Alive(found.clone());
        } else {
            for gateway in home.gateways()? {
                if attach::has_live_link(&gateway)? {
                    home.state = State::Hidden;
                }
            }
        }
        homes.push(home);
    }
    Ok(homes)
}
