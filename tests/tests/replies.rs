//! What servers in the field answer to PASV and EPSV, in whatever pieces, through the gateway: the
//! client reads the public address, and its data connection comes about.

use std::time::Duration;

use ftp_nat_tests::{
    client::{Client, Job, Mode},
    firewall,
    gateway::Gateway,
    lab::{Lab, WAN_ADDRESS},
    replies::{self, CONTENT, Case},
    scripted::ScriptedServer,
};

/// Runs all cases, some at a time, behind a gateway that publishes a port for each.
fn run_all(cases: &[Case]) -> Vec<(&str, anyhow::Result<Duration>)> {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    let publishes: Vec<String> = replies::ports(cases.len())
        .map(|port| format!("198.51.100.1:{port}=10.0.0.5:{port}"))
        .collect();
    let mut arguments = vec!["--wan", "wan"];
    for publish in &publishes {
        arguments.extend(["--publish", publish]);
    }
    let _gateway = Gateway::start(&lab.router, &arguments).unwrap();
    let results = replies::each(cases, |port, case| replies::transfers(&lab, port, case));
    let names = cases.iter().map(|case| case.name.as_str());
    names.zip(results).collect()
}

fn expect_all(results: &[(&str, anyhow::Result<Duration>)]) {
    let failures: Vec<_> = results
        .iter()
        .filter_map(|(name, result)| Some(format!("{name}: {:#}", result.as_ref().err()?)))
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        results.len(),
        failures.join("\n")
    );
}

#[test]
fn every_form_of_reply_announces_the_public_address_and_its_connection_comes() {
    let cases = replies::forms();
    let results = run_all(&cases);
    println!("{} forms", results.len());
    expect_all(&results);
}

#[test]
fn a_reply_in_pieces_announces_the_public_address_soon_after_its_last_piece() {
    let cases = replies::pieces();
    let results = run_all(&cases);
    let mut delays: Vec<_> = results
        .iter()
        .filter_map(|(name, result)| Some((*result.as_ref().ok()?, name)))
        .collect();
    delays.sort();
    if let (Some((median, _)), Some((worst, which))) = (delays.get(delays.len() / 2), delays.last())
    {
        println!(
            "{} split replies; from the last write to the whole line read: median {:.0} ms, worst \
             {:.0} ms ({which})",
            delays.len(),
            median.as_secs_f64() * 1e3,
            worst.as_secs_f64() * 1e3
        );
        assert!(*median < Duration::from_millis(500));
    }
    expect_all(&results);
}

#[test]
fn real_clients_get_files_from_servers_of_every_form() {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    let run = ["--wan", "wan", "--publish", "198.51.100.1:21=10.0.0.5:21"];
    let _gateway = Gateway::start(&lab.router, &run).unwrap();
    let mut failures = Vec::new();
    for case in replies::forms() {
        // They ask one thing at a time, and take no 229 for PASV nor 227 for EPSV.
        let fits = match case.asks {
            "PASV" => case.script.pasv.starts_with("227"),
            "EPSV" => case.script.epsv.starts_with("229"),
            _ => false,
        };
        if !fits {
            continue;
        }
        let server = ScriptedServer::start(lab.server(), 21, case.script.clone()).unwrap();
        let target = server.target_at((WAN_ADDRESS, 21).into());
        let mode = match case.asks {
            "EPSV" => Mode::Epsv,
            _ => Mode::Pasv,
        };
        for client in [Client::Curl, Client::Ftplib] {
            if !reads(client, &case.name) {
                continue;
            }
            let session = client
                .perform(lab.client(), &target, mode, Job::Fetch("/file"))
                .unwrap();
            if !session.outcome.success() || session.content != CONTENT {
                failures.push(format!(
                    "{client:?}, {}:\n{}",
                    case.name, session.transcript
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Whether a client reads this form where nothing is between it and the server.
fn reads(client: Client, form: &str) -> bool {
    let not = match client {
        Client::Curl => &[
            "blanks in the tuple",
            "address on the first line",
            "the long form",
        ][..],
        _ => &["blanks in the tuple", "the long form"],
    };
    !not.contains(&form)
}

#[test]
fn what_is_no_address_passes_byte_for_byte_and_opens_nothing() {
    let lab = Lab::new().unwrap();
    let run = ["--wan", "wan", "--publish", "198.51.100.1:21=10.0.0.5:21"];
    let gateway = Gateway::start(&lab.router, &run).unwrap();
    let mut failures = Vec::new();
    for case in replies::no_addresses() {
        let answer = case.name.as_str();
        let server = ScriptedServer::start(lab.server(), 21, case.script.clone()).unwrap();
        match replies::ask(&lab, &server, &case) {
            Ok((_, read)) if read.announcement == answer => (),
            Ok((_, read)) => failures.push(format!("{answer:?} came as {:?}", read.announcement)),
            Err(error) => failures.push(format!("{answer:?}: {error:#}")),
        }
        let mappings = gateway.json(&["mappings"]).unwrap();
        if mappings.as_array().map(Vec::len) != Some(0) {
            failures.push(format!("{answer:?} opened {mappings}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
