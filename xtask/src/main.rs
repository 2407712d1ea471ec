//! Building, testing and showing ftp-nat: `cargo xtask <command>`.

mod apt;
mod arm64;
mod bench;
mod build;
mod cargo_tools;
mod command;
mod compare;
mod coverage;
mod demo;
mod dist;
mod ebpf;
mod fleet;
mod flood;
mod fuzz;
mod lab;
mod lint;
mod load;
mod packages;
mod picture;
mod progress;
mod servers;
mod soak;
mod test;
mod tools;
mod unpack;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ftp_nat_tests::tools::Tools;

use crate::{apt::Installing, workspace::Workspace};

/// Build, test and show ftp-nat.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    /// Install nothing: say what is missing instead
    #[arg(long, global = true)]
    no_install: bool,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the release binary, eBPF object inside, as target/release/ftp-nat
    Build {
        /// Only the eBPF object
        #[arg(long)]
        object: bool,
    },
    /// Show the whole in namespaces, with a real server and real clients (as root)
    Demo,
    /// Run the same scenes over the kernel's own FTP helper and over ftp-nat, and write the table to
    /// docs/comparison.md (as root)
    Compare(compare::Arguments),
    /// Measure ftp-nat beside plain forwarding and the kernel's own FTP helper, and write the tables to
    /// docs/benchmarks.md (as root)
    Bench(bench::Arguments),
    /// Run every test: of the crates, of the datapath, and in namespaces with real servers (as root)
    Test {
        /// Arguments for `cargo test`, to choose some of the tests
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Set up a client, a router and a server in namespaces, and work there (as root)
    Lab {
        #[command(subcommand)]
        task: lab::LabTask,
    },
    /// Take the pictures of `ftp-nat top` in the lab anew, docs/top.svg and docs/top-wide.svg (as root).
    /// FTP_NAT_BINARY names another binary than the one of this source
    Picture,
    /// Make the packages: a Debian package, judged by lintian, and a tarball, in target/dist
    Dist {
        /// Then install, run, upgrade and remove it, on a Debian that is booted for this, with a
        /// transfer going on (as root)
        #[arg(long)]
        check: bool,
        /// For which machines, as Debian calls them; this one's kind unless given
        #[arg(long, value_enum, default_value_t)]
        arch: dist::Architecture,
    },
    /// Boot Debian's own kernels under qemu and run the tests there (as root)
    #[command(after_help = vm::HELP)]
    Vm(vm::Arguments),
    /// Load, faults and attacks at random, for as long as is wanted, and what must hold all the while
    /// (as root). FTP_NAT_BINARY names another binary than the one of this source
    Soak(soak::Arguments),
    /// Move the addresses between two gateways that share their sessions, while a client fetches files,
    /// and print what became of them (as root). FTP_NAT_BINARY names another binary than the one of
    /// this source
    Fleet(fleet::Arguments),
    /// Run the floods of the attack tests, a minute each, beside 200 clients, and print what each flood sent
    /// and what became of the clients (as root, on a machine that does nothing else)
    Flood(flood::Arguments),
    /// Hold as much at once as it is for: sessions, connections, openings, publishes, masqueraded clients;
    /// and print what was seen, and what happens just beyond (as root, on a machine that does nothing
    /// else). FTP_NAT_BINARY names another binary than the one of this source
    Load(load::Arguments),
    /// Run all fuzz targets, an hour in all, and print how often each ran
    Fuzz(fuzz::Arguments),
    /// Count the lines of ftp-nat-common that its own tests run; fails below 95 in 100
    Coverage,
    /// Check formatting, rooms (xtask/rooms.toml), links and dependencies, run clippy on every crate
    /// and rustdoc, with warnings denied
    Lint,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let installing = if cli.no_install {
        Installing::Forbidden
    } else {
        Installing::Allowed
    };
    let done = Workspace::find().and_then(|workspace| match cli.task {
        Task::Build { object } => if object {
            ebpf::build(&workspace, installing, ebpf::Crate::Datapath)
        } else {
            build::release(&workspace, installing)
        }
        .map(|built| progress::say(&format!("built {}", workspace.relative(&built)))),
        Task::Demo => tools::prepare(&workspace, installing).and_then(demo::run),
        Task::Compare(arguments) => Tools::get()
            .or_else(|_| tools::prepare(&workspace, installing))
            .and_then(|tools| compare::run(&workspace, tools, &arguments)),
        Task::Bench(arguments) => tools::prepare(&workspace, installing)
            .and_then(|tools| bench::run(&workspace, installing, tools, &arguments)),
        Task::Test { arguments } => test::run_all(&workspace, installing, &arguments),
        Task::Lab { task } => lab::run(&workspace, installing, task),
        Task::Picture => Tools::get()
            .or_else(|_| tools::prepare(&workspace, installing))
            .and_then(|tools| picture::take(&workspace, tools)),
        Task::Dist { check, arch } => dist::run_all(&workspace, installing, check, arch),
        Task::Vm(arguments) => vm::run(&workspace, installing, &arguments),
        Task::Soak(arguments) => Tools::get()
            .or_else(|_| tools::prepare(&workspace, installing))
            .and_then(|tools| soak::run(tools, &arguments)),
        Task::Fleet(arguments) => Tools::get()
            .or_else(|_| tools::prepare(&workspace, installing))
            .and_then(|tools| fleet::run(&workspace, tools, &arguments)),
        Task::Flood(arguments) => Tools::get()
            .or_else(|_| tools::prepare(&workspace, installing))
            .and_then(|tools| flood::run_all(&workspace, &tools, &arguments)),
        Task::Load(arguments) => match &arguments.hold {
            Some(part) => load::hold(part),
            None => Tools::get()
                .or_else(|_| tools::prepare(&workspace, installing))
                .and_then(|tools| load::run(&workspace, installing, tools, &arguments)),
        },
        Task::Fuzz(arguments) => fuzz::run_all(&workspace, &arguments),
        Task::Coverage => coverage::run_all(&workspace, installing),
        Task::Lint => lint::run_all(&workspace, installing),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
