//! The time to live of a control segment: see [`ftp_nat_common::stream::hops`].

use super::steps::Steps;
use crate::kernel::skb::Skb;
use crate::packet::headers::{IP, Ipv4, Ipv6};
use crate::state::counters;
use ftp_nat_common::counter::Counter;
use ftp_nat_common::stream::hops;
use ftp_nat_common::wire::checksum::{apply, difference};
use ftp_nat_common::wire::tcp::flag;

/// Lowers the time to live of the segment in the scratch memory to what its direction's text had so far.
/// `is_believed`: TCP believes the segment, and its own one counts from now on.
///
/// One that could not be written leaves as it came: then the packet has no IP header, and is not sent.
#[inline(never)]
pub(super) fn limit(skb: &Skb, steps: &Steps, is_believed: bool) {
    // SAFETY: what `super::steps` has found: fields that lie apart, to which no other reference is alive;
    // the session's other direction has a byte of its own.
    let (segment, place, lowest) = unsafe {
        let segment = &(*steps.part).segment;
        let of_direction = usize::from(segment.is_replies) & 1;
        let lowest = &mut (*steps.session).hops[of_direction];
        (segment, &(*steps.part).place, lowest)
    };
    let ttl = place.ttl as u8;
    if is_believed && (segment.len != 0 || segment.has(flag::FIN)) {
        hops::note(lowest, ttl);
    }
    let limited = hops::limit(*lowest, ttl);
    if limited != ttl {
        counters::add(Counter::HopsLimited, 0);
        write(skb, place.v4 != 0, limited);
    }
}

/// Writes it.
#[inline(always)]
fn write(skb: &Skb, v4: bool, ttl: u8) {
    if v4 {
        skb.change::<Ipv4>(IP as usize, |ip| {
            let word = |ttl, protocol| u64::from(u16::from_ne_bytes([ttl, protocol]));
            let change = difference(word(ip.ttl(), ip.protocol()), word(ttl, ip.protocol()));
            ip.set_ttl(ttl);
            ip.set_checksum(apply(ip.checksum(), change));
        });
        return;
    }
    skb.change::<Ipv6>(IP as usize, |ip| {
        // No checksum of the header's own makes up for it in a sum that the hardware took.
        let word = |hops| u64::from(u16::from_ne_bytes([ip.next_header(), hops]));
        skb.add_to_hardware_sum(difference(word(ip.hop_limit()), word(ttl)));
        ip.set_hop_limit(ttl);
    });
}
