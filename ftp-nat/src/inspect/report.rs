//! What is told of a capture: as text, and as JSON.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use ftp_nat_common::{abi::kind, counter::Counter, gate::Opening, wire::addr::Port};
use serde::Serialize;

use crate::output::text::printable;

use super::{
    connections,
    control::{Awaited, Control, Line, Role},
    gate::Decision,
    tally::Tally,
};

/// A capture.
#[derive(Debug, Serialize)]
pub struct Report {
    file: String,
    packets: u64,
    fragments: u64,
    truncated: u64,
    sessions: Vec<Session>,
}

/// A control connection.
#[derive(Debug, Serialize)]
struct Session {
    client: SocketAddr,
    server: SocketAddr,
    role: &'static str,
    /// What is announced.
    public: IpAddr,
    /// It stands for the gateway's address, which is not known.
    public_is_example: bool,
    encrypted_segments: u64,
    /// Segments behind a gap of the capture.
    lost_segments: u64,
    lines: Vec<LineReport>,
}

/// A line.
#[derive(Debug, Serialize)]
struct LineReport {
    /// Seconds since the capture's first packet.
    time: f64,
    from: &'static str,
    line: String,
    /// In how many segments it came.
    segments: u32,
    unfinished: bool,
    verdict: &'static str,
    /// What arrives in its place, where that is something else.
    arrives: Option<String>,
    notes: Vec<Note>,
}

/// Something that happens because of a line.
#[derive(Debug, Serialize)]
struct Note {
    what: &'static str,
    reason: Option<&'static str>,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    opening: Option<Let>,
}

/// A connection that is let through.
#[derive(Debug, Serialize)]
struct Let {
    kind: &'static str,
    /// Who connects.
    from: IpAddr,
    /// Where to, as that end sees it.
    to: SocketAddr,
    /// Where that leads, or as whom it arrives.
    translated: SocketAddr,
    /// Seconds until it came; none: it did not.
    came_after: Option<f64>,
}

impl Report {
    /// What is to be told.
    pub(super) fn new(file: &Path, tally: &Tally, controls: &[Control]) -> Self {
        let start = tally.first.unwrap_or(0);
        Self {
            file: file.display().to_string(),
            packets: tally.packets,
            fragments: tally.fragments,
            truncated: tally.truncated,
            sessions: controls.iter().map(|it| session(it, start)).collect(),
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "{}: {} packets, {}",
            self.file,
            self.packets,
            match self.sessions.len() {
                0 => "no control connection of FTP".to_owned(),
                1 => "1 control connection".to_owned(),
                several => format!("{several} control connections"),
            }
        );
        for session in &self.sessions {
            session.write(&mut out);
        }
        if self.fragments > 0 {
            let _ = writeln!(
                out,
                "\n{} IP fragments would pass untouched",
                self.fragments
            );
        }
        if self.truncated > 0 {
            let _ = writeln!(
                out,
                "\n{} packets were cut short by the capture (tcpdump -s 0 keeps all), or have \
                 lengths that lie",
                self.truncated
            );
        }
        out
    }
}

impl Session {
    fn write(&self, out: &mut String) {
        let behind = match self.role {
            "publish" => "the server is behind the gateway",
            _ => "the client is behind the gateway",
        };
        let example = if self.public_is_example {
            ", an example: see --public"
        } else {
            ""
        };
        let _ = writeln!(
            out,
            "\n{} to {}: {behind} (role {}), announced as {}{example}",
            self.client, self.server, self.role, self.public
        );
        for line in &self.lines {
            let arrow = if line.from == "client" { "->" } else { "<-" };
            let _ = writeln!(out, "{:>10.3} {arrow} {}", line.time, shortened(&line.line));
            let mut tell = |text: &str| {
                let _ = writeln!(out, "{:>15}{text}", "");
            };
            if let Some(arrives) = &line.arrives {
                tell(&format!("arrives as: {}", shortened(arrives)));
            }
            for note in &line.notes {
                tell(&note.text);
            }
        }
        if self.encrypted_segments > 0 {
            let _ = writeln!(
                out,
                "{:>10} encrypted segments pass unread",
                self.encrypted_segments
            );
        }
        if self.lost_segments > 0 {
            let _ = writeln!(
                out,
                "{:>10} segments stand behind a gap of the capture and were not read",
                self.lost_segments
            );
        }
    }
}

/// A line as long as anybody wants to read it.
fn shortened(line: &str) -> String {
    const LONGEST: usize = 300;
    match line.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}... ({} bytes)", &line[..at], line.len()),
        None => line.to_owned(),
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    (nanoseconds as f64 / 1e3).round() / 1e6
}

