//! A host's wire: whole packets go out as they were made, past its own TCP/IP stack.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, ensure};

use super::segment::{ETHERNET, Segment};
use crate::{
    lab::{HOST_INTERFACE, Host, LAN, Lab, WAN},
    link::{ifindex, mac},
    namespace::Namespace,
};

/// How many packets one system call sends.
pub const BATCH: usize = 64;

/// A packet socket (packet(7)) on one interface, with the Ethernet addresses to the next hop. It
/// can be used from any thread and any namespace.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    /// Destination and source.
    addresses: [[u8; 6]; 2],
}

impl Wire {
    /// From `namespace`'s interface to the next hop of this hardware address.
    ///
    /// # Errors
    ///
    /// `EPERM` without CAP_NET_RAW.
    pub fn open(namespace: &Namespace, interface: &str, next_hop: [u8; 6]) -> anyhow::Result<Self> {
        let own = mac(namespace, interface)?;
        let index = ifindex(namespace, interface)?;
        let socket = namespace
            .run(|| packet_socket(index, 0))
            .with_context(|| format!("cannot open a packet socket on {interface}"))?;
        Ok(Self {
            socket,
            addresses: [next_hop, own],
        })
    }

    /// From a host outside to the lab's router.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn from_outside(lab: &Lab, host: &Host) -> anyhow::Result<Self> {
        Self::open(&host.namespace, HOST_INTERFACE, mac(&lab.router, WAN)?)
    }

    /// From a host inside to the lab's router.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn from_inside(lab: &Lab, host: &Host) -> anyhow::Result<Self> {
        Self::open(&host.namespace, HOST_INTERFACE, mac(&lab.router, LAN)?)
    }

    /// The frame of an IP packet.
    #[must_use]
    pub fn frame(&self, packet: &[u8]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(ETHERNET + packet.len());
        frame.extend_from_slice(self.addresses.as_flattened());
        let is_v6 = packet.first().is_some_and(|first| first >> 4 == 6);
        frame.extend(if is_v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
        frame.extend_from_slice(packet);
        frame
    }

    /// Sends a segment.
    ///
    /// # Errors
    ///
    /// When the interface is down, or the packet too large for it.
    pub fn send(&self, segment: &Segment) -> anyhow::Result<()> {
        self.send_packet(&segment.packet())
    }

    /// Sends an IP packet.
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    pub fn send_packet(&self, packet: &[u8]) -> anyhow::Result<()> {
        let frame = self.frame(packet);
        self.send_frames(&[frame])
    }

    /// Sends frames, [`BATCH`] a system call.
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    pub fn send_frames(&self, frames: &[Vec<u8>]) -> anyhow::Result<()> {
        for batch in frames.chunks(BATCH) {
            let mut sent = 0;
            while sent < batch.len() {
                match self.send_some(&batch[sent..]) {
                    Ok(some) => sent += some,
                    // The interface's queue is full: it empties by itself.
                    Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                        std::thread::yield_now();
                    }
                    Err(error) => return Err(error).context("cannot send a packet"),
                }
            }
        }
        Ok(())
    }

    /// One system call; gives how many frames it sent.
    fn send_some(&self, frames: &[Vec<u8>]) -> io::Result<usize> {
        let mut pieces: Vec<libc::iovec> = frames
            .iter()
            .map(|frame| libc::iovec {
                iov_base: frame.as_ptr().cast_mut().cast(),
                iov_len: frame.len(),
            })
            .collect();
        let mut messages: Vec<libc::mmsghdr> = pieces
            .iter_mut()
            .map(|piece| {
                // SAFETY: all fields are numbers and pointers, for which zero is a value.
                let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
                message.msg_hdr.msg_iov = piece;
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        // SAFETY: each message points to one piece and each piece to one frame; all three outlive
        // the call, which reads the frames only.
        let sent = unsafe {
            libc::sendmmsg(
                self.socket.as_raw_fd(),
                messages.as_mut_ptr(),
                messages.len() as u32,
                0,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

/// A packet socket on an interface that receives what has this protocol (in network order; 0:
/// nothing).
pub(super) fn packet_socket(ifindex: u32, protocol: u16) -> anyhow::Result<OwnedFd> {
    // SAFETY: a system call without pointers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    ensure!(fd >= 0, io::Error::last_os_error());
    // SAFETY: the descriptor was just made and has no other owner.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all fields are numbers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = i32::try_from(ifindex)?;
    // SAFETY: `address` is a whole sockaddr_ll.
    let result = unsafe {
        libc::bind(
            fd,
            (&raw const address).cast(),
            size_of_val(&address) as u32,
        )
    };
    ensure!(result == 0, io::Error::last_os_error());
    Ok(socket)
}
