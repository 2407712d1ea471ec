//! Kernel settings below /proc/sys, of this network namespace where they are a network's.

use std::{fs, path::Path};

/// A setting, named by the path below /proc/sys; none where the kernel has none of that name.
pub fn setting(path: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new("/proc/sys").join(path)).ok()?;
    Some(text.trim().to_owned())
}

/// One that is a number.
pub fn number(path: &str) -> Option<u32> {
    setting(path)?.parse().ok()
}
