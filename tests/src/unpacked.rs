//! Programs of Debian's packages, unpacked and not installed.

use std::{fs, path::Path, process::Command};

use crate::namespace::Namespace;

/// A command for the program `path` of an unpacked folder, with the libraries unpacked beside it.
///
/// # Errors
///
/// When the namespace is gone.
pub fn unpacked_program(
    namespace: &Namespace,
    folder: &Path,
    path: &str,
) -> anyhow::Result<Command> {
    let mut command = namespace.command(folder.join(path))?;
    let mut libraries = Vec::new();
    for parent in ["usr/lib", "lib"] {
        for entry in fs::read_dir(folder.join(parent))
            .into_iter()
            .flatten()
            .flatten()
        {
            // "x86_64-linux-gnu" on one machine, another triplet on the next.
            if entry.file_name().to_string_lossy().contains("-linux-") {
                libraries.push(entry.path());
            }
        }
    }
    command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries)?);
    Ok(command)
}
