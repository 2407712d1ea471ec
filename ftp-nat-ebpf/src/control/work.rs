//! What the driver's steps work on: a packet, its session, and the memory of its segment.

use crate::kernel::skb::Skb;
use crate::open::pinhole::Pinholes;
use crate::state::scratch::Control;
use ftp_nat_common::abi::Session;

/// What a step works on.
#[repr(C)]
pub(super) struct Work<'a> {
    pub(super) skb: &'a Skb,
    pub(super) session: *mut Session,
    pub(super) part: *mut Control,
    pub(super) gate: Pinholes,
}

impl<'a> Work<'a> {
    /// The work on a segment; None: a pointer is null, which does not happen, but a global
    /// function's arguments may be as far as the verifier knows.
    ///
    /// # Safety
    /// The pointers must be valid for as long as the work is, and no reference to the same memory
    /// alive; but other CPUs may write to the session's other direction meanwhile.
    #[inline(always)]
    pub(super) unsafe fn new(
        skb: &'a Skb,
        session: *mut Session,
        part: *mut Control,
    ) -> Option<Self> {
        if session.is_null() || part.is_null() {
            return None;
        }
        Some(Self {
            skb,
            session,
            part,
            gate: Pinholes {
                // SAFETY: not null, and valid by this function's contract.
                session: unsafe { (*part).place.session },
            },
        })
    }

    /// The memory of the segment, for as long as the work is borrowed.
    #[inline(always)]
    pub(super) fn part(&mut self) -> &mut Control {
        // SAFETY: by the contract of `new`; the borrow of the work makes the reference unique.
        unsafe { &mut *self.part }
    }
}
