//! ANNOUNCED: which ports each published server has announced so far, for `doctor` and `status`.

use bytemuck::{Pod, Zeroable};

/// The ports that one server, by its own address, has announced for passive connections that were
/// opened. Written by its own replies without a lock: of two at once on two CPUs one may not count.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Announced {
    /// The lowest one; 0: none yet.
    pub first: u16,
    /// The highest one.
    pub last: u16,
    /// Zero.
    pub pad: u32,
    /// How many times it has announced one.
    pub times: u64,
}

impl Announced {
    /// One more.
    #[inline(always)]
    pub const fn note(&mut self, port: u16) {
        if self.times == 0 || port < self.first {
            self.first = port;
        }
        if port > self.last {
            self.last = port;
        }
        self.times = self.times.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_grows_with_what_is_announced() {
        let mut announced = Announced::default();
        for (port, first, last) in [
            (50_500, 50_500, 50_500),
            (50_400, 50_400, 50_500),
            (50_450, 50_400, 50_500),
            (65_535, 50_400, 65_535),
        ] {
            announced.note(port);
            assert_eq!((announced.first, announced.last), (first, last));
        }
        assert_eq!(announced.times, 4);
    }
}
