//! Next hops, and sending to them: `bpf_fib_lookup` and the redirect helpers.

use super::skb::Skb;
use aya_ebpf::bindings::{BPF_FIB_LOOKUP_OUTPUT, bpf_fib_lookup, bpf_redir_neigh};
use aya_ebpf::helpers::generated;
use ftp_nat_common::wire::addr::Addr;

/// `AF_INET`.
const AF_INET: u8 = 2;
/// `AF_INET6`.
const AF_INET6: u8 = 10;

/// `LOOPBACK_IFINDEX`: the number of the loopback interface in every network namespace. What comes by it is
/// this machine's own; its Ethernet header has no addresses.
pub const LOOPBACK: u32 = 1;

/// A next hop.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Hop {
    /// Its address.
    pub addr: Addr,
    /// The interface it is reached through.
    pub ifindex: u32,
    /// The Ethernet addresses to write, destination first; meaningless unless
    /// [`Hop::is_resolved`].
    pub macs: [u16; 6],
    /// 1: its Ethernet address is known; [`Hop::GIVEN`]: and not by the stack.
    pub is_resolved: u32,
}

impl Hop {
    /// [`Hop::is_resolved`]: its Ethernet address is that of a packet which came from there. The stack
    /// has perhaps no such neighbour.
    pub const GIVEN: u32 = 2;
    /// None yet.
    pub const NONE: Self = Self {
        addr: Addr([0; 4]),
        ifindex: 0,
        macs: [0; 6],
        is_resolved: 0,
    };
}

/// The neighbour is not known yet, but interface and next hop are; redirecting resolves it.
const NO_NEIGHBOUR: i64 = 7;
/// All is known, but the packet at hand is larger than the interface takes.
const TOO_LARGE: i64 = 8;

/// The next hop to `to`. `through`: 0, as a packet from interface `skb.ifindex()` would be
/// forwarded; otherwise only routes through that interface. False: there is none.
#[inline(never)]
pub fn route(skb: &Skb, from: &Addr, to: &Addr, through: u32, hop: &mut Hop) -> bool {
    // SAFETY: plain data, for which zeros are right.
    let mut params: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    params.l4_protocol = 6;
    if to.is_v4() {
        params.family = AF_INET;
        params.__bindgen_anon_3.ipv4_src = from.v4();
        params.__bindgen_anon_4.ipv4_dst = to.v4();
    } else {
        params.family = AF_INET6;
        params.__bindgen_anon_3.ipv6_src = from.0;
        params.__bindgen_anon_4.ipv6_dst = to.0;
    }
    let (ifindex, flags) = if through == 0 {
        (skb.ifindex(), 0)
    } else {
        (through, BPF_FIB_LOOKUP_OUTPUT)
    };
    params.ifindex = ifindex;
    // SAFETY: the helper writes within the size given.
    let result = unsafe {
        generated::bpf_fib_lookup(
            skb.context().cast(),
            &raw mut params,
            size_of::<bpf_fib_lookup>() as i32,
            flags,
        )
    };
    if result != 0 && result != NO_NEIGHBOUR && result != TOO_LARGE {
        return false;
    }
    // SAFETY: the helper left the next hop where the destination was, and its family.
    hop.addr = unsafe {
        if params.family == AF_INET {
            Addr::from_v4(params.__bindgen_anon_4.ipv4_dst)
        } else {
            Addr(params.__bindgen_anon_4.ipv6_dst)
        }
    };
    hop.ifindex = params.ifindex;
    hop.is_resolved = u32::from(result != NO_NEIGHBOUR);
    let [d0, d1, d2, d3, d4, d5] = params.dmac;
    let [s0, s1, s2, s3, s4, s5] = params.smac;
    hop.macs = bytemuck::cast([d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5]);
    true
}

/// Sends a packet or a frame out of an interface as it is, Ethernet header and all; gives the
/// verdict to return.
#[inline(always)]
pub fn redirect(ifindex: u32) -> i32 {
    // SAFETY: a plain helper call.
    unsafe { generated::bpf_redirect(ifindex, 0) as i32 }
}

/// Sends the packet out of an interface by the stack's own routes and neighbours; gives the verdict
/// to return.
#[inline(always)]
pub fn redirect_by_route(ifindex: u32) -> i32 {
    // SAFETY: no parameters are given.
    unsafe { generated::bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) as i32 }
}

/// Sends the packet out of an interface, to a next hop whose address the stack resolves and keeps
/// an eye on; gives the verdict to return. A function of its own: the parameters lie on the stack, of
/// which a chain of calls has 512 bytes.
#[inline(never)]
pub fn redirect_to(hop: &Hop) -> i32 {
    // SAFETY: plain data, for which zeros are right.
    let mut params: bpf_redir_neigh = unsafe { core::mem::zeroed() };
    if hop.addr.is_v4() {
        params.nh_family = AF_INET.into();
        params.__bindgen_anon_1.ipv4_nh = hop.addr.v4();
    } else {
        params.nh_family = AF_INET6.into();
        params.__bindgen_anon_1.ipv6_nh = hop.addr.0;
    }
    // SAFETY: the helper reads within the size given.
    unsafe {
        generated::bpf_redirect_neigh(
            hop.ifindex,
            &raw mut params,
            size_of::<bpf_redir_neigh>() as i32,
            0,
        ) as i32
    }
}
