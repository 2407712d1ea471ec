//! The stations: the programs behind the tail calls of those at the hooks. Their array is shared by
//! all that is attached, so that changing an entry changes them everywhere at once, between two
//! packets.
//!
//! Each is pinned too: whoever puts others in their places ([`super::trace`]) finds them there again.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use anyhow::Context as _;
use aya::{
    maps::MapData,
    programs::{ProgramInfo, SchedClassifier},
};
use ftp_nat_common::abi::{map, station};

use super::pins::Gateway;
use crate::kernel::{bpf, bpffs};

/// Name of the program, index in the array.
pub(super) const ALL: [(&str, u32); 2] = [("gateway", station::GATEWAY), ("icmp", station::ICMP)];

/// Takes the lock on a gateway's stations, which whoever puts other programs in their places holds;
/// none while another process holds it.
///
/// # Errors
///
/// `ENOENT`: the gateway is not loaded. `EACCES`: its folder belongs to another user.
pub fn lock(gateway: &Gateway) -> io::Result<Option<File>> {
    bpffs::lock(&gateway.programs())
}

/// Enters a loaded program as a station.
///
/// # Errors
///
/// `EPERM`: no CAP_BPF. `EINVAL`: the program does not fit those that are there.
pub(super) fn enter(
    gateway: &Gateway,
    index: u32,
    program: &SchedClassifier,
) -> anyhow::Result<()> {
    set(gateway, index, program.fd()?.as_fd().as_raw_fd())
}

fn set(gateway: &Gateway, index: u32, descriptor: i32) -> anyhow::Result<()> {
    bpf::update(array(gateway)?.fd(), &index, &descriptor.cast_unsigned(), 0)
        .context("cannot enter a program into the program array")
}

fn array(gateway: &Gateway) -> anyhow::Result<MapData> {
    MapData::from_pin(gateway.map(map::STATIONS)).context("cannot open the program array")
}

/// Puts the pinned stations back where others stand in their places, or none. Gives whether there
/// were such.
///
/// # Errors
///
/// When they are not pinned, or `EPERM`: no CAP_BPF.
pub fn put_back(gateway: &Gateway) -> anyhow::Result<bool> {
    let array = array(gateway)?;
    let mut is_changed = false;
    for (name, index) in ALL {
        let pinned = ProgramInfo::from_pin(gateway.station(name))
            .with_context(|| format!("the station {name} is not pinned"))?;
        let mut entered = 0_u32;
        let is_there = bpf::lookup(array.fd(), &index, &mut entered)
            .context("cannot read the program array")?;
        if !is_there || entered != pinned.id() {
            set(gateway, index, pinned.fd()?.as_fd().as_raw_fd())?;
            is_changed = true;
        }
    }
    Ok(is_changed)
}

/// Whether other programs than the pinned ones are in their places: traced ones.
///
/// # Errors
///
/// When they are not pinned, or `EPERM`: no CAP_BPF.
pub fn are_replaced(gateway: &Gateway) -> anyhow::Result<bool> {
    let mut is_replaced = false;
    for ((name, _), entered) in ALL.iter().zip(entered(gateway)?) {
        let pinned = ProgramInfo::from_pin(gateway.station(name))
            .with_context(|| format!("the station {name} is not pinned"))?;
        is_replaced |= pinned.id() != entered;
    }
    Ok(is_replaced)
}

/// How many of the stations are not pinned.
pub fn unpinned(gateway: &Gateway) -> usize {
    let pins = ALL.iter().map(|(name, _)| gateway.station(name));
    pins.filter(|pin| !pin.exists()).count()
}

/// The numbers of the programs that are entered now.
///
/// # Errors
///
/// When the gateway is gone, or `EPERM`: no CAP_BPF.
pub fn entered(gateway: &Gateway) -> anyhow::Result<[u32; ALL.len()]> {
    let array = array(gateway)?;
    let mut entered = [0; ALL.len()];
    for (number, (_, index)) in entered.iter_mut().zip(ALL) {
        bpf::lookup(array.fd(), &index, number).context("cannot read the program array")?;
    }
    Ok(entered)
}
