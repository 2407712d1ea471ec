//! All calls into the kernel, and all that is unsafe about them.

use aya_ebpf::bindings::{
    __sk_buff, BPF_F_PSEUDO_HDR, BPF_FIB_LOOKUP_OUTPUT, bpf_fib_lookup, bpf_redir_neigh, xdp_md,
};
use aya_ebpf::helpers::generated;
use aya_ebpf::programs::{TcContext, XdpContext};
use core::ffi::c_void;
use ftp_nat_common::wire::addr::Addr;

/// `AF_INET`.
const AF_INET: u8 = 2;
/// `AF_INET6`.
const AF_INET6: u8 = 10;

/// A packet as TC hands it over.
#[derive(Clone, Copy)]
pub struct Skb(*mut __sk_buff);

/// What the kernel hands to a program, and a program to its global functions.
pub(crate) type Context = *mut __sk_buff;

impl Skb {
    /// The packet of a global function's argument.
    #[inline(always)]
    pub(crate) fn of(context: Context) -> Self {
        Self(context)
    }

    /// The argument of a global function.
    #[inline(always)]
    pub(crate) fn context(&self) -> Context {
        self.0
    }

    /// The packet of a program's context.
    #[inline(always)]
    pub fn new(ctx: &TcContext) -> Self {
        Self(ctx.skb.skb)
    }

    #[inline(always)]
    fn field(&self) -> &__sk_buff {
        // SAFETY: the kernel hands a valid context to the program, and it lives as long.
        unsafe { &*self.0 }
    }

