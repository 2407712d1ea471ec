//! What each client has, set right: the datapath counts what begins, and the sweep what is there.

use std::{
    collections::{HashMap, HashSet},
    io,
};

use ftp_nat_common::{
    abi::{Session, Share, share_of_session},
    wire::addr::Addr,
};

use super::pass::Pass;
use crate::datapath::maps::Maps;

/// How long a client stays listed after something was refused to it, in seconds.
const LISTED: u64 = 600;

/// The shares as they are, by the key of their client.
pub(super) type Shares = HashMap<Addr, Share>;

/// Reads them.
///
/// # Errors
///
/// Those of [`crate::kernel::table::Table`].
pub(super) fn read(maps: &Maps) -> io::Result<Shares> {
    let mut shares = Shares::new();
    maps.shares.each(|client, share| {
        shares.insert(*client, *share);
    })?;
    Ok(shares)
}

/// What a pass has found of a client's, and what it has ended.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    sessions: Count,
    connections: Count,
}

/// Of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    found: u32,
    ended: u32,
}

impl Count {
    /// How many there are. `before` and `now` are the datapath's count at the beginning of the pass
    /// and at its end.
    ///
    /// What the datapath has begun meanwhile is in `now`, and was perhaps found: so there are at least
    /// those that were found, and at most those and all that were begun. Within that, the datapath's
    /// count is right.
    fn settled(self, before: u32, now: u32) -> u32 {
        let most = self.found.saturating_add(now.saturating_sub(before));
        now.saturating_sub(self.ended).clamp(self.found, most)
    }
}

/// Sets the counts right and forgets clients that have nothing. `before` are the shares at the
/// beginning of the pass, `sessions` those that it has looked at, `ended` the numbers of those that it
/// has ended. Gives whether a client's share is more than half full.
///
/// # Errors
///
/// Those of [`crate::kernel::table::Table`].
pub(super) fn settle(
    pass: &Pass<'_>,
    before: &Shares,
    sessions: &[(u32, Session)],
    ended: &HashSet<u32>,
) -> anyhow::Result<bool> {
    let counted = count(pass, sessions, ended);
    let table = &pass.maps.shares;
    let clients: HashSet<_> = before.keys().chain(counted.keys()).collect();
    for client in clients {
        let counted = counted.get(client).copied().unwrap_or_default();
        let then = before.get(client).copied().unwrap_or_default();
        let Some(now) = table.get(client)? else {
            let share = Share {
                sessions: counted.sessions.found,
                connections: counted.connections.found,
                ..Share::default()
            };
            if share != Share::default() {
                table.add(client, &share)?;
            }
            continue;
        };
        let right = Share {
            sessions: counted.sessions.settled(then.sessions, now.sessions),
            connections: counted
                .connections
                .settled(then.connections, now.connections),
            ..now
        };
        if right != now {
            table.set(client, &right)?;
        }
        if is_forgotten(pass, &right)
            && let Some(taken) = table.take(client)?
            && !is_forgotten(pass, &taken)
        {
            table.add(client, &taken)?;
        }
    }
    is_tight(pass, &counted)
}

/// Whether a client has nothing, and nothing was refused to it lately.
fn is_forgotten(pass: &Pass<'_>, share: &Share) -> bool {
    let since = pass.clock.between(share.refused_at, pass.now);
    let is_listed = share.refused_at != 0 && since.as_secs() < LISTED;
    share.sessions == 0 && share.connections == 0 && !is_listed
}

fn count(
    pass: &Pass<'_>,
    sessions: &[(u32, Session)],
    ended: &HashSet<u32>,
) -> HashMap<Addr, Counted> {
    let mut counted: HashMap<Addr, Counted> = HashMap::new();
    let mut clients = HashMap::with_capacity(sessions.len());
    for (number, session) in sessions {
        let client = share_of_session(session);
        clients.insert(*number, client);
        let of = &mut counted.entry(client).or_default().sessions;
        if ended.contains(number) {
            of.ended += 1;
        } else {
            of.found += 1;
        }
    }
    for ((session, outside), both) in &pass.alive.connections {
        let client = clients.get(session).unwrap_or(outside);
        let of = &mut counted.entry(*client).or_default().connections;
        of.found += both.found;
        of.ended += both.ended;
    }
    counted
}

/// Whether a client's share is more than half full.
fn is_tight(pass: &Pass<'_>, counted: &HashMap<Addr, Counted>) -> anyhow::Result<bool> {
    let settings = pass.maps.settings()?;
    let is_over = |count: u32, most: u32| most != 0 && count > most / 2;
    Ok(counted.values().any(|client| {
        is_over(client.sessions.found, settings.client_sessions)
            || is_over(client.connections.found, settings.client_connections)
    }))
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn a_count_is_right_whatever_begins_and_ends_meanwhile() {
        for (before, now, found, ended, wanted) in [
            // Nothing begins or ends.
            (5, 5, 5, 0, 5),
            // Two were ended.
            (5, 5, 3, 2, 3),
            // Three began: all, some or none of them were found.
            (5, 8, 8, 0, 8),
            (5, 8, 6, 0, 8),
            (5, 8, 5, 0, 8),
            // One of those that began was found, two old ones were ended.
            (5, 8, 4, 2, 6),
            // The datapath's count had drifted, up or down.
            (9, 9, 5, 0, 5),
            (2, 2, 5, 0, 5),
            (9, 12, 5, 0, 8),
            (2, 5, 5, 0, 5),
            // Others than the datapath made them.
            (0, 0, 7, 0, 7),
        ] {
            let count = Count { found, ended };
            assert_eq!(
                count.settled(before, now),
                wanted,
                "{before} -> {now}, {count:?}"
            );
        }
    }
}
