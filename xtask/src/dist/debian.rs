//! The Debian package, by debhelper: what is installed and removed on a user's machine is what
//! Debian's own tools write.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{layout::Layout, reproducible::files};
use crate::{
    command::{output, program},
    workspace::Workspace,
};

/// A package's version: that of the source, and Debian's revision.
pub(crate) struct Version(String);

impl Version {
    /// That of Cargo.toml.
    pub(crate) fn of_this() -> Self {
        Self(format!("{}-1", env!("CARGO_PKG_VERSION")))
    }

    /// One that comes before every other.
    pub(crate) fn earlier() -> Self {
        Self(format!("0~{}-1", env!("CARGO_PKG_VERSION")))
    }
}

/// What a build left.
pub(crate) struct Built {
    /// The list of it all, for lintian.
    pub(crate) changes: PathBuf,
    /// `ftp-nat_VERSION_ARCH.deb`.
    pub(crate) package: PathBuf,
}

/// Builds a package of what is laid out, beside it.
pub(crate) fn build(
    workspace: &Workspace,
    layout: &Layout,
    version: &Version,
) -> anyhow::Result<Built> {
    let debian = layout.folder.join("debian");
    if debian.exists() {
        fs::remove_dir_all(&debian)?;
    }
    copy_folder(&workspace.root.join("packaging/debian"), &debian)?;
    fs::copy(
        layout.folder.join("ftp-nat.service"),
        debian.join("ftp-nat.service"),
    )?;
    let maintainer = maintainer(workspace)?;
    let control = debian.join("control");
    let fields = fs::read_to_string(&control)?.replacen(
        "\nSection:",
        &format!("\nMaintainer: {maintainer}\nSection:"),
        1,
    );
    fs::write(&control, fields)?;
    fs::write(
        debian.join("changelog"),
        changelog(layout, version, &maintainer)?,
    )?;

    let mut buildpackage = program("dpkg-buildpackage");
    if !layout.architecture.is_native() {
        fs::write(debian.join("shlibs.local"), libraries(layout)?)?;
        // Where gcc for this architecture has them; debian/rules reads it.
        let place = format!("/usr/{}-linux-gnu/lib", layout.architecture.linux());
        buildpackage.env("FOREIGN_LIBRARIES", place);
    }
    let log = output(
        buildpackage
            .args(["--host-arch", layout.architecture.debian()])
            .args([
                "--build=binary",
                "--unsigned-changes",
                "--unsigned-buildinfo",
            ])
            // Cargo is none of dpkg's packages.
            .args(["--no-check-builddeps", "--no-pre-clean"])
            .current_dir(&layout.folder)
            .env("SOURCE_DATE_EPOCH", layout.epoch.to_string())
            // A release build has no debug information that could be split off.
            .env("DEB_BUILD_OPTIONS", "noautodbgsym")
            .env_remove("DH_VERBOSE"),
    )?;
    let work = layout.folder.parent().context("below work")?;
    fs::write(work.join("dpkg-buildpackage.log"), log)?;
    find(work, version)
}

/// debian/shlibs.local: which package has the libraries that the command is linked to. dpkg knows
/// that of its own architecture alone. The C library has to be as new as the latest of its versions
/// that the command names.
fn libraries(layout: &Layout) -> anyhow::Result<String> {
    let symbols = output(
        program("readelf")
            .args(["--wide", "--version-info"])
            .arg(layout.binary()),
    )?;
    let version = symbols
        .split("GLIBC_")
        .skip(1)
        .filter_map(|text| {
            let (major, rest) = text.split_once('.')?;
            let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
        })
        .max();
    let (major, minor) = version.context("the command names no version of the C library")?;
    Ok(format!(
        "libc 6 libc6 (>= {major}.{minor})\nld-linux-aarch64 1 libc6 (>= {major}.{minor})\nlibm 6 \
         libc6 (>= {major}.{minor})\nlibgcc_s 1 libgcc-s1 (>= 4.2)\n"
    ))
}

fn find(work: &Path, version: &Version) -> anyhow::Result<Built> {
    let made = files(work)?;
    let prefix = format!("ftp-nat_{}_", version.0);
    let named = |suffix: &str| {
        made.iter()
            .find(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with(&prefix) && name.ends_with(suffix)
            })
            .cloned()
    };
    Ok(Built {
        changes: named(".changes").context("dpkg-buildpackage left no .changes")?,
        package: named(".deb").context("dpkg-buildpackage left no package")?,
    })
}

/// Who answers for the package, which Debian's policy wants to know: whoever builds it, named as
/// for Debian's own tools by DEBFULLNAME and DEBEMAIL; otherwise the author of the last change.
fn maintainer(workspace: &Workspace) -> anyhow::Result<String> {
    let given = |name| env::var(name).ok().filter(|text| !text.is_empty());
    if let (Some(name), Some(address)) = (given("DEBFULLNAME"), given("DEBEMAIL")) {
        return Ok(format!("{name} <{address}>"));
    }
    let author = output(program("git").current_dir(&workspace.root).args([
        "log",
        "-1",
        "--format=%an <%ae>",
    ]))
    .context(
        "DEBFULLNAME and DEBEMAIL are not set, and git does not tell who made the last change",
    )?;
    Ok(author.trim().to_owned())
}

/// debian/changelog, from which dpkg takes version and date. What changed is in CHANGELOG.md.
fn changelog(layout: &Layout, version: &Version, maintainer: &str) -> anyhow::Result<String> {
    let date = output(
        program("date")
            .args(["--utc", "--rfc-email", "--date"])
            .arg(format!("@{}", layout.epoch)),
    )?;
    Ok(format!(
        "ftp-nat ({}) unstable; urgency=medium\n\n  * Built by `cargo xtask dist`; what changed is \
         in changelog.gz.\n\n -- {maintainer}  {date}",
        version.0
    ))
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for path in files(from)? {
        let target = to.join(path.file_name().context("a file has a name")?);
        if path.is_dir() {
            copy_folder(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
            // Whatever the umask of the checkout was: debhelper runs executable files.
            let mode = if path.ends_with("rules") {
                0o755
            } else {
                0o644
            };
            fs::set_permissions(&target, PermissionsExt::from_mode(mode))?;
        }
    }
    Ok(())
}
