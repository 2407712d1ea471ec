//! HALF_OPEN: control connections whose handshake is not finished.
//!
//! The one table in which the least recently used entry gives way: nothing in it is lost for ever,
//! because a client repeats its SYN. Sessions and flows are made when the handshake is finished.

use super::flows::ReturnPath;
use super::shares::share_of;
use crate::wire::addr::{Addr, Endpoint};
use bytemuck::{Pod, Zeroable};

/// A handshake's key: the two ends as the inside sees them.
///
/// Where the inside sees the end outside under another address or port, or the server is one of a
/// pool's, a second entry leads there ([`half_open_flag::ALIAS`]): its key has both ends as the
/// outside sees them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct HalfOpenKey {
    /// The end behind the gateway, as its own packets name it at the hook that sees them: the
    /// server, or the public end where the kernel's own NAT translates.
    pub inside: Endpoint,
    /// The end outside, as the inside sees it.
    pub outside: Endpoint,
}

/// Bits of [`HalfOpen::flags`].
pub mod half_open_flag {
    /// The server has answered: [`super::HalfOpen::server_isn`] is its number.
    pub const ANSWERED: u8 = 1;
    /// The client's SYN offered window scaling.
    pub const CLIENT_SCALES: u8 = 2;
    /// Both SYNs did: windows are scaled.
    pub const SCALES: u8 = 4;
    /// The entry only tells where the handshake is: between [`super::HalfOpen::to`] and
    /// [`super::HalfOpen::other`].
    pub const ALIAS: u8 = 8;
    /// The server is one of a pool's.
    pub const POOL: u8 = 16;
}

/// A handshake that is not finished.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct HalfOpen {
    /// The inside end as the outside sees it.
    pub public: Endpoint,
    /// Where packets from outside go: the server.
    pub to: Endpoint,
    /// A masqueraded client's own end; none: not known, or the server is published.
    pub client: Endpoint,
    /// The end outside as it sees itself; of an [`half_open_flag::ALIAS`], as the inside sees it.
    pub other: Endpoint,
    /// The way back to a published server's client, as its SYN came.
    pub return_path: ReturnPath,
    /// The client's initial sequence number.
    pub client_isn: u32,
    /// The server's, once it has answered.
    pub server_isn: u32,
    /// The window in the server's SYN, not scaled.
    pub server_window: u16,
    /// [`half_open_flag`].
    pub flags: u8,
    /// [`super::role`].
    pub role: u8,
    /// [`super::flow_flag`] of both flows.
    pub flow_flags: u8,
    /// The client's window scale, 0 where none is agreed on.
    pub client_scale: u8,
    /// The server's.
    pub server_scale: u8,
    /// Zero.
    pub pad: [u8; 5],
    /// The timestamp of the client's last SYN (RFC 7323 section 3.2); 0: it has none.
    pub client_timestamp: u32,
    /// That of the server's answer.
    pub server_timestamp: u32,
}

/// The parts of a TCP header that a handshake is judged by.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct HandshakeSegment {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags ([`crate::wire::tcp::flag`]).
    pub flags: u32,
}

impl HalfOpen {
    /// The key of the share that the handshake counts for, its end outside being `outside`: see
    /// [`super::share_of_session`].
    #[inline(always)]
    pub const fn share(&self, outside: &Endpoint) -> Addr {
        if self.client.addr.is_none() {
            share_of(&outside.addr)
        } else {
            share_of(&self.client.addr)
        }
    }
}

const _: () = assert!(size_of::<HalfOpenKey>() == 40);
const _: () = assert!(size_of::<HalfOpen>() == 124);
