//! What passed the hosts, recorded to be read when something stood still.

use std::{fs, path::Path, time::Duration};

use anyhow::Context as _;
use ftp_nat_tests::{lab::Lab, process::Running};

/// Headers are enough, and control connections' lines.
const LENGTH: &str = "160";

/// How long tcpdump may take to start and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The recordings of one run.
pub(super) struct Captures(Vec<Running>);

impl Captures {
    /// None at all.
    pub(super) const fn none() -> Self {
        Self(Vec::new())
    }

    /// Records every interface of the router, the first two clients and the server.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made, or tcpdump does not start.
    pub(super) fn start(lab: &Lab, folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
        let hosts = [
            ("router", &lab.router),
            ("client1", &lab.outside[0].namespace),
            ("client2", &lab.outside[1].namespace),
            ("server", &lab.server().namespace),
        ];
        let mut captures = Vec::new();
        for (name, namespace) in hosts {
            let mut tcpdump = Running::start(
                namespace
                    .command("tcpdump")?
                    .args(["-U", "-n", "-Z", "root", "-B", "16384", "-s", LENGTH])
                    .args(["-i", "any", "-w"])
                    .arg(folder.join(format!("{name}.pcap"))),
            )?;
            tcpdump.wait_for("listening", PATIENCE)?;
            captures.push(tcpdump);
        }
        Ok(Self(captures))
    }

    /// Ends them.
    ///
    /// # Errors
    ///
    /// When tcpdump does not end.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        for tcpdump in self.0 {
            tcpdump.stop(PATIENCE)?;
        }
        Ok(())
    }
}
