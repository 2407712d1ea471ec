//! An allowance that fills up again with time (a token bucket), in one number.
//!
//! The number is the moment at which the allowance will be whole again, in ticks of 1/65536 of a
//! jiffy ([`ticks`]); what lies before now means that it is whole. Each use moves it on by an
//! interval, and is beyond the allowance if that takes it further ahead than the span: so there are
//! span / interval uses at once, and one more with each interval that passes.

/// Bits that a jiffy is shifted by.
const SHIFT: u32 = 16;

/// A time in jiffies, in ticks.
#[inline(always)]
pub const fn ticks(jiffies: u64) -> u64 {
    jiffies << SHIFT
}

/// The interval of an allowance of `uses` for each `span`; 0, which allows everything, if `uses` is.
#[inline(always)]
pub const fn interval(span: u64, uses: u32) -> u64 {
    match uses {
        0 => 0,
        uses => span.div_ceil(uses as u64),
    }
}

/// The allowance after one more use.
#[inline(always)]
pub const fn after(until: u64, now: u64, interval: u64) -> u64 {
    let from = if until > now { until } else { now };
    from.wrapping_add(interval)
}

/// Whether a use that leads to `after` is beyond an allowance of this span.
#[inline(always)]
pub const fn is_beyond(after: u64, now: u64, span: u64) -> bool {
    after > now.wrapping_add(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many uses at one moment are allowed.
    fn allowed(until: &mut u64, now: u64, span: u64, interval: u64, uses: u32) -> u32 {
        (0..uses)
            .filter(|_| {
                let next = after(*until, now, interval);
                let allowed = !is_beyond(next, now, span);
                if allowed {
                    *until = next;
                }
                allowed
            })
            .count() as u32
    }

    #[test]
    fn so_many_at_once_and_so_many_with_time() {
        for (hz, uses) in [(100, 1), (250, 20), (1000, 333), (250, 100_000)] {
            let span = ticks(hz);
            let step = interval(span, uses);
            let (mut until, start) = (0, ticks(1 << 33));
            let at_once = allowed(&mut until, start, span, step, uses * 2);
            assert!(
                (uses - uses / 100..=uses).contains(&at_once),
                "{at_once} of {uses}"
            );
            assert_eq!(allowed(&mut until, start + step, span, step, uses), 1);
            let later = allowed(&mut until, start + 2 * span, span, step, uses * 2);
            assert_eq!(later, at_once);
        }
    }

    #[test]
    fn without_a_bound_everything_is_allowed() {
        let mut until = 0;
        let step = interval(ticks(250), 0);
        assert_eq!(allowed(&mut until, ticks(5), ticks(250), step, 1000), 1000);
    }
}
