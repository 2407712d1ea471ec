//! TCP sequence numbers: they wrap, so they are compared by their distance (RFC 9293 section 3.4).

/// How far `a` is behind `b`; negative when it is before it. Right for distances below 2^31.
#[inline(always)]
pub const fn distance(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b).cast_signed()
}

/// Whether `a` comes before `b`.
#[inline(always)]
pub const fn before(a: u32, b: u32) -> bool {
    distance(a, b) < 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        assert!(before(u32::MAX, 0));
        assert!(!before(0, u32::MAX));
        assert!(before(5, 6));
        assert!(!before(6, 6));
        assert_eq!(distance(3, u32::MAX), 4);
    }
}
