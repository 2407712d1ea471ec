//! Ports that this machine itself listens on, or which the firewall's rules translate.

use crate::state::{maps, ports};
use ftp_nat_common::abi::PublishKey;
use ftp_nat_common::wire::addr::{Addr, Endpoint};

/// Whether a public port is somebody else's, so that an announcement of `end` must not get it.
#[inline(always)]
pub(super) fn is_somebody_elses(public: &Endpoint, end: &Endpoint) -> bool {
    // Most ports are nobody's: that is known at a glance.
    if !ports::may_be_reserved(public.port) {
        return false;
    }
    // What leads to the very same end is not taken from anybody: a listener on this machine, a rule
    // for the server's own passive ports.
    if public == end {
        return false;
    }
    let any = if public.addr.is_v4() {
        Addr::from_v4(0)
    } else {
        Addr::default()
    };
    leads_elsewhere(&public.addr, public, end) || leads_elsewhere(&any, public, end)
}

#[inline(always)]
fn leads_elsewhere(addr: &Addr, public: &Endpoint, end: &Endpoint) -> bool {
    let key = PublishKey {
        addr: *addr,
        port: public.port,
        pad: 0,
    };
    match maps::RESERVED.get_ptr(key) {
        // SAFETY: the entry stays in its place while the program runs.
        Some(to) => unsafe { *to != *end },
        None => false,
    }
}
