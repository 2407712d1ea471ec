//! Ending sessions whose control connection is gone.

use std::{collections::HashSet, io};

use ftp_nat_common::abi::{LinesKey, Session};

use super::pass::Pass;
use crate::datapath::maps::Maps;

/// Ends those of `sessions` that no control connection was found for; gives their numbers.
///
/// # Errors
///
/// Those of [`crate::kernel::table::Table`].
pub(super) fn end_orphans(
    pass: &mut Pass<'_>,
    sessions: &[(u32, Session)],
) -> io::Result<HashSet<u32>> {
    let mut ended = HashSet::new();
    for (number, session) in sessions {
        let is_alive = pass.alive.sessions.contains(number);
        if !is_alive && pass.lifetimes.is_orphan(session.born, pass.now) {
            delete(pass.maps, *number)?;
            ended.insert(*number);
        }
    }
    pass.report.sessions = ended.len() as u64;
    Ok(ended)
}

fn delete(maps: &Maps, number: u32) -> io::Result<()> {
    maps.sessions.delete(&number)?;
    maps.permits.delete(&number)?;
    for key in lines_of(number) {
        maps.lines.delete(&key)?;
    }
    Ok(())
}

/// The keys of what may be kept of a session's lines.
pub(super) fn lines_of(session: u32) -> [LinesKey; 2] {
    [0, 1].map(|is_replies| LinesKey {
        session,
        is_replies,
    })
}
