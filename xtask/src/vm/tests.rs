//! The test programs, compiled here and run in the machines.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf};

use anyhow::{Context as _, bail};
use ftp_nat_tests::{server::Kind, tools::Tools};
use serde_json::Value;

use super::{kernel::Choice, scene::Scene};
use crate::{
    apt::Installing,
    arm64,
    build::{self, Linking, OBJECT_VARIABLE},
    command::{cargo, output},
    dist::Architecture,
    ebpf,
    packages::Packages,
    progress::step,
    tools,
    workspace::Workspace,
};

/// Test programs by their names, and what they must find in their environment.
pub(super) struct Tests {
    programs: BTreeMap<String, PathBuf>,
    variables: Vec<(String, PathBuf)>,
}

impl Tests {
    /// Builds the eBPF object, compiles the test programs of `scenes` for machines of this
    /// architecture, and gets ready what they run.
    pub(super) fn compile(
        workspace: &Workspace,
        installing: Installing,
        scenes: &[Scene],
        architecture: Architecture,
    ) -> anyhow::Result<Self> {
        let object = ebpf::build(workspace, installing, ebpf::Crate::Datapath)?;
        let mut variables = vec![(OBJECT_VARIABLE.to_owned(), object)];
        if scenes.iter().any(|scene| scene.needs_lab()) {
            let tools = match architecture {
                Architecture::Amd64 => tools::prepare(workspace, installing)?,
                Architecture::Arm64 => tools_for_arm64(workspace, installing)?,
            };
            for (name, path) in tools.variables() {
                variables.push((name.to_owned(), path.to_owned()));
            }
        }
        let mut cargo = match architecture {
            Architecture::Amd64 => {
                let mut cargo = cargo();
                cargo.arg("test").env("CARGO_TARGET_DIR", &workspace.target);
                cargo
            }
            Architecture::Arm64 => arm64::Compiler::get(workspace, installing)?.cargo("test", &[]),
        };
        cargo
            .args(["--no-run", "--quiet", "--locked"])
            .args(["--package", "ftp-nat-tests", "--message-format", "json"])
            .current_dir(&workspace.root)
            .envs(variables.iter().cloned());
        let mut names: Vec<_> = scenes.iter().map(|scene| scene.program()).collect();
        names.sort_unstable();
        names.dedup();
        for name in &names {
            cargo.args(["--test", name]);
        }
        let messages = step(
            &format!("compiling the tests for {}", architecture.debian()),
            || output(&mut cargo),
        )?;
        let programs: BTreeMap<_, _> = messages.lines().filter_map(executable).collect();
        for name in names {
            if !programs.contains_key(name) {
                bail!("cargo compiled no test program {name}");
            }
        }
        Ok(Self {
            programs,
            variables,
        })
    }

    /// The shell command that runs a scene, or of its tests those whose names have one of these
    /// parts. Paths are quoted: a checkout may lie anywhere.
    pub(super) fn command(
        &self,
        scene: Scene,
        kernel: Choice,
        named: &[String],
    ) -> anyhow::Result<String> {
        let mut command = String::new();
        for (name, path) in &self.variables {
            write!(command, "{name}={} ", quoted(&path.display().to_string()))?;
        }
        let program = self.programs.get(scene.program()).context("not compiled")?;
        write!(command, "{}", quoted(&program.display().to_string()))?;
        for option in scene.options(kernel) {
            write!(command, " {}", quoted(option))?;
        }
        if named.is_empty() {
            for test in scene.tests() {
                write!(command, " {}", quoted(test))?;
            }
        }
        for test in named {
            write!(command, " {}", quoted(test))?;
        }
        // One after the other: the machine is slow enough. What a test says is there at once, even if
        // the scene is ended because its time is up.
        command.push_str(" --test-threads 1 --nocapture");
        Ok(command)
    }
}

/// The lab's programs for arm64. Of the servers vsftpd: the scenes need no other.
fn tools_for_arm64(workspace: &Workspace, installing: Installing) -> anyhow::Result<Tools> {
    let servers = workspace.target.join("arm64/servers");
    fs::create_dir_all(&servers)?;
    let vsftpd = Kind::Vsftpd;
    Packages::arm64(workspace, installing).unpack(
        vsftpd.packages(),
        false,
        &servers.join(vsftpd.name()),
        |_| Ok(()),
    )?;
    Ok(Tools {
        servers,
        binary: build::for_arm64(workspace, installing, Linking::Dynamic)?,
    })
}

/// The name and the file of a test program, from one of Cargo's messages.
fn executable(message: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let file = message["executable"].as_str()?;
    let name = message["target"]["name"].as_str()?;
    Some((name.to_owned(), PathBuf::from(file)))
}

/// `word` as the shell reads it back.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
