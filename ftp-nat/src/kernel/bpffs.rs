//! The BPF file system that pins live in: is it there, and will others see it?

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use log::info;
use rustix::{
    fs::{FlockOperation, flock, statfs},
    io::Errno,
    mount::{MountFlags, mount},
};

/// Where the BPF file system belongs.
const MOUNT_POINT: &str = "/sys/fs/bpf";

/// statfs(2)'s name for it (`BPF_FS_MAGIC`).
const MAGIC: u64 = 0xcafe_4a11;

/// Makes sure that the folder, or the place where it will be made, is on a BPF file system. Where
/// that file system belongs but is not mounted, it is mounted.
///
/// # Errors
///
/// When it is not, with what to do about it.
pub fn prepare(dir: &Path) -> anyhow::Result<()> {
    if is_bpf(existing(dir)) {
        return Ok(());
    }
    if !dir.starts_with(MOUNT_POINT) {
        bail!(
            "{} is not on a BPF file system, the only one that kernel objects can be pinned in: \
             leave out --state-dir, name a folder below {MOUNT_POINT}, or mount one there with \
             `mount -t bpf bpf {}`",
            dir.display(),
            dir.display()
        );
    }
    let how = format!("mount it with `mount -t bpf bpf {MOUNT_POINT}`");
    match mount("bpf", MOUNT_POINT, "bpf", MountFlags::empty(), None) {
        Ok(()) => info!("no BPF file system was mounted: mounted one on {MOUNT_POINT}"),
        // Somebody was faster.
        Err(_) if is_bpf(existing(dir)) => {}
        Err(error) => {
            return Err(error)
                .with_context(|| format!("no BPF file system on {MOUNT_POINT}: {how}"));
        }
    }
    if !is_bpf(existing(dir)) {
        bail!(
            "{} is hidden from the BPF file system on {MOUNT_POINT} by another mount",
            dir.display()
        );
    }
    Ok(())
}

/// Whether a folder is there at all, and on a BPF file system.
pub fn is_there(dir: &Path) -> bool {
    dir.is_dir() && is_bpf(dir)
}

/// Whether a folder is on a BPF file system, or would be if it was made.
pub fn is_on_bpf(dir: &Path) -> bool {
    is_bpf(existing(dir))
}

/// The folder itself or the nearest one above it that exists.
fn existing(dir: &Path) -> &Path {
    dir.ancestors()
        .find(|path| path.is_dir())
        .unwrap_or_else(|| Path::new("/"))
}

fn is_bpf(dir: &Path) -> bool {
    statfs(dir).is_ok_and(|fs| fs.f_type.cast_unsigned() == MAGIC)
}

/// Whether the mount that holds the folder is hidden from the rest of the machine, so that its
/// pins die with this process: what `ip netns exec` does.
pub fn is_private(dir: &Path) -> bool {
    let read = |pid| fs::read_to_string(format!("/proc/{pid}/mountinfo"));
    match (read("self"), read("1")) {
        (Ok(own), Ok(init)) => hidden(dir, &own, &init),
        // Without a look at the first process there is no telling.
        _ => false,
    }
}

fn hidden(dir: &Path, own: &str, init: &str) -> bool {
    let Some(device) = own
        .lines()
        .filter_map(Mount::parse)
        .filter(|mount| dir.starts_with(&mount.point))
        // Of mounts on the same point the last one covers the others.
        .max_by_key(|mount| mount.point.as_os_str().len())
        .map(|mount| mount.device)
    else {
        return false;
    };
    !init
        .lines()
        .filter_map(Mount::parse)
        .any(|mount| mount.device == device)
}

/// A line of /proc/PID/mountinfo (proc(5)).
struct Mount<'a> {
    device: &'a str,
    point: PathBuf,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split(' ').skip(2);
        let device = words.next()?;
        let point = words.nth(1)?.replace("\\040", " ").replace("\\134", "\\");
        Some(Self {
            device,
            point: point.into(),
        })
    }
}

/// The folder as another process sees it.
pub fn seen_by(pid: u32, dir: &Path) -> PathBuf {
    let below = dir.strip_prefix("/").unwrap_or(dir);
    Path::new("/proc")
        .join(pid.to_string())
        .join("root")
        .join(below)
}

/// How often and how long the end of a killed process is waited for.
const DYING_TRIES: u32 = 4;
const DYING_PAUSE: Duration = Duration::from_millis(50);

/// Locks a folder until the file that comes back is closed; none while another process holds it.
/// Processes that see the same BPF file system exclude each other so, whatever else they see.
///
/// # Errors
///
/// `ENOENT`: no such folder. `EACCES`: it may not be read.
pub fn lock(dir: &Path) -> io::Result<Option<fs::File>> {
    let folder = fs::File::open(dir)?;
    for _ in 0..DYING_TRIES {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(folder)),
            Err(Errno::WOULDBLOCK) => thread::sleep(DYING_PAUSE),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// Removes a folder and all in it; that it is not there is as good.
///
/// # Errors
///
/// `EACCES`: the folder belongs to another user. `EBUSY`: something is mounted in it.
pub fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INIT: &str = "\
22 1 254:0 / / rw,relatime - ext4 /dev/root rw
25 22 0:22 / /sys rw,nosuid - sysfs sysfs rw
30 25 0:27 / /sys/fs/bpf rw,nosuid - bpf bpf rw,mode=700
";

    #[test]
    fn a_bpf_file_system_that_init_sees_is_not_private() {
        assert!(!hidden(Path::new("/sys/fs/bpf/ftp-nat"), INIT, INIT));
    }

    #[test]
    fn one_mounted_inside_ip_netns_exec_is_private() {
        let own = "\
122 100 254:0 / / rw,relatime - ext4 /dev/root rw
125 122 0:51 / /sys rw,nosuid - sysfs name rw
130 125 0:52 / /sys/fs/bpf rw - bpf bpf rw
";
        assert!(hidden(Path::new("/sys/fs/bpf/ftp-nat"), own, INIT));
    }

    #[test]
    fn another_process_view_is_below_its_root() {
        assert_eq!(
            seen_by(7, Path::new("/sys/fs/bpf/ftp-nat")),
            Path::new("/proc/7/root/sys/fs/bpf/ftp-nat")
        );
    }
}
