//! Diagnoses from facts that no lab can easily build, and the order of findings.

use std::net::{IpAddr, SocketAddr};

use super::{finding::Finding, *};
use crate::probe::{
    dial::{Dial, Reach},
    path::{Hop, Path},
    seen::{Active, Attempt, Encryption, Listing, Mode, Passive, Relation, Transfer},
    server::{Program, Server},
};

const SERVER: &str = "198.51.100.1";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn dial(to: &str, reach: Reach, by: Option<&str>) -> Dial {
    Dial {
        to: at(to),
        reach,
        by: by.map(ip),
        is_prohibited: false,
        error: None,
        ms: 1.0,
    }
}

fn transfer(listing: Listing, reply: &str) -> Transfer {
    Transfer {
        listing,
        reply: reply.into(),
        bytes: 0,
        ms: 1.0,
    }
}

/// An announcement of `to`.
fn announced(to: &str) -> Passive {
    let to = at(to);
    Passive {
        code: 227,
        reply: "227 Entering Passive Mode (..).".into(),
        announced: Some(to),
        relation: Some(Relation::of(to.ip(), ip(SERVER))),
        ..Passive::default()
    }
}

/// The right address and a port that ends like this.
fn port_that(reach: Reach, by: Option<&str>) -> Passive {
    let to = "198.51.100.1:50000";
    Passive {
        dial: Some(dial(to, reach, by)),
        ..announced(to)
    }
}

fn works(to: &str) -> Passive {
    Passive {
        dial: Some(dial(to, Reach::Connected, None)),
        transfer: Some(transfer(Listing::Complete, "226 ok")),
        ..announced(to)
    }
}

fn attempt(mode: Mode, verdict: Verdict, passive: Vec<Passive>) -> Attempt {
    Attempt {
        mode,
        verdict,
        passive,
        active: None,
    }
}

fn seen(modes: Vec<Attempt>) -> Seen {
    Seen {
        address: at("198.51.100.1:21"),
        local_address: at("192.168.1.7:40000"),
        encryption: Encryption::None,
        server: Server::default(),
        modes,
        path: None,
        announced_in_tls: None,
    }
}

fn broken(sample: Passive) -> Seen {
    seen(vec![attempt(Mode::Pasv, Verdict::Broken, vec![sample])])
}

/// `"10.0.0.1 198.51.100.1 +"`: routers, `?` for silence, `+` accepted, `!` reset.
fn hops(text: &str) -> Vec<Hop> {
    let hop = |(word, ttl): (&str, u8)| {
        let (reach, by) = match word {
            "?" => (Reach::TimedOut, None),
            "+" => (Reach::Connected, None),
            "!" => (Reach::Refused, None),
            router => (Reach::Expired, Some(ip(router))),
        };
        Hop { ttl, reach, by }
    };
    text.split_whitespace().zip(1..).map(hop).collect()
}

fn first(seen: &Seen) -> (Fault, Certainty) {
    let findings = diagnose(seen);
    let first = findings.first().unwrap_or_else(|| panic!("{seen:?}"));
    (first.cause, first.certainty)
}

#[test]
fn what_works_is_no_finding() {
    let all = seen(vec![
        attempt(
            Mode::Pasv,
            Verdict::Works,
            vec![works("198.51.100.1:50000")],
        ),
        attempt(Mode::Epsv, Verdict::NotOffered, vec![]),
    ]);
    assert_eq!(diagnose(&all), []);
}

