//! Where the programs are that this project builds or unpacks itself.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use anyhow::Context as _;

/// Names the folder with the unpacked servers, one folder a server.
pub const SERVERS_VARIABLE: &str = "FTP_NAT_LAB_SERVERS";

/// Names the `ftp-nat` binary to test.
pub const BINARY_VARIABLE: &str = "FTP_NAT_BINARY";

/// The programs' places. `cargo xtask` knows them and tells its children by the environment.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The folder with the unpacked servers.
    pub servers: PathBuf,
    /// The `ftp-nat` binary, with its eBPF object inside.
    pub binary: PathBuf,
}

static TOOLS: OnceLock<Tools> = OnceLock::new();

impl Tools {
    /// Makes these the tools of this process, whatever its environment says.
    pub fn use_here(self) {
        // A second call would be of the same tools.
        drop(TOOLS.set(self));
    }

    /// The tools of this process.
    ///
    /// # Errors
    ///
    /// When neither the environment nor [`Self::use_here`] has named them.
    pub fn get() -> anyhow::Result<Self> {
        if let Some(tools) = TOOLS.get() {
            return Ok(tools.clone());
        }
        let path = |variable: &str| {
            std::env::var_os(variable)
                .map(PathBuf::from)
                .with_context(|| format!("{variable} is not set: use `cargo xtask test`"))
        };
        Ok(Self {
            servers: path(SERVERS_VARIABLE)?,
            binary: path(BINARY_VARIABLE)?,
        })
    }

    /// The tools as environment variables for another process.
    #[must_use]
    pub fn variables(&self) -> [(&'static str, &Path); 2] {
        [
            (SERVERS_VARIABLE, &self.servers),
            (BINARY_VARIABLE, &self.binary),
        ]
    }
}
