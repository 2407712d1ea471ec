//! Indexing that cannot fail: the index counts modulo the array's length, a power of two.
//!
//! The mask is also what proves to the kernel's verifier that the access is inside.

/// The element at `index`.
#[inline(always)]
pub const fn at<T, const N: usize>(array: &[T; N], index: usize) -> &T {
    const { assert!(N.is_power_of_two()) };
    #[expect(clippy::indexing_slicing, reason = "the mask keeps it below N")]
    &array[index & N.wrapping_sub(1)]
}

/// The element at `index`, to be changed.
#[inline(always)]
pub const fn at_mut<T, const N: usize>(array: &mut [T; N], index: usize) -> &mut T {
    const { assert!(N.is_power_of_two()) };
    #[expect(clippy::indexing_slicing, reason = "the mask keeps it below N")]
    &mut array[index & N.wrapping_sub(1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_beyond_the_end_begins_anew() {
        let mut array = [10, 11, 12, 13];
        assert_eq!((*at(&array, 3), *at(&array, 4)), (13, 10));
        *at_mut(&mut array, 6) = 0;
        assert_eq!(array, [10, 11, 0, 13]);
    }
}
