//! Events into the log, as many as a log can bear.

use std::time::{Duration, Instant};

use ftp_nat_common::abi::Event;
use log::{info, log};

use crate::events::{Line, level};

/// Lines a second; the rest is counted. The counters have them all.
const MOST: u32 = 200;
const SECOND: Duration = Duration::from_secs(1);

/// Writes events to the log.
#[derive(Debug, Default)]
pub struct EventLog {
    since: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl EventLog {
    /// Writes an event, or leaves it out.
    pub fn write(&mut self, event: &Event) {
        let level = level(event);
        if !log::log_enabled!(level) {
            return;
        }
        let now = Instant::now();
        if self.allows(now) {
            log!(level, "{}", Line(event));
        }
    }

    fn allows(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now - since >= SECOND) {
            if self.left_out > 0 {
                info!("{} more events were not logged", self.left_out);
            }
            *self = Self {
                since: Some(now),
                ..Self::default()
            };
        }
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
