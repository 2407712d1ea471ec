//! Which ports each published server has announced.

use super::maps;
use aya_ebpf::bindings::BPF_NOEXIST;
use ftp_nat_common::abi::Announced;
use ftp_nat_common::wire::addr::Addr;

/// Notes that the server at this address has announced a port.
///
/// The key is given by value, which copies it to the stack: Linux 6.1 takes none that lies behind a
/// global function's argument.
#[inline(never)]
pub fn note(server: &Addr, port: u16) {
    if let Some(there) = maps::ANNOUNCED.get_ptr_mut(*server) {
        // SAFETY: the entry stays in its place while the program runs, and nothing else holds a
        // reference to it here; another CPU may write it meanwhile, see `Announced`.
        unsafe { (*there).note(port) };
        return;
    }
    let mut first = Announced::default();
    first.note(port);
    let _ = maps::ANNOUNCED.insert(*server, first, u64::from(BPF_NOEXIST));
}
