//! Offloads of an interface, by ethtool's ioctl.

use std::os::fd::AsRawFd as _;

use rustix::net::{AddressFamily, SocketType, socket};

// Commands and flags of linux/ethtool.h and linux/sockios.h.
const SIOCETHTOOL: libc::c_ulong = 0x8946;
const GET_DRIVER: u32 = 0x03;
const GET_FLAGS: u32 = 0x25;
const GET_GRO: u32 = 0x2b;
const FLAG_LRO: u32 = 1 << 15;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct Driver {
    command: u32,
    name: [u8; 32],
    rest: [u8; 32 + 32 + 32 + 32 + 12 + 20],
}

const _: () = assert!(size_of::<Driver>() == 196);

/// Asks the driver; whether it answered.
fn ask<T>(interface: &str, request: &mut T) -> bool {
    let Ok(socket) = socket(AddressFamily::INET, SocketType::DGRAM, None) else {
        return false;
    };
    // SAFETY: a plain C struct, for which all zeroes is valid.
    let mut ifreq: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = ifreq.ifr_name.len() - 1;
    for (to, from) in ifreq.ifr_name.iter_mut().zip(interface.bytes().take(room)) {
        *to = from as libc::c_char;
    }
    ifreq.ifr_ifru.ifru_data = std::ptr::from_mut(request).cast();
    // SAFETY: the kernel reads the request's command and writes at most the struct of that command,
    // which `request` is and which lives until the end.
    unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut ifreq) == 0 }
}

fn value(interface: &str, command: u32) -> Option<u32> {
    let mut value = Value { command, data: 0 };
    ask(interface, &mut value).then_some(value.data)
}

/// Whether large receive offload is on.
pub(super) fn has_lro(interface: &str) -> bool {
    value(interface, GET_FLAGS).is_some_and(|flags| flags & FLAG_LRO != 0)
}

/// Whether generic receive offload is on; none where the driver does not tell.
pub(super) fn has_gro(interface: &str) -> Option<bool> {
    Some(value(interface, GET_GRO)? != 0)
}

/// The driver's name.
pub(super) fn driver(interface: &str) -> Option<String> {
    let mut driver = Driver {
        command: GET_DRIVER,
        name: [0; 32],
        rest: [0; 160],
    };
    if !ask(interface, &mut driver) {
        return None;
    }
    let end = driver.name.iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(&driver.name[..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_offloads_that_can_be_asked_about() {
        assert!(!has_lro("lo"));
        assert!(has_gro("lo").is_some());
        assert_eq!(has_gro("no-such-interface"), None);
        assert_eq!(driver("no-such-interface"), None);
    }
}
