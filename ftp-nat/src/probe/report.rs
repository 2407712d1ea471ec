//! What is told in the end.

use std::{fmt::Write as _, net::SocketAddr};

use serde::Serialize;

use super::{
    advice::{self, ENCRYPTED, Fix},
    diagnosis::{
        diagnose,
        finding::{Certainty, Finding},
    },
    seen::{Attempt, Encryption, Mode, Relation, Seen, Verdict},
    session::Refusal,
    story::{Line, Step, Story},
    target::Target,
};
use crate::output::print::print_json;

/// The width of the verdict's lines.
const WIDTH: usize = 96;

/// A finding with its remedies, as JSON has it.
#[derive(Debug, Serialize)]
struct Row {
    /// The number among the six causes.
    cause: Option<u8>,
    name: super::diagnosis::finding::Fault,
    text: &'static str,
    certainty: Certainty,
    side: super::diagnosis::finding::Side,
    modes: Vec<Mode>,
    evidence: Vec<String>,
    fixes: Vec<Fix>,
}

/// The report as JSON has it: its field names are part of the command line's contract.
#[derive(Debug, Serialize)]
struct Report<'r> {
    host: &'r str,
    port: u16,
    address: Option<SocketAddr>,
    encryption: Encryption,
    /// `works`, `broken`, or why there was no session.
    verdict: &'static str,
    summary: &'r str,
    findings: Vec<Row>,
    notes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<&'r Seen>,
    steps: Vec<Step>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dialogue: Option<Vec<Line>>,
}

/// How a probe ended.
#[derive(Debug)]
pub enum End {
    /// There was a session, and this was seen in it.
    Seen(Box<Seen>),
    /// There was none.
    Refused(Option<SocketAddr>, Refusal),
}

/// Tells the verdict, for people or as JSON. Gives why it is not good, if it is not.
///
/// # Errors
///
/// When it cannot be printed.
pub fn conclude(
    target: &Target,
    encryption: Encryption,
    end: &End,
    story: &Story,
    is_json: bool,
) -> anyhow::Result<Option<String>> {
    let (seen, findings) = match end {
        End::Seen(seen) => (Some(&**seen), diagnose(seen)),
        End::Refused(..) => (None, Vec::new()),
    };
    let (verdict, summary) = match end {
        End::Seen(seen) => {
            let works = findings.is_empty() && has_working(seen);
            (
                if works { "works" } else { "broken" },
                summary(seen, &findings),
            )
        }
        End::Refused(_, refusal) => (refusal.name(), refusal.text().to_owned()),
    };
    let notes = seen.map_or_else(Vec::new, |seen| notes(seen, &findings));
    let rows = findings.into_iter().map(|finding| {
        let fixes = seen.map_or_else(Vec::new, |seen| advice::fixes(&finding, seen));
        Row {
            cause: finding.cause.number(),
            name: finding.cause,
            text: finding.cause.text(),
            certainty: finding.certainty,
            side: finding.side,
            modes: finding.modes,
            evidence: finding.evidence,
            fixes,
        }
    });
    let rows: Vec<Row> = rows.collect();
    let is_good = verdict == "works";
    if is_json {
        let address = match end {
            End::Seen(seen) => Some(seen.address),
            End::Refused(address, _) => *address,
        };
        print_json(&Report {
            host: &target.host,
            port: target.port,
            address,
            encryption,
            verdict,
            summary: &summary,
            findings: rows,
            notes,
            seen,
            steps: story.steps(),
            dialogue: story.dialogue(),
        })?;
    } else {
        story.tell(&for_people(&summary, &rows, &notes, is_good));
    }
    Ok((!is_good).then_some(summary))
}

fn has_working(seen: &Seen) -> bool {
    let works = |attempt: &Attempt| attempt.verdict == Verdict::Works;
    let counts = |attempt: &Attempt| attempt.verdict != Verdict::NotOffered;
    seen.modes.iter().any(works) && seen.modes.iter().filter(|it| counts(it)).all(works)
}

