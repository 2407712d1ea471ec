//! The audit trail: who was let in to what port, when, because of which words, and who was not. One
//! JSON object a line, appended to a file by a thread of its own, so that no disk holds up the
//! daemon.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use log::{info, warn};

use super::occurrence::Occurrence;
use crate::{metrics::Losses, model::event::Record};

/// Events that may wait for the disk.
const WAITING: usize = 4096;
/// Events that are written at once.
const AT_ONCE: usize = 256;
/// How often a disk that fails is complained of.
const COMPLAINTS: Duration = Duration::from_secs(60);
/// How long the end of the daemon waits for the disk.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What the writing thread is to do.
enum Command {
    Write(Occurrence),
    /// Look at `reopen_wanted`.
    Wake,
    Finish(SyncSender<()>),
}

/// The audit log's queue.
#[derive(Debug)]
pub(super) struct Audit {
    commands: SyncSender<Command>,
    /// Apart from the queue, which may be full.
    reopen_wanted: Arc<AtomicBool>,
    losses: Arc<Losses>,
}

/// The file, open; nothing is written yet.
pub(super) struct Opened(Writer);

impl Opened {
    /// Starts the thread that writes.
    ///
    /// # Errors
    ///
    /// When the kernel has no thread to give.
    pub(super) fn start(self) -> anyhow::Result<Audit> {
        let Self(mut writer) = self;
        let losses = Arc::clone(&writer.losses);
        let reopen_wanted = Arc::clone(&writer.reopen_wanted);
        let (commands, receiver) = sync_channel(WAITING);
        thread::Builder::new()
            .name("audit".into())
            .spawn(move || writer.run(&receiver))
            .context("cannot start the audit log's thread")?;
        Ok(Audit {
            commands,
            reopen_wanted,
            losses,
        })
    }
}

impl Audit {
    /// Opens the file, so that one that cannot be written is an error at the start.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub(super) fn open(path: &Path, losses: Arc<Losses>) -> anyhow::Result<Opened> {
        let file =
            open(path).with_context(|| format!("cannot open the audit log {}", path.display()))?;
        Ok(Opened(Writer {
            path: path.to_owned(),
            file,
            lost: 0,
            losses,
            reopen_wanted: Arc::default(),
            complained: None,
        }))
    }

    /// Has an event written.
    pub(super) fn write(&self, occurrence: Occurrence) {
        if let Err(TrySendError::Full(_)) = self.commands.try_send(Command::Write(occurrence)) {
            // The gap in the numbers shows where.
            self.losses.audit.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the file anew: the old one may have been rotated away.
    pub(super) fn reopen(&self) {
        self.reopen_wanted.store(true, Ordering::Relaxed);
        // A full queue wakes the thread as well.
        drop(self.commands.try_send(Command::Wake));
    }

    /// Waits until all is written, but not for long.
    pub(super) fn finish(&self) {
        let (done, wait) = sync_channel(1);
        let end = Instant::now() + LAST_WORDS;
        let mut command = Command::Finish(done);
        while let Err(TrySendError::Full(same)) = self.commands.try_send(command) {
            if Instant::now() >= end {
                return;
            }
            command = same;
            thread::sleep(LAST_WORDS / 50);
        }
        let _ = wait.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        // O_NONBLOCK: a pipe without a reader must not hold up the start. O_NOFOLLOW: whoever may
        // write to the folder must not choose which file this process appends to.
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) => io::Error::other(
                "it is a symbolic link, which is not followed: name the file itself",
            ),
            _ => error,
        })
}

struct Writer {
    path: PathBuf,
    file: File,
    /// Events that could not be written since the last that could.
    lost: u64,
    losses: Arc<Losses>,
    reopen_wanted: Arc<AtomicBool>,
    complained: Option<Instant>,
}

impl Writer {
    fn run(&mut self, commands: &Receiver<Command>) {
        while let Ok(first) = commands.recv() {
            let mut batch = Vec::new();
            let mut after = None;
            for command in std::iter::once(first).chain(commands.try_iter().take(AT_ONCE)) {
                match command {
                    Command::Write(occurrence) => batch.push(occurrence),
                    other => {
                        after = Some(other);
                        break;
                    }
                }
            }
            self.write(&batch);
            if self.reopen_wanted.swap(false, Ordering::Relaxed) {
                self.reopen();
            }
            if let Some(Command::Finish(done)) = after {
                let _ = done.send(());
            }
        }
    }

    fn write(&mut self, batch: &[Occurrence]) {
        if batch.is_empty() {
            return;
        }
        let mut text = String::new();
        if self.lost > 0 {
            text.push_str(&Record::lost(self.lost).line());
        }
        for occurrence in batch {
            text.push_str(&Record::from(occurrence).line());
        }
        match self.append(text.as_bytes()) {
            Ok(()) => {
                if self.lost > 0 {
                    let path = self.path.display();
                    info!(
                        "the audit log {path} is written again; {} events are missing",
                        self.lost
                    );
                }
                self.lost = 0;
                self.complained = None;
            }
            Err(error) => {
                let count = batch.len() as u64;
                self.lost += count;
                self.losses.audit.fetch_add(count, Ordering::Relaxed);
                self.complain(&error);
            }
        }
    }

    /// Appends all of it, or nothing: no line stays half.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let before = self.file.metadata()?.len();
        self.file.write_all(bytes).inspect_err(|_| {
            // Where that fails too, a half line is the least of the disk's troubles.
            drop(self.file.set_len(before));
        })
    }

    fn complain(&mut self, error: &io::Error) {
        let now = Instant::now();
        if self.complained.is_some_and(|then| now - then < COMPLAINTS) {
            return;
        }
        self.complained = Some(now);
        warn!(
            "cannot write the audit log {}: {error}; the gateway goes on without it",
            self.path.display()
        );
    }

    fn reopen(&mut self) {
        match open(&self.path) {
            Ok(file) => self.file = file,
            Err(error) => warn!(
                "cannot open the audit log {} anew: {error}; the old one is used on",
                self.path.display()
            ),
        }
    }
}
