//! The driver's steps as global functions.

use super::work::Work;
use crate::kernel::skb::{Context, Skb};
use crate::state::scratch::Control;
use ftp_nat_common::abi::Session;
use ftp_nat_common::stream::driver::{self, Fit, Verdict};
use ftp_nat_common::stream::segment::Plan;

/// What a step is called with: a packet, its session, and the memory of its segment.
pub(super) struct Steps {
    pub(super) context: Context,
    pub(super) session: *mut Session,
    pub(super) part: *mut Control,
}

/// One step, and the driver's function that it runs. Its answer is a number, as the kernel hands on
/// nothing else between global functions.
macro_rules! step {
    ($name:ident, $driver:path) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(context: Context, session: *mut Session, part: *mut Control) -> u32 {
            let skb = Skb::of(context);
            // SAFETY: what `drive` hands over: a session's entry, which stays in its place while
            // the program runs, and the control part of the scratch memory, to which no other
            // reference is alive.
            match unsafe { Work::new(&skb, session, part) } {
                Some(mut work) => $driver(&mut work) as u32,
                None => 0,
            }
        }
    };
}

step!(ftp_nat_plan, driver::plan);
step!(ftp_nat_inspect, driver::inspect);
step!(ftp_nat_fit, driver::fit);
step!(ftp_nat_write_in_place, driver::write_in_place);
step!(ftp_nat_write_anew, driver::write_anew);
step!(ftp_nat_number, driver::number);
step!(ftp_nat_number_outside, driver::number_outside);

impl driver::Steps for Steps {
    #[inline(always)]
    fn plan(&mut self) -> Plan {
        Plan::of(ftp_nat_plan(self.context, self.session, self.part))
    }

    #[inline(always)]
    fn inspect(&mut self) -> Verdict {
        Verdict::of(ftp_nat_inspect(self.context, self.session, self.part))
    }

    #[inline(always)]
    fn fit(&mut self) -> Fit {
        Fit::of(ftp_nat_fit(self.context, self.session, self.part))
    }

    #[inline(always)]
    fn write_in_place(&mut self) -> Verdict {
        Verdict::of(ftp_nat_write_in_place(
            self.context,
            self.session,
            self.part,
        ))
    }

    #[inline(always)]
    fn write_anew(&mut self) -> Verdict {
        Verdict::of(ftp_nat_write_anew(self.context, self.session, self.part))
    }

    #[inline(always)]
    fn number(&mut self) -> Verdict {
        Verdict::of(ftp_nat_number(self.context, self.session, self.part))
    }
}

impl Steps {
    /// Runs [`driver::number_outside`].
    #[inline(always)]
    pub(super) fn number_outside(&self) -> Verdict {
        Verdict::of(ftp_nat_number_outside(
            self.context,
            self.session,
            self.part,
        ))
    }
}
