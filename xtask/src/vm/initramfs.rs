//! The small archive that a machine boots from: a shell, and the modules with which it reaches this
//! machine's files.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::kernel::Kernel;
use crate::command::{program, run};

/// What a machine needs to reach its root: the bus, the file system over it, and the layer that
/// takes what is written.
const MODULES: [&str; 4] = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];

/// The first process.
const INIT: &str = include_str!("init.sh");

/// Makes the archive in `folder` and gives its path.
pub(super) fn make(folder: &Path, kernel: &Kernel, busybox: &Path) -> anyhow::Result<PathBuf> {
    let root = folder.join("initramfs");
    for place in ["bin", "dev", "modules", "mnt", "proc", "sys"] {
        fs::create_dir_all(root.join(place))?;
    }
    fs::copy(busybox, root.join("bin/busybox")).context("cannot copy busybox")?;
    let mut order = String::new();
    for file in kernel.modules(&MODULES)? {
        let name = file.file_name().context("a module without a name")?;
        let name = name.to_string_lossy();
        let name = name.trim_end_matches(".xz");
        let copy = root.join("modules").join(name);
        if file.extension().is_some_and(|end| end == "xz") {
            run(program("xz")
                .args(["--decompress", "--stdout"])
                .arg(&file)
                .stdout(File::create(&copy)?))?;
        } else {
            fs::copy(&file, &copy)?;
        }
        order.push_str(name);
        order.push('\n');
    }
    fs::write(root.join("order"), order)?;
    let init = root.join("init");
    fs::write(&init, INIT)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;

    let archive = folder.join("initramfs.cpio");
    run(program("sh")
        .args(["-c", "find . | cpio --quiet -o -H newc"])
        .current_dir(&root)
        .stdout(File::create(&archive)?))?;
    Ok(archive)
}
