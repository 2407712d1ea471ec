//! LINES: the bytes of lines that are held.

use crate::masked;
use bytemuck::{Pod, Zeroable};

/// The bytes of a line that are kept: a longer one can be neither held nor rewritten behind that
/// many bytes. A power of two.
pub const LINE_MAX: usize = 512;

/// One direction of a control connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct LinesKey {
    /// The session's number.
    pub session: u32,
    /// 1: the server's direction.
    pub is_replies: u32,
}

/// What is kept of a direction's lines because it was not sent on yet, or because it is told
/// ([`mod@crate::ftp::said`]) and the rest has not come yet. Most sessions never have that: their
/// lines come whole.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Lines {
    /// The line that is held, in one half; in the other half, one whose first bytes are owed. A line
    /// that is told stands in the half that holds nothing owed.
    pub halves: [[u8; LINE_MAX]; 2],
}

impl Lines {
    /// The half at `place`, 0 or 1.
    #[inline(always)]
    pub const fn half(&self, place: u16) -> &[u8; LINE_MAX] {
        masked::at(&self.halves, place as usize)
    }

    /// The same, to be written to.
    #[inline(always)]
    pub const fn half_mut(&mut self, place: u16) -> &mut [u8; LINE_MAX] {
        masked::at_mut(&mut self.halves, place as usize)
    }
}
