//! A connection as the two flow entries that it is kept in, one for each direction.

use bytemuck::Pod;
use ftp_nat_common::{
    abi::{Flow, FlowKey, flow_flag, kind},
    wire::addr::Endpoint,
};
use serde::Serialize;

/// TCP flags, as [`Flow::tcp_flags`] collects them.
mod tcp {
    pub(super) const FIN: u8 = 0x01;
    pub(super) const SYN: u8 = 0x02;
    pub(super) const RST: u8 = 0x04;
    pub(super) const ACK: u8 = 0x10;
    /// The six that RFC 9293 section 3.1 began with.
    pub(super) const OLD: u8 = 0x3f;
}

/// A flow's key of either family, as a table of the kernel's has it.
pub trait Key: FlowKey + Pod + Eq + std::hash::Hash {}

impl<K: FlowKey + Pod + Eq + std::hash::Hash> Key for K {}

/// The key of a connection's inbound direction, by one of its directions.
pub fn inbound<K: Key>(key: &K, flow: &Flow) -> K {
    if flow.is_outbound() {
        key.other_way(flow)
    } else {
        *key
    }
}

/// The outside end and the public end of a flow's connection: what identifies it.
pub fn ends<K: Key>(key: &K, flow: &Flow) -> (Endpoint, Endpoint) {
    let inbound = inbound(key, flow);
    (inbound.source(), inbound.destination())
}

/// When the last packet of a connection was seen, by one direction and by the other if it is there, in ticks
/// as `now` is.
pub fn seen_at(flow: &Flow, other: Option<&Flow>, now: u64) -> u64 {
    let others = other.map_or(0, |other| other.seen_at(now));
    flow.seen_at(now).max(others)
}

/// What one direction of a connection says of its state: the TCP flags that it has had, and in the
/// highest bit whether an operator has ended it.
pub const fn signs(flow: &Flow) -> u8 {
    flow.tcp_flags & tcp::OLD | flow.flags & flow_flag::CUT
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not answered and confirmed yet.
    Opening,
    /// Both ends have answered.
    Established,
    /// One end has no more to say.
    HalfClosed,
    /// Both have no more to say.
    Closed,
    /// One end has broken it off.
    Reset,
    /// An operator has ended it: its packets are dropped.
    Cut,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Opening,
        Self::Established,
        Self::HalfClosed,
        Self::Closed,
        Self::Reset,
        Self::Cut,
    ];

    /// The TCP flags that end a direction.
    pub const ENDED: u8 = tcp::FIN | tcp::RST;

    /// From the [`signs`] of both directions; a direction without an entry has none.
    pub const fn of(one: u8, other: u8) -> Self {
        let (both, either) = (one & other, one | other);
        if either & tcp::RST != 0 {
            Self::Reset
        } else if either & flow_flag::CUT != 0 {
            Self::Cut
        } else if both & tcp::FIN != 0 {
            Self::Closed
        } else if either & tcp::FIN != 0 {
            Self::HalfClosed
        } else if both & tcp::ACK != 0 {
            Self::Established
        } else {
            Self::Opening
        }
    }

    /// Whether one direction's [`signs`] alone speak for [`Self::Established`]: what it acknowledges,
    /// the other has sent.
    pub const fn looks_established(signs: u8) -> bool {
        signs & tcp::ACK != 0 && signs & (Self::ENDED | flow_flag::CUT) == 0
    }

    /// Whether its ends still use the connection: it is known for some seconds more when they do not.
    pub const fn is_alive(self) -> bool {
        !matches!(self, Self::Closed | Self::Reset | Self::Cut)
    }

    /// Its name, as people and JSON see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Established => "established",
            Self::HalfClosed => "half_closed",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Cut => "cut",
        }
    }
}

/// Bytes that each direction of a data connection has carried, inward and outward, without headers and
/// repetitions; none where its start was not seen.
pub fn payload(inbound: &Flow, outbound: &Flow) -> [Option<u64>; 2] {
    [carried(inbound, outbound), carried(outbound, inbound)]
}

/// Bytes of the stream `from`: all of them once its sender has ended it, else those that `to`
/// acknowledges.
fn carried(from: &Flow, to: &Flow) -> Option<u64> {
    if from.start == 0 || from.tcp_flags & tcp::SYN == 0 {
        return None;
    }
    if to.tcp_flags & tcp::ACK == 0 {
        return Some(0);
    }
    let is_ended = from.tcp_flags & tcp::FIN != 0;
    let is_reset = (from.tcp_flags | to.tcp_flags) & tcp::RST != 0;
    let is_past_end = to.acked.wrapping_sub(from.end).cast_signed() > 0;
    let end = if is_ended && (!is_reset || is_past_end) {
        from.end
    } else {
        to.acked
    };
    // Numbers begin anew after 4 GiB: how often they did, the bytes of the packets say about.
    let low = u64::from(end.wrapping_sub(from.start));
    let about = from
        .bytes
        .saturating_sub(from.packets.saturating_mul(HEADERS));
    let rounds = about.saturating_sub(low).saturating_add(1 << 31) >> 32;
    Some(low + (rounds << 32))
}

/// Bytes of a usual packet's headers, from the IP header on.
const HEADERS: u64 = 52;

/// Whether the stream `from` has ended and `to` has acknowledged its end.
pub const fn is_delivered(from: &Flow, to: &Flow) -> bool {
    from.tcp_flags & tcp::FIN != 0 && to.acked == from.end.wrapping_add(1)
}

