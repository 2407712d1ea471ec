//! One virtual machine: prepared, booted, watched, and gone.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use ftp_nat_tests::{medium::card, process::Running};

use super::{
    emulator::Emulator,
    initramfs,
    kernel::Kernel,
    report::{Ended, Outcome},
    scene::Scene,
    tests::Tests,
    userland::Userland,
};
use crate::{
    dist::Architecture,
    progress::{say, step},
    workspace::Workspace,
};

/// What runs in the machine after the root is there.
const MAIN: &str = include_str!("main.sh");

/// How long a machine may take from power-on to its first scene, and from the last one's end to
/// power-off.
const BOOT_LIMIT: Duration = Duration::from_secs(240);

/// Pairs of network cards, both of a pair on one cable that ends in the machine.
const CARD_PAIRS: u8 = 2;

/// How often the shared folder is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A machine that can be booted.
pub(super) struct Machine<'k> {
    kernel: &'k Kernel,
    /// What it has of its own: its archive, and the folder it shares with the machine.
    folder: PathBuf,
    emulator: Emulator,
    userland: Userland,
    initramfs: PathBuf,
    /// Held while the machine exists: the folder is one machine's.
    _lock: File,
}

impl<'k> Machine<'k> {
    /// Makes what it boots from.
    ///
    /// # Errors
    ///
    /// When a machine of this kernel exists already in this checkout, or a program fails.
    pub(super) fn prepare(
        workspace: &Workspace,
        kernel: &'k Kernel,
        emulator: Emulator,
        userland: Userland,
    ) -> anyhow::Result<Self> {
        let machines = workspace.target.join("vm");
        let folder = machines.join(kernel.choice.name());
        let lock = File::create(machines.join(format!("{}.lock", kernel.choice.name())))?;
        if lock.try_lock().is_err() {
            bail!(
                "another `cargo xtask vm` runs Linux {} in this checkout",
                kernel.choice.name()
            );
        }
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(folder.join("shared"))?;
        let initramfs = initramfs::make(&folder, kernel, &userland.busybox)?;
        Ok(Self {
            kernel,
            folder,
            emulator,
            userland,
            initramfs,
            _lock: lock,
        })
    }

    /// Boots, runs `scenes` (of their tests those that are `named`, or all) and powers off: how each
    /// ended. A scene that never began because the
    /// machine hung or crashed has not passed.
    ///
    /// # Errors
    ///
    /// When qemu cannot be started, or the kernel does not come up.
    pub(super) fn run(
        &self,
        tests: &Tests,
        scenes: &[Scene],
        named: &[String],
    ) -> anyhow::Result<Vec<Outcome>> {
        let shared = self.folder.join("shared");
        let mut list = String::new();
        for scene in scenes {
            list.push_str(&format!(
                "{} {} {}\n",
                scene.name(),
                scene.limit().as_secs(),
                tests.command(*scene, self.kernel.choice, named)?
            ));
        }
        fs::write(shared.join("scenes"), list)?;
        fs::write(
            shared.join("main.sh"),
            format!(
                "VM_MODULES='{}'\nVM_FOLDER='{}'\n{MAIN}",
                self.kernel.root.join("lib/modules").display(),
                self.userland
                    .folder
                    .as_deref()
                    .unwrap_or(Path::new(""))
                    .display()
            ),
        )?;
        let mut qemu = Running::start(&mut self.qemu(&shared, scenes)?)?;
        step("booting", || {
            self.wait(&mut qemu, BOOT_LIMIT, || shared.join("booted").exists())
        })?;
        let mut outcomes = Vec::new();
        for scene in scenes {
            let exit = shared.join(format!("{}.exit", scene.name()));
            let limit = scene.limit() + Duration::from_secs(30);
            let start = Instant::now();
            let ended = step(&format!("scene {}", scene.name()), || {
                self.wait(&mut qemu, limit, || {
                    fs::read_to_string(&exit).is_ok_and(|text| text.ends_with('\n'))
                })
            });
            let log = fs::read_to_string(shared.join(format!("{}.log", scene.name())));
            let log = log.unwrap_or_default();
            let how = match &ended {
                Ok(()) => match fs::read_to_string(&exit)?.trim() {
                    "0" => Ended::Passed,
                    "124" | "137" => Ended::Hung,
                    _ => Ended::Failed,
                },
                Err(_) => Ended::Hung,
            };
            outcomes.push(Outcome {
                scene: *scene,
                ended: how,
                took: start.elapsed(),
                log,
            });
            if let Err(error) = ended {
                say(&format!("{error:#}"));
                return Ok(outcomes);
            }
        }
        step("powering off", || {
            let start = Instant::now();
            while qemu.is_alive()? {
                if start.elapsed() > BOOT_LIMIT {
                    bail!("it does not power off");
                }
                thread::sleep(LOOK);
            }
            Ok(())
        })?;
        Ok(outcomes)
    }

