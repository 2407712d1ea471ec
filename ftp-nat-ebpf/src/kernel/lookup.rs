//! A packet for which this machine looks for a listening socket: `struct bpf_sk_lookup` (Linux 5.9).

use aya_ebpf::bindings::bpf_sk_lookup;
use aya_ebpf::programs::SkLookupContext;
use core::ptr::{addr_of, read_volatile};
use ftp_nat_common::wire::addr::{Addr, Endpoint, Port};

const AF_INET: u32 = 2;
const TCP: u32 = 6;

/// What the kernel says of the packet.
pub struct Lookup(*mut bpf_sk_lookup);

impl Lookup {
    /// Of a program's context.
    #[inline(always)]
    pub fn new(ctx: &SkLookupContext) -> Self {
        Self(ctx.lookup)
    }

    /// Whether it is TCP's.
    #[inline(always)]
    pub fn is_tcp(&self) -> bool {
        // SAFETY: the kernel hands a valid context to the program, and it lives as long.
        unsafe { (*self.0).protocol == TCP }
    }

    /// Whether it is IPv4's.
    #[inline(always)]
    pub fn is_v4(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.0).family == AF_INET }
    }

    /// Where it comes from.
    #[inline(always)]
    pub fn source(&self) -> Endpoint {
        // SAFETY: as above.
        unsafe {
            let addr = if self.is_v4() {
                Addr::from_v4((*self.0).remote_ip4)
            } else {
                words(addr_of!((*self.0).remote_ip6).cast())
            };
            Endpoint::new(addr, Port((*self.0).remote_port))
        }
    }

    /// Where it goes to.
    #[inline(always)]
    pub fn destination(&self) -> Endpoint {
        // SAFETY: as above. The kernel has this port in the machine's byte order.
        unsafe {
            let addr = if self.is_v4() {
                Addr::from_v4((*self.0).local_ip4)
            } else {
                words(addr_of!((*self.0).local_ip6).cast())
            };
            Endpoint::new(addr, Port::new((*self.0).local_port as u16))
        }
    }
}

/// An address of the context, word by word: the verifier allows no wider reads.
///
/// # Safety
///
/// `first` points at four words of a valid context.
#[inline(always)]
unsafe fn words(first: *const u32) -> Addr {
    // SAFETY: the caller's.
    unsafe {
        Addr([
            read_volatile(first),
            read_volatile(first.add(1)),
            read_volatile(first.add(2)),
            read_volatile(first.add(3)),
        ])
    }
}
