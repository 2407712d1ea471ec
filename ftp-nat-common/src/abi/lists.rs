//! LISTS: networks outside that may not begin sessions, or that alone may.

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

const _: () = assert!(size_of::<ListKey>() * 8 == ListKey::ALL as usize);
