//! From what was seen to what is wrong: no network here, only conclusions.

mod active;
mod address;
pub mod finding;
mod passive;
mod port;

use self::finding::{Certainty, Fault, Finding, Findings, Side};
use super::seen::{Seen, Verdict};

/// What is wrong, the surest first; nothing when all that was tried works.
#[must_use]
pub fn diagnose(seen: &Seen) -> Vec<Finding> {
    let mut findings = Findings::default();
    for attempt in &seen.modes {
        match attempt.verdict {
            Verdict::Broken if attempt.mode.is_passive() => {
                passive::diagnose(seen, attempt, &mut findings);
            }
            Verdict::Broken => active::diagnose(seen, attempt, &mut findings),
            Verdict::NotOffered => {
                let verb = attempt.mode.verb();
                if seen.server.offers(verb) == Some(true) {
                    findings.add(
                        attempt.mode,
                        Fault::Intercepted,
                        Certainty::Likely,
                        Side::Server,
                        format!(
                            "the server lists {verb} among its features, but {verb} is answered \
                             as unknown: something in between refuses it"
                        ),
                    );
                }
            }
            Verdict::Works | Verdict::NotTried => {}
        }
    }
    if seen.server.is_proxy && !findings.0.is_empty() {
        let mode = findings.0[0].modes[0];
        findings.add(
            mode,
            Fault::Intercepted,
            Certainty::Possible,
            Side::Server,
            format!(
                "the greeting is a proxy's or a firewall's: {:?}",
                seen.server.greeting
            ),
        );
    }
    findings
        .0
        .sort_by_key(|finding| (finding.certainty, finding.cause));
    findings.0
}

#[cfg(test)]
mod tests;
