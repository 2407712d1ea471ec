//! The log: lines on standard error, for a terminal or for the journal.

use std::{env, io::Write as _};

use env_logger::{Builder, Env};
use log::{Level, LevelFilter};

/// Starts logging. `RUST_LOG` has the last word, as usual.
pub fn start(verbose: u8) {
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
    // systemd sets this where standard error is the journal, which has its own clock and reads
    // priorities in angle brackets (sd-daemon(3)).
    if env::var_os("JOURNAL_STREAM").is_some() {
        builder.format(|line, record| {
            let priority = match record.level() {
                Level::Error => 3,
                Level::Warn => 4,
                Level::Info => 6,
                Level::Debug | Level::Trace => 7,
            };
            writeln!(line, "<{priority}>{}", record.args())
        });
    } else {
        builder.format(|line, record| {
            let time = line.timestamp_millis();
            let level = record.level().as_str().to_ascii_lowercase();
            writeln!(line, "{time} {level:<5} {}", record.args())
        });
    }
    builder.init();
}
