//! `ftp-nat end`: ends a session or a connection.
//!
//! A reset is obeyed only with the very number that its receiver waits for. So first the
//! connection's packets are dropped: nothing arrives any more, and that number stays as it is. The
//! datapath still notes what both ends acknowledge, and that is the number. An end that has received
//! more than was noted answers the reset with an acknowledgement (RFC 5961), which is noted too: it
//! gets another reset.

use std::{fmt::Write as _, io, net::SocketAddr, thread, time::Duration};

use anyhow::{Context as _, anyhow};
use ftp_nat_common::wire::{addr::Endpoint, tcp::flag};
use serde::Serialize;

use crate::{
    cli::{EndArgs, Ending},
    client::{
        connections,
        view::{Loaded, View},
    },
    datapath::{
        cut::{self, Directions},
        maps::Maps,
    },
    kernel::reset::Reset,
    model::{
        connection::Connection,
        flow::{State, kind_name},
    },
    output::{
        failure::Failure,
        print::{print, print_json},
        text::{address, port, session_name},
    },
};

/// The pause between two resets to an end.
const ROUND: Duration = Duration::from_millis(100);
/// So many rounds without a packet of either end, and both have obeyed: the answer to a reset comes
/// as late as the round trip takes.
const SILENT_ROUNDS: u32 = 3;
/// And so many rounds at most.
const ROUNDS: u32 = 30;

/// A connection that was ended, as JSON has it.
#[derive(Debug, Serialize)]
struct Row {
    gateway: String,
    kind: &'static str,
    session: String,
    outside: Option<String>,
    outside_port: Option<u16>,
    public: Option<String>,
    public_port: Option<u16>,
    inside: Option<String>,
    inside_port: Option<u16>,
    /// Whether both ends were sent resets and have fallen silent.
    reset: bool,
}

/// Ends it.
///
/// # Errors
///
/// When there is no such session or connection, several are meant, or a reset cannot be sent.
pub fn run(args: &EndArgs) -> Result<(), Failure> {
    let view = View::of(&args.selection)?;
    let mut rows = Vec::new();
    for loaded in &view.loaded {
        rows.extend(end(loaded, args)?);
    }
    if rows.is_empty() {
        let what = match args.what {
            Ending::Session(number) => format!(
                "no session {} (`ftp-nat sessions` shows them)",
                session_name(number)
            ),
            Ending::Flow { outside, .. } => {
                format!("no connection with {outside} outside (`ftp-nat flows` shows them)")
            }
        };
        return Err(anyhow!("there is {what}").into());
    }
    if args.json {
        print_json(&rows)?;
    } else {
        print(&text(&rows))?;
    }
    Ok(())
}

fn end(loaded: &Loaded, args: &EndArgs) -> anyhow::Result<Vec<Row>> {
    let maps = &loaded.maps;
    let connections = chosen(maps, args.what)?;
    if let Ending::Session(number) = args.what {
        cut::forget_mappings(maps, |session| session == number)?;
    }
    for it in &connections {
        cut::cut(maps, it).context("cannot end a connection")?;
    }
    let silent = if args.silently {
        vec![false; connections.len()]
    } else {
        reset(maps, &connections)?
    };
    Ok(connections
        .iter()
        .zip(silent)
        .map(|(it, reset)| Row {
            gateway: loaded.gateway.name().to_owned(),
            kind: kind_name(it.common().kind),
            session: session_name(it.common().session),
            outside: address(it.outside.addr),
            outside_port: port(&it.outside),
            public: address(it.public.addr),
            public_port: port(&it.public),
            inside: address(it.inside.addr),
            inside_port: port(&it.inside),
            reset,
        })
        .collect())
}

/// The connections that are meant.
fn chosen(maps: &Maps, what: Ending) -> anyhow::Result<Vec<Connection>> {
    let mut all = connections::of(maps)?;
    all.retain(|it| it.state().is_alive() || it.state() == State::Cut);
    match what {
        Ending::Session(number) => all.retain(|it| it.common().session == number),
        Ending::Flow { outside, public } => {
            all.retain(|it| {
                socket(&it.outside) == outside
                    && public.is_none_or(|public| socket(&it.public) == public)
            });
            if let [_, _, ..] = all[..] {
                let names: Vec<_> = all
                    .iter()
                    .map(|it| format!("{outside},{}", it.public))
                    .collect();
                return Err(anyhow!(
                    "{outside} has several connections: name one of {}",
                    names.join(" ")
                ));
            }
        }
    }
    Ok(all)
}

