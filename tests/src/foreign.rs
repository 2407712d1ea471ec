//! Somebody else's TC program: it gives every packet the same verdict.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::Context as _;

use crate::namespace::Namespace;

/// Commands of bpf(2), and what they are told here (linux/bpf.h).
const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;
const SCHED_CLS: u32 = 3;
const TCX_INGRESS: u32 = 46;
const BEFORE: u32 = 1 << 3;

/// `TC_ACT_OK`: the packet goes on, and no program behind sees it.
const OK: u32 = 0;

/// A program in front of all others where packets come in. It goes away when this value is dropped.
#[derive(Debug)]
pub struct Foreign {
    _link: OwnedFd,
}

impl Foreign {
    /// Attaches a program called `name` that ends the chain.
    ///
    /// # Errors
    ///
    /// For want of privileges, of the interface, or of a kernel with TCX (Linux 6.6).
    pub fn attach(namespace: &Namespace, interface: &str, name: &str) -> anyhow::Result<Self> {
        namespace.run(|| {
            let index = index_of(interface)?;
            let program = load(name).context("cannot load the foreign program")?;
            let mut attr = [0_u32; 32];
            attr[0] = program.as_raw_fd().cast_unsigned();
            attr[1] = index;
            attr[2] = TCX_INGRESS;
            attr[3] = BEFORE;
            let link = bpf(LINK_CREATE, &attr).context("cannot attach the foreign program")?;
            Ok(Self { _link: link })
        })
    }
}

fn index_of(interface: &str) -> anyhow::Result<u32> {
    let name = CString::new(interface)?;
    // SAFETY: a string that ends with a zero.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()).context(format!("there is no {interface}")),
        index => Ok(index),
    }
}

fn load(name: &str) -> io::Result<OwnedFd> {
    // r0 = OK; exit
    let instructions = [0xb7_u64 | u64::from(OK) << 32, 0x95];
    let licence = c"GPL";
    let mut attr = [0_u32; 32];
    attr[0] = SCHED_CLS;
    attr[1] = 2;
    let mut pointer = |place: usize, address: usize| {
        attr[place] = address as u32;
        attr[place + 1] = (address >> 32) as u32;
    };
    pointer(2, instructions.as_ptr().addr());
    pointer(4, licence.as_ptr().addr());
    for (place, byte) in name.bytes().take(15).enumerate() {
        attr[12 + place / 4] |= u32::from(byte) << (place % 4 * 8);
    }
    bpf(PROG_LOAD, &attr)
}

fn bpf(command: libc::c_long, attr: &[u32; 32]) -> io::Result<OwnedFd> {
    let size = size_of_val(attr);
    // SAFETY: the attributes are valid for the command, and what they point to outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_ptr(), size) };
    match i32::try_from(fd) {
        // SAFETY: a new descriptor, which nobody else has.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
