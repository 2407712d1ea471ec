//! The guard: what of a connection of the gateway's reaches this machine's own sockets goes no further.
//!
//! The programs of TC and XDP are an interface's. One that is made anew has none until the daemon has
//! attached them, and a packet that comes in between would be answered by this machine, which knows
//! nothing of the connection, with a reset. This program is the network namespace's: the kernel runs it
//! for a packet to an address of its own that belongs to no connected socket, and for no other.

use crate::kernel::lookup::Lookup;
use crate::state::{counters, flows, maps};
use aya_ebpf::bindings::sk_action::SK_PASS;
use aya_ebpf::programs::SkLookupContext;
use ftp_nat_common::abi::guard;
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::tcp::flag;

/// A packet for which no socket is connected. It is given to the listening socket whose filter drops
/// whatever comes (refusing it here would make the kernel answer with a reset: `tcp_v4_rcv`), or goes
/// on.
#[inline(always)]
pub fn enter(ctx: &SkLookupContext) -> u32 {
    let lookup = Lookup::new(ctx);
    if lookup.is_tcp() && is_of_a_connection(&lookup) {
        let socket = if lookup.is_v4() { guard::V4 } else { guard::V6 };
        // Without the daemon there is no such socket.
        if maps::GUARD.redirect_sk_lookup(ctx, socket, 0).is_ok() {
            counters::add(Counter::DroppedUnattached, 0);
        }
    }
    SK_PASS
}

/// Whether the packet is of a connection that the gateway carries between two other machines, and that
/// nobody has reset.
#[inline(always)]
fn is_of_a_connection(lookup: &Lookup) -> bool {
    let (source, destination) = (lookup.source(), lookup.destination());
    let Some(flow) = flows::find_any(&source, &destination) else {
        return false;
    };
    // SAFETY: the entry stays in its place while the program runs.
    let flow = unsafe { &*flow };
    // A server on this machine answers for itself.
    flow.destination() != destination && flow.tcp_flags & flag::RST == 0
}
