//! A listing over a data connection: the proof that it carries data.

use std::{io::Read as _, net::TcpStream, time::Instant};

use super::{
    control::Trouble,
    limits::{Limits, since},
    reply::Reply,
    seen::{Listing, Transfer},
    session::Session,
    stream::{Stream, Timed},
    tls::Tls,
};

/// A listing longer than this is not read to its end.
const ENOUGH: u64 = 1 << 20;

/// What a listing is made with.
#[derive(Clone, Copy, Debug)]
pub struct Lister<'d> {
    /// What encrypts the data connection, where something does.
    pub tls: Option<&'d Tls>,
    /// How long things may take.
    pub limits: Limits,
}

impl Lister<'_> {
    /// Lists over a data connection that is there already.
    pub fn list(&self, session: &mut Session<'_>, data: TcpStream) -> Transfer {
        let start = Instant::now();
        let reply = session
            .control
            .send("LIST", "LIST")
            .and_then(|()| session.control.reply());
        match reply {
            Ok(reply) if reply.code / 100 <= 2 && reply.code != 0 => {
                self.receive(session, &reply, data, start)
            }
            other => end(other, 0, start),
        }
    }

    /// Reads what a server sends that has announced it by `begun`.
    pub fn receive(
        &self,
        session: &mut Session<'_>,
        begun: &Reply,
        data: TcpStream,
        start: Instant,
    ) -> Transfer {
        let transfer = |listing, reply: String, bytes| Transfer {
            listing,
            reply,
            bytes,
            ms: since(start),
        };
        let timed = Timed::new(data, self.limits.deadline());
        let mut data = match self.tls {
            None => Stream::Plain(timed),
            Some(tls) => match tls.encrypt(timed) {
                Ok(stream) => stream,
                Err(error) => {
                    // The server's own reason says more, when it gives one.
                    let said = session
                        .control
                        .reply()
                        .map_or(error, |reply| reply.last().to_owned());
                    return transfer(Listing::NotEncrypted, said, 0);
                }
            },
        };
        let mut bytes = 0;
        let mut buffer = [0; 16 * 1024];
        let broken = loop {
            data.until(self.limits.deadline());
            match data.read(&mut buffer) {
                Ok(0) => break None,
                Ok(count) => bytes += count as u64,
                Err(error) => break Some(Trouble::from(error)),
            }
            if bytes > ENOUGH || self.limits.are_over() {
                break None;
            }
        };
        drop(data);
        if let Some(Trouble::TimedOut(_)) = broken {
            return transfer(Listing::Stalled, "nothing more came in time".into(), bytes);
        }
        let reply = if begun.is_done() {
            Ok(begun.clone())
        } else {
            session.control.reply()
        };
        let is_cut_off = bytes > ENOUGH && matches!(&reply, Ok(reply) if reply.code / 100 == 4);
        let mut result = end(reply, bytes, start);
        if is_cut_off {
            result.listing = Listing::Complete;
        } else if broken.is_some() && result.listing == Listing::Complete {
            result.listing = Listing::Cut;
            result.reply = format!("the data connection was reset, but: {}", result.reply);
        }
        result
    }
}

/// What a server's last word means.
pub fn end(reply: Result<Reply, Trouble>, bytes: u64, start: Instant) -> Transfer {
    let (listing, reply) = match reply {
        Ok(reply) => {
            let listing = match reply.code {
                200..=299 => Listing::Complete,
                425 | 426 => Listing::NoConnection,
                450 | 550 => Listing::Declined,
                421 | 0 => Listing::ControlLost,
                _ => Listing::Rejected,
            };
            (listing, reply.last().to_owned())
        }
        Err(trouble @ Trouble::TimedOut(_)) => (Listing::Stalled, trouble.to_string()),
        Err(trouble) => (Listing::ControlLost, trouble.to_string()),
    };
    Transfer {
        listing,
        reply,
        bytes,
        ms: since(start),
    }
}

/// What came of a listing, in words.
#[must_use]
pub fn outcome(transfer: &Transfer) -> String {
    let bytes = crate::output::human::bytes(transfer.bytes);
    match transfer.listing {
        Listing::Complete => format!("{} ({bytes})", transfer.reply),
        Listing::Stalled => format!("{bytes} came, then: {}", transfer.reply),
        Listing::NotEncrypted => format!("no TLS on the data connection: {}", transfer.reply),
        _ => transfer.reply.clone(),
    }
}