#[test]
fn a_port_that_is_not_reached_is_judged_by_how_far_its_packets_get() {
    use Certainty::{Certain, Likely};
    use Fault::{ClientSide, FirewallBlocks, NatNotTranslating};
    let lost = Reach::TimedOut;
    let reset = Reach::Refused;
    // Two routers, then a NAT with the public address, then the server.
    let control = "192.168.1.1 203.0.113.1 198.51.100.1 +";
    for (reach, control, data, cause, certainty) in [
        // Without knowing the way.
        (lost, "", "", FirewallBlocks, Likely),
        (reset, "", "", NatNotTranslating, Likely),
        (lost, "? ? ? ?", "? ? ? ?", FirewallBlocks, Likely),
        // Lost on this side.
        (lost, control, "? ? ? ?", ClientSide, Certain),
        (lost, control, "192.168.1.1 ? ? ?", ClientSide, Certain),
        (
            lost,
            "192.168.1.1 10.9.9.1 203.0.113.1 198.51.100.1 +",
            "192.168.1.1 10.9.9.1 ? ? ?",
            ClientSide,
            Certain,
        ),
        // Lost at the server's gateway, and behind it.
        (
            lost,
            control,
            "192.168.1.1 203.0.113.1 ? ?",
            FirewallBlocks,
            Likely,
        ),
        (
            lost,
            control,
            "192.168.1.1 203.0.113.1 198.51.100.1 ?",
            FirewallBlocks,
            Certain,
        ),
        // Lost in the middle of the net.
        (
            lost,
            "192.168.1.1 203.0.113.1 203.0.113.2 203.0.113.3 +",
            "192.168.1.1 203.0.113.1 203.0.113.2 ? ?",
            FirewallBlocks,
            Likely,
        ),
        // Reset by the NAT itself, behind it, at the server, on this side.
        (
            reset,
            control,
            "192.168.1.1 203.0.113.1 !",
            NatNotTranslating,
            Certain,
        ),
        (
            reset,
            control,
            "192.168.1.1 203.0.113.1 198.51.100.1 !",
            FirewallBlocks,
            Likely,
        ),
        (
            reset,
            "192.168.1.1 203.0.113.1 +",
            "192.168.1.1 203.0.113.1 !",
            FirewallBlocks,
            Likely,
        ),
        (reset, control, "!", ClientSide, Likely),
        (reset, control, "192.168.1.1 !", ClientSide, Likely),
        // Control connections are accepted by the NAT's own machine: directly connected.
        (lost, "+", "?", FirewallBlocks, Likely),
        (reset, "+", "!", FirewallBlocks, Likely),
    ] {
        let mut facts = broken(port_that(reach, None));
        if !control.is_empty() {
            facts.path = Some(Path {
                data_port: 50_000,
                control: hops(control),
                data: hops(data),
            });
        }
        assert_eq!(
            first(&facts),
            (cause, certainty),
            "{reach:?} {control}: {data}"
        );
    }
}

#[test]
fn who_says_that_it_is_unreachable_is_believed() {
    use Certainty::{Certain, Likely};
    use Fault::{ClientSide, FirewallBlocks};
    for (by, cause, certainty) in [
        (Some(SERVER), FirewallBlocks, Certain),
        (Some("192.168.1.7"), ClientSide, Certain),
        (Some("192.168.1.1"), ClientSide, Certain),
        (Some("203.0.113.9"), FirewallBlocks, Likely),
        (None, FirewallBlocks, Likely),
    ] {
        let facts = broken(port_that(Reach::Unreachable, by));
        assert_eq!(first(&facts), (cause, certainty), "{by:?}");
    }
    for reach in [Reach::Forbidden, Reach::NoRoute] {
        assert_eq!(first(&broken(port_that(reach, None))).0, ClientSide);
    }
}

