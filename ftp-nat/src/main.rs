//! The `ftp-nat` command.

fn main() -> anyhow::Result<()> {
    let object = ftp_nat::object::ebpf_object()?;
    println!("eBPF object of {} bytes", object.len());
    Ok(())
}
