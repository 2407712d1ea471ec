//! An active data connection: the server connects to this machine.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use super::{
    limits::since,
    listing::{self, Lister, outcome},
    seen::{Active, Attempt, Mode, Transfer, Verdict},
    session::Session,
    story::Story,
};

/// How often to look whether the server has come.
const LOOK: Duration = Duration::from_millis(5);

/// Tries an active mode. False: the session is spent.
pub fn attempt(
    session: &mut Session<'_>,
    mode: Mode,
    lister: Lister<'_>,
    story: &Story,
) -> (Attempt, bool) {
    let (active, is_usable) = once(session, mode, lister, story);
    let verdict = match &active {
        active if active.works() => Verdict::Works,
        active if matches!(active.code, 502 | 504) => Verdict::NotOffered,
        _ => Verdict::Broken,
    };
    let attempt = Attempt {
        mode,
        verdict,
        passive: Vec::new(),
        active: Some(active),
    };
    (attempt, is_usable)
}

fn once(
    session: &mut Session<'_>,
    mode: Mode,
    lister: Lister<'_>,
    story: &Story,
) -> (Active, bool) {
    let start = Instant::now();
    let mut active = Active::default();
    let listener = match listen(session.local_address) {
        Ok(listener) => listener,
        Err(error) => {
            active.reply = format!("cannot listen on this machine: {error}");
            story.step(mode.verb(), false, active.reply.clone(), since(start));
            return (active, true);
        }
    };
    let Ok(offered) = listener.local_addr() else {
        return (active, true);
    };
    active.offered = Some(offered);
    let reply = match session.control.command(&command(mode, offered)) {
        Ok(reply) => reply,
        Err(trouble) => {
            active.reply = trouble.to_string();
            story.step(mode.verb(), false, trouble.to_string(), since(start));
            return (active, false);
        }
    };
    active.code = reply.code;
    active.reply = reply.last().to_owned();
    active.echoed = reply.echoed().filter(|echoed| *echoed != offered);
    let text = format!("{offered}: {}", reply.last());
    story.step(mode.verb(), reply.is_done(), text, since(start));
    if !reply.is_done() {
        return (active, reply.code != 0 && reply.code != 421);
    }

    let start = Instant::now();
    let begun = session
        .control
        .send("LIST", "LIST")
        .and_then(|()| session.control.reply());
    let may_come = matches!(&begun, Ok(reply) if reply.code / 100 <= 2 && reply.code != 0);
    // Without an answer the server may have come nevertheless.
    let deadline = match &begun {
        _ if may_come => lister.limits.deadline(),
        _ => Instant::now(),
    };
    let stream = accept(&listener, deadline);
    if let Some((_, from)) = &stream {
        active.came_from = Some(*from);
        story.detail("accept", true, format!("connected by {from}"), since(start));
    } else {
        let text = "nobody connected";
        story.detail("accept", false, text, since(start));
    }
    let transfer = match (begun, stream) {
        (Ok(begun), Some((stream, _))) if may_come => {
            lister.receive(session, &begun, stream, start)
        }
        // It says that it sends, but to nobody who is here: its own word counts.
        (Ok(_), None) if may_come => listing::end(session.control.reply(), 0, start),
        (other, _) => listing::end(other, 0, start),
    };
    story.detail("LIST", transfer.works(), outcome(&transfer), transfer.ms);
    let is_usable = transfer.works() || is_answered(&transfer);
    active.transfer = Some(transfer);
    (active, is_usable)
}

fn is_answered(transfer: &Transfer) -> bool {
    use super::seen::Listing;
    matches!(
        transfer.listing,
        Listing::NoConnection | Listing::Rejected | Listing::Cut
    )
}

fn listen(mut address: SocketAddr) -> io::Result<TcpListener> {
    address.set_port(0);
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn accept(listener: &TcpListener, deadline: Instant) -> Option<(TcpStream, SocketAddr)> {
    loop {
        if let Ok((stream, from)) = listener.accept() {
            stream.set_nonblocking(false).ok()?;
            return Some((stream, from));
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(LOOK);
    }
}

/// `PORT h1,h2,h3,h4,p1,p2` (RFC 959) or `EPRT |1|address|port|` (RFC 2428).
fn command(mode: Mode, offered: SocketAddr) -> String {
    match (mode, offered.ip()) {
        (Mode::Port, IpAddr::V4(v4)) => {
            let [a, b, c, d] = v4.octets();
            let [high, low] = offered.port().to_be_bytes();
            format!("PORT {a},{b},{c},{d},{high},{low}")
        }
        (_, address) => {
            let family = if address.is_ipv4() { 1 } else { 2 };
            format!("EPRT |{family}|{address}|{}|", offered.port())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_are_written_as_the_rfcs_say() {
        for (mode, offered, line) in [
            (Mode::Port, "10.0.0.5:50000", "PORT 10,0,0,5,195,80"),
            (Mode::Eprt, "10.0.0.5:50000", "EPRT |1|10.0.0.5|50000|"),
            (
                Mode::Eprt,
                "[2001:db8::5]:50000",
                "EPRT |2|2001:db8::5|50000|",
            ),
        ] {
            assert_eq!(command(mode, offered.parse().unwrap()), line);
        }
    }
}
