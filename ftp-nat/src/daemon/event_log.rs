//! Events into the log, as many as a log can bear.

use std::time::{Duration, Instant};

use log::info;

use super::occurrence::Occurrence;
use crate::{model::event::Record, output::logging::JsonFields};

/// Lines a second; the rest is counted. The counters and the audit trail have them all.
const MOST: u32 = 200;
const SECOND: Duration = Duration::from_secs(1);

/// Writes events to the log.
#[derive(Debug, Default)]
pub(super) struct EventLog {
    since: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl EventLog {
    /// Writes an event, or leaves it out; whether it was not left out for want of room.
    pub(super) fn write(&mut self, occurrence: &Occurrence) -> bool {
        let level = occurrence.level();
        if !log::log_enabled!(level) {
            return true;
        }
        if !self.allows(Instant::now()) {
            return false;
        }
        let record = Record::from(occurrence);
        let fields = match serde_json::to_value(&record) {
            Ok(serde_json::Value::Object(fields)) => JsonFields(fields),
            _ => JsonFields(serde_json::Map::new()),
        };
        log::logger().log(
            &log::Record::builder()
                .level(level)
                .target(module_path!())
                .args(format_args!("{record}"))
                .key_values(&fields)
                .build(),
        );
        true
    }

    /// Says how many events were left out, once that second is over.
    pub(super) fn flush_summary(&mut self, now: Instant) {
        if self.since.is_none_or(|since| now - since >= SECOND) {
            if self.left_out > 0 {
                info!("{} more events were not logged", self.left_out);
            }
            *self = Self {
                since: Some(now),
                ..Self::default()
            };
        }
    }

    fn allows(&mut self, now: Instant) -> bool {
        self.flush_summary(now);
        if self.written < MOST {
            self.written += 1;
            return true;
        }
        self.left_out += 1;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_off_and_counted_until_the_next_second() {
        let mut log = EventLog::default();
        let start = Instant::now();
        let allowed = (0..MOST + 50).filter(|_| log.allows(start)).count();
        assert_eq!(allowed, MOST as usize);
        assert_eq!(log.left_out, 50);
        assert!(log.allows(start + SECOND));
        assert_eq!(log.left_out, 0);
    }
}
