//! Masqueraded clients, each with a session and an active data connection, all at the same time.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Instant,
};

use anyhow::ensure;
use ftp_nat_tests::{
    firewall,
    gateway::Gateway,
    lab::{HOST_INTERFACE, LAN, Lab},
    scratch::Scratch,
};

use super::{
    ends::{Came, Ends, exchange, listen, v4},
    rows::Rows,
    watch,
};

/// Who comes when there is no room.
const BEYOND: u32 = 10;

/// The address of a client.
fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 1, 0, 1)) + number)
}

pub(super) fn run(number: u32) -> anyhow::Result<Rows> {
    let lab = Lab::new()?;
    lab.router.nft(firewall::MASQUERADE)?;
    // The clients are addresses of the host inside, the server is the host outside.
    let (inside, outside) = (lab.server(), lab.client());
    let addresses: String = (0..number + BEYOND)
        .map(|number| format!("addr add {}/32 dev {HOST_INTERFACE}\n", address(number)))
        .collect();
    inside.namespace.ip(&addresses)?;
    lab.router.ip(&format!(
        "route add 10.1.0.0/16 via {} dev {LAN}",
        inside.v4
    ))?;
    let folder = Scratch::new()?;
    let config = format!(
        "[gateway]\nwan = [\"wan\"]\n[[masquerade]]\nclients = [\"10.1.0.0/16\"]\n\
         [limits]\nsessions = {number}\n"
    );
    let file = folder.write("ftp-nat.toml", config)?;
    let gateway = Gateway::start(&lab.router, &["--config", &file.to_string_lossy()])?;
    let before = watch::memory(&gateway)?;
    let server: SocketAddr = outside.at(21);
    let listener = listen(outside, v4(server)?)?;

    let mut rows = Rows::new();
    inside.namespace.run(|| {
        let start = Instant::now();
        let mut live = (0..number)
            .map(|number| Ends::open(address(number), server, &listener))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let mut data = live
            .iter()
            .map(|session| session.active(inside, outside))
            .collect::<anyhow::Result<Vec<_>>>()?;
        data.iter().try_for_each(exchange)?;
        let took = start.elapsed();
        rows.push((
            "clients with a session and a data connection",
            data.len().to_string(),
        ));
        rows.push((
            "all there, and all have carried bytes, within",
            format!("{took:.1?}"),
        ));
        rows.push(("memory before", before.clone()));
        rows.push(("memory with them", watch::memory(&gateway)?));
        rows.push((
            "`flows --count`",
            watch::answer(&gateway, &["flows", "--count"])?,
        ));
        let denied = gateway.metric_in_all("denied_packets_total")?;
        ensure!(denied == 0, "{denied} packets were denied");

        // There is room for no more sessions: who comes has the kernel's NAT, and no help.
        let mut unhelped = 0;
        for number in number..number + BEYOND {
            match Ends::attempt(address(number), server, &listener)? {
                Came::In(ends) => unhelped += u32::from(ends.active(inside, outside).is_err()),
                Came::NoAnswer | Came::NoGreeting => unhelped += 1,
            }
        }
        ensure!(
            unhelped == BEYOND,
            "only {unhelped} of {BEYOND} were beyond the room"
        );
        let denied = gateway.metric("denied_packets_total", "reason=\"no_room\"")?;
        ensure!(denied > 0, "refused, and not counted");
        rows.push((
            "just beyond",
            format!("{BEYOND} more got no data connection; {denied} packets counted as `no_room`"),
        ));
        data.iter().try_for_each(exchange)?;
        live.iter().try_for_each(Ends::noop)?;
        rows.push((
            "meanwhile",
            "all sessions spoke and all data connections carried bytes".into(),
        ));

        data.clear();
        live.truncate(live.len() - BEYOND as usize);
        let start = Instant::now();
        for number in number..number + BEYOND {
            let session = Ends::open(address(number), server, &listener)?;
            exchange(&session.active(inside, outside)?)?;
            live.push(session);
        }
        rows.push((
            "once so many have left",
            format!("the {BEYOND} came in within {:.1?}", start.elapsed()),
        ));
        Ok(())
    })?;
    Ok(rows)
}
