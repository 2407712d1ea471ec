//! The log: lines on standard error, for a terminal, for the journal, or as JSON for a collector.

use std::{
    env,
    io::{self, Write as _},
    sync::atomic::{AtomicBool, Ordering},
};

use env_logger::{Builder, Env, fmt::Formatter};
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
        .parse_env(Env::default());
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
