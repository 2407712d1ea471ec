//! The file that keeps what was added to the lists, as JSON.
//!
//! It is replaced as a whole: whoever reads it, after a power failure too, finds the old one or the
//! new one.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::decided::{Decided, Removal};
use crate::model::list::Entry;

/// The file's format.
const VERSION: u32 = 1;
/// Who may read and write it: its owner.
const MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    version: u32,
    entries: Vec<Entry>,
    /// What was taken out: gateways of a cluster that have not heard of it yet may still tell it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    removed: Vec<Removal>,
}

/// What it holds that has not ended; nothing where there is no file.
///
/// # Errors
///
/// When it cannot be read or understood, and what to do.
pub(super) fn read(path: &Path) -> anyhow::Result<Decided> {
    let advice = || {
        format!(
            "cannot read the lists of denied and allowed networks in {}: repair the file, or remove \
             it if nobody needs to be kept out",
            path.display()
        )
    };
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Decided::default()),
        Err(error) => return Err(error).with_context(advice),
    };
    let document: Document = serde_json::from_slice(&text).with_context(advice)?;
    if document.version != VERSION {
        bail!(
            "{} has version {} of the lists, and this ftp-nat knows {VERSION}",
            path.display(),
            document.version
        );
    }
    let now = Timestamp::now();
    let mut entries = document.entries;
    entries.retain(|it| !it.has_ended(now));
    Ok(Decided::of(entries, document.removed))
}

/// Writes it anew.
///
/// # Errors
///
/// When its folder or file cannot be written.
pub(super) fn write(path: &Path, decided: &Decided) -> anyhow::Result<()> {
    replace(path, decided)
        .with_context(|| format!("cannot keep the lists of networks in {}", path.display()))
}

fn replace(path: &Path, decided: &Decided) -> anyhow::Result<()> {
    let folder = path.parent().context("it has no folder")?;
    let document = Document {
        version: VERSION,
        entries: decided.entries(),
        removed: decided.removals(),
    };
    let mut text = serde_json::to_vec_pretty(&document)?;
    text.push(b'\n');
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(folder)?;
    let mut name = path.file_name().context("it has no name")?.to_owned();
    name.push(".new");
    let new = folder.join(name);
    // One that a daemon left which died here; a link that somebody has put here is not followed.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(&new)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;
    use crate::model::list::List;

    fn folder(name: &str) -> std::path::PathBuf {
        let path =
            std::env::temp_dir().join(format!("ftp-nat-lists-{}-{name}", std::process::id()));
        drop(fs::remove_dir_all(&path));
        path
    }

    fn entry(network: &str, until: Option<Timestamp>) -> Entry {
        Entry {
            list: List::Deny,
            network: network.parse().unwrap(),
            publish: None,
            why: Some("guesses".into()),
            since: Some(Timestamp::from_second(1_700_000_000).unwrap()),
            until,
            node: None,
        }
    }

    #[test]
    fn what_is_written_is_read_but_for_what_has_ended() {
        let folder = folder("read");
        let path = folder.join("lists.json");
        assert_eq!(read(&path).unwrap().entries(), []);
        let kept = entry("198.51.100.0/24", None);
        let ended = entry(
            "2001:db8::/32",
            Some(Timestamp::from_second(1_700_000_001).unwrap()),
        );
        let decided = Decided::of(vec![kept.clone(), ended], Vec::new());
        write(&path, &decided).unwrap();
        assert_eq!(read(&path).unwrap().entries(), [kept]);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_is_not_understood_is_not_passed_over() {
        let folder = folder("broken");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("lists.json");
        for text in ["", "{\"version\": 1", "{\"version\": 2, \"entries\": []}"] {
            fs::write(&path, text).unwrap();
            assert!(read(&path).is_err(), "{text}");
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_link_in_the_new_ones_place_is_not_followed() {
        let folder = folder("link");
        fs::create_dir_all(&folder).unwrap();
        let (path, other) = (folder.join("lists.json"), folder.join("other"));
        fs::write(&other, "untouched").unwrap();
        symlink(&other, folder.join("lists.json.new")).unwrap();
        write(&path, &Decided::default()).unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "untouched");
        fs::remove_dir_all(folder).unwrap();
    }
}
