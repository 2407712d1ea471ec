//! The log: lines on standard error, for a terminal, for the journal, or as JSON for a collector.

use std::{
    env,
    io::{self, Write as _},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use env_logger::{Builder, Env, Target, fmt::Formatter};
use jiff::Timestamp;
use log::{
    Level, LevelFilter, Record,
    kv::{self, Key, Source, Value, VisitSource},
};
use serde_json::{Map, Value as Json};

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, events with all their fields.
    Json,
}

/// The queue of the thread that writes, once [`detach`] has started it.
static WRITER: OnceLock<Writer> = OnceLock::new();

/// Lines that may wait for standard error; more are dropped and counted.
const WAITING: usize = 4096;

/// How long the end of the process waits for lines to be written.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// The thread that writes lines, as others see it.
struct Writer {
    lines: SyncSender<Vec<u8>>,
    /// Lines that are queued or being written.
    waiting: Arc<AtomicUsize>,
    /// Lines that were dropped and not yet told of.
    dropped: Arc<AtomicU64>,
}

/// Writes the log from now on by a thread of its own, so that a pipe which nobody reads, or a
/// stopped terminal, holds up nothing but the log.
///
/// # Errors
///
/// `EAGAIN`: the limit of threads is reached.
pub fn detach() -> io::Result<()> {
    let (lines, queued) = sync_channel::<Vec<u8>>(WAITING);
    let (waiting, dropped) = (Arc::<AtomicUsize>::default(), Arc::<AtomicU64>::default());
    let (left, lost) = (Arc::clone(&waiting), Arc::clone(&dropped));
    thread::Builder::new().name("log".into()).spawn(move || {
        for line in queued {
            let mut stderr = io::stderr();
            // There is no better place to complain.
            drop(stderr.write_all(&line));
            match lost.swap(0, Ordering::Relaxed) {
                0 => {}
                count => drop(writeln!(stderr, "{count} lines of the log were lost here")),
            }
            left.fetch_sub(1, Ordering::Relaxed);
        }
    })?;
    let writer = Writer {
        lines,
        waiting,
        dropped,
    };
    // A second call would find the first one's thread.
    drop(WRITER.set(writer));
    Ok(())
}

/// Waits until the log is written, but not for long.
pub fn flush() {
    let Some(writer) = WRITER.get() else { return };
    let end = Instant::now() + LAST_WORDS;
    while writer.waiting.load(Ordering::Relaxed) > 0 && Instant::now() < end {
        thread::sleep(LAST_WORDS / 100);
    }
}

/// Standard error, by way of the thread once there is one.
struct Stderr;

impl io::Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Some(writer) = WRITER.get() else {
            return io::stderr().write(line);
        };
        writer.waiting.fetch_add(1, Ordering::Relaxed);
        if writer.lines.try_send(line.to_vec()).is_err() {
            writer.waiting.fetch_sub(1, Ordering::Relaxed);
            writer.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether standard error is the journal.
static JOURNAL: AtomicBool = AtomicBool::new(false);

/// Starts logging. `RUST_LOG` has the last word, as usual.
pub fn start(verbose: u8, format: LogFormat) {
    let level = match verbose {
        0 => LevelFilter::Info,
        1 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    let mut builder = Builder::new();
    builder
        .filter_level(LevelFilter::Warn)
        .filter_module("ftp_nat", level)
        .parse_env(Env::default())
        .target(Target::Pipe(Box::new(Stderr)));
    // systemd sets this where standard error is the journal.
    JOURNAL.store(env::var_os("JOURNAL_STREAM").is_some(), Ordering::Relaxed);
    match format {
        LogFormat::Text => builder.format(text),
        LogFormat::Json => builder.format(json),
    };
    builder.init();
}

/// The journal reads priorities in angle brackets (sd-daemon(3)).
fn priority(line: &mut Formatter, level: Level) -> io::Result<bool> {
    if !JOURNAL.load(Ordering::Relaxed) {
        return Ok(false);
    }
    let priority = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    write!(line, "<{priority}>")?;
    Ok(true)
}

fn text(line: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    // The journal has its own clock.
    if priority(line, record.level())? {
        return writeln!(line, "{}", record.args());
    }
    let time = line.timestamp_millis();
    let level = record.level().as_str().to_ascii_lowercase();
    writeln!(line, "{time} {level:<5} {}", record.args())
}

fn json(line: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    priority(line, record.level())?;
    let mut fields = Fields(Map::new());
    let time = format!("{:.3}", Timestamp::now());
    fields.0.insert("time".into(), time.into());
    let level = record.level().as_str().to_ascii_lowercase();
    fields.0.insert("level".into(), level.into());
    fields
        .0
        .insert("message".into(), record.args().to_string().into());
    record
        .key_values()
        .visit(&mut fields)
        .map_err(io::Error::other)?;
    writeln!(line, "{}", Json::Object(fields.0))
}

/// The fields of a line as they are collected.
struct Fields(Map<String, Json>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let json = match (value.to_u64(), value.to_f64()) {
            (Some(whole), _) => whole.into(),
            (None, Some(number)) => number.into(),
            (None, None) => value.to_string().into(),
        };
        self.0.insert(key.as_str().to_owned(), json);
        Ok(())
    }
}

/// Fields for a log line out of what is written as JSON elsewhere.
#[derive(Debug)]
pub struct JsonFields(pub Map<String, Json>);

impl Source for JsonFields {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), kv::Error> {
        for (key, value) in &self.0 {
            let key = Key::from(key.as_str());
            match value {
                Json::String(text) => visitor.visit_pair(key, Value::from(text.as_str()))?,
                Json::Number(number) => {
                    if let Some(whole) = number.as_u64() {
                        visitor.visit_pair(key, Value::from(whole))?;
                    } else if let Some(number) = number.as_f64() {
                        visitor.visit_pair(key, Value::from(number))?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