#[test]
fn wrong_addresses_are_told_from_double_nat() {
    use Certainty::{Certain, Likely};
    use Fault::{AnnouncedAddress, DoubleNat};
    let tried = |to: &str, port_works: bool| Passive {
        dial: Some(dial(to, Reach::TimedOut, None)),
        instead: Some(dial("198.51.100.1:50000", Reach::Connected, None)),
        instead_transfer: port_works.then(|| transfer(Listing::Complete, "226 ok")),
        ..announced(to)
    };
    for (to, port_works, cause, certainty) in [
        ("10.0.0.5:50000", true, AnnouncedAddress, Certain),
        ("10.0.0.5:50000", false, AnnouncedAddress, Certain),
        ("0.0.0.0:50000", true, AnnouncedAddress, Certain),
        ("203.0.113.9:50000", true, AnnouncedAddress, Certain),
        ("203.0.113.9:50000", false, AnnouncedAddress, Likely),
        ("100.70.0.5:50000", true, DoubleNat, Certain),
    ] {
        let facts = broken(tried(to, port_works));
        assert_eq!(first(&facts), (cause, certainty), "{to} {port_works}");
    }

    // A gateway's words, a server that calls itself by another name, one more router.
    let mut rewritten = broken(Passive {
        reply: "227 Entering Passive Mod (10,0,0,5,195,80).".into(),
        ..tried("10.0.0.5:50000", true)
    });
    assert_eq!(first(&rewritten).0, AnnouncedAddress);
    rewritten.server.program = Program::Vsftpd;
    assert_eq!(first(&rewritten), (DoubleNat, Certain));

    let mut named = broken(tried("10.0.0.5:50000", true));
    named.server.own_address = Some(ip("10.0.0.5"));
    assert_eq!(first(&named).0, AnnouncedAddress);
    named.server.own_address = Some(ip("192.168.77.2"));
    assert_eq!(first(&named), (DoubleNat, Certain));

    let mut veiled = broken(tried("10.0.0.5:50000", true));
    veiled.announced_in_tls = Some(ip("10.0.0.5"));
    assert_eq!(first(&veiled).0, AnnouncedAddress);
    veiled.announced_in_tls = Some(ip("192.168.77.2"));
    assert_eq!(first(&veiled), (DoubleNat, Certain));

    let mut routed = broken(tried("10.0.0.5:50000", true));
    for (control, causes) in [
        (
            "203.0.113.1 198.51.100.1 +",
            &[(AnnouncedAddress, Certain)][..],
        ),
        (
            "203.0.113.1 198.51.100.1 198.51.100.1 +",
            &[(AnnouncedAddress, Certain), (DoubleNat, Likely)],
        ),
    ] {
        routed.path = Some(Path {
            data_port: 50_000,
            control: hops(control),
            data: hops(control),
        });
        let found: Vec<_> = diagnose(&routed)
            .iter()
            .map(|finding| (finding.cause, finding.certainty))
            .collect();
        assert_eq!(found, causes, "{control}");
    }
}

#[test]
fn ports_of_which_some_work_are_a_range_of_which_some_is_open() {
    let mixed = seen(vec![attempt(
        Mode::Epsv,
        Verdict::Broken,
        vec![
            works("198.51.100.1:50001"),
            port_that(Reach::TimedOut, None),
            works("198.51.100.1:50002"),
        ],
    )]);
    let findings = diagnose(&mixed);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].cause, Fault::PassiveRange);
    assert!(findings[0].evidence[0].contains("50001, 50002 open, 50000 not"));

    // The same port once open and once not is another matter.
    let flapping = seen(vec![attempt(
        Mode::Epsv,
        Verdict::Broken,
        vec![
            works("198.51.100.1:50000"),
            port_that(Reach::TimedOut, None),
        ],
    )]);
    assert_eq!(first(&flapping).0, Fault::FirewallBlocks);
}

#[test]
fn active_mode_is_judged_by_what_comes_back() {
    use Fault::{ClientSide, DoubleNat, Intercepted, NatNotTranslating, Server};
    let offer = Active {
        offered: Some(at("192.168.1.7:40001")),
        code: 200,
        reply: "200 ok".into(),
        ..Active::default()
    };
    let nobody = Some(transfer(Listing::NoConnection, "425 cannot connect"));
    let from = |text: &str| Some(at(text));
    for (active, local, cause) in [
        (
            Active {
                transfer: nobody.clone(),
                ..offer.clone()
            },
            "203.0.113.7:40000",
            ClientSide,
        ),
        (
            Active {
                transfer: nobody.clone(),
                ..offer.clone()
            },
            "192.168.1.7:40000",
            NatNotTranslating,
        ),
        (
            Active {
                code: 500,
                reply: "500 Illegal PORT command.".into(),
                ..offer.clone()
            },
            "192.168.1.7:40000",
            NatNotTranslating,
        ),
        (
            Active {
                code: 550,
                reply: "550 Permission denied.".into(),
                ..offer.clone()
            },
            "203.0.113.7:40000",
            Server,
        ),
        (
            Active {
                code: 500,
                reply: "500 'XXXX': command not understood.".into(),
                ..offer.clone()
            },
            "203.0.113.7:40000",
            Intercepted,
        ),
        (
            Active {
                came_from: from("203.0.113.99:20"),
                transfer: Some(transfer(Listing::Cut, "426 aborted")),
                ..offer.clone()
            },
            "203.0.113.7:40000",
            DoubleNat,
        ),
        (
            Active {
                came_from: from("198.51.100.1:20"),
                transfer: Some(transfer(Listing::Cut, "426 aborted")),
                ..offer.clone()
            },
            "203.0.113.7:40000",
            Intercepted,
        ),
    ] {
        let mut facts = seen(vec![Attempt {
            mode: Mode::Port,
            verdict: Verdict::Broken,
            passive: vec![],
            active: Some(active.clone()),
        }]);
        facts.local_address = at(local);
        assert_eq!(first(&facts).0, cause, "{active:?} at {local}");
    }
}

