//! Sources that nobody outside can have.
//!
//! Redirected packets bypass the stack's own checks (rp_filter, martian sources), so the first
//! packet of a session is held against what those would say.

use crate::kernel::route::{Hop, route};
use crate::kernel::skb::Skb;
use crate::state::maps;
use ftp_nat_common::abi::interface_flag;
use ftp_nat_common::wire::addr::Addr;

/// Whether a packet that came in by a WAN interface may have this source: it is a unicast address
/// that is neither this machine's nor reached through an interface that is no WAN (RFC 1812 sections
/// 5.3.7 and 5.3.8, strict reverse path as in RFC 3704 section 2.2). `here` is its destination, an
/// address of this machine.
#[inline(never)]
pub(super) fn may_come_from_outside(skb: &Skb, source: &Addr, here: &Addr) -> bool {
    if is_martian(source) {
        return false;
    }
    let mut hop = Hop::NONE;
    // The way back, as this machine would forward an answer. Its own addresses have none.
    if !route(skb, here, source, 0, &mut hop) {
        return false;
    }
    if hop.ifindex == skb.ifindex() {
        return true;
    }
    // SAFETY: the entry stays in its place while the program runs.
    let interface = unsafe { maps::INTERFACES.get(hop.ifindex) };
    interface.is_some_and(|it| it.flags & interface_flag::WAN != 0)
}

/// Whether an address is nobody's beyond its own link: of this host, of "this network", multicast or reserved
/// (RFC 1122 section 3.2.1.3, RFC 4291 section 2.4), or of a link alone (RFC 3927 section 2.7, RFC 4291
/// section 2.5.6), which no router forwards.
#[inline(always)]
fn is_martian(addr: &Addr) -> bool {
    let [first, second, ..] = if addr.is_v4() {
        addr.v4().to_ne_bytes()
    } else {
        addr.0[0].to_ne_bytes()
    };
    if addr.is_v4() {
        return first == 0 || first == 127 || first >= 224 || first == 169 && second == 254;
    }
    let low = addr.0[1] | addr.0[2];
    let is_local = addr.0[0] | low == 0 && u32::from_be(addr.0[3]) <= 1;
    is_local || first == 0xff || first == 0xfe && second & 0xc0 == 0x80
}