fn session(control: &Control, start: u64) -> Session {
    let told = |(number, line): (usize, &Line)| {
        let awaited = control.awaited.iter().filter(|it| it.line == number);
        told(control, line, &awaited.collect::<Vec<_>>(), start)
    };
    Session {
        client: control.client,
        server: control.server,
        role: match control.role {
            Role::Publish => "publish",
            Role::Masquerade => "masquerade",
        },
        public: control.public,
        public_is_example: connections::is_example(control.public),
        encrypted_segments: control.encrypted,
        lost_segments: control.lost,
        lines: control.lines.iter().enumerate().map(told).collect(),
    }
}

fn told(control: &Control, line: &Line, awaited: &[&Awaited], start: u64) -> LineReport {
    let mut notes = Vec::new();
    let mut is_held = false;
    let withheld = Decision::Counted(Counter::CommandWithheld, Opening::default());
    for (place, decision) in line.decisions.iter().enumerate() {
        match decision {
            Decision::Opened(opening, public) => {
                let came = awaited.iter().find(|it| it.decision == place);
                let came = came.and_then(|it| it.came);
                notes.push(opened(control, opening, *public, came));
            }
            Decision::Closed(port) => notes.push(Note {
                what: "closed",
                reason: None,
                text: format!("closes {port} again: the reply's last word counts"),
                opening: None,
            }),
            Decision::Counted(Counter::LineHeld, _) => {
                is_held = !line.decisions.contains(&withheld);
            }
            Decision::Counted(Counter::PassedTooLong, _) => {
                is_held = false;
                notes.extend(note(Counter::PassedTooLong, &Opening::default(), line));
            }
            Decision::Counted(counter, opening) => notes.extend(note(*counter, opening, line)),
        }
    }
    if is_held {
        let how = if line.is_unfinished {
            "held, and its end never came".to_owned()
        } else {
            format!(
                "held until it was whole: it came in {} segments",
                line.segments
            )
        };
        notes.push(Note {
            what: "held",
            reason: None,
            text: how,
            opening: None,
        });
    }
    let said = shown(&line.said, line);
    // What never ended did not arrive whole either.
    let differs = !line.is_unfinished && line.said != line.arrives;
    LineReport {
        time: seconds(line.time.saturating_sub(start)),
        from: if line.is_reply { "server" } else { "client" },
        line: said,
        segments: line.segments,
        unfinished: line.is_unfinished,
        verdict: verdict(&notes, differs),
        arrives: differs.then(|| shown(&line.arrives, line)),
        notes,
    }
}

/// The line's fate in a word: the first of these that holds.
fn verdict(notes: &[Note], differs: bool) -> &'static str {
    let has = |what: &str| notes.iter().any(|note| note.what == what);
    for what in ["denied", "rewritten"] {
        if has(what) {
            return what;
        }
    }
    if differs {
        return "rewritten";
    }
    for what in ["unchanged", "passed", "encrypted"] {
        if has(what) {
            return what;
        }
    }
    "nothing"
}

