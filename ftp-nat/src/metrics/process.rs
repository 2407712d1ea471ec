//! The daemon's own process, by the names that Prometheus' client libraries use for any.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};

use super::family::{Family, Kind, Sample};

/// What /proc/self/stat tells (proc_pid_stat(5)): user and system time and the start, in ticks, the
/// virtual size in bytes, the resident one in pages.
struct Stat {
    processor: u64,
    start: u64,
    virtual_size: u64,
    resident: u64,
}

impl Stat {
    fn of(text: &str) -> Option<Self> {
        // Behind the name, which may hold anything, the third field comes first.
        let (_, fields) = text.rsplit_once(") ")?;
        let fields: Vec<_> = fields.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            processor: field(14)? + field(15)?,
            start: field(22)?,
            virtual_size: field(23)?,
            resident: field(24)?,
        })
    }
}

/// When the machine was started, in seconds since 1970.
fn boot_time(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

/// Its metrics, as far as the kernel tells.
pub(super) fn families() -> Vec<Family> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let mut families = Vec::new();
    let mut add = |name: &str, kind, help: &str, value: f64| {
        families.push(Family {
            name: format!("process_{name}"),
            kind,
            help: help.to_owned(),
            samples: vec![Sample {
                labels: Default::default(),
                value,
            }],
        });
    };
    if let Some(stat) = Stat::of(&read("/proc/self/stat")) {
        let ticks = clock_ticks_per_second() as f64;
        add(
            "cpu_seconds_total",
            Kind::Counter,
            "User and system time that the daemon has spent",
            stat.processor as f64 / ticks,
        );
        add(
            "resident_memory_bytes",
            Kind::Gauge,
            "Resident memory of the daemon",
            stat.resident as f64 * page_size() as f64,
        );
        add(
            "virtual_memory_bytes",
            Kind::Gauge,
            "Virtual memory of the daemon",
            stat.virtual_size as f64,
        );
        if let Some(boot) = boot_time(&read("/proc/stat")) {
            add(
                "start_time_seconds",
                Kind::Gauge,
                "When the daemon was started, in seconds since 1970",
                boot + stat.start as f64 / ticks,
            );
        }
    }
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        add(
            "open_fds",
            Kind::Gauge,
            "File descriptors that the daemon has open",
            descriptors.count() as f64,
        );
    }
    families
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let text = "7 (a) b) S 1 7 7 0 -1 4194304 1 0 0 0 11 4 0 0 20 0 1 0 500 8192 3 18446744";
        let stat = Stat::of(text).unwrap();
        assert_eq!((stat.processor, stat.start), (15, 500));
        assert_eq!((stat.virtual_size, stat.resident), (8192, 3));
        assert!(Stat::of("nonsense").is_none());
    }

    #[test]
    fn this_process_is_known() {
        let names: Vec<_> = families().iter().map(|it| it.name.clone()).collect();
        for name in ["cpu_seconds_total", "resident_memory_bytes", "open_fds"] {
            assert!(names.contains(&format!("process_{name}")), "{names:?}");
        }
    }
}
