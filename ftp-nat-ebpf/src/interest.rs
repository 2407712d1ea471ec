//! The one look that tells FTP from the rest.

use crate::kernel::jiffies;
use crate::maps;
use crate::packet::Ports;
use ftp_nat_common::abi::port;
use ftp_nat_common::addr::Port;

/// What is known of a packet's ports: 0, it is none of ours; else the marks of both.
#[inline(always)]
pub fn of(ports: Ports) -> u8 {
    let Some(known) = maps::PORTS.get(0) else {
        return 0;
    };
    known.0[ports.source().number() as usize] | known.0[ports.destination().number() as usize]
}

/// The marks of one port.
#[inline(always)]
pub fn marks(port: Port) -> u8 {
    maps::PORTS
        .get(0)
        .map_or(0, |known| known.0[port.number() as usize])
}

/// Makes packets on this port interesting from now on. The daemon forgets it when no flow has used
/// it for long.
#[inline(always)]
pub fn note(of: Port, hz: u32) {
    let Some(known) = maps::PORTS.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the map's value is that large; single bytes are written whole, and a lost race only
    // loses to the same epoch.
    unsafe {
        let mark = &mut (*known).0[of.number() as usize];
        *mark = (*mark & !port::EPOCH) | port::epoch(jiffies(), hz);
    }
}
