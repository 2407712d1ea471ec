//! Talking to the kernel's routing netlink: a question, its answers, and news.
//!
//! Only the attributes that are wanted are read, so that nothing a newer kernel adds can make a
//! message unreadable.

use std::{
    io,
    mem::size_of,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use netlink_packet_core::{NetlinkBuffer, NlasIterator};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind,
    netlink::{GENERIC, NETFILTER, SOCK_DIAG, SocketAddrNetlink},
    recv, send, socket_with, sockopt,
};

/// Message types of linux/rtnetlink.h and linux/netlink.h.
pub(crate) mod message {
    pub(crate) const ERROR: u16 = 2;
    pub(crate) const DONE: u16 = 3;
    pub(crate) const NEW_LINK: u16 = 16;
    pub(crate) const GET_LINK: u16 = 18;
    pub(crate) const NEW_ADDRESS: u16 = 20;
    pub(crate) const ADDRESS_GONE: u16 = 21;
    pub(crate) const GET_ADDRESS: u16 = 22;
    pub(crate) const NEW_ROUTE: u16 = 24;
    pub(crate) const GET_ROUTE: u16 = 26;
    pub(crate) const NEW_RULE: u16 = 32;
    pub(crate) const GET_RULE: u16 = 34;
    pub(crate) const NEW_QDISC: u16 = 36;
    pub(crate) const DEL_QDISC: u16 = 37;
    pub(crate) const GET_QDISC: u16 = 38;
    pub(crate) const NEW_FILTER: u16 = 44;
    pub(crate) const GET_FILTER: u16 = 46;
}

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
/// `NLM_F_DUMP_INTR`: the kernel's tables changed while it was answering.
const DUMP_INTERRUPTED: u16 = 0x10;
/// How often a dump is tried that changes interrupt.
const DUMP_TRIES: u32 = 3;
const HEADER: usize = 16;

/// Groups of news (`RTMGRP_*`): links, and each family's addresses and routes.
const NEWS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

/// Room for a datagram of answers: the kernel makes dumps of at most 32 KB.
const ROOM: usize = 64 * 1024;

/// A socket to ask by.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// To ask about links, addresses and routes.
    pub(crate) fn open() -> io::Result<Self> {
        Self::speaking(None)
    }

    /// To ask one of generic netlink's families.
    pub(crate) fn open_generic() -> io::Result<Self> {
        Self::speaking(Some(GENERIC))
    }

    /// To ask about sockets.
    pub(crate) fn open_sock_diag() -> io::Result<Self> {
        Self::speaking(Some(SOCK_DIAG))
    }

    /// To ask netfilter: connection tracking, nftables.
    pub(crate) fn open_netfilter() -> io::Result<Self> {
        Self::speaking(Some(NETFILTER))
    }

    fn speaking(protocol: Option<Protocol>) -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; ROOM],
        })
    }

    /// Asks for everything of a kind; `add` takes the payload of each answer into the result. A dump
    /// that a change has interrupted, and that may so lack something, is begun again.
    ///
    /// # Errors
    ///
    /// The kernel's error for the request, `ENOBUFS` included.
    pub(crate) fn dump<T: Default>(
        &mut self,
        kind: u16,
        payload: &[u8],
        mut add: impl FnMut(&mut T, u16, &[u8]),
    ) -> io::Result<T> {
        let mut tries = 0;
        loop {
            tries += 1;
            self.send(kind, DUMP, payload)?;
            let (mut found, mut exchange) = (T::default(), Exchange::default());
            while !exchange.is_over {
                self.receive(&mut exchange, &mut |kind, payload: &[u8]| {
                    add(&mut found, kind, payload);
                })?;
            }
            // Where changes never pause, the last one is taken as it is: who listens for changes
            // asks again.
            if !exchange.is_interrupted || tries == DUMP_TRIES {
                return Ok(found);
            }
        }
    }

    /// Asks for one thing, or orders one, and shows the payload of the answer.
    pub(crate) fn ask(
        &mut self,
        kind: u16,
        payload: &[u8],
        mut show: impl FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        // With an acknowledgement asked for, every exchange ends with one.
        self.send(kind, ACK, payload)?;
        let mut exchange = Exchange::default();
        while !exchange.is_over {
            self.receive(&mut exchange, &mut show)?;
        }
        Ok(())
    }

    fn send(&mut self, kind: u16, flags: u16, payload: &[u8]) -> io::Result<()> {
        self.sequence += 1;
        let mut message = vec![0; HEADER];
        message.extend_from_slice(payload);
        let length = u32::try_from(message.len()).map_err(io::Error::other)?;
        let mut header = NetlinkBuffer::new(&mut message);
        header.set_length(length);
        header.set_message_type(kind);
        header.set_flags(REQUEST | flags);
        header.set_sequence_number(self.sequence);
        header.set_port_number(0);
        send(&self.socket, &message, SendFlags::empty())?;
        Ok(())
    }

    /// Reads one datagram.
    fn receive(
        &mut self,
        exchange: &mut Exchange,
        show: &mut impl FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        let (length, _) = recv(&self.socket, &mut self.buffer, RecvFlags::empty())?;
        exchange.take(self.sequence, &self.buffer[..length], show)
    }
}

/// How far an exchange is.
#[derive(Debug, Default, PartialEq, Eq)]
struct Exchange {
    is_over: bool,
    /// A change came in between, so that something may be missing (NLM_F_DUMP_INTR).
    is_interrupted: bool,
}