fn note(counter: Counter, opening: &Opening, line: &Line) -> Option<Note> {
    let description = counter.description();
    let named = match (opening.addr.is_none(), opening.port.number()) {
        (true, 0) => String::new(),
        (true, port) => format!(" (port {port})"),
        (false, port) => format!(" ({} port {port})", opening.addr),
    };
    let growth = line.arrives.len() as i64 - line.said.len() as i64;
    let (what, text) = match counter {
        Counter::Rewrote227 | Counter::Rewrote229 | Counter::RewrotePort | Counter::RewroteEprt => {
            ("rewritten", "rewritten: the public address and port".into())
        }
        Counter::EditEqual => (
            "length",
            "its length stays: no sequence number moves".into(),
        ),
        Counter::EditAdjusted => (
            "length",
            format!("{growth:+} bytes: sequence and acknowledgement numbers are adjusted"),
        ),
        Counter::Unchanged => ("unchanged", "passes: right as it stands".into()),
        Counter::SessionEncrypted => (
            "encrypted",
            "goes over to TLS: what follows is left alone".into(),
        ),
        Counter::SessionCleared => ("cleared", "clear text again: read from here on".into()),
        Counter::CommandWithheld => (
            "withheld",
            "kept back until the answer before it has ended beyond doubt".into(),
        ),
        Counter::Refused227 => (
            "refused",
            "the client hears 425: this connection would never come about".into(),
        ),
        Counter::LineReleased => ("released", "let go unread: it never ended".into()),
        Counter::Resynced => ("gap", "the capture lacks something in front of it".into()),
        _ if description.family == "denied" => {
            ("denied", format!("denied: {}{named}", description.help))
        }
        _ if description.family == "passed" && counter != Counter::PassedEncrypted => (
            "passed",
            format!("{}{named}", lower_first(description.help)),
        ),
        _ => return None,
    };
    let reason = match what {
        "denied" | "passed" => Some(description.value),
        "rewritten" => Some(description.value),
        "length" => Some(description.value),
        _ => None,
    };
    Some(Note {
        what,
        reason,
        text,
        opening: None,
    })
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|it| it.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

fn opened(control: &Control, opening: &Opening, public: Port, came: Option<u64>) -> Note {
    let [client, server] = [control.client.ip(), control.server.ip()];
    let port = opening.port.number();
    let is_passive = opening.kind == kind::PASSIVE;
    let (from, to, translated) = match control.role {
        Role::Publish if is_passive => (
            client,
            SocketAddr::new(control.public, public.number()),
            SocketAddr::new(server, port),
        ),
        Role::Publish => (
            server,
            SocketAddr::new(opening.addr.to_ip(), port),
            // The source port is kept where it is free.
            SocketAddr::new(control.public, 0),
        ),
        Role::Masquerade => (
            server,
            SocketAddr::new(control.public, public.number()),
            SocketAddr::new(opening.addr.to_ip(), port),
        ),
    };
    let way = if control.role == Role::Publish && !is_passive {
        format!("lets {from} connect to {to}, as {}", translated.ip())
    } else {
        format!("opens {to} for {from}, which leads to {translated}")
    };
    let remapped = if public == opening.port {
        ""
    } else {
        " (its own port is taken)"
    };
    let came_after = came.map(seconds);
    let then = came_after.map_or("; the capture has no such connection".into(), |after| {
        format!("; it came {after} s later")
    });
    Note {
        what: "opened",
        reason: None,
        text: format!("{way}{remapped}{then}"),
        opening: Some(Let {
            kind: if is_passive { "passive" } else { "active" },
            from,
            to,
            translated,
            came_after,
        }),
    }
}

/// A line as it may be shown: without its end, unprintable bytes escaped, no password.
fn shown(text: &[u8], line: &Line) -> String {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let text = if line.is_reply {
        printable(text)
    } else {
        masked(text, line.is_fragment)
    };
    match (line.is_fragment, line.is_unfinished) {
        (true, _) => format!("...{text}"),
        (false, true) => format!("{text}..."),
        (false, false) => text,
    }
}

/// Verbs whose argument is a secret (RFC 959 section 4.1.1, RFC 4217).
const SECRET: [&[u8]; 3] = [b"PASS", b"ACCT", b"ADAT"];

/// Verbs that need no hiding where the line's start may be missing.
const HARMLESS: [&[u8]; 12] = [
    b"USER", b"PASV", b"EPSV", b"PORT", b"EPRT", b"RETR", b"STOR", b"LIST", b"NLST", b"TYPE",
    b"QUIT", b"SYST",
];

fn masked(text: &[u8], is_fragment: bool) -> String {
    let start = text.iter().position(u8::is_ascii_alphabetic);
    let (before, command) = text.split_at(start.unwrap_or(text.len()));
    let verb = command.get(..4).unwrap_or(command).to_ascii_uppercase();
    if is_fragment && !HARMLESS.contains(&verb.as_slice()) {
        return "*** (the line's start is missing)".into();
    }
    if !SECRET.contains(&verb.as_slice()) {
        return printable(text);
    }
    let shown = [before, &command[..verb.len()]].concat();
    if command.len() > verb.len() {
        format!("{} ***", printable(&shown))
    } else {
        printable(&shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        for (said, wanted) in [
            ("PASS geheim", "PASS ***"),
            ("pass geheim", "pass ***"),
            ("  PASS\tgeheim", "  PASS ***"),
            ("PASS", "PASS"),
            ("PASSgeheim", "PASS ***"),
            ("ACCT geheim", "ACCT ***"),
            ("USER heim", "USER heim"),
        ] {
            assert_eq!(masked(said.as_bytes(), false), wanted);
        }
        for said in ["SS geheim", "geheim", "S geheim", "PASS geheim"] {
            let shown = masked(said.as_bytes(), true);
            assert!(!shown.contains("geheim"), "{shown}");
        }
        assert_eq!(masked(b"RETR a", true), "RETR a");
        assert_eq!(masked(b"\xff\xf4PASS geheim", false), "\\xff\\xf4PASS ***");
    }

    #[test]
    fn a_line_cannot_control_the_terminal() {
        assert_eq!(printable(b"a\x1b[2Jb\xfe\x07"), "a\\u{1b}[2Jb\\xfe\\u{7}");
        assert_eq!(printable("gr\u{fc}n".as_bytes()), "gr\u{fc}n");
    }
}
