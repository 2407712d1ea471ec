//! Debian's own kernels, booted under qemu over this machine's own files: the tests run there.

mod emulator;
mod initramfs;
mod kernel;
mod machine;
mod report;
mod scene;
mod tests;
mod userland;

use anyhow::{bail, ensure};
use clap::Args;

use self::{
    emulator::Emulator, kernel::Kernel, machine::Machine, report::Report, tests::Tests,
    userland::Userland,
};
pub(crate) use self::{kernel::Choice, scene::Scene};
use crate::{
    apt::{self, Installing},
    dist::Architecture,
    progress::say,
    workspace::Workspace,
};

/// The programs that this needs, each with the package that has it.
const PROGRAMS: &[(&str, &str)] = &[
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("depmod", "kmod"),
    ("xz", "xz-utils"),
];

/// Those that tunnels need besides.
const TUNNELS: &[(&str, &str)] = &[("wg", "wireguard-tools"), ("pppd", "ppp")];

/// What the help says below the options.
pub(crate) const HELP: &str = "\
A machine boots in about ten seconds by software emulation; KVM is not needed. Its root is this
machine's, read by 9p, and what it writes is lost. Kernels are downloaded, not installed, into
target/vm/kernels, and stay there: remove a kernel's folder to have the newest one. Logs are in
target/vm/KERNEL. The last line says what passed.

While the datapath changes: `cargo xtask vm --kernel 6.1 --scene load` builds the eBPF object and
prints each program's instructions, as loaded and as verified, and how long that took.";

/// What to boot, and what to run there.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Which of Debian's kernels; may be given several times
    #[arg(long = "kernel", value_enum, default_value = "all")]
    kernels: Vec<Choice>,
    /// Which scenes, may be given several times; without, all but the tunnels
    #[arg(long = "scene", value_enum)]
    scenes: Vec<Scene>,
    /// Only tests whose names have this part, may be given several times; a scene without any has
    /// not passed
    #[arg(long = "test", value_name = "NAME")]
    tests: Vec<String>,
}

/// What came of a short run.
pub(crate) enum Short {
    /// The kernel took every program.
    Passed,
    /// There is no such machine here, and why: nothing was shown.
    NotHad(anyhow::Error),
}

/// Has the oldest kernel that ftp-nat is for, Debian 12's, load and attach every program.
///
/// What the verifier of one Linux takes, that of another refuses: this machine's own kernel shows
/// nothing of 6.1.
///
/// # Errors
///
/// When the kernel refuses something, or does not come up. That it cannot be had is no error.
pub(crate) fn short(workspace: &Workspace, installing: Installing) -> anyhow::Result<Short> {
    let kernel = match get_short(workspace, installing) {
        Ok(kernel) => kernel,
        Err(error) => return Ok(Short::NotHad(error)),
    };
    let scenes = [Scene::Load];
    let tests = Tests::compile(workspace, installing, &scenes, Architecture::Amd64)?;
    let mut report = Report::default();
    boot(
        workspace,
        installing,
        &tests,
        kernel,
        &Wanted {
            scenes: &scenes,
            tests: &[],
        },
        &mut report,
    )?;
    report.print();
    report.verdict()?;
    Ok(Short::Passed)
}

/// The machine and the kernel of a short run.
fn get_short(workspace: &Workspace, installing: Installing) -> anyhow::Result<Kernel> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "this machine is no x86-64, whose files the emulated one would read"
    );
    apt::require_programs(workspace, installing, PROGRAMS, "virtual machines")?;
    Emulator::get(workspace, installing, Architecture::Amd64)?;
    Kernel::get(workspace, installing, Choice::V6_1)
}

/// What is run in a machine.
struct Wanted<'a> {
    scenes: &'a [Scene],
    /// Parts of the names of tests; all that the scenes have, if there are none.
    tests: &'a [String],
}

/// Boots a kernel and runs the scenes in it.
fn boot(
    workspace: &Workspace,
    installing: Installing,
    tests: &Tests,
    kernel: Kernel,
    wanted: &Wanted<'_>,
    report: &mut Report,
) -> anyhow::Result<()> {
    say(&format!("Linux {}:", kernel.release));
    let userland = Userland::get(workspace, installing, &kernel)?;
    let emulator = Emulator::get(workspace, installing, kernel.choice.architecture())?;
    let machine = Machine::prepare(workspace, &kernel, emulator, userland)?;
    report.add(&kernel, machine.run(tests, wanted.scenes, wanted.tests)?);
    Ok(())
}

/// Boots each kernel and runs the scenes in it, one after the other.
pub(crate) fn run(
    workspace: &Workspace,
    installing: Installing,
    arguments: &Arguments,
) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the machine reads this one's files as root: run it with sudo");
    }
    apt::require_programs(workspace, installing, PROGRAMS, "virtual machines")?;
    let mut scenes = arguments.scenes.clone();
    let is_lacking = arguments.kernels.contains(&Choice::V5_10);
    if scenes.is_empty() {
        scenes = if is_lacking {
            vec![Scene::Lacking]
        } else {
            Scene::usual()
        };
    }
    let mixed = arguments.kernels.len() > 1 || scenes.len() > 1;
    if is_lacking != scenes.contains(&Scene::Lacking) || is_lacking && mixed {
        bail!("the scene `lacking` is for --kernel 5.10, and that kernel is for no other scene");
    }
    let wanted = Wanted {
        scenes: &scenes,
        tests: &arguments.tests,
    };
    if scenes.contains(&Scene::Tunnels) {
        apt::require_programs(workspace, installing, TUNNELS, "tunnels")?;
    }
    let kernels = kernel::chosen(&arguments.kernels);
    let mut report = Report::default();
    for architecture in [Architecture::Amd64, Architecture::Arm64] {
        let mut kernels = kernels
            .iter()
            .filter(|choice| choice.architecture() == architecture)
            .peekable();
        if kernels.peek().is_none() {
            continue;
        }
        Emulator::get(workspace, installing, architecture)?;
        let tests = Tests::compile(workspace, installing, &scenes, architecture)?;
        for choice in kernels {
            let kernel = Kernel::get(workspace, installing, *choice)?;
            boot(workspace, installing, &tests, kernel, &wanted, &mut report)?;
        }
    }
    report.print();
    report.verdict()
}