/// Sends resets to both ends of all connections of these sessions, whose packets pass no more already.
pub(super) fn reset_sessions(maps: &Maps, sessions: &[u32]) -> anyhow::Result<()> {
    let mut connections = connections::of(maps)?;
    connections.retain(|it| sessions.contains(&it.common().session));
    reset(maps, &connections).map(drop)
}

/// Sends resets to both ends of each connection until they have fallen silent. Gives which have.
fn reset(maps: &Maps, connections: &[Connection]) -> anyhow::Result<Vec<bool>> {
    // What is on its way arrives, and is acknowledged.
    thread::sleep(ROUND);
    let mut rounds_silent = vec![0; connections.len()];
    let mut last = vec![None; connections.len()];
    for _ in 0..ROUNDS {
        let pending = connections.iter().zip(&mut rounds_silent).zip(&mut last);
        for ((it, silent), last) in pending.filter(|((_, silent), _)| **silent < SILENT_ROUNDS) {
            let now = cut::directions(maps, it).context("cannot read a connection")?;
            let packets = now.map(|flow| flow.map_or(0, |flow| flow.packets));
            *silent = if *last == Some(packets) {
                *silent + 1
            } else {
                0
            };
            *last = Some(packets);
            send(it, &now).context(
                "cannot send a reset, which takes CAP_NET_RAW and an output chain that lets it \
                 pass; the connection's packets are dropped all the same (--silently sends none)",
            )?;
        }
        if rounds_silent.iter().all(|silent| *silent >= SILENT_ROUNDS) {
            break;
        }
        thread::sleep(ROUND);
    }
    let silent: Vec<_> = rounds_silent
        .iter()
        .map(|silent| *silent >= SILENT_ROUNDS)
        .collect();
    for (it, _) in connections
        .iter()
        .zip(&silent)
        .filter(|(_, silent)| **silent)
    {
        // So that the sweep takes it out soon.
        cut::change(maps, it, |flow| flow.tcp_flags |= flag::RST)
            .context("cannot end a connection")?;
    }
    Ok(silent)
}

fn send(it: &Connection, [inbound, outbound]: &Directions) -> io::Result<()> {
    // As the inside end sees the connection; by the kernel's own NAT, where only that knows this end.
    let inwards = match inbound {
        Some(flow) if !flow.destination().addr.is_none() => [flow.source(), flow.destination()],
        _ => [it.outside, it.public],
    };
    for (receiver, [from, to]) in [(inbound, [it.public, it.outside]), (outbound, inwards)] {
        // An end that has said nothing yet waits for no number.
        let Some(flow) = receiver.filter(|flow| flow.packets > 0) else {
            continue;
        };
        let reset = Reset {
            from: socket(&from),
            to: socket(&to),
            number: flow.acked,
        };
        reset.send()?;
    }
    Ok(())
}

fn socket(end: &Endpoint) -> SocketAddr {
    SocketAddr::new(end.addr.to_ip(), end.port.number())
}

fn text(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let how = if row.reset {
            "both ends were sent resets and have fallen silent"
        } else {
            "its packets are dropped"
        };
        let end = |address: &Option<String>, port: Option<u16>| {
            let end = address.as_ref()?.parse().ok()?;
            Some(SocketAddr::new(end, port.unwrap_or_default()).to_string())
        };
        let [outside, public, inside] = [
            end(&row.outside, row.outside_port),
            end(&row.public, row.public_port),
            end(&row.inside, row.inside_port),
        ]
        .map(|end| end.unwrap_or_else(|| "-".into()));
        let _ = writeln!(
            text,
            "ended session {}, {}: {outside} and {inside} by {public}; {how}",
            row.session, row.kind
        );
    }
    text
}
