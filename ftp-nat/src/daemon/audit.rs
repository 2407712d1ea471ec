//! The audit trail: who was let in to what port, when, because of which words, who was not, and who
//! transferred what. One JSON object a line, appended to a file by a thread of its own, so that no disk
//! holds up the daemon. xferlog is written the same way.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
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

/// What is written of an occurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The audit trail: JSON.
    Json,
    /// Files that were transferred: xferlog.
    Xferlog,
}

impl Form {
    /// What the file is called where something is said of it.
    const fn name(self) -> &'static str {
        match self {
            Self::Json => "audit log",
            Self::Xferlog => "xferlog",
        }
    }

    /// Whether such an occurrence may have a line.
    const fn is_for(self, occurrence: &Occurrence) -> bool {
        match self {
            Self::Json => occurrence.is_for_audit(),
            Self::Xferlog => occurrence.is_transfer(),
        }
    }

    fn line(self, occurrence: &Occurrence) -> String {
        match self {
            Self::Json => Record::from(occurrence).line(),
            Self::Xferlog => occurrence.xferlog_line().unwrap_or_default(),
        }
    }

    const fn lost(self, losses: &Losses) -> &AtomicU64 {
        match self {
            Self::Json => &losses.audit,
            Self::Xferlog => &losses.xferlog,
        }
    }
}

/// The audit log's queue.
#[derive(Debug)]
pub(super) struct Audit {
    commands: SyncSender<Command>,
    /// Apart from the queue, which may be full.
    reopen_wanted: Arc<AtomicBool>,
    losses: Arc<Losses>,
    form: Form,
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
        let (losses, form) = (Arc::clone(&writer.losses), writer.form);
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
            form,
        })
    }
}

impl Audit {
    /// Opens the file, so that one that cannot be written is an error at the start.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub(super) fn open(path: &Path, form: Form, losses: Arc<Losses>) -> anyhow::Result<Opened> {
        let file = open(path)
            .with_context(|| format!("cannot open the {} {}", form.name(), path.display()))?;
        Ok(Opened(Writer {
            form,
            path: path.to_owned(),
            file,
            lost: 0,
            losses,
            reopen_wanted: Arc::default(),
            complained: None,
        }))
    }

    /// Has an event written, if it belongs there.
    pub(super) fn write(&self, occurrence: &Occurrence) {
        if !self.form.is_for(occurrence) {
            return;
        }
        let command = Command::Write(occurrence.clone());
        if let Err(TrySendError::Full(_)) = self.commands.try_send(command) {
            // The gap in the numbers shows where.
            self.form.lost(&self.losses).fetch_add(1, Ordering::Relaxed);
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
    form: Form,
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
        if self.lost > 0 && self.form == Form::Json {
            text.push_str(&Record::lost(self.lost).line());
        }
        for occurrence in batch {
            text.push_str(&self.form.line(occurrence));
        }
        if text.is_empty() {
            return;
        }
        match self.append(text.as_bytes()) {
            Ok(()) => {
                if self.lost > 0 {
                    let path = self.path.display();
                    info!(
                        "the {} {path} is written again; {} events are missing",
                        self.form.name(),
                        self.lost
                    );
                }
                self.lost = 0;
                self.complained = None;
            }
            Err(error) => {
                let count = batch.len() as u64;
                self.lost += count;
                let lost = self.form.lost(&self.losses);
                lost.fetch_add(count, Ordering::Relaxed);
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
            "cannot write the {} {}: {error}; the gateway goes on without it",
            self.form.name(),
            self.path.display()
        );
    }

    fn reopen(&mut self) {
        match open(&self.path) {
            Ok(file) => self.file = file,
            Err(error) => warn!(
                "cannot open the {} {} anew: {error}; the old one is used on",
                self.form.name(),
                self.path.display()
            ),
        }
    }
}
