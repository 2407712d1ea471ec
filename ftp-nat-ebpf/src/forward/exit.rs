//! Where a flow's packets leave: the interface, and for how long its next hop holds.

use crate::kernel::helpers::jiffies;
use crate::state::maps;
use ftp_nat_common::abi::{Flow, Interface, Settings, interface_flag};

/// An interface that flows may be redirected through in this role ([`interface_flag`]); None: they
/// may not.
#[inline(always)]
pub fn redirectable(ifindex: u32, role: u32) -> Option<&'static Interface> {
    // SAFETY: a map's entry stays in its place while a program runs.
    let interface = unsafe { maps::INTERFACES.get(ifindex) }?;
    (interface.flags & role == role).then_some(interface)
}

/// Whether packets of an interface have no Ethernet header, so that it has no neighbours to be found.
#[inline(always)]
pub(super) fn is_bare(interface: &Interface) -> bool {
    interface.flags & interface_flag::ETHERNET == 0
}

/// Whether the flow's next hop was looked up within the last second, and by today's routes.
#[inline(always)]
pub fn is_fresh(flow: &Flow) -> bool {
    let epoch = maps::SETTINGS.get(0).map_or(0, |it| it.route_epoch);
    let left = flow.fresh_until.wrapping_sub(jiffies() as u32);
    flow.route_epoch == epoch && (left as i32) > 0
}

/// Lets what was found out about a flow's way hold for a second.
#[inline(always)]
pub fn keep(flow: &mut Flow, settings: &Settings) {
    flow.route_epoch = settings.route_epoch;
    flow.fresh_until = (jiffies() as u32).wrapping_add(settings.hz);
}
