//! Internet checksum arithmetic by difference (RFC 1624): a checksum that was wrong stays wrong.
//!
//! Sums are over 16-bit words as they lie in the packet, in the machine's order: ones' complement
//! sums do not care, as long as every word is read alike (RFC 1071 section 2).

/// Folds a sum to 16 bits.
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32).wrapping_add(sum & 0xffff_ffff);
    let sum = (sum >> 16).wrapping_add(sum & 0xffff);
    let sum = (sum >> 16).wrapping_add(sum & 0xffff);
    let sum = (sum >> 16).wrapping_add(sum & 0xffff);
    sum as u16
}

/// The sum of an address' words.
#[inline(always)]
pub const fn of_addr(addr: &[u32; 4], v4: bool) -> u64 {
    let [first, second, third, last] = *addr;
    if v4 {
        last as u64
    } else {
        let front = (first as u64).wrapping_add(second as u64);
        front.wrapping_add(third as u64).wrapping_add(last as u64)
    }
}

/// What must be added to a sum so that `to` stands where `from` stood.
#[inline(always)]
pub const fn difference(from: u64, to: u64) -> u16 {
    fold((fold(to) as u64).wrapping_add(!fold(from) as u64))
}

/// A header's checksum field after `difference` was added to what it covers.
#[inline(always)]
pub const fn apply(field: u16, difference: u16) -> u16 {
    !fold((!field as u64).wrapping_add(difference as u64))
}

/// Adds one byte of a text to a sum; `odd`: it stands on an odd place of what is summed.
#[inline(always)]
pub const fn add_byte(sum: u64, byte: u8, odd: bool) -> u64 {
    let word = if odd { [0, byte] } else { [byte, 0] };
    sum.wrapping_add(u16::from_ne_bytes(word) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u64 {
        bytes
            .iter()
            .enumerate()
            .fold(0, |sum, (at, byte)| add_byte(sum, *byte, at % 2 == 1))
    }

    /// RFC 1071's way, from scratch.
    fn checksum(bytes: &[u8]) -> u16 {
        !fold(sum(bytes))
    }

    #[test]
    fn a_checksum_by_difference_is_the_checksum_from_scratch() {
        let mut state = 1_u64;
        let mut random = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as u8
        };
        for _ in 0..20_000 {
            let mut bytes: Vec<u8> = (0..60).map(|_| random()).collect();
            let old = checksum(&bytes);
            let from = usize::from(random() % 30) * 2;
            let len = usize::from(random() % 30).min(60 - from);
            let old_sum = sum(&bytes[from..from + len]);
            for byte in &mut bytes[from..from + len] {
                *byte = random();
            }
            let new_sum = sum(&bytes[from..from + len]);
            let new = apply(old, difference(old_sum, new_sum));
            // 0 and 0xffff are the same number in ones' complement.
            assert_eq!(new % 0xffff, checksum(&bytes) % 0xffff);
        }
    }

    #[test]
    fn a_wrong_checksum_stays_wrong() {
        let right = checksum(b"abcd");
        let wrong = right ^ 0x0100;
        let change = difference(sum(b"abcd"), sum(b"xbcd"));
        assert_ne!(apply(wrong, change), checksum(b"xbcd"));
        assert_eq!(apply(right, change), checksum(b"xbcd"));
    }
}