    /// Bytes from the Ethernet header on.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        self.field().len
    }

    /// EtherType, as it lies in the packet; a VLAN tag in metadata does not hide it.
    #[inline(always)]
    pub fn protocol(&self) -> u32 {
        self.field().protocol
    }

    /// The interface whose hook runs.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        self.field().ifindex
    }

    /// Payload bytes of each segment that this super-packet stands for; 0: it is a plain packet.
    #[inline(always)]
    pub fn gso_size(&self) -> u32 {
        self.field().gso_size
    }

    /// The note that one of our programs left on the packet for the next one.
    #[inline(always)]
    pub fn note(&self) -> u32 {
        self.field().tc_index
    }

    /// Leaves a note.
    #[inline(always)]
    pub fn set_note(&self, note: u32) {
        // SAFETY: tc_index is writable for TC programs.
        unsafe { (*self.0).tc_index = note }
    }

    /// What an entrance leaves for the station behind it.
    #[inline(always)]
    pub fn hook(&self) -> u32 {
        self.field().cb[0]
    }

    /// Leaves it.
    #[inline(always)]
    pub fn set_hook(&self, hook: u32) {
        // SAFETY: cb is writable for TC programs, and theirs while they run.
        unsafe { (*self.0).cb[0] = hook }
    }

    /// The VLAN that a tag in the packet's metadata says it is of; None without one. 0 is a
    /// priority without a VLAN.
    #[inline(always)]
    pub fn vlan(&self) -> Option<u32> {
        (self.field().vlan_present != 0).then(|| self.field().vlan_tci & 0x0fff)
    }

    /// Takes the VLAN tag off.
    #[inline(always)]
    pub fn pop_vlan(&self) -> bool {
        // SAFETY: a plain helper call.
        unsafe { generated::bpf_skb_vlan_pop(self.0) == 0 }
    }

    /// Sets bits of the packet's mark.
    #[inline(always)]
    pub fn add_mark(&self, mark: u32) {
        // SAFETY: the mark is writable for TC programs.
        unsafe { (*self.0).mark |= mark }
    }

    /// The `T` at `at`, straight in the packet's linear part; None beyond its end.
    ///
    /// Headers lie aligned behind Ethernet's 14 bytes (the kernel's NET_IP_ALIGN; where a driver
    /// does not care the CPU does not either), so they are read by words, and the verifier checks
    /// that.
    #[inline(always)]
    pub fn view<T: bytemuck::Pod>(&self, at: usize) -> Option<&T> {
        let start = self.field().data as usize;
        let end = self.field().data_end as usize;
        if start + at + size_of::<T>() > end {
            return None;
        }
        // SAFETY: the bounds were checked just now, and any bytes are a `T`.
        Some(unsafe { &*((start + at) as *const T) })
    }

    /// Changes the `T` at `at`, straight in the packet's linear part; false beyond its end. A
    /// program that does so anywhere has the kernel copy the head of every packet that shares it
    /// with another before it runs: so the entrances do not, and only packets on FTP's ports pay.
    #[inline(always)]
    pub fn change<T: bytemuck::Pod>(&self, at: usize, change: impl FnOnce(&mut T)) -> bool {
        let start = self.field().data as usize;
        let end = self.field().data_end as usize;
        if start + at + size_of::<T>() > end {
            return false;
        }
        // SAFETY: the bounds were checked just now, any bytes are a `T`, and the change ends before
        // the packet is looked at again.
        change(unsafe { &mut *((start + at) as *mut T) });
        true
    }

    /// Whether the linear part holds `len` bytes.
    #[inline(always)]
    pub fn has(&self, len: usize) -> bool {
        self.field().data as usize + len <= self.field().data_end as usize
    }

    /// Brings `len` bytes into the linear part.
    #[inline(always)]
    pub fn pull(&self, len: u32) -> bool {
        // SAFETY: a plain helper call.
        unsafe { generated::bpf_skb_pull_data(self.0, len) == 0 }
    }

    /// Adds a difference to the sum that the hardware took over the packet, if it did: for changes
    /// that no checksum in the packet makes up for.
    #[inline(always)]
    pub fn add_to_hardware_sum(&self, difference: u16) {
        // SAFETY: a plain helper call; it refuses where there is no such sum.
        unsafe { generated::bpf_csum_update(self.0, u32::from(difference)) };
    }

    /// Copies `T` from the packet, wherever its bytes are.
    #[inline(always)]
    pub fn load<T: bytemuck::Pod>(&self, at: u32) -> Option<T> {
        let mut value = T::zeroed();
        // SAFETY: the destination has exactly that size.
        let result = unsafe {
            generated::bpf_skb_load_bytes(
                self.0.cast(),
                at,
                core::ptr::from_mut(&mut value).cast(),
                size_of::<T>() as u32,
            )
        };
        (result == 0).then_some(value)
    }

    /// Copies `len` bytes (1 to `N`) from the packet.
    #[inline(always)]
    pub fn load_into<const N: usize>(&self, at: u32, to: &mut [u8; N], len: u32) -> bool {
        if len == 0 || len > N as u32 {
            return false;
        }
        let len = visibly_within::<N>(len);
        // SAFETY: the length was checked against the array's just now.
        unsafe {
            generated::bpf_skb_load_bytes(self.0.cast(), at, to.as_mut_ptr().cast(), len) == 0
        }
    }

    /// Writes a value into the packet; checksums are the caller's.
    #[inline(always)]
    pub fn store<T: bytemuck::Pod>(&self, at: u32, value: &T) -> bool {
        // SAFETY: the source has exactly that size.
        unsafe {
            generated::bpf_skb_store_bytes(
                self.0.cast(),
                at,
                core::ptr::from_ref(value).cast(),
                size_of::<T>() as u32,
                0,
            ) == 0
        }
    }

    /// Writes `len` bytes (1 to `N`) into the packet; checksums are the caller's.
    #[inline(always)]
    pub fn store_from<const N: usize>(&self, at: u32, from: &[u8; N], len: u32) -> bool {
        if len == 0 || len > N as u32 {
            return false;
        }
        let len = visibly_within::<N>(len);
        // SAFETY: the length was checked against the array's just now.
        unsafe {
            generated::bpf_skb_store_bytes(self.0.cast(), at, from.as_ptr().cast(), len, 0) == 0
        }
    }

    /// Copies `len` bytes from the packet, at least one: of `len - 1` only the bits below `N` count,
    /// a power of two. For a length that was compared before, in a way that the verifier does not
    /// see.
    #[inline(always)]
    pub fn load_masked<const N: usize>(&self, at: u32, to: &mut [u8; N], len: u32) -> bool {
        const { assert!(N.is_power_of_two()) };
        let len = (len.wrapping_sub(1) & (N as u32 - 1)) + 1;
        // SAFETY: that is at most the array's length.
        unsafe {
            generated::bpf_skb_load_bytes(self.0.cast(), at, to.as_mut_ptr().cast(), len) == 0
        }
    }

    /// Writes `len` bytes of an array, from its place `start` on, into the packet, both masked so
    /// that they lie in the array's two halves; checksums are the caller's.
    #[inline(always)]
    pub fn store_masked<const N: usize>(
        &self,
        at: u32,
        from: &[u8; N],
        start: u32,
        len: u32,
    ) -> bool {
        const { assert!(N.is_power_of_two()) };
        let start = start as usize & (N / 2 - 1);
        let len = (len.wrapping_sub(1) & (N as u32 / 2 - 1)) + 1;
        // SAFETY: start and length are at most half of the array's.
        unsafe {
            let from = from.as_ptr().add(start);
            generated::bpf_skb_store_bytes(self.0.cast(), at, from.cast(), len, 0) == 0
        }
    }

    /// Makes the packet `len` bytes long. It is linear afterwards and no super-packet any more.
    #[inline(always)]
    pub fn resize(&self, len: u32) -> bool {
        // SAFETY: a plain helper call.
        unsafe { generated::bpf_skb_change_tail(self.0, len, 0) == 0 }
    }

    /// Adds a difference to the TCP checksum at `at`. What lies in the pseudo header must be told
    /// apart (`pseudo`): a checksum that the hardware finishes covers only that so far.
    #[inline(always)]
    pub fn add_to_checksum(&self, at: u32, difference: u16, pseudo: bool) -> bool {
        let flags = if pseudo {
            u64::from(BPF_F_PSEUDO_HDR)
        } else {
            0
        };
        // SAFETY: a plain helper call; size 0 in the flags means that `to` is a difference.
        unsafe { generated::bpf_l4_csum_replace(self.0, at, 0, u64::from(difference), flags) == 0 }
    }
}

