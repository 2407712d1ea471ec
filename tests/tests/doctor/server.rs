//! Servers that do not answer, or not as they should.

use std::{io::Write as _, net::TcpListener, thread, time::Duration};

use ftp_nat_tests::{gateway::Gateway, lab::Lab};

use crate::{Fault, RUN, each_is_found, examine};

#[test]
fn a_server_that_cannot_be_reached_is_found() {
    each_is_found(&[
        Fault {
            finding: "server-silent",
            severity: "error",
            cause: 0,
            arguments: &RUN,
            names: &["10.0.0.5:21 does not answer"],
            build: |lab| {
                let rules = "table inet lab { chain input { type filter hook input priority 0; \
                             tcp dport 21 drop; }; }";
                lab.server().namespace.nft(rules).unwrap();
            },
        },
        Fault {
            finding: "no-neighbour",
            severity: "error",
            cause: 0,
            arguments: &["--wan", "wan", "--publish", "198.51.100.1:21=10.0.0.77:21"],
            names: &["nobody answers for 10.0.0.77"],
            build: |_| {},
        },
        Fault {
            finding: "server-refuses",
            severity: "error",
            cause: 0,
            arguments: &["--wan", "wan", "--publish", "198.51.100.1:21=10.0.0.5:2121"],
            names: &["10.0.0.5:2121 refuses"],
            build: |_| {},
        },
        // Clients' packets arrive, and the answers go nowhere.
        Fault {
            finding: "no-way-back",
            severity: "error",
            cause: 0,
            arguments: &RUN,
            names: &["10.0.0.5:21", "default route"],
            build: |lab| lab.server().namespace.ip("route del default").unwrap(),
        },
    ]);
}

#[test]
fn something_else_than_an_ftp_server_is_found() {
    for (greeting, finding, severity) in [
        (
            Some("SSH-2.0-OpenSSH_9.2\r\n"),
            "not-an-ftp-server",
            "error",
        ),
        (
            Some("421 too many connections\r\n"),
            "not-an-ftp-server",
            "error",
        ),
        (None, "server-slow", "warning"),
    ] {
        let lab = Lab::new().unwrap();
        let address = lab.server().at(21);
        let listener = lab
            .server()
            .namespace
            .run(|| Ok(TcpListener::bind(address)?))
            .unwrap();
        let gateway = Gateway::start(&lab.router, &RUN).unwrap();
        // Two connections come: one from each address of the router.
        let answering = thread::spawn(move || {
            let mut streams = Vec::new();
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                if let Some(greeting) = greeting {
                    stream.write_all(greeting.as_bytes()).unwrap();
                }
                streams.push(stream);
            }
            thread::sleep(Duration::from_secs(6));
        });
        let examined = examine(&gateway, &RUN);
        let said = examined.expect(finding, severity, 0);
        assert!(
            said.contains(greeting.unwrap_or("says nothing").trim_end()),
            "{said}"
        );
        drop(answering);
    }
}
