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

/// What a packet is to a handshake that is not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Handshake {
    /// It belongs to it and changes nothing.
    Passes = 0,
    /// The server's answer: its number is noted.
    Answers = 1,
    /// It finishes it: both ends know each other's numbers.
    Finishes = 2,
    /// It ends it: a RST by the exact number.
    Resets = 3,
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

    /// What a segment is to the handshake (RFC 9293 section 3.10.7.3 and .4, RFC 5961):
    /// established only by an acknowledgement of the server's own number, whoever sends it.
    #[inline(always)]
    pub const fn judge(&self, segment: &HandshakeSegment, is_servers: bool) -> Handshake {
        use crate::wire::tcp::flag::{ACK, FIN, RST, SYN};
        let flags = segment.flags as u8;
        let client_next = self.client_isn.wrapping_add(1);
        let server_next = self.server_isn.wrapping_add(1);
        let is_answered = self.flags & half_open_flag::ANSWERED != 0;
        let acks_client = segment.ack == client_next;
        if is_servers {
            if flags & ACK == 0 || !acks_client {
                return Handshake::Passes;
            }
            return match flags & (SYN | FIN | RST) {
                SYN => Handshake::Answers,
                RST => Handshake::Resets,
                0 if is_answered && segment.seq == server_next => Handshake::Finishes,
                _ => Handshake::Passes,
            };
        }
        if flags & RST != 0 {
            let is_exact = segment.seq == client_next && flags & SYN == 0;
            return if is_exact {
                Handshake::Resets
            } else {
                Handshake::Passes
            };
        }
        let is_sent_next = segment.seq == client_next;
        if flags & (SYN | ACK) == ACK && is_answered && is_sent_next && segment.ack == server_next {
            Handshake::Finishes
        } else {
            Handshake::Passes
        }
    }
}

const _: () = assert!(size_of::<HalfOpenKey>() == 40);
const _: () = assert!(size_of::<HalfOpen>() == 124);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tcp::flag::{ACK, FIN, RST, SYN};

    const CLIENT: u32 = 1000;
    const SERVER: u32 = 50_000;

    fn judged(answered: bool, is_servers: bool, seq: u32, ack: u32, flags: u8) -> Handshake {
        let half_open = HalfOpen {
            client_isn: CLIENT,
            server_isn: SERVER,
            flags: if answered {
                half_open_flag::ANSWERED
            } else {
                0
            },
            ..HalfOpen::default()
        };
        let segment = HandshakeSegment {
            seq,
            ack,
            flags: flags.into(),
        };
        half_open.judge(&segment, is_servers)
    }

    #[test]
    fn only_an_acknowledgement_of_the_servers_number_finishes_a_handshake() {
        use Handshake::{Answers, Finishes, Passes, Resets};
        for (answered, is_servers, seq, ack, flags, wanted) in [
            (false, true, SERVER, CLIENT + 1, SYN | ACK, Answers),
            (false, true, SERVER, CLIENT, SYN | ACK, Passes),
            (false, true, SERVER, CLIENT + 2, SYN | ACK, Passes),
            (false, true, SERVER, CLIENT + 1, SYN, Passes),
            (false, true, 0, CLIENT + 1, RST | ACK, Resets),
            (false, true, 0, CLIENT, RST | ACK, Passes),
            (true, true, SERVER + 1, CLIENT + 1, ACK, Finishes),
            (true, true, SERVER + 2, CLIENT + 1, ACK, Passes),
            (false, true, SERVER + 1, CLIENT + 1, ACK, Passes),
            (true, true, SERVER + 1, CLIENT + 1, SYN | FIN | ACK, Passes),
            (true, false, CLIENT + 1, SERVER + 1, ACK, Finishes),
            (true, false, CLIENT + 1, SERVER + 1, ACK | FIN, Finishes),
            (true, false, CLIENT + 1, SERVER, ACK, Passes),
            (true, false, CLIENT + 1, SERVER + 2, ACK, Passes),
            (true, false, CLIENT, SERVER + 1, ACK, Passes),
            (true, false, CLIENT + 2, SERVER + 1, ACK, Passes),
            (true, false, CLIENT + 1, SERVER + 1, SYN | ACK, Passes),
            (true, false, CLIENT + 1, SERVER + 1, 0, Passes),
            (false, false, CLIENT + 1, SERVER + 1, ACK, Passes),
            (true, false, CLIENT + 1, 0, RST, Resets),
            (true, false, CLIENT, 0, RST, Passes),
            (true, false, CLIENT + 1, 0, RST | SYN, Passes),
        ] {
            assert_eq!(
                judged(answered, is_servers, seq, ack, flags),
                wanted,
                "{answered} {is_servers} {seq} {ack} {flags:#x}"
            );
        }
    }
}
