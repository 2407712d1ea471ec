//! BPF_PROG_TEST_RUN of a TC program, and the packet's context as that takes it and gives it back.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// Size of `struct __sk_buff` (linux/bpf.h, Linux 5.18).
const SIZE: usize = 192;
/// Offsets in it.
const MARK: usize = 8;
const INGRESS_IFINDEX: usize = 36;
const IFINDEX: usize = 40;
const GSO_SIZE: usize = 176;

/// What the test says about a packet; the kernel finds the rest out by itself.
pub(crate) struct Context {
    /// The interface that it came in by; 0: this machine sends it.
    pub(crate) ingress_ifindex: u32,
    /// The interface whose hook runs.
    pub(crate) ifindex: u32,
    pub(crate) gso_size: u32,
}

impl Context {
    pub(crate) fn bytes(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        for (at, value) in [
            (INGRESS_IFINDEX, self.ingress_ifindex),
            (IFINDEX, self.ifindex),
            (GSO_SIZE, self.gso_size),
        ] {
            bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        bytes
    }
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) verdict: i32,
    pub(crate) frame: Vec<u8>,
    pub(crate) mark: u32,
}

/// How the packet comes from its driver.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Summed {
    /// The driver says nothing of its checksum.
    No,
    /// The hardware has summed it (CHECKSUM_COMPLETE; Linux 6.16): the kernel holds what the program
    /// leaves against its own sum, and answers EBADMSG if they differ.
    Completely,
}

/// `BPF_PROG_TEST_RUN`'s part of `union bpf_attr` (linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct Attr {
    program: i32,
    verdict: u32,
    frame_len: u32,
    out_len: u32,
    frame: u64,
    out: u64,
    repeat: u32,
    duration: u32,
    context_len: u32,
    context_out_len: u32,
    context: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    pad: u32,
}

/// Runs a TC program once. (aya's own way knows no flags for it.)
pub(crate) fn test_run(
    program: BorrowedFd<'_>,
    frame: &[u8],
    context: &Context,
    summed: Summed,
) -> io::Result<Outcome> {
    const BPF_PROG_TEST_RUN: libc::c_int = 10;
    const BPF_F_TEST_SKB_CHECKSUM_COMPLETE: u32 = 1 << 2;
    let context = context.bytes();
    let (mut out, mut context_out) = (vec![0_u8; 65536], context);
    let mut attr = Attr {
        program: program.as_raw_fd(),
        frame_len: frame.len() as u32,
        out_len: out.len() as u32,
        frame: frame.as_ptr().expose_provenance() as u64,
        out: out.as_mut_ptr().expose_provenance() as u64,
        repeat: 1,
        context_len: SIZE as u32,
        context_out_len: SIZE as u32,
        context: context.as_ptr().expose_provenance() as u64,
        context_out: context_out.as_mut_ptr().expose_provenance() as u64,
        flags: match summed {
            Summed::No => 0,
            Summed::Completely => BPF_F_TEST_SKB_CHECKSUM_COMPLETE,
        },
        ..Attr::default()
    };
    // SAFETY: all pointers are to what lives here, with its own length beside it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_TEST_RUN,
            &raw mut attr,
            size_of::<Attr>(),
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    out.truncate(attr.out_len as usize);
    Ok(Outcome {
        verdict: attr.verdict.cast_signed(),
        frame: out,
        mark: u32::from_ne_bytes(std::array::from_fn(|at| context_out[MARK + at])),
    })
}
