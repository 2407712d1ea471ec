//! A segment of a control connection: the driver's medium in the kernel.
//!
//! [`drive`] runs [`ftp_nat_common::stream::driver`] over a packet. Each step of the driver is a
//! global function here ([`steps`]): the verifier checks those once and by themselves, not again
//! wherever they are called from (Linux 5.6), and they stand beside each other on the stack.

mod bytes;
mod medium;
mod options;
mod rewrite;
pub mod segment;
mod steps;
mod work;

use crate::kernel::skb::Skb;
use crate::state::{maps, scratch};
use ftp_nat_common::stream::driver::{self, Verdict};

/// Reads the segment that [`segment::prepare`] has left, and changes the packet as it must be.
#[inline(always)]
pub fn drive(skb: &Skb) -> Verdict {
    let Some(part) = scratch::control() else {
        return Verdict::Send;
    };
    // SAFETY: see `scratch`.
    let number = unsafe { (*part).place.session };
    // The session is looked up once; the steps get it as their argument.
    let Some(session) = maps::SESSIONS.get_ptr_mut(number) else {
        return Verdict::Send;
    };
    driver::drive(&mut steps::Steps {
        context: skb.context(),
        session,
        part,
    })
}
