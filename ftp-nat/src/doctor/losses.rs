//! What the daemon could not do: events that nobody was told, reloads that were refused.

use ftp_nat_common::counter::Counter;

use super::{finding::Findings, subject::Subject};
use crate::{client::call, metrics::Family};

pub(super) fn check(subject: &Subject, findings: &mut Findings) {
    let Some(loaded) = &subject.loaded else {
        return;
    };
    match loaded.maps.counters() {
        Ok(counts) => {
            let lost = counts
                .get(Counter::EventsLost as usize)
                .map_or(0, |it| it.packets);
            if lost > 0 {
                findings.warning(
                    "events-lost",
                    None,
                    format!(
                        "{lost} events were lost before the daemon read them: they are neither in \
                         `ftp-nat events` nor in the audit log, but in the counters"
                    ),
                    "mostly the daemon did not run at that time, or a flood kept it busy; where it \
                     goes on, give the daemon's CPU less to do",
                );
            }
        }
        Err(error) => findings.unread("the counters", &error),
    }
    let Some(hello) = loaded.daemon.as_ref().and_then(|daemon| daemon.hello()) else {
        return;
    };
    if let Some(reload) = hello.last_reload.as_ref().filter(|reload| !reload.applied) {
        findings.warning(
            "reload-refused",
            None,
            format!(
                "the last reload, at {}, was refused: the configuration before it is in effect",
                reload.time
            ),
            "`ftp-nat check` names the mistakes in the file, and `ftp-nat reload` those that only \
             this machine knows; then reload again",
        );
    }
    let Some(families) = call::metrics(&loaded.gateway, &subject.state_dir) else {
        return;
    };
    let unwritten = untold(&families, "audit");
    if unwritten > 0 {
        findings.warning(
            "audit-losses",
            None,
            format!("{unwritten} events could not be written to the audit log"),
            "its disk is full or too slow: the log of the daemon has the kernel's words; what is \
             missing shows as gaps in the events' numbers",
        );
    }
    let unlogged = untold(&families, "log");
    if unlogged > 0 {
        findings.note(
            "log-shortened",
            None,
            format!("{unlogged} events were left out of the daemon's log, which takes 200 lines a second"),
            "nothing; the counters and the audit log have them all",
        );
    }
}

/// How many events could not be told to these.
fn untold(families: &[Family], to: &str) -> u64 {
    families
        .iter()
        .filter(|family| family.name == "ftp_nat_events_untold_total")
        .flat_map(|family| &family.samples)
        .filter(|sample| sample.labels.get("to").is_some_and(|it| it == to))
        .map(|sample| sample.value as u64)
        .sum()
}
