//! Port marks: a byte for each TCP port, which tells FTP from the rest at one look; and a bit for those of others.

use super::maps;
use crate::kernel::helpers::jiffies;
use ftp_nat_common::abi::{port, reserved_bit};
use ftp_nat_common::wire::addr::{Port, PortPair};

/// The marks ([`port`]) of a packet's two ports together; 0: no packet on them is of FTP.
#[inline(always)]
pub fn marks_of_pair(ports: PortPair) -> u8 {
    let Some(known) = maps::PORTS.get(0) else {
        return 0;
    };
    known.marks[ports.source().place()] | known.marks[ports.destination().place()]
}

/// The marks of one port.
#[inline(always)]
pub fn marks(port: Port) -> u8 {
    maps::PORTS
        .get(0)
        .map_or(0, |known| known.marks[port.place()])
}

/// Whether a port may be somebody else's at some address: RESERVED has to be asked.
#[inline(always)]
pub fn may_be_reserved(of: Port) -> bool {
    let (at, bit) = reserved_bit(of);
    maps::PORTS
        .get(0)
        .is_some_and(|known| known.reserved[at] & bit != 0)
}

/// Marks a port as one that flows use from now on. The daemon's sweep takes the mark away when no
/// flow has used it for long.
#[inline(always)]
pub fn mark(of: Port, hz: u32) {
    let Some(known) = maps::PORTS.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the map's value is that large; single bytes are written whole, and a lost race only
    // loses to the same epoch.
    unsafe {
        let mark = &mut (*known).marks[of.place()];
        *mark = (*mark & !port::EPOCH) | port::epoch(jiffies(), hz);
    }
}

/// Whether a SYN between these ports may be of a data connection that was announced or has begun: then one
/// of them is marked. Most SYNs to control ports are not, and need not be looked up as such.
#[inline(always)]
pub fn is_announced(source: Port, destination: Port) -> bool {
    marks_of_pair(PortPair::new(source, destination)) & port::EPOCH != 0
}

/// Whether a packet on these ports may be of a control connection: only such handshakes are noted.
#[inline(always)]
pub fn is_control(ports: PortPair) -> bool {
    marks_of_pair(ports) & (port::PUBLISHED | port::MASQUERADED) != 0
}
