//! LISTS: networks outside that may not begin sessions, or that alone may.

use crate::counter::Counter;
use crate::wire::addr::Addr;
use bytemuck::{Pod, Zeroable};

/// Values of [`ListKey::list`].
pub mod list {
    /// Networks that may not begin sessions, and whose announced data connections do not come.
    pub const DENY: u32 = 1;
    /// Networks that alone may begin sessions. A list that is not empty has an entry for all
    /// addresses as well ([`super::listed_flag::NOBODY`]).
    pub const ALLOW: u32 = 2;
}

/// Values of [`ListKey::scope`]: whose sessions. A published server's is its place in the
/// configuration, from 1.
pub mod scope {
    /// Those of all published servers; of the denied, masqueraded clients' sessions too.
    pub const ALL: u32 = 0;
}

/// A network's key, behind the number of bits that count.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct ListKey {
    /// [`mod@list`].
    pub list: u32,
    /// [`mod@scope`].
    pub scope: u32,
    /// The network's first address, IPv4 from bit 96 on.
    pub addr: Addr,
}

impl ListKey {
    /// Bits of the key in front of its address.
    pub const BEFORE_ADDRESS: u32 = 64;
    /// All of its bits: those of one address.
    pub const ALL: u32 = 192;
}

/// Bits of [`Listed::flags`].
pub mod listed_flag {
    /// Of an allow list: whoever meets this entry is not in it.
    pub const NOBODY: u32 = 1;
}

/// A network in a list.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Listed {
    /// [`listed_flag`].
    pub flags: u32,
    /// Zero.
    pub pad: u32,
    /// When it ends, in jiffies; 0: never. A network that lies within another one of its list ends
    /// no sooner than that: the longest match hides the others.
    pub expires: u64,
    /// First packets that were refused because of it. Counted without a lock: some may be missing.
    pub hits: u64,
}

impl Listed {
    /// Whether an address that meets this entry of a list ([`mod@list`]) is refused for it, at a moment in
    /// jiffies.
    #[inline(always)]
    pub const fn refuses(&self, list: u32, now: u64) -> bool {
        let is_in_force = self.expires == 0 || now <= self.expires;
        if list == list::DENY {
            is_in_force
        } else {
            self.flags & listed_flag::NOBODY != 0 || !is_in_force
        }
    }
}

/// Why nobody here talks to a peer; None: somebody does. `refuses` tells whether what the peer meets in a
/// list of a scope refuses it; a list in which it meets nothing does not.
#[inline(always)]
pub fn refuse_peer(mut refuses: impl FnMut(u32, u32) -> bool) -> Option<Counter> {
    refuses(list::DENY, scope::ALL).then_some(Counter::DeniedBanned)
}

/// Why a peer may not begin a session with a published server, whose scope this is; None: it may.
#[inline(always)]
pub fn refuse_session(scope: u32, mut refuses: impl FnMut(u32, u32) -> bool) -> Option<Counter> {
    if refuses(list::DENY, scope::ALL) || refuses(list::DENY, scope) {
        return Some(Counter::DeniedBanned);
    }
    if refuses(list::ALLOW, scope::ALL) || refuses(list::ALLOW, scope) {
        return Some(Counter::DeniedNotAllowed);
    }
    None
}

const _: () = assert!(size_of::<ListKey>() * 8 == ListKey::ALL as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_counts_until_its_end() {
        const NOW: u64 = 100;
        for (list, flags, expires, refuses) in [
            (list::DENY, 0, 0, true),
            (list::DENY, 0, NOW, true),
            (list::DENY, 0, NOW - 1, false),
            (list::ALLOW, 0, 0, false),
            (list::ALLOW, 0, NOW, false),
            (list::ALLOW, 0, NOW - 1, true),
            (list::ALLOW, listed_flag::NOBODY, 0, true),
        ] {
            let listed = Listed {
                flags,
                expires,
                ..Listed::default()
            };
            assert_eq!(listed.refuses(list, NOW), refuses, "{list} {listed:?}");
        }
    }

    #[test]
    fn who_is_denied_is_refused_for_that_whatever_allows_it() {
        const OWN: u32 = 7;
        for (met, session, peer) in [
            (&[][..], None, None),
            (
                &[(list::DENY, scope::ALL)],
                Some(Counter::DeniedBanned),
                Some(Counter::DeniedBanned),
            ),
            (&[(list::DENY, OWN)], Some(Counter::DeniedBanned), None),
            (
                &[(list::ALLOW, OWN), (list::DENY, OWN)],
                Some(Counter::DeniedBanned),
                None,
            ),
            (
                &[(list::ALLOW, scope::ALL)],
                Some(Counter::DeniedNotAllowed),
                None,
            ),
            (&[(list::ALLOW, OWN)], Some(Counter::DeniedNotAllowed), None),
        ] {
            let refuses = |list, scope| met.contains(&(list, scope));
            assert_eq!(refuse_session(OWN, refuses), session, "{met:?}");
            assert_eq!(refuse_peer(refuses), peer, "{met:?}");
        }
    }
}
