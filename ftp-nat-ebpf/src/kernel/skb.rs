//! A packet at a TC hook: `struct __sk_buff`, and the helpers that read and change it.

use aya_ebpf::bindings::{
    __sk_buff, BPF_CSUM_LEVEL_INC, BPF_CSUM_LEVEL_QUERY, BPF_CSUM_LEVEL_RESET, BPF_F_PSEUDO_HDR,
};
use aya_ebpf::helpers::generated;
use aya_ebpf::programs::TcContext;

/// The note on a packet that was translated already and only passes the WAN's egress hook, or the loopback
/// interface's on its way to a client on this machine.
pub const TRANSLATED: u32 = 0xf7a7;

/// Length of an Ethernet header, in bytes.
const ETHERNET: u32 = 14;

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

    /// The interface that this packet came in by; 0: this machine itself has sent it.
    #[inline(always)]
    pub fn ingress_ifindex(&self) -> u32 {
        self.field().ingress_ifindex
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

    /// Puts an Ethernet header in front of a packet that has none: addresses of zeros and the
    /// EtherType. What is redirected to an interface without loses it (`__bpf_redirect_no_mac`), what goes
    /// on to the stack too, whose network header stays where it is.
    #[inline(always)]
    pub fn push_ethernet(&self) -> bool {
        let carries = self.protocol() as u16;
        // SAFETY: a plain helper call.
        let pushed = unsafe { generated::bpf_skb_change_head(self.0, ETHERNET, 0) == 0 };
        pushed && self.store(ETHERNET - 2, &carries)
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

    /// Whether nobody has checked the packet's TCP checksum yet, so that its receiver will: not the
    /// device (`CHECKSUM_UNNECESSARY`), and it is not one that the device has yet to write
    /// (`CHECKSUM_PARTIAL`, from a sender on this machine).
    ///
    /// `bpf_csum_level` answers a query for the first kind only; to raise the level changes a packet
    /// of kind `CHECKSUM_NONE` to the first kind and no other, which tells that kind, and is taken
    /// back; `bpf_csum_update` answers for `CHECKSUM_COMPLETE` only.
    #[inline(always)]
    pub fn is_unchecked(&self) -> bool {
        // SAFETY: plain helper calls.
        unsafe {
            if generated::bpf_csum_level(self.0, BPF_CSUM_LEVEL_QUERY.into()) >= 0 {
                return false;
            }
            generated::bpf_csum_level(self.0, BPF_CSUM_LEVEL_INC.into());
            if generated::bpf_csum_level(self.0, BPF_CSUM_LEVEL_QUERY.into()) >= 0 {
                generated::bpf_csum_level(self.0, BPF_CSUM_LEVEL_RESET.into());
                return true;
            }
            generated::bpf_csum_update(self.0, 0) >= 0
        }
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
