//! Live control sessions, as many as there is room for, and some more who come.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use ftp_nat_tests::{
    attack::crowd::settle,
    gateway::Gateway,
    lab::{Lab, WAN_ADDRESS},
    scratch::Scratch,
};

use super::{
    ends::{Came, Ends, SHORT, listen, v4},
    holder::{CLIENTS, Holder, client},
    rows::Rows,
    watch,
};

/// Sessions of one process, two files each.
const PART: u32 = 9000;
/// Who comes when there is no room.
const BEYOND: u32 = 10;
/// Sessions of each part that say something at the end, and those that transfer something.
const SPEAKERS: u32 = 100;
const TRANSFERS: u32 = 10;

pub(super) fn run(number: u32) -> anyhow::Result<Rows> {
    let lab = Lab::new()?;
    settle(&lab, lab.client(), CLIENTS as usize)?;
    let folder = Scratch::new()?;
    let config = format!(
        "[gateway]\nwan = [\"wan\"]\n[[publish]]\npublic = \"{WAN_ADDRESS}:21\"\nserver = \"{}\"\n\
         [limits]\nsessions = {number}\nconnections = {}\n",
        lab.server().at(21),
        number + 4096
    );
    let file = folder.write("ftp-nat.toml", config)?;
    let gateway = Gateway::start(&lab.router, &["--config", &file.to_string_lossy()])?;
    let mut rows = vec![("memory before", watch::memory(&gateway)?)];
    let start = Instant::now();
    let mut holders = Vec::new();
    for first in (0..number).step_by(PART as usize) {
        holders.push(Holder::start(&lab, first, PART.min(number - first))?);
    }
    let rate = f64::from(number) / start.elapsed().as_secs_f64();
    rows.push((
        "live control sessions, as `sessions --count` has them",
        watch::answer(&gateway, &["sessions", "--count"])?,
    ));
    rows.push(("begun a second, one after the other", format!("{rate:.0}")));
    rows.push(("memory with them", watch::memory(&gateway)?));
    rows.push((
        "a sweep, on average",
        format!("{:.1?}", watch::word(&gateway)?.2),
    ));
    rows.push(("`status`", watch::answer(&gateway, &["status"])?));

    let no_room = || gateway.metric("denied_packets_total", "reason=\"no_room\"");
    let before = no_room()?;
    let listener = listen(lab.server(), v4(lab.server().at(21))?)?;
    let public: SocketAddr = (WAN_ADDRESS, 21).into();
    let attempt = |number: u32| {
        let namespace = &lab.client().namespace;
        namespace.run(|| Ends::attempt(client(number), public, &listener))
    };
    let (mut unanswered, mut ungreeted) = (0, 0);
    for number in 0..BEYOND {
        match attempt(number)? {
            Came::In(_) => bail!("somebody was let in where there was no room"),
            Came::NoAnswer => unanswered += 1,
            Came::NoGreeting => ungreeted += 1,
        }
    }
    let denied = no_room()? - before;
    ensure!(denied > 0, "refused, and not counted");
    rows.push((
        "just beyond",
        format!(
            "of {BEYOND} more, {unanswered} got no answer to their SYN for {SHORT:?}, and {ungreeted} \
             no greeting; {denied} packets counted as `no_room`"
        ),
    ));

    // All of those who are there are served as before.
    let mut slowest = [Duration::ZERO; 2];
    for holder in &mut holders {
        for (time, (verb, number)) in slowest
            .iter_mut()
            .zip([("speak", SPEAKERS), ("transfer", TRANSFERS)])
        {
            *time = holder.ask(verb, number)?.max(*time);
        }
    }
    let parts = holders.len() as u32;
    rows.push((
        "meanwhile",
        format!(
            "{} of them spoke, {} transferred by PASV; the slowest took {:.1?} and {:.1?}",
            SPEAKERS * parts,
            TRANSFERS * parts,
            slowest[0],
            slowest[1]
        ),
    ));

    // Some leave: others come in.
    if let Some(last) = holders.last_mut() {
        last.ask("leave", BEYOND)?;
    }
    let start = Instant::now();
    let come_in = |number| Ends::open(client(number), public, &listener);
    let others: Vec<_> = lab
        .client()
        .namespace
        .run(|| (0..BEYOND).map(come_in).collect())?;
    rows.push((
        "once so many have left",
        format!(
            "the {} came in within {:.1?}",
            others.len(),
            start.elapsed()
        ),
    ));
    Ok(rows)
}
