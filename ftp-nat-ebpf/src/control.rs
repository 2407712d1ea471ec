//! A segment of a control connection: the driver's medium in the kernel.
//!
//! [`drive`] runs [`ftp_nat_common::stream::driver`] over a packet. Each step of the driver is a
//! global function here ([`steps`]): the verifier checks those once and by themselves, not again
//! wherever they are called from (Linux 5.6), and they stand beside each other on the stack.

mod bytes;
mod hops;
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
    let Some(mut steps) = steps(skb) else {
        return Verdict::Send;
    };
    let verdict = driver::drive(&mut steps);
    if verdict == Verdict::Send {
        hops::limit(skb, &steps, true);
    }
    verdict
}

/// Sets the numbers of a segment that TCP would not believe to the receiver's, for it to judge.
#[inline(always)]
pub fn number_outside(skb: &Skb) -> Verdict {
    match steps(skb) {
        Some(steps) => {
            hops::limit(skb, &steps, false);
            steps.number_outside()
        }
        None => Verdict::Send,
    }
}

/// What the steps work on. The session is looked up here; the steps get it as their argument.
#[inline(always)]
fn steps(skb: &Skb) -> Option<steps::Steps> {
    let part = scratch::control()?;
    // SAFETY: see `scratch`.
    let number = unsafe { (*part).place.session };
    let session = maps::SESSIONS.get_ptr_mut(number)?;
    Some(steps::Steps {
        context: skb.context(),
        session,
        part,
    })
}

/// The flags of the segment that was read last which TCP believes.
#[inline(always)]
pub fn believed() -> u8 {
    // SAFETY: see `scratch`.
    scratch::control().map_or(0, |part| unsafe { (*part).segment.believed })
}
