//! Network namespaces with a guard.

use std::{
    fs::{self, File},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, mpsc},
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{
    netns::{NAMES, feed, ip, remove},
    reaper,
};

/// A named network namespace; unless [kept](Self::keep), it is removed when dropped, with every
/// process in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    owned: bool,
}

impl Namespace {
    /// Makes the namespace `name`, with its loopback interface up.
    ///
    /// # Errors
    ///
    /// When `ip netns` fails: mostly for want of root.
    pub fn create(name: &str) -> anyhow::Result<Self> {
        // The first `ip netns add` of a machine mounts /run/netns, and two at once can collide.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        if !rustix::process::geteuid().is_root() {
            bail!("network namespaces need root: run the lab with sudo");
        }
        reaper::adopt_namespace(name);
        let namespace = Self {
            name: name.to_owned(),
            owned: true,
        };
        {
            let _lock = ONE_AT_A_TIME.lock();
            ip(&["netns", "add", name])?;
        }
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The namespace `name`, which exists already and stays when this value is dropped.
    ///
    /// # Errors
    ///
    /// When there is none of that name.
    pub fn existing(name: &str) -> anyhow::Result<Self> {
        let namespace = Self {
            name: name.to_owned(),
            owned: false,
        };
        namespace.open()?;
        Ok(namespace)
    }

    /// Leaves the namespace standing after this process.
    pub fn keep(&mut self) {
        self.owned = false;
        reaper::forget_namespace(&self.name);
    }

    /// The name, as `ip netns` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for the namespace.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(NAMES).join(&self.name)
    }

    fn open(&self) -> anyhow::Result<OwnedFd> {
        File::open(self.path())
            .map(OwnedFd::from)
            .with_context(|| format!("there is no network namespace {}", self.name))
    }

    /// A command that will run in this namespace.
    ///
    /// Only the network namespace changes. `ip netns exec` would also mount a fresh /sys, and with
    /// it hide /sys/fs/bpf and every pin.
    ///
    /// # Errors
    ///
    /// When the namespace is gone.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> anyhow::Result<Command> {
        let file = self.open()?;
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(())
            });
        }
        Ok(command)
    }

    /// Runs `work` on a thread of its own inside the namespace: for sockets, and for what is under
    /// /proc/sys/net.
    ///
    /// # Errors
    ///
    /// When the namespace is gone, or what `work` returns.
    ///
    /// # Panics
    ///
    /// When `work` panics.
    pub fn run<T: Send>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        let file = self.open()?;
        thread::scope(|scope| {
            scope
                .spawn(move || {
                    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                        .with_context(|| format!("cannot enter namespace {}", self.name))?;
                    work()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a thread inside the namespace, where the threads that it starts will live too.
    ///
    /// # Errors
    ///
    /// When the namespace is gone.
    pub fn spawn(&self, work: impl FnOnce() + Send + 'static) -> anyhow::Result<JoinHandle<()>> {
        let file = self.open()?;
        let (entered, has_entered) = mpsc::sync_channel(1);
        let thread = thread::spawn(move || {
            let result = move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network));
            let may_work = result.is_ok();
            // The other end waits for it.
            let _ = entered.send(result);
            if may_work {
                work();
            }
        });
        has_entered
            .recv()?
            .with_context(|| format!("cannot enter namespace {}", self.name))?;
        Ok(thread)
    }

    /// Runs `ip` with the words of each line of `lines`, in one process.
    ///
    /// # Errors
    ///
    /// With ip's own message, which names the line.
    pub fn ip(&self, lines: &str) -> anyhow::Result<()> {
        feed(
            Command::new("ip").args(["-netns", &self.name, "-batch", "-"]),
            lines,
        )
    }

    /// Replaces or adds to the firewall: `ruleset` is what `nft -f` reads.
    ///
    /// # Errors
    ///
    /// With nft's own message.
    pub fn nft(&self, ruleset: &str) -> anyhow::Result<()> {
        feed(self.command("nft")?.args(["-f", "-"]), ruleset)
    }

    /// Sets `key` ("net.ipv4.ip_forward") to `value`.
    ///
    /// # Errors
    ///
    /// When the kernel has no such key or refuses the value.
    pub fn sysctl(&self, key: &str, value: &str) -> anyhow::Result<()> {
        let file = Path::new("/proc/sys").join(key.replace('.', "/"));
        self.run(|| {
            fs::write(&file, value)
                .with_context(|| format!("cannot write {value} to {}", file.display()))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if self.owned {
            remove(&self.name);
            reaper::forget_namespace(&self.name);
        }
    }
}
