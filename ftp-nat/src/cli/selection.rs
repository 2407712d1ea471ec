//! Which gateway a command is about.

use std::path::PathBuf;

use clap::Args;

use crate::config::DEFAULT_STATE_DIR;

/// Which gateway a command is about.
#[derive(Debug, Args)]
pub struct Selection {
    /// Only the gateway on this WAN interface (repeatable) [default: all in this network
    /// namespace]
    #[arg(long, value_name = "IF")]
    pub wan: Vec<String>,
    /// Where kernel objects are pinned
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,
}
