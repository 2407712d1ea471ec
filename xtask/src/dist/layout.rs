//! The folder that both the package and the tarball are made of.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{
    architecture::Architecture,
    reproducible::{epoch, files},
    third_party,
};
use crate::{
    command::{output, program, run},
    workspace::Workspace,
};

/// The shells whose completions are shipped, and where they look for them by default.
const SHELLS: [(&str, &str); 3] = [
    ("bash", "bash/ftp-nat"),
    ("zsh", "zsh/_ftp-nat"),
    ("fish", "fish/ftp-nat.fish"),
];

/// What is shipped, laid out.
pub(crate) struct Layout {
    /// `.../ftp-nat-VERSION`, with everything in it.
    pub(crate) folder: PathBuf,
    /// For which machines it is.
    pub(crate) architecture: Architecture,
    /// The time of every file, in seconds since 1970.
    pub(crate) epoch: u64,
}

impl Layout {
    /// Lays out everything in a new folder below `work`, which is emptied.
    /// `binary` is shipped; `native` is the same for this machine, and is asked what it says of itself.
    pub(crate) fn make(
        workspace: &Workspace,
        work: &Path,
        architecture: Architecture,
        binary: &Path,
        native: &Path,
    ) -> anyhow::Result<Self> {
        if work.exists() {
            fs::remove_dir_all(work).with_context(|| format!("cannot empty {}", work.display()))?;
        }
        let layout = Self {
            folder: work.join(format!("ftp-nat-{}", env!("CARGO_PKG_VERSION"))),
            architecture,
            epoch: epoch(workspace)?,
        };
        let packaging = workspace.root.join("packaging");
        layout.copy(binary, "ftp-nat")?;
        layout.copy(&packaging.join("default.toml"), "etc/ftp-nat.toml")?;
        layout.copy(&packaging.join("ftp-nat.toml"), "examples/ftp-nat.toml")?;
        layout.copy(
            &packaging.join("container/Dockerfile"),
            "examples/Dockerfile",
        )?;
        for unit in ["ftp-nat.service", "ftp-nat-state.service"] {
            layout.copy(&packaging.join(unit), unit)?;
        }
        for document in ["README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE.md"] {
            layout.copy(&workspace.root.join(document), document)?;
        }
        for licence in ["LICENSE-APACHE", "LICENSE-MIT", "LICENSE-GPL"] {
            layout.copy(&workspace.root.join(licence), licence)?;
        }
        for dashboard in files(&packaging.join("grafana"))? {
            let name = dashboard.file_name().context("a file has a name")?;
            layout.copy(&dashboard, Path::new("examples/grafana").join(name))?;
        }
        for part in ["action.d", "filter.d", "jail.d"] {
            let file = Path::new("fail2ban").join(part).join("ftp-nat.conf");
            let to = if part == "jail.d" {
                Path::new("examples/fail2ban/jail.conf").to_owned()
            } else {
                file.clone()
            };
            layout.copy(&packaging.join(&file), to)?;
        }
        for document in files(&workspace.root.join("docs"))? {
            let name = document.file_name().context("a file has a name")?;
            layout.copy(&document, Path::new("docs").join(name))?;
        }
        fs::write(
            layout.folder.join("third-party.txt"),
            third_party::licences(workspace)?,
        )?;
        layout.ask_the_program(native)?;
        Ok(layout)
    }

    /// What the program says about itself: its manual, and what shells complete.
    fn ask_the_program(&self, binary: &Path) -> anyhow::Result<()> {
        let date = output(
            program("date")
                .args(["--utc", "+%F", "--date"])
                .arg(self.at()),
        )?;
        run(program(binary)
            .args(["man-pages", "--date", date.trim()])
            .arg(self.folder.join("man")))?;
        for (shell, place) in SHELLS {
            let script = output(program(binary).args(["completions", shell]))?;
            let place = self.folder.join("completions").join(place);
            fs::create_dir_all(place.parent().context("in a folder")?)?;
            fs::write(&place, script)?;
        }
        Ok(())
    }

    /// The command itself.
    pub(crate) fn binary(&self) -> PathBuf {
        self.folder.join("ftp-nat")
    }

    fn copy(&self, from: &Path, to: impl AsRef<Path>) -> anyhow::Result<()> {
        let to = self.folder.join(to);
        fs::create_dir_all(to.parent().context("in a folder")?)?;
        fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        let executable = fs::metadata(from)?.permissions().mode() & 0o100 != 0;
        let mode = if executable { 0o755 } else { 0o644 };
        Ok(fs::set_permissions(&to, PermissionsExt::from_mode(mode))?)
    }

    /// The time of every file, as date(1) and tar(1) read it.
    fn at(&self) -> String {
        format!("@{}", self.epoch)
    }

    /// Packs everything for those who have no dpkg, with this binary, which needs no library, in the
    /// place of the package's.
    pub(crate) fn tarball(&self, dist: &Path, portable: &Path) -> anyhow::Result<PathBuf> {
        let kept = self.binary().with_extension("dynamic");
        fs::rename(self.binary(), &kept)?;
        self.copy(portable, "ftp-nat")?;
        let packed = self.pack(dist);
        fs::rename(&kept, self.binary())?;
        packed
    }

    fn pack(&self, dist: &Path) -> anyhow::Result<PathBuf> {
        let name = self.folder.file_name().context("the folder has a name")?;
        let arch = self.architecture.linux();
        let result = dist.join(format!("{}-linux-{arch}.tar.gz", name.to_string_lossy()));
        run(program("tar")
            .args(["--create", "--use-compress-program", "gzip -9n"])
            .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
            .args([
                "--mode=u=rwX,go=rX",
                "--exclude=debian",
                "--exclude=ftp-nat.dynamic",
                "--mtime",
            ])
            .arg(self.at())
            .arg("--file")
            .arg(&result)
            .arg("--directory")
            .arg(self.folder.parent().context("below work")?)
            .arg(name))?;
        Ok(result)
    }
}
