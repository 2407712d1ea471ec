//! The sequence numbers of a connection, as its own socket knows them.

use std::{
    net::TcpStream,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
};

use anyhow::Context as _;

/// The numbers that the next segment of a connection has: its own (`SND.NXT`) and the acknowledged
/// one (`RCV.NXT`), in host order.
///
/// They are read in TCP's repair mode (`TCP_REPAIR`, tcp(7)), which the connection leaves as if
/// nothing had been.
///
/// # Errors
///
/// `EPERM` without CAP_NET_ADMIN, `EPERM` too while the connection is not established.
pub fn next(stream: &TcpStream) -> anyhow::Result<(u32, u32)> {
    // linux/tcp.h
    const REPAIR_ON: i32 = 1;
    const REPAIR_OFF_QUIETLY: i32 = -1;
    const RECEIVE_QUEUE: i32 = 1;
    const SEND_QUEUE: i32 = 2;
    let socket = stream.as_fd();
    set(socket, libc::TCP_REPAIR, REPAIR_ON)?;
    let read = |queue| {
        set(socket, libc::TCP_REPAIR_QUEUE, queue)?;
        get(socket, libc::TCP_QUEUE_SEQ)
    };
    let numbers = read(SEND_QUEUE).and_then(|seq| Ok((seq, read(RECEIVE_QUEUE)?)));
    set(socket, libc::TCP_REPAIR, REPAIR_OFF_QUIETLY)?;
    numbers
}

/// How often the connection has repeated a segment, its SYN included (`tcpi_total_retrans`).
///
/// # Errors
///
/// When the kernel does not tell.
pub fn repetitions(stream: &TcpStream) -> anyhow::Result<u32> {
    // SAFETY: all fields are numbers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&info) as u32;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which is that long.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(std::io::Error::last_os_error()).context("cannot read TCP_INFO");
    }
    Ok(info.tcpi_total_retrans)
}

fn set(socket: BorrowedFd<'_>, option: i32, value: i32) -> anyhow::Result<()> {
    // SAFETY: the kernel reads a whole i32.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            (&raw const value).cast(),
            size_of::<i32>() as u32,
        )
    };
    if result != 0 {
        return Err(std::io::Error::last_os_error()).context("cannot read TCP's numbers");
    }
    Ok(())
}

fn get(socket: BorrowedFd<'_>, option: i32) -> anyhow::Result<u32> {
    let mut value = 0_u32;
    let mut length = size_of::<u32>() as u32;
    // SAFETY: the kernel writes at most `length` bytes to `value`, which is that long.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(std::io::Error::last_os_error()).context("cannot read TCP's numbers");
    }
    Ok(value)
}

/// A timestamp (RFC 7323) that the connection's segments of the next few milliseconds will have.
///
/// The kernel tells the time of the last packet, and the connection's last segment may have a later one
/// (it goes by the time at which it was allowed to leave): so some milliseconds are added.
///
/// # Errors
///
/// When the kernel does not tell.
pub fn timestamp(stream: &TcpStream) -> anyhow::Result<u32> {
    const LATER: u32 = 10;
    Ok(get(stream.as_fd(), libc::TCP_TIMESTAMP)?.wrapping_add(LATER))
}
