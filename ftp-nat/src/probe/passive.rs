//! Passive data connections: announced, dialled, listed over.

use std::{
    net::{SocketAddr, TcpStream},
    time::Instant,
};

use super::{
    dial::{Dial, Reach, Way, dial},
    limits::since,
    listing::{Lister, outcome},
    seen::{Attempt, Listing, Mode, Passive, Relation, Transfer, Verdict},
    session::Session,
    story::Story,
};

/// Failures that took so long are not repeated more often than this.
const SLOW_FAILURES: usize = 2;

/// Tries a passive mode on up to `samples` ports. False: the session is spent.
pub fn attempt(
    session: &mut Session<'_>,
    control: SocketAddr,
    mode: Mode,
    samples: u16,
    lister: Lister<'_>,
    story: &Story,
) -> (Attempt, bool) {
    let mut tries = Vec::new();
    let mut is_usable = true;
    let mut slow_failures = 0;
    while is_usable && tries.len() < samples.into() && !lister.limits.are_over() {
        let (sample, usable) = once(session, control, mode, lister, story);
        is_usable = usable;
        let is_over = sample.announced.is_none();
        let is_slow = |dial: &Dial| dial.reach == Reach::TimedOut;
        if sample.dial.iter().chain(&sample.instead).any(is_slow) {
            slow_failures += 1;
        }
        tries.push(sample);
        // A refusal would only be repeated; a client would not wait so often either.
        if is_over || slow_failures >= SLOW_FAILURES {
            break;
        }
    }
    let verdict = match &tries[..] {
        [] => Verdict::NotTried,
        [only] if (500..=599).contains(&only.code) && is_unknown(only) => Verdict::NotOffered,
        all if all.iter().all(Passive::works) => Verdict::Works,
        _ => Verdict::Broken,
    };
    let attempt = Attempt {
        mode,
        verdict,
        passive: tries,
        active: None,
    };
    (attempt, is_usable)
}

/// Whether the server does not know the command, and not just cannot do it now.
fn is_unknown(sample: &Passive) -> bool {
    // vsftpd says "500 OOPS" when it finds no port.
    matches!(sample.code, 500 | 501 | 502 | 504 | 522) && !sample.reply.contains("OOPS")
}

/// One data connection.
fn once(
    session: &mut Session<'_>,
    control: SocketAddr,
    mode: Mode,
    lister: Lister<'_>,
    story: &Story,
) -> (Passive, bool) {
    let address = control.ip();
    let start = Instant::now();
    let reply = match session.control.command(mode.verb()) {
        Ok(reply) => reply,
        Err(trouble) => {
            story.step(mode.verb(), false, trouble.to_string(), since(start));
            let sample = Passive {
                reply: trouble.to_string(),
                ..Passive::default()
            };
            return (sample, false);
        }
    };
    let announced = reply.announced(address);
    let relation = announced.map(|to| Relation::of(to.ip(), address));
    let is_right = relation == Some(Relation::Same);
    story.step(mode.verb(), is_right, reply.last(), since(start));
    let mut sample = Passive {
        code: reply.code,
        reply: reply.last().to_owned(),
        announced,
        relation,
        ..Passive::default()
    };
    let Some(to) = announced else {
        return (sample, reply.code != 0 && reply.code != 421);
    };
    if let Some(relation) = relation.filter(|_| !is_right) {
        story.fact(
            true,
            "announced",
            false,
            format!("{to}: {}", relation.text()),
        );
    }

    let dialler = Dialler {
        from: session.local_address,
        control,
        lister,
        story,
    };
    let mut usable = true;
    // Connecting to no address at all would connect to this machine.
    if is_right || relation.is_some_and(can_be_dialled) {
        let (dialled, stream) = dialler.dial(to);
        sample.dial = Some(dialled);
        if let Some(stream) = stream {
            let transfer = dialler.list(session, stream);
            usable = is_usable(&transfer);
            sample.transfer = Some(transfer);
        }
    }
    if is_right || sample.works() || !usable {
        return (sample, usable);
    }
    // The address is wrong: is the port right?
    let mut port = to.port();
    if sample.transfer.is_some() {
        // That port was used for another address' sake.
        match session.control.command(mode.verb()).ok() {
            Some(reply) => match reply.announced(address) {
                Some(again) => port = again.port(),
                None => return (sample, usable),
            },
            None => return (sample, false),
        }
    }
    let (dialled, stream) = dialler.dial((address, port).into());
    sample.instead = Some(dialled);
    if let Some(stream) = stream {
        let transfer = dialler.list(session, stream);
        usable = is_usable(&transfer);
        sample.instead_transfer = Some(transfer);
    }
    (sample, usable)
}

fn can_be_dialled(relation: Relation) -> bool {
    !matches!(
        relation,
        Relation::Zero | Relation::Multicast | Relation::Loopback
    )
}

/// After an answer that did not come, the next one would belong to the wrong question.
fn is_usable(transfer: &Transfer) -> bool {
    !matches!(
        transfer.listing,
        Listing::Stalled | Listing::ControlLost | Listing::NotEncrypted
    )
}

struct Dialler<'d> {
    from: SocketAddr,
    control: SocketAddr,
    lister: Lister<'d>,
    story: &'d Story,
}

impl Dialler<'_> {
    fn dial(&self, mut to: SocketAddr) -> (Dial, Option<TcpStream>) {
        if to.ip() == self.control.ip() {
            // With its interface, which an address of one link needs.
            let port = to.port();
            to = self.control;
            to.set_port(port);
        }
        let way = Way {
            from: Some(self.from),
            ttl: None,
        };
        let (dialled, stream) = dial(to, way, self.lister.limits.left());
        let is_there = stream.is_some();
        let text = format!("{to}: {}", dialled.outcome());
        self.story.detail("connect", is_there, text, dialled.ms);
        (dialled, stream)
    }

    fn list(&self, session: &mut Session<'_>, stream: TcpStream) -> Transfer {
        let transfer = self.lister.list(session, stream);
        self.story
            .detail("LIST", transfer.works(), outcome(&transfer), transfer.ms);
        transfer
    }
}