    fn qemu(&self, shared: &Path, scenes: &[Scene]) -> anyhow::Result<Command> {
        // Servers and their files lie in the machine's memory.
        let mebibytes = if scenes.iter().any(|scene| scene.needs_lab()) {
            "6000"
        } else {
            "1500"
        };
        let (machine, processor, console) = match self.kernel.choice.architecture() {
            Architecture::Amd64 => ("q35,accel=tcg", "max", "ttyS0"),
            Architecture::Arm64 => ("virt,accel=tcg", "cortex-a72", "ttyAMA0"),
        };
        let mut qemu = self.emulator.command();
        qemu.args(["-machine", machine, "-cpu", processor])
            .args(["-smp", "2", "-m", mebibytes])
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .arg("-no-reboot")
            .arg("-kernel")
            .arg(self.kernel.image())
            .arg("-initrd")
            .arg(&self.initramfs)
            .arg("-append")
            .arg(format!("console={console} panic=-1 rdinit=/init"))
            .arg("-serial")
            .arg(format!("file:{}", self.console().display()));
        share(&mut qemu, "root", &self.userland.root, "readonly=on")?;
        share(&mut qemu, "vm", shared, "readonly=off")?;
        if let Some(folder) = &self.userland.folder {
            share(&mut qemu, "folder", folder, "readonly=on")?;
        }
        for pair in 0..CARD_PAIRS {
            for end in 0..2 {
                qemu.arg("-netdev")
                    .arg(format!("hubport,hubid={pair},id=net{pair}-{end}"))
                    .arg("-device")
                    .arg(format!(
                        "virtio-net-pci,netdev=net{pair}-{end},mac={}",
                        card(pair, end)
                    ));
            }
        }
        Ok(qemu)
    }

    /// What the kernel says.
    fn console(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    /// Waits until `done`, while the machine lives.
    fn wait(
        &self,
        qemu: &mut Running,
        limit: Duration,
        done: impl Fn() -> bool,
    ) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            if done() {
                return Ok(());
            }
            if !qemu.is_alive()? {
                bail!(
                    "the machine ended: {}\n{}",
                    qemu.log().trim(),
                    self.last_words()
                );
            }
            if start.elapsed() > limit {
                bail!("nothing for {limit:?}:\n{}", self.last_words());
            }
            thread::sleep(LOOK);
        }
    }

    /// The end of what the kernel said, and where the rest is.
    fn last_words(&self) -> String {
        let console = fs::read(self.console()).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<_> = console.lines().collect();
        let tail = lines[lines.len().saturating_sub(15)..].join("\n  ");
        format!("  {tail}\n(all of it: {})", self.console().display())
    }
}

/// Lets the machine see a folder, as the 9p mount of this name.
fn share(qemu: &mut Command, name: &str, folder: &Path, how: &str) -> anyhow::Result<()> {
    let folder = folder.to_str().context("a path that is not UTF-8")?;
    // A comma ends an option's value unless it is doubled.
    let folder = folder.replace(',', ",,");
    qemu.arg("-fsdev")
        .arg(format!(
            "local,id={name},path={folder},security_model=none,multidevs=remap,{how}"
        ))
        .arg("-device")
        .arg(format!("virtio-9p-pci,fsdev={name},mount_tag={name}"));
    Ok(())
}
