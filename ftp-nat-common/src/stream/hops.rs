//! The time to live (RFC 791 section 3.2; IPv6: hop limit) of a control connection's segments.
//!
//! Text whose time to live ends behind the gateway is read by the gateway and not by its receiver. Who
//! writes such text, and behind it another text with the same numbers and more time to live, would have
//! the gateway read the one and the receiver the other. So what a sender sends later gets no further than
//! its text so far: no segment leaves with more time to live than the lowest one of those before it. It is
//! only ever lowered, so that a packet in a loop dies as before.

/// Notes the time to live of text, or of an end, that TCP believes, as it came to the gateway; `lowest` is
/// the direction's, 0 before the first one.
#[inline(always)]
pub fn note(lowest: &mut u8, ttl: u8) {
    if *lowest == 0 || ttl < *lowest {
        *lowest = ttl;
    }
}

/// The time to live that a segment may leave with, before the gateway counts its own hop.
#[inline(always)]
pub const fn limit(lowest: u8, ttl: u8) -> u8 {
    if lowest != 0 && ttl > lowest {
        lowest
    } else {
        ttl
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_segment_gets_further_than_the_text_before_it() {
        let mut lowest = 0;
        for (ttl, leaves_with) in [
            (64, 64),
            (64, 64),
            (63, 63),
            (64, 63),
            (2, 2),
            (255, 2),
            (1, 1),
        ] {
            note(&mut lowest, ttl);
            assert_eq!(limit(lowest, ttl), leaves_with, "{ttl}");
        }
    }

    #[test]
    fn before_any_text_nothing_is_limited() {
        assert_eq!(limit(0, 255), 255);
    }
}
