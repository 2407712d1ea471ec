//! Puts the eBPF object into the binary.
//!
//! `cargo xtask build` names the object in `FTP_NAT_EBPF_OBJECT`. Without that variable the crate
//! still builds (for `cargo check`, clippy and documentation), without `cfg(ebpf_object)`.

use std::{env, fs, path::PathBuf};

const OBJECT: &str = "FTP_NAT_EBPF_OBJECT";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(ebpf_object)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={OBJECT}");
    let Some(object) = env::var_os(OBJECT).map(PathBuf::from) else {
        return;
    };
    println!("cargo::rerun-if-changed={}", object.display());
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    if let Err(error) = fs::copy(&object, out.join("ftp-nat-ebpf.o")) {
        panic!("{OBJECT} names {}: {error}", object.display());
    }
    println!("cargo::rustc-cfg=ebpf_object");
}
