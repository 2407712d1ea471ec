//! Which network namespace this process is in.

use std::{io, mem::size_of, os::fd::AsRawFd as _};

use anyhow::anyhow;
use rustix::net::{AddressFamily, SocketType, socket};

/// The number of this process' network namespace: never given to another one before the machine
/// starts again, unlike the inode of /proc/self/ns/net, so that a new namespace can never find the
/// pins of one that is gone.
///
/// # Errors
///
/// When the kernel does not tell (before Linux 5.14).
pub fn cookie() -> anyhow::Result<u64> {
    ask().map_err(|error| match error.raw_os_error() {
        Some(libc::ENOPROTOOPT) => anyhow!(
            "cannot tell the network namespace's number: the kernel lacks SO_NETNS_COOKIE (since \
             Linux 5.14)"
        ),
        _ => anyhow!("cannot ask for the network namespace's number: {error}"),
    })
}

/// The same.
///
/// # Errors
///
/// `ENOPROTOOPT`: the kernel has no such option.
pub(super) fn ask() -> io::Result<u64> {
    let socket = socket(AddressFamily::UNIX, SocketType::DGRAM, None)?;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `cookie`, which is that long.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(cookie)
}
