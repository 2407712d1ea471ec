//! A server that announces a port which is not its own: this machine listens there, or translates
//! it to somebody else. Their clients go on finding them.

use ftp_nat_tests::scripted::{Script, ScriptedServer};

use super::{
    secret::{Secret, ask},
    *,
};

/// The gateway itself listens there: `12,234`.
const LISTENED: u16 = 3306;
/// nftables translates it to the server's neighbour: `32,251`.
const TRANSLATED: u16 = 8443;

/// The daemon looks at what is used on this machine every 5 seconds, and has much to do meanwhile.
const LOOKS_WITHIN: Duration = Duration::from_secs(30);

const TRANSLATION: &str = "
table inet other {
    chain prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        iifname \"wan\" tcp dport 8443 dnat ip to 10.0.0.6
    }
}
";

/// What the firewall lets through besides.
const ACCEPT_TRANSLATED: &str = "
table inet lab {
    chain forward {
        ct state established,related accept
        ct status dnat accept
    }
}
";

/// What another tenant's client is told at these ports, before and after the first tenant's server
/// has announced them to it; `late`: they come into use when the gateway runs already.
fn assert_ports_stay(late: bool) {
    let lab = lab();
    let server = lab.server();
    let traps =
        [LISTENED, TRANSLATED].map(|port| Secret::at(&server.namespace, server.at(port), "a trap"));
    let [high, low] = LISTENED.to_be_bytes();
    let script = Script {
        replies: vec![
            (
                "PASV",
                format!("227 Entering Passive Mode (10,0,0,5,{high},{low}).\r\n"),
            ),
            (
                "EPSV",
                format!("229 Entering Extended Passive Mode (|||{TRANSLATED}|)\r\n"),
            ),
        ],
        ..Script::default()
    };
    let ftp = ScriptedServer::start(server, 21, script).unwrap();
    let occupy = || {
        lab.router.nft(TRANSLATION).unwrap();
        let own = (WAN_ADDRESS, LISTENED).into();
        let neighbour = neighbour(&lab);
        (
            Secret::at(&lab.router, own, "the gateway"),
            Secret::at(
                &neighbour.namespace,
                neighbour.at(TRANSLATED),
                "the neighbour",
            ),
        )
    };
    let early = (!late).then(occupy);
    let _publisher = publish(&lab, &[]);
    let _occupied = early.unwrap_or_else(occupy);
    if !attacks_kernel() {
        lab.router.nft(ACCEPT_TRANSLATED).unwrap();
    }
    let mut failures = Failures::default();
    for (verb, port, owner) in [
        ("PASV", LISTENED, "the gateway"),
        ("EPSV", TRANSLATED, "the neighbour"),
    ] {
        let answered = || -> anyhow::Result<()> {
            let mut control = Control::log_in(client(&lab), &ftp.target_at(PUBLIC))?;
            control.command(verb)?;
            let said = ask(client(&lab), (WAN_ADDRESS, port).into())?;
            ensure!(said == owner, "answered by {said}");
            Ok(())
        };
        // The daemon looks from time to time.
        let limit = Instant::now() + LOOKS_WITHIN;
        let mut result = answered();
        while late && result.is_err() && Instant::now() < limit {
            thread::sleep(Duration::from_secs(1));
            result = answered();
        }
        failures.note(&format!("{port}, {verb}"), result);
    }
    failures.assert_none();
    drop(traps);
}

#[test]
fn ports_in_use_here_are_not_given_away() {
    assert_ports_stay(false);
}

#[test]
fn ports_that_come_into_use_later_are_not_given_away() {
    assert_ports_stay(true);
}

/// What an administrator has written for the server's own passive ports takes them from nobody.
#[test]
fn a_port_that_a_rule_translates_to_the_same_server_is_kept() {
    let lab = lab();
    lab.router.nft(firewall::TRANSLATE_RANGE).unwrap();
    let publisher = publish(&lab, &[]);
    let script = Script {
        replies: vec![(
            "PASV",
            "227 Entering Passive Mode (10,0,0,5,195,80).\r\n".into(),
        )],
        ..Script::default()
    };
    let server = ScriptedServer::start(lab.server(), 21, script).unwrap();
    let mut control = Control::log_in(client(&lab), &server.target_at(PUBLIC)).unwrap();
    let reply = control.command("PASV").unwrap();
    assert!(reply.contains(",195,80)"), "{reply}");
    publisher.assert_count("mappings", usize::from(publisher.gateway.is_some()));
}

/// Somebody else's port, which the server announces.
struct Sibling {
    name: &'static str,
    /// Rules, if it is translated.
    rules: &'static str,
    /// Where the owner listens: on the gateway, or at the neighbour's port.
    listens: Listens,
}

