//! For which machines a package is.

use std::{env::consts::ARCH, path::PathBuf};

use anyhow::bail;
use clap::ValueEnum;

use crate::{
    apt::Installing,
    build::{self, Linking},
    workspace::Workspace,
};

/// A kind of machine, as Debian calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Architecture {
    /// x86-64
    Amd64,
    /// 64-bit Arm; built on others by Debian's compiler
    Arm64,
}

impl Default for Architecture {
    fn default() -> Self {
        if ARCH == "aarch64" {
            Self::Arm64
        } else {
            Self::Amd64
        }
    }
}

impl Architecture {
    /// Debian's name.
    pub(crate) const fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The kernel's and the compiler's name.
    pub(crate) const fn linux(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// Whether it is this machine's.
    pub(crate) fn is_native(self) -> bool {
        self.linux() == ARCH
    }

    /// Builds the command for another kind of machine than this one.
    ///
    /// # Errors
    ///
    /// When there is no compiler for it, or it fails.
    pub(super) fn binary(
        self,
        workspace: &Workspace,
        installing: Installing,
        linking: Linking,
    ) -> anyhow::Result<PathBuf> {
        match self {
            Self::Arm64 => build::for_arm64(workspace, installing, linking),
            Self::Amd64 => bail!("there is no compiler for amd64 on {ARCH}"),
        }
    }
}
