//! Small looks at the system: kernel settings.

use std::{fs, path::Path};

/// A kernel setting of this network namespace, named by the path below /proc/sys; none where the
/// kernel has none of that name.
pub(super) fn setting(path: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new("/proc/sys").join(path)).ok()?;
    Some(text.trim().to_owned())
}

/// A kernel setting that is a number.
pub(super) fn number(path: &str) -> Option<u32> {
    setting(path)?.parse().ok()
}
