//! Another port where the wanted one is taken.

use crate::kernel::helpers::random;
use ftp_nat_common::abi::Settings;
use ftp_nat_common::wire::addr::Port;

/// How many ports are tried, the wanted one first.
pub const TRIES: u32 = 16;

/// A port of the range for remaps.
#[inline(always)]
pub fn random_port(settings: &Settings) -> Port {
    let first = u32::from(settings.remap_first);
    let size = u32::from(settings.remap_last)
        .wrapping_sub(first)
        .wrapping_add(1)
        & 0xffff;
    let size = if size == 0 { 1 } else { size };
    Port::new((first + random() % size) as u16)
}