impl Exchange {
    /// Takes the messages of a datagram that belong to a request.
    fn take(
        &mut self,
        request: u32,
        datagram: &[u8],
        show: &mut impl FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        for message in messages(datagram) {
            if message.sequence != request {
                continue;
            }
            self.is_interrupted |= message.flags & DUMP_INTERRUPTED != 0;
            match message.kind {
                // Either may carry an error, as a negative errno; DONE did not always carry one.
                message::DONE | message::ERROR => match number(message.payload, 0) {
                    Some(0) => self.is_over = true,
                    None if message.kind == message::DONE => self.is_over = true,
                    Some(code) => {
                        let code = code.cast_signed().wrapping_neg();
                        return Err(io::Error::from_raw_os_error(code));
                    }
                    None => return Err(io::ErrorKind::UnexpectedEof.into()),
                },
                kind => show(kind, message.payload),
            }
        }
        Ok(())
    }
}

/// What news were about that need more than a look at the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    /// An interface may be new, or have a new name.
    pub(crate) links: bool,
    /// An address may have come or gone.
    pub(crate) addresses: bool,
}

/// A socket that hears of changes to links, addresses and routes.
#[derive(Debug)]
pub(crate) struct Changes {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Changes {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        // A burst of route changes overflows any buffer; a small one just says so sooner.
        sockopt::set_socket_recv_buffer_size(&socket, 256 * 1024)?;
        bind(&socket, &SocketAddrNetlink::new(0, NEWS))?;
        Ok(Self {
            socket,
            buffer: vec![0; 16 * 1024],
        })
    }

    /// Takes all that came. What it was does not matter: whoever hears of a change looks at the
    /// state, so that a lost message (`ENOBUFS`) is only one more.
    pub(crate) fn drain(&mut self) -> io::Result<Changed> {
        let mut changed = Changed::default();
        loop {
            match recv(&self.socket, &mut self.buffer, RecvFlags::empty()) {
                Ok((length, _)) => {
                    for came in messages(&self.buffer[..length]) {
                        changed.links |= came.kind == message::NEW_LINK;
                        changed.addresses |=
                            matches!(came.kind, message::NEW_ADDRESS | message::ADDRESS_GONE);
                    }
                }
                Err(rustix::io::Errno::NOBUFS) => {
                    changed = Changed {
                        links: true,
                        addresses: true,
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(changed),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl std::os::fd::AsRawFd for Changes {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

/// A message of a datagram.
struct Message<'d> {
    sequence: u32,
    kind: u16,
    flags: u16,
    payload: &'d [u8],
}

/// The messages of a datagram.
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(datagram).ok()?;
        let length = message.length() as usize;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Message {
            sequence: message.sequence_number(),
            kind: message.message_type(),
            flags: message.flags(),
            payload: message.payload(),
        })
    })
}

/// The 32-bit number at an offset, in the machine's byte order.
pub(crate) fn number(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset + size_of::<u32>())?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// The attributes behind a header of this length: type and value.
pub(crate) fn attributes(payload: &[u8], header: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let attributes = payload.get(header..).unwrap_or(&[]);
    NlasIterator::new(attributes).map_while(|attribute| {
        let attribute = attribute.ok()?;
        let (kind, length) = (attribute.kind(), attribute.value_length());
        let value = attribute.into_inner();
        Some((kind, value.get(4..4 + length)?))
    })
}

/// A string attribute, its final zero taken off.
pub(crate) fn text(value: &[u8]) -> String {
    let value = value.strip_suffix(&[0]).unwrap_or(value);
    String::from_utf8_lossy(value).into_owned()
}

/// Appends an attribute.
pub(crate) fn push_attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let mut message = vec![0; HEADER];
        message.extend_from_slice(payload);
        let length = message.len() as u32;
        let mut header = NetlinkBuffer::new(&mut message);
        header.set_length(length);
        header.set_message_type(kind);
        header.set_flags(flags);
        header.set_sequence_number(7);
        message
    }

    #[test]
    fn errors_and_interruptions_of_a_dump_are_seen_wherever_they_stand() {
        let enomem = (-libc::ENOMEM).to_ne_bytes();
        let link = |flags| message(message::NEW_LINK, flags, &[1, 2, 3, 4]);
        let done = |code: &[u8]| message(message::DONE, 0, code);
        for (datagram, over, interrupted, error) in [
            ([link(0), done(&[0; 4])].concat(), true, false, None),
            ([link(0), done(&[])].concat(), true, false, None),
            (link(0), false, false, None),
            (
                [link(DUMP_INTERRUPTED), done(&[0; 4])].concat(),
                true,
                true,
                None,
            ),
            (
                [link(0), message(message::DONE, DUMP_INTERRUPTED, &[0; 4])].concat(),
                true,
                true,
                None,
            ),
            (
                [link(0), done(&enomem)].concat(),
                false,
                false,
                Some(libc::ENOMEM),
            ),
            (
                message(message::ERROR, 0, &enomem),
                false,
                false,
                Some(libc::ENOMEM),
            ),
            (message(message::ERROR, 0, &[0; 4]), true, false, None),
        ] {
            let mut exchange = Exchange::default();
            let taken = exchange.take(7, &datagram, &mut |_, _| {});
            assert_eq!(
                taken.err().and_then(|it| it.raw_os_error()),
                error,
                "{datagram:x?}"
            );
            let wanted = Exchange {
                is_over: over,
                is_interrupted: interrupted,
            };
            assert_eq!(exchange, wanted, "{datagram:x?}");
        }
    }
}
