//! How many files a process may have open.

use anyhow::Context as _;
use rustix::process::{Resource, getrlimit, setrlimit};

/// Lets this process have as many files open as it may.
///
/// # Errors
///
/// When the kernel does not want that.
pub(super) fn raise() -> anyhow::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("cannot raise the number of open files")
}
