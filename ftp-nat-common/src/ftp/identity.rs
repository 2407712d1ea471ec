//! Masqueraded clients whose own address was not known when their session was made.
//!
//! Somebody looks it up meanwhile ([`Gate::identify`]). An announcement that comes before the answer
//! is held for a while, as an unfinished line is: its end is cut off, and its sender repeats it.

use super::parser::Inspection;
use crate::abi::{Session, role};
use crate::gate::Gate;
use crate::wire::addr::Addr;

/// Milliseconds for which an announcement waits for its client's address: a looking-up takes a few,
/// and a sender's first repetition comes after 200.
pub const PATIENCE: u64 = 1_000;

impl Inspection {
    /// Whether an announcement of `announced` must wait until it is known whose the session is.
    #[inline(always)]
    pub(super) fn waits_for_client(
        &self,
        session: &mut Session,
        gate: &mut impl Gate,
        announced: &Addr,
    ) -> bool {
        if session.role != role::MASQUERADE || !session.inside.addr.is_none() {
            return false;
        }
        gate.identify(session, announced);
        let now = gate.now();
        let asked = &mut session.asked;
        if !session.inside.addr.is_none() {
            asked.withheld_since = 0;
            return false;
        }
        if asked.withheld_since == 0 {
            asked.withheld_since = now;
        }
        now.wrapping_sub(asked.withheld_since) < PATIENCE
    }
}
