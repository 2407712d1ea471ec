//! The stations a second time, with tracing in them: see `ftp-nat-ebpf/src/trace.rs`.

use std::fs::File;

use anyhow::{Context as _, bail};
use aya::{Ebpf, EbpfLoader, programs::SchedClassifier};
use aya_log::EbpfLogger;
use ftp_nat_common::wire::addr::Addr;
use log::Log;

use super::{load, maps, object, pins::Gateway, stations};

/// Room for records that were not read yet, in bytes: some ten thousand.
const RECORDS: u32 = 1 << 23;

/// Which packets are traced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Those with this address at one of their ends; none: all.
    pub peer: Addr,
    /// Those of this session; 0: all.
    pub session: u32,
}

/// The traced stations, in the places of the others. Dropping it puts those back.
pub struct Tracing<L> {
    gateway: Gateway,
    /// What the records are given to.
    logger: EbpfLogger<L>,
    /// The numbers of our stations.
    entered: [u32; stations::ALL.len()],
    _ebpf: Ebpf,
    _lock: File,
}

impl<L: Log> Tracing<L> {
    /// Loads the traced stations and puts them in the places of the others.
    ///
    /// # Errors
    ///
    /// When another process traces this gateway, its daemon is of an older version, or the kernel
    /// refuses the programs.
    pub fn start(gateway: &Gateway, wanted: Wanted, logger: L) -> anyhow::Result<Self> {
        let Some(lock) = stations::lock(gateway).context("cannot lock the gateway's programs")?
        else {
            bail!("another process traces {} already", gateway.name());
        };
        // What a trace has left that was killed; and where they are not pinned, nothing is begun.
        stations::put_back(gateway)
            .context("its programs were loaded by an older ftp-nat: restart its daemon")?;
        let Wanted { peer, session } = wanted;
        let mut loader = EbpfLoader::new();
        loader
            .btf(None)
            .override_global("TRACE", &1_u8, true)
            .override_global("TRACE_PEER", &peer.0, true)
            .override_global("TRACE_SESSION", &session, true)
            .map_max_entries("AYA_LOGS", RECORDS);
        for name in maps::names() {
            loader.map_pin_path(name, gateway.map(name));
        }
        let mut ebpf = loader.load(object::ebpf_object()?)?;
        for (name, _) in stations::ALL {
            load::station(&mut ebpf, name)?
                .load()
                .map_err(|error| load::rejected(name, error))?;
        }
        let logger = EbpfLogger::init_with_logger(&mut ebpf, logger)
            .context("the eBPF object has no records")?;
        for (name, index) in stations::ALL {
            let program: &SchedClassifier = load::station(&mut ebpf, name)?;
            if let Err(error) = stations::enter(gateway, index, program) {
                // Of two, the first may be there.
                stations::put_back(gateway)?;
                return Err(error);
            }
        }
        Ok(Self {
            gateway: gateway.clone(),
            logger,
            entered: stations::entered(gateway)?,
            _ebpf: ebpf,
            _lock: lock,
        })
    }

    /// Gives the records that have come to the logger.
    pub fn read(&mut self) {
        self.logger.flush();
    }

    /// Whether our stations are still in their places: a daemon that starts loads its own.
    pub fn is_in_place(&self) -> bool {
        stations::entered(&self.gateway).is_ok_and(|entered| entered == self.entered)
    }
}

impl<L> Drop for Tracing<L> {
    fn drop(&mut self) {
        if let Err(error) = stations::put_back(&self.gateway) {
            log::warn!("{error:#}");
        }
    }
}
