//! The eBPF object inside this binary.

#[cfg(ebpf_object)]
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/ftp-nat-ebpf.o"));

/// The eBPF object that `cargo xtask build` put into this binary, or what to do about its absence.
///
/// # Errors
///
/// When the binary was built by plain cargo, without the object.
pub fn ebpf_object() -> anyhow::Result<&'static [u8]> {
    #[cfg(ebpf_object)]
    return Ok(OBJECT);
    #[cfg(not(ebpf_object))]
    anyhow::bail!("built without its eBPF object: use `cargo xtask build`")
}
