//! Programs of Debian's packages, unpacked and not installed.

use std::{ffi::OsString, fs, path::Path, process::Command};

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
    command.env("LD_LIBRARY_PATH", library_path(folder)?);
    Ok(command)
}

/// Where the libraries of an unpacked folder are, for the loader's variable LD_LIBRARY_PATH.
///
/// # Errors
///
/// When the folder's name has a colon.
pub fn library_path(folder: &Path) -> anyhow::Result<OsString> {
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
    Ok(std::env::join_paths(libraries)?)
}