#[test]
fn the_surest_finding_comes_first_and_each_has_something_to_do() {
    let facts = seen(vec![
        attempt(
            Mode::Pasv,
            Verdict::Broken,
            vec![Passive {
                dial: Some(dial("10.0.0.5:50000", Reach::TimedOut, None)),
                instead: Some(dial("198.51.100.1:50000", Reach::TimedOut, None)),
                ..announced("10.0.0.5:50000")
            }],
        ),
        attempt(
            Mode::Epsv,
            Verdict::Broken,
            vec![port_that(Reach::TimedOut, None)],
        ),
    ]);
    let findings = diagnose(&facts);
    let causes: Vec<_> = findings.iter().map(|it| it.cause.number()).collect();
    assert_eq!(causes, [Some(3), Some(2), Some(1), Some(5)]);
    assert_eq!(findings[1].modes, [Mode::Pasv, Mode::Epsv]);
    for finding in &findings {
        let fixes = crate::probe::advice::fixes(finding, &facts);
        assert!(!fixes.is_empty(), "{finding:?}");
    }
    // The server did not say what it is: the usual ones are named.
    let fixes = crate::probe::advice::fixes(&findings[0], &facts);
    let places: Vec<_> = fixes.iter().map(|fix| fix.at.as_str()).collect();
    for place in [
        "vsftpd",
        "ProFTPD",
        "Pure-FTPd",
        "ftp-nat",
        "nf_conntrack",
        "Cisco ASA",
        "pfSense",
    ] {
        assert!(places.contains(&place), "{place}: {places:?}");
    }
}

#[test]
fn this_servers_own_remedy_comes_first_and_encryption_leaves_no_gateway() {
    for (program, cause, remedy) in [
        (
            Program::Vsftpd,
            Fault::AnnouncedAddress,
            "pasv_address=198.51.100.1",
        ),
        (
            Program::Proftpd,
            Fault::AnnouncedAddress,
            "MasqueradeAddress 198.51.100.1",
        ),
        (
            Program::PureFtpd,
            Fault::AnnouncedAddress,
            "-P 198.51.100.1",
        ),
        (
            Program::Pyftpdlib,
            Fault::AnnouncedAddress,
            "masquerade_address",
        ),
        (Program::Filezilla, Fault::AnnouncedAddress, "198.51.100.1"),
        (Program::Iis, Fault::AnnouncedAddress, "External IP Address"),
        (Program::Vsftpd, Fault::FirewallBlocks, "pasv_min_port"),
        (Program::Proftpd, Fault::PassiveRange, "PassivePorts"),
        (Program::PureFtpd, Fault::NatNotTranslating, "-p "),
    ] {
        let mut facts = seen(vec![]);
        facts.server.program = program;
        let finding = Finding {
            cause,
            certainty: Certainty::Certain,
            side: Side::Server,
            modes: vec![Mode::Pasv],
            evidence: vec![],
        };
        let fixes = crate::probe::advice::fixes(&finding, &facts);
        assert_eq!(fixes[0].at, program.name());
        assert!(fixes[0].what.contains(remedy), "{fixes:?}");
        facts.encryption = Encryption::Explicit;
        let fixes = crate::probe::advice::fixes(&finding, &facts);
        assert!(
            fixes
                .iter()
                .all(|fix| fix.at != "Cisco ASA" && fix.at != "nf_conntrack"),
            "{fixes:?}"
        );
    }
}
