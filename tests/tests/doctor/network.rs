//! Forwarding, routes, interfaces and ports of the router.

use ftp_nat_tests::lab::Lab;

use crate::{Fault, RUN, STACK, each_is_found};

const V6: &[&str] = &[
    "--wan",
    "wan",
    "--publish",
    "[2001:db8:1::1]:21=[fd00:10::5]:21",
];

/// Answers to far clients leave by the inside, and strictly checked they do not even come in.
fn strict_and_asymmetric(lab: &Lab) {
    lab.router
        .ip("route add default via 10.0.0.6 dev lan")
        .unwrap();
    lab.router
        .sysctl("net.ipv4.conf.wan.rp_filter", "1")
        .unwrap();
}

#[test]
fn what_keeps_packets_from_being_forwarded_is_found() {
    each_is_found(&[
        Fault {
            finding: "forwarding-off",
            severity: "error",
            cause: 2,
            arguments: &RUN,
            names: &["IPv4", "lan, wan", "net.ipv4.ip_forward=1"],
            build: |lab| lab.router.sysctl("net.ipv4.ip_forward", "0").unwrap(),
        },
        Fault {
            finding: "forwarding-off",
            severity: "error",
            cause: 2,
            arguments: &RUN,
            names: &["IPv4 forwarding is off on wan"],
            build: |lab| {
                lab.router
                    .sysctl("net.ipv4.conf.wan.forwarding", "0")
                    .unwrap()
            },
        },
        Fault {
            finding: "forwarding-off",
            severity: "error",
            cause: 2,
            arguments: V6,
            names: &["IPv6"],
            build: |lab| {
                lab.router
                    .sysctl("net.ipv6.conf.all.forwarding", "0")
                    .unwrap()
            },
        },
        Fault {
            finding: "reverse-path-filter",
            severity: "error",
            cause: 2,
            arguments: &STACK,
            names: &[
                "of wan drops packets from 1.1.1.1",
                "net.ipv4.conf.wan.rp_filter=2",
            ],
            build: strict_and_asymmetric,
        },
        // What goes straight from interface to interface does not meet it.
        Fault {
            finding: "reverse-path-filter",
            severity: "warning",
            cause: 2,
            arguments: &RUN,
            names: &["through the stack"],
            build: |lab| {
                strict_and_asymmetric(lab);
                // Straight packets leave by another table.
                lab.router
                    .ip("route add default via 198.51.100.20 dev wan table 7\n\
                         rule add from 198.51.100.1 table 7")
                    .unwrap();
            },
        },
        Fault {
            finding: "replies-leave-elsewhere",
            severity: "error",
            cause: 1,
            arguments: &RUN,
            names: &["10.0.0.5:21", "leaves by lan"],
            build: |lab| {
                lab.router
                    .ip("route add default via 10.0.0.6 dev lan")
                    .unwrap()
            },
        },
        Fault {
            finding: "no-route",
            severity: "error",
            cause: 0,
            arguments: &RUN,
            names: &["no route to the server 10.0.0.5"],
            build: |lab| lab.router.ip("route del 10.0.0.0/24 dev lan").unwrap(),
        },
    ]);
}

#[test]
fn what_is_wrong_with_an_interface_is_found() {
    each_is_found(&[
        Fault {
            finding: "interface-down",
            severity: "error",
            cause: 0,
            arguments: &RUN,
            names: &["wan is down", "ip link set wan up"],
            build: |lab| lab.router.ip("link set wan down").unwrap(),
        },
        Fault {
            finding: "interface-down",
            severity: "error",
            cause: 0,
            arguments: &RUN,
            names: &["wan is up but has no carrier"],
            build: |lab| lab.client().namespace.ip("link set eth0 down").unwrap(),
        },
        Fault {
            finding: "interface-missing",
            severity: "error",
            cause: 0,
            arguments: &RUN,
            names: &["no interface wan"],
            build: |lab| {
                lab.router
                    .ip("link set wan down\nlink set wan name other")
                    .unwrap()
            },
        },
        Fault {
            finding: "mtu-too-small",
            severity: "warning",
            cause: 0,
            arguments: &RUN,
            names: &["MTU of wan is 500"],
            build: |lab| lab.router.ip("link set wan mtu 500").unwrap(),
        },
        // Nothing is wrong with PPPoE.
        Fault {
            finding: "mtu-differs",
            severity: "note",
            cause: 0,
            arguments: &RUN,
            names: &["1500", "1492"],
            build: |lab| lab.router.ip("link set wan mtu 1492").unwrap(),
        },
    ]);
}

#[test]
fn ports_that_two_want_are_found() {
    each_is_found(&[
        Fault {
            finding: "remap-range-collides",
            severity: "warning",
            cause: 4,
            arguments: &RUN,
            names: &["61000-62000", "net.ipv4.ip_local_port_range"],
            build: |lab| {
                let range = "32768 62000";
                lab.router
                    .sysctl("net.ipv4.ip_local_port_range", range)
                    .unwrap();
            },
        },
        Fault {
            finding: "remap-range-collides",
            severity: "warning",
            cause: 4,
            arguments: &[
                "--wan",
                "wan",
                "--publish",
                "wan:21=10.0.0.5:21",
                "--remap-ports",
                "40000-40999",
            ],
            names: &["40000-40999"],
            build: |_| {},
        },
    ]);
}
