//! The packet's context as BPF_PROG_TEST_RUN takes it and gives it back.

/// Size of `struct __sk_buff` (linux/bpf.h, Linux 5.18).
const SIZE: usize = 192;
/// Offsets in it.
const MARK: usize = 8;
const IFINDEX: usize = 40;
const GSO_SIZE: usize = 176;

/// What the test says about a packet; the kernel finds the rest out by itself.
pub(crate) struct Context {
    pub(crate) ifindex: u32,
    pub(crate) gso_size: u32,
}

impl Context {
    pub(crate) fn bytes(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        for (at, value) in [(IFINDEX, self.ifindex), (GSO_SIZE, self.gso_size)] {
            bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        bytes
    }
}

pub(crate) fn mark(bytes: &[u8; SIZE]) -> u32 {
    u32::from_ne_bytes(std::array::from_fn(|at| bytes[MARK + at]))
}
