//! Standard output.

use anyhow::{Context as _, anyhow};
use serde::Serialize;

/// Prints a value as JSON.
///
/// # Errors
///
/// When it cannot be written.
pub fn print_json<T: Serialize + ?Sized>(value: &T) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value).context("cannot write JSON")?;
    print(&format!("{text}\n"))
}

/// Prints a text; a reader that has seen enough (`| head`) is no error.
///
/// # Errors
///
/// When it cannot be written.
pub fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(anyhow!(error).context("cannot print"))
        }
        _ => Ok(()),
    }
}