/// "PASV is broken, EPSV works: cause 3: ..."
fn summary(seen: &Seen, findings: &[Finding]) -> String {
    let mut groups: Vec<(Verdict, Vec<&str>)> = Vec::new();
    for attempt in &seen.modes {
        let verb = attempt.mode.verb();
        match groups
            .iter_mut()
            .find(|(verdict, _)| *verdict == attempt.verdict)
        {
            Some((_, verbs)) => verbs.push(verb),
            None => groups.push((attempt.verdict, vec![verb])),
        }
    }
    let parts: Vec<String> = groups
        .iter()
        .map(|(verdict, verbs)| {
            let is_one = verbs.len() == 1;
            let what = match verdict {
                Verdict::Works if is_one => "works",
                Verdict::Works => "work",
                Verdict::Broken if is_one => "is broken",
                Verdict::Broken => "are broken",
                Verdict::NotOffered if is_one => "is not offered",
                Verdict::NotOffered => "are not offered",
                Verdict::NotTried => "could not be tried",
            };
            format!("{} {what}", verbs.join(" and "))
        })
        .collect();
    let mut text = parts.join(", ");
    match findings.first() {
        Some(first) => {
            // What is only possible is said behind the evidence.
            let blamed = findings
                .iter()
                .filter(|finding| finding.certainty <= first.certainty.max(Certainty::Likely));
            let causes: Vec<_> = blamed
                .map(|finding| {
                    let is_less_sure = finding.certainty > first.certainty;
                    let likely = if is_less_sure { "likely " } else { "" };
                    match finding.cause.number() {
                        Some(number) => {
                            format!("{likely}cause {number}, {}", finding.cause.text())
                        }
                        None => format!("{likely}{}", finding.cause.text()),
                    }
                })
                .collect();
            // Writing to a string cannot fail.
            let _ = write!(text, ": {}", causes.join("; and "));
        }
        None if has_working(seen) => {}
        None => text += ": no data connection could be tried",
    }
    text
}

/// What is no fault, but worth knowing.
fn notes(seen: &Seen, findings: &[Finding]) -> Vec<String> {
    let mut notes = Vec::new();
    let is_broken = !findings.is_empty();
    if is_broken && seen.encryption != Encryption::None {
        notes.push(ENCRYPTED.to_owned());
    }
    let passive = || seen.modes.iter().flat_map(|attempt| &attempt.passive);
    if let Some(sample) = passive().find(|sample| {
        sample.works()
            && sample
                .relation
                .is_some_and(|relation| relation != Relation::Same)
    }) {
        notes.push(format!(
            "{:?} announces another address than the one dialled. It works from here; clients that \
             ignore or distrust such an address may see something else.",
            sample.reply
        ));
    }
    if !is_broken && passive().any(|sample| seen.server.is_rewritten(&sample.reply)) {
        notes.push(
            "The replies are not worded as this server words them: a gateway rewrites them, as it \
             should."
                .to_owned(),
        );
    }
    if !is_broken && seen.server.is_proxy {
        notes.push(format!(
            "The greeting is a proxy's or a firewall's: {:?}",
            seen.server.greeting
        ));
    }
    for attempt in &seen.modes {
        if let Some(active) = &attempt.active
            && let (true, Some(from)) = (active.works(), active.came_from)
            && from.ip().to_canonical() != seen.address.ip().to_canonical()
        {
            notes.push(format!(
                "In {} the data connection came from {from}, not from {}: clients that check that \
                 refuse it.",
                attempt.mode.verb(),
                seen.address.ip()
            ));
        }
    }
    notes
}

fn for_people(summary: &str, rows: &[Row], notes: &[String], is_good: bool) -> String {
    let mut text = format!("\nVerdict: {}", wrap(summary, 9));
    if is_good {
        text += ".";
    }
    text += "\n";
    for row in rows {
        let title = match row.cause {
            Some(number) => format!("Cause {number}"),
            None => "Not one of the six".to_owned(),
        };
        let modes: Vec<_> = row.modes.iter().map(|mode| mode.verb()).collect();
        let _ = writeln!(
            text,
            "\n{title} ({}; {}): {}",
            row.certainty.text(),
            modes.join(", "),
            row.text
        );
        for evidence in &row.evidence {
            let _ = writeln!(text, "  - {}", wrap(evidence, 4));
        }
        if row.certainty == Certainty::Possible && rows.len() > 1 {
            continue;
        }
        let _ = writeln!(text, "  What to do:");
        for fix in &row.fixes {
            let fix = wrap(&format!("{}: {}", fix.at, fix.what), 6);
            let _ = writeln!(text, "    {fix}");
        }
    }
    for note in notes {
        let _ = write!(text, "\n{}\n", wrap(note, 0));
    }
    text.trim_end().to_owned()
}

/// Breaks a text into lines; those behind the first begin with `indent` blanks.
fn wrap(text: &str, indent: usize) -> String {
    let mut lines = String::new();
    let mut column = indent;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > indent && column + 1 + length > WIDTH {
            let _ = write!(lines, "\n{:indent$}", "");
            column = indent;
        } else if !lines.is_empty() {
            lines.push(' ');
            column += 1;
        }
        lines += word;
        column += length;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_wrapped_and_keep_their_words() {
        let text = "word ".repeat(60);
        let wrapped = wrap(text.trim(), 4);
        assert!(wrapped.lines().all(|line| line.chars().count() <= WIDTH));
        assert!(
            wrapped
                .lines()
                .skip(1)
                .all(|line| line.starts_with("    w"))
        );
        assert_eq!(
            wrapped.split_whitespace().count(),
            text.split_whitespace().count()
        );
    }
}
