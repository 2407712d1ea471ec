//! The handshake of a control connection: what each segment is to it, what is noted of it, and what the
//! session begins with.

use crate::abi::{Direction, HalfOpen, HandshakeSegment, half_open_flag};
use crate::stream::{segment, timestamp, window};
use crate::wire::tcp::flag::{ACK, FIN, RST, SYN};

/// What a segment is to a handshake that is not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Handshake {
    /// It belongs to it and changes nothing.
    Passes = 0,
    /// The server's answer: [`answer`] notes it.
    Answers = 1,
    /// It finishes it: both ends know each other's numbers.
    Finishes = 2,
    /// It ends it: a RST by the exact number.
    Resets = 3,
}

/// What a SYN offers, or the answer to one. Numbers are in the machine's order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// The sender's initial sequence number.
    pub isn: u32,
    /// The window, as it stands in the header: a SYN's is not scaled (RFC 7323 section 2.2).
    pub window: u32,
    /// By how many bits its windows are shifted, 0 to 14; None: it has no such option.
    pub scale: Option<u8>,
    /// Its timestamp; 0: it has none.
    pub timestamp: u32,
}

/// Starts a handshake with the client's SYN. [`half_open_flag`]s that are set already stay.
#[inline(always)]
pub fn offer(half_open: &mut HalfOpen, syn: &Offer) {
    half_open.client_isn = syn.isn;
    half_open.server_isn = 0;
    half_open.server_window = 0;
    half_open.server_scale = 0;
    half_open.pad = [0; 5];
    half_open.client_timestamp = syn.timestamp;
    half_open.server_timestamp = 0;
    half_open.client_scale = 0;
    if let Some(scale) = syn.scale {
        half_open.client_scale = scale;
        half_open.flags |= half_open_flag::CLIENT_SCALES;
    }
}

/// Notes the server's answer. A later one takes the place of an earlier one.
#[inline(always)]
pub fn answer(half_open: &mut HalfOpen, answer: &Offer) {
    half_open.server_isn = answer.isn;
    half_open.server_window = answer.window as u16;
    half_open.server_timestamp = answer.timestamp;
    half_open.flags |= half_open_flag::ANSWERED;
    half_open.flags &= !half_open_flag::SCALES;
    half_open.server_scale = 0;
    if let Some(scale) = answer.scale
        && half_open.flags & half_open_flag::CLIENT_SCALES != 0
    {
        half_open.server_scale = scale;
        half_open.flags |= half_open_flag::SCALES;
    }
}

/// What a segment is to the handshake (RFC 9293 section 3.10.7.3 and .4, RFC 5961): established only by
/// an acknowledgement of the server's own number, whoever sends it.
#[inline(always)]
pub const fn judge(
    half_open: &HalfOpen,
    segment: &HandshakeSegment,
    is_servers: bool,
) -> Handshake {
    let flags = segment.flags as u8;
    let client_next = half_open.client_isn.wrapping_add(1);
    let server_next = half_open.server_isn.wrapping_add(1);
    let is_answered = half_open.flags & half_open_flag::ANSWERED != 0;
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

/// Both directions as the finished handshake leaves them.
#[inline(always)]
pub fn establish(half_open: &HalfOpen, commands: &mut Direction, replies: &mut Direction) {
    segment::reset(commands);
    segment::reset(replies);
    segment::start(commands, half_open.client_isn);
    segment::start(replies, half_open.server_isn);
    timestamp::start(
        commands,
        replies,
        half_open.client_timestamp,
        half_open.server_timestamp,
    );
    let (mut client, mut server) = (0, 0);
    if half_open.flags & half_open_flag::SCALES != 0 {
        client = half_open.client_scale;
        server = half_open.server_scale;
    }
    window::track(commands, client);
    window::track(replies, server);
    let next = commands.end;
    window::open(commands, next, half_open.server_window.into(), 0);
}

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
        judge(&half_open, &segment, is_servers)
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