/// The name of a [`kind`].
pub const fn kind_name(of: u8) -> &'static str {
    match of {
        kind::CONTROL => "control",
        kind::PASSIVE => "passive",
        kind::ACTIVE => "active",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ftp_nat_common::{
        abi::{FlowKey4, FlowKey6, flow_flag},
        wire::addr::{Addr, Port},
    };
    use std::net::IpAddr;

    fn end(ip: &str, port: u16) -> Endpoint {
        Endpoint::new(Addr::from(ip.parse::<IpAddr>().unwrap()), Port::new(port))
    }

    fn flow<K: Key>(key: &K, source: Endpoint, destination: Endpoint, flags: u8) -> Flow {
        let mut flow = Flow {
            flags,
            ..Flow::default()
        };
        flow.translate([&key.source(), &key.destination()], [&source, &destination]);
        flow
    }

    #[test]
    fn each_direction_leads_to_the_other() {
        let (outside, public) = (end("192.0.2.9", 40000), end("198.51.100.1", 50001));
        let inside = end("10.0.0.5", 50000);
        // As the inside sees the outside end: as it is, or translated too.
        for alias in [outside, end("10.0.0.1", 61000)] {
            let keys = (
                FlowKey4::new(&outside, &public),
                FlowKey4::new(&inside, &alias),
            );
            let inbound = flow(&keys.0, alias, inside, 0);
            let outbound = flow(&keys.1, public, outside, flow_flag::OUTBOUND);
            assert_eq!(keys.0.other_way(&inbound), keys.1);
            assert_eq!(keys.1.other_way(&outbound), keys.0);
            assert_eq!(ends(&keys.0, &inbound), (outside, public));
            assert_eq!(ends(&keys.1, &outbound), (outside, public));
        }
    }

    #[test]
    fn without_translation_both_directions_carry_the_public_end() {
        let (outside, public) = (end("2001:db8::9", 40000), end("2001:db8::1", 21));
        let inside = end("2001:db8:1::5", 21);
        let inbound = FlowKey6::new(&outside, &public);
        let outbound = FlowKey6::new(&public, &outside);
        let flags = flow_flag::NO_NAT;
        let there = flow(&inbound, outside, inside, flags);
        assert_eq!(inbound.other_way(&there), outbound);
        let back = flow(&outbound, public, outside, flags | flow_flag::OUTBOUND);
        assert_eq!(outbound.other_way(&back), inbound);
    }

    #[test]
    fn payload_is_counted_by_sequence_numbers() {
        const ESTABLISHED: u8 = tcp::SYN | tcp::ACK;
        let from = |tcp_flags, start, end, packets, bytes| Flow {
            tcp_flags,
            start,
            end,
            packets,
            bytes,
            ..Flow::default()
        };
        let to = |tcp_flags, acked| Flow {
            tcp_flags,
            acked,
            ..Flow::default()
        };
        let all = ESTABLISHED | tcp::FIN;
        const GIB: u64 = 1 << 30;
        for (from, to, bytes) in [
            (from(all, 1000, 1500, 4, 708), to(all, 1501), Some(500)),
            (from(all, 1000, 1000, 3, 156), to(all, 1001), Some(0)),
            // Not ended: what was acknowledged.
            (
                from(ESTABLISHED, 1000, 0, 9, 9000),
                to(ESTABLISHED, 4000),
                Some(3000),
            ),
            // Broken off: not what was sent.
            (
                from(all, 1000, 9000, 9, 9000),
                to(ESTABLISHED | tcp::RST, 4000),
                Some(3000),
            ),
            (
                from(all, 1000, 9000, 9, 9000),
                to(all | tcp::RST, 9001),
                Some(8000),
            ),
            // Numbers that begin anew.
            (
                from(all, 0xffff_ff00, 0x100, 4, 720),
                to(all, 0x101),
                Some(0x200),
            ),
            (
                from(
                    all,
                    1,
                    1 + (GIB as u32),
                    4_000_000,
                    9 * GIB + 52 * 4_000_000,
                ),
                to(all, 2 + (GIB as u32)),
                Some(9 * GIB),
            ),
            // Nobody has answered.
            (from(tcp::SYN, 1000, 0, 1, 60), to(0, 0), Some(0)),
            // The start was not seen.
            (from(tcp::ACK, 0, 0, 9, 9000), to(ESTABLISHED, 4000), None),
        ] {
            assert_eq!(carried(&from, &to), bytes, "{from:?} {to:?}");
        }
    }

    #[test]
    fn states_follow_from_the_flags_of_both_directions() {
        const SYN: u8 = 2;
        const ACK: u8 = tcp::ACK;
        for (one, other, state) in [
            (SYN, 0, State::Opening),
            (SYN, SYN | ACK, State::Opening),
            (SYN | ACK, SYN | ACK, State::Established),
            (SYN | ACK | tcp::FIN, SYN | ACK, State::HalfClosed),
            (SYN | ACK | tcp::FIN, SYN | ACK | tcp::FIN, State::Closed),
            (SYN, tcp::RST | ACK, State::Reset),
            (ACK | flow_flag::CUT, ACK | flow_flag::CUT, State::Cut),
            (ACK | tcp::FIN | flow_flag::CUT, ACK | tcp::FIN, State::Cut),
            (ACK | tcp::RST | flow_flag::CUT, ACK, State::Reset),
            (0, 0, State::Opening),
        ] {
            assert_eq!(State::of(one, other), state, "{one:#x} {other:#x}");
            assert_eq!(State::of(other, one), state, "{other:#x} {one:#x}");
        }
    }
}
