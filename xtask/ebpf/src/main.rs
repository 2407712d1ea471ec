//! What the benchmark runs in the kernel.
//!
//! [`shoot`] sends packets and counts those that arrive, at the least cost to the machine that also
//! has to be the router. [`fresh`] gives every turn of a test run a packet that no earlier turn has
//! changed. [`talk`] opens data connections as fast as the router lets it. [`table`] calls the
//! kernel's hash tables and does nothing else.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod fresh;
#[cfg(target_arch = "bpf")]
mod layout;
#[cfg(target_arch = "bpf")]
mod shoot;
#[cfg(target_arch = "bpf")]
mod table;
#[cfg(target_arch = "bpf")]
mod talk;

/// Nothing is there for a host to run.
#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel reads the licence from here.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
