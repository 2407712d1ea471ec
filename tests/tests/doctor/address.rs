//! Public addresses, and what is announced.

use std::net::TcpListener;

use ftp_nat_tests::{gateway::Gateway, lab::Lab, scratch::Scratch};

use crate::{Fault, RUN, config, each_is_found, examine, vsftpd};

#[test]
fn an_address_that_clients_cannot_use_is_found() {
    each_is_found(&[
        // A 1:1 address of a cloud, published as if this machine had it.
        Fault {
            finding: "public-address-not-here",
            severity: "warning",
            cause: 6,
            arguments: &["--wan", "wan", "--publish", "203.0.113.9:21=10.0.0.5:21"],
            names: &[
                "203.0.113.9 is on no interface",
                "advertise = \"203.0.113.9\"",
            ],
            build: |_| {},
        },
        Fault {
            finding: "public-address-not-on-wan",
            severity: "warning",
            cause: 0,
            arguments: &["--wan", "wan", "--publish", "10.0.0.1:21=10.0.0.5:21"],
            names: &["10.0.0.1 is on an inside interface"],
            build: |_| {},
        },
        // Behind another NAT: what is announced is this one's outside, which nobody can dial.
        Fault {
            finding: "advertises-private",
            severity: "warning",
            cause: 3,
            arguments: &["--wan", "wan", "--publish", "192.168.7.2:21=10.0.0.5:21"],
            names: &["192.168.7.2:21", "a private address"],
            build: |lab| lab.router.ip("addr add 192.168.7.2/24 dev wan").unwrap(),
        },
    ]);
}

#[test]
fn what_the_configuration_announces_is_looked_at() {
    let cases = [
        (
            "advertise = \"192.168.7.2\"",
            "advertises-private",
            "warning",
            3,
        ),
        (
            "advertise = \"203.0.113.9\"",
            "advertises-another",
            "note",
            6,
        ),
        (
            "passive_ports = \"50000-50003\"",
            "passive-range-small",
            "warning",
            4,
        ),
    ];
    for (line, finding, severity, cause) in cases {
        let lab = Lab::new().unwrap();
        let _server = vsftpd(&lab);
        let scratch = Scratch::new().unwrap();
        let file = config(&scratch, line, "");
        let arguments = ["--config", &*file];
        let gateway = Gateway::start(&lab.router, &arguments).unwrap();
        let examined = examine(&gateway, &arguments);
        examined.expect(finding, severity, cause);
        examined.expect_only(&[finding]);
    }
}

#[test]
fn a_program_that_listens_where_clients_are_translated_is_found() {
    let lab = Lab::new().unwrap();
    let _server = vsftpd(&lab);
    let gateway = Gateway::start(&lab.router, &RUN).unwrap();
    let listen = |address: &str| {
        let listening = lab.router.run(|| Ok(TcpListener::bind(address)?));
        listening.unwrap()
    };
    // Nobody outside is meant by these.
    let _harmless = [
        listen("127.0.0.1:21"),
        listen("10.0.0.1:21"),
        listen("127.0.0.1:61501"),
    ];
    examine(&gateway, &RUN).expect_health();
    let published = listen("198.51.100.1:21");
    examine(&gateway, &RUN).expect("local-listener", "warning", 0);
    drop(published);
    let _remap = listen("0.0.0.0:61500");
    let said = examine(&gateway, &RUN).expect("remap-port-in-use", "warning", 4);
    assert!(said.contains("61500"), "{said}");
}
