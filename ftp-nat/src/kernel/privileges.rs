//! Giving up what is not needed any more once everything is loaded and attached.

use anyhow::Context as _;
use caps::{CapSet, Capability, CapsHashSet};
use log::{debug, warn};
use rustix::thread::set_no_new_privs;

/// What the daemon goes on needing: maps and programs, interfaces, programs that compare pointers.
const KEPT: [Capability; 3] = [
    Capability::CAP_BPF,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_PERFMON,
];

/// Drops every other capability of this thread, and of those that it starts from now on; nothing
/// that it executes can get them back. Where the kernel forbids a part of that, the rest is done.
pub fn drop_surplus() {
    let kept: CapsHashSet = KEPT.into_iter().collect();
    // The bounding set first: shrinking it takes CAP_SETPCAP, which the others end.
    for capability in caps::all() {
        let is_surplus = !kept.contains(&capability);
        if is_surplus && caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false) {
            // Without CAP_SETPCAP it stays: nothing that is executed gets it by itself.
            if let Err(error) = caps::drop(None, CapSet::Bounding, capability) {
                debug!("{capability} stays in the bounding set: {error}");
                break;
            }
        }
    }
    if let Err(error) = drop_own(&kept) {
        warn!("{error:#}");
    }
    if let Err(error) = set_no_new_privs(true) {
        warn!("cannot renounce new privileges: {error}");
    }
}

/// Lets the programs that this thread starts administer the network, which includes reading a
/// firewall's rules, and nothing else.
///
/// # Errors
///
/// When this process may not do so itself.
pub fn hand_down_net_admin() -> anyhow::Result<()> {
    let net_admin: CapsHashSet = [Capability::CAP_NET_ADMIN].into_iter().collect();
    for set in [CapSet::Inheritable, CapSet::Ambient] {
        caps::set(None, set, &net_admin)
            .with_context(|| format!("cannot hand CAP_NET_ADMIN down ({set:?})"))?;
    }
    Ok(())
}

fn drop_own(kept: &CapsHashSet) -> anyhow::Result<()> {
    let permitted =
        caps::read(None, CapSet::Permitted).context("cannot read this process' capabilities")?;
    let left: CapsHashSet = permitted.intersection(kept).copied().collect();
    // Ambient ones are always inheritable as well: they go with those.
    for (set, wanted) in [
        (CapSet::Inheritable, &CapsHashSet::new()),
        (CapSet::Effective, &left),
        (CapSet::Permitted, &left),
    ] {
        caps::set(None, set, wanted)
            .with_context(|| format!("cannot give up capabilities ({set:?})"))?;
    }
    Ok(())
}