/// A length from 1 to `N`, a power of two, in a form that older verifiers can follow: they do not
/// learn from a comparison with zero (seen with Linux 6.1). The compiler would take it back if it
/// knew where the number came from.
#[inline(always)]
fn visibly_within<const N: usize>(len: u32) -> u32 {
    const { assert!(N.is_power_of_two()) };
    (core::hint::black_box(len).wrapping_sub(1) & (N as u32 - 1)) + 1
}

/// A frame as XDP hands it over.
#[derive(Clone, Copy)]
pub struct Frame(*mut xdp_md);

impl Frame {
    /// The frame of a program's context.
    #[inline(always)]
    pub fn new(ctx: &XdpContext) -> Self {
        Self(ctx.ctx)
    }

    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        // SAFETY: the kernel hands a valid context to the program, and it lives as long.
        unsafe { ((*self.0).data as usize, (*self.0).data_end as usize) }
    }

    /// Its length, from the Ethernet header on.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        let (start, end) = self.bounds();
        end.wrapping_sub(start) as u32
    }

    /// Its start as a `T`; None if it is shorter.
    #[inline(always)]
    pub fn view<T: bytemuck::Pod>(&self) -> Option<&T> {
        let (start, end) = self.bounds();
        if start + size_of::<T>() > end {
            return None;
        }
        // SAFETY: the bounds were checked just now, and any bytes are a `T`.
        Some(unsafe { &*(start as *const T) })
    }

    /// Changes its start, a `T`; false if it is shorter.
    #[inline(always)]
    pub fn change<T: bytemuck::Pod>(&self, change: impl FnOnce(&mut T)) -> bool {
        let (start, end) = self.bounds();
        if start + size_of::<T>() > end {
            return false;
        }
        // SAFETY: the bounds were checked just now, any bytes are a `T`, and the change ends before
        // the frame is looked at again.
        change(unsafe { &mut *(start as *mut T) });
        true
    }
}

/// Now, in jiffies: reading them costs nothing.
#[inline(always)]
pub fn jiffies() -> u64 {
    // SAFETY: a plain helper call, which the verifier turns into a load.
    unsafe { generated::bpf_jiffies64() }
}

/// A random number.
#[inline(always)]
pub fn random() -> u32 {
    // SAFETY: a plain helper call.
    unsafe { generated::bpf_get_prandom_u32() }
}

/// Calls `body` with 0, 1, .. up to `times`, until it answers 1. The verifier checks the body once
/// (Linux 5.17).
#[inline(always)]
pub fn repeat<T>(times: u32, context: &mut T, body: unsafe extern "C" fn(u64, *mut T) -> i64) {
    // SAFETY: the body gets the context that it was written for, which outlives the call.
    unsafe {
        generated::bpf_loop(
            times,
            body as *mut c_void,
            core::ptr::from_mut(context).cast(),
            0,
        );
    }
}

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
    /// 1: its Ethernet address is known.
    pub is_resolved: u32,
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
            skb.0.cast(),
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
/// an eye on; gives the verdict to return.
#[inline(always)]
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