enum Listens {
    Here(&'static str),
    AtNeighbour,
}

const SIBLINGS: [Sibling; 6] = [
    Sibling {
        name: "a listener of all addresses",
        rules: "",
        listens: Listens::Here("0.0.0.0:8443"),
    },
    Sibling {
        name: "a listener of both families",
        rules: "",
        listens: Listens::Here("[::]:8443"),
    },
    Sibling {
        name: "a chain of its own, as Docker has it",
        rules: "table ip other {
            chain docker { iifname != \"br0\" tcp dport 8443 dnat to 10.0.0.6:8443; }
            chain prerouting {
                type nat hook prerouting priority dstnat; policy accept;
                fib daddr type local jump docker
            }
        }",
        listens: Listens::AtNeighbour,
    },
    Sibling {
        name: "a range of ports",
        rules: "table inet other {
            chain prerouting {
                type nat hook prerouting priority dstnat; policy accept;
                ip daddr 198.51.100.1 tcp dport 8400-8500 dnat ip to 10.0.0.6
            }
        }",
        listens: Listens::AtNeighbour,
    },
    Sibling {
        name: "a map",
        rules: "table inet other {
            chain prerouting {
                type nat hook prerouting priority dstnat; policy accept;
                dnat ip to tcp dport map { 8443 : 10.0.0.6 }
            }
        }",
        listens: Listens::AtNeighbour,
    },
    Sibling {
        name: "a redirection to another port here",
        rules: "table inet other {
            chain prerouting {
                type nat hook prerouting priority dstnat; policy accept;
                iifname \"wan\" tcp dport 8443 redirect to :9000
            }
        }",
        listens: Listens::Here("0.0.0.0:9000"),
    },
];

#[test]
fn whatever_has_a_port_here_keeps_it() {
    let mut failures = Failures::default();
    for sibling in SIBLINGS {
        let lab = lab();
        let trap = Secret::at(
            &lab.server().namespace,
            lab.server().at(TRANSLATED),
            "a trap",
        );
        let _owner = match sibling.listens {
            Listens::Here(at) => Secret::at(&lab.router, at.parse().unwrap(), "the owner"),
            Listens::AtNeighbour => {
                let at = neighbour(&lab).at(TRANSLATED);
                Secret::at(&neighbour(&lab).namespace, at, "the owner")
            }
        };
        if !sibling.rules.is_empty() {
            lab.router.nft(sibling.rules).unwrap();
        }
        let script = Script {
            replies: vec![(
                "EPSV",
                format!("229 Entering Extended Passive Mode (|||{TRANSLATED}|)\r\n"),
            )],
            ..Script::default()
        };
        let ftp = ScriptedServer::start(lab.server(), 21, script).unwrap();
        let _publisher = publish(&lab, &[]);
        if !attacks_kernel() {
            lab.router.nft(ACCEPT_TRANSLATED).unwrap();
        }
        let mut control = Control::log_in(client(&lab), &ftp.target_at(PUBLIC)).unwrap();
        failures.note(sibling.name, control.command("EPSV").map(drop));
        let said = ask(client(&lab), (WAN_ADDRESS, TRANSLATED).into());
        failures.note(
            sibling.name,
            said.and_then(|said| {
                ensure!(said == "the owner", "answered by {said}");
                Ok(())
            }),
        );
        failures.note(sibling.name, trap.keep());
    }
    failures.assert_none();
}

#[test]
fn a_listener_that_begins_after_the_announcement_serves_everybody_but_its_peer() {
    let lab = lab();
    let trap = Secret::at(
        &lab.server().namespace,
        lab.server().at(LISTENED),
        "the server",
    );
    let [high, low] = LISTENED.to_be_bytes();
    let script = Script {
        replies: vec![(
            "PASV",
            format!("227 Entering Passive Mode (10,0,0,5,{high},{low}).\r\n"),
        )],
        ..Script::default()
    };
    let ftp = ScriptedServer::start(lab.server(), 21, script).unwrap();
    let _publisher = publish(&lab, &[]);
    let mut control = Control::log_in(client(&lab), &ftp.target_at(PUBLIC)).unwrap();
    control.command("PASV").unwrap();
    let public = (WAN_ADDRESS, LISTENED).into();
    let _owner = Secret::at(&lab.router, public, "the gateway");
    // The announcement is of one connection of one peer.
    assert_eq!(ask(attacker(&lab), public).unwrap(), "the gateway");
    if !attacks_kernel() {
        assert_eq!(ask(client(&lab), public).unwrap(), "the server");
        assert_eq!(ask(client(&lab), public).unwrap(), "the gateway");
    }
    drop(trap);
}
