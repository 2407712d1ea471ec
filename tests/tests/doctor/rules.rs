//! Rules of nftables and iptables that are in the way, or that are missing.

use std::{io::Write as _, process::Stdio};

use ftp_nat_tests::{firewall, gateway::Gateway, lab::Lab, scratch::Scratch};

use crate::{Fault, RUN, STACK, config, each_is_found, examine, vsftpd};

/// Gives the router rules as `iptables-save` prints them.
pub(crate) fn iptables(lab: &Lab, restore: &str, rules: &str) {
    let mut command = lab.router.command(restore).unwrap();
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(rules.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success(), "{rules}");
}

/// A firewall for those who connect from inside.
const INSIDE_ONLY: &str = "
table inet lab {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state vmap { established : accept, related : accept }
        iifname lan jump from_inside
        limit rate 5/minute log prefix \"dropped \"
    }
    chain from_inside {
        oifname wan accept
    }
}
";

const MARKED_ONLY: &str = "
table inet lab {
    chain forward {
        type filter hook forward priority filter; policy drop;
        meta mark and 0x40 == 0x40 accept
    }
}
";

const INSIDE_ONLY_IPTABLES: &str = "*filter\n:FORWARD ACCEPT\n:inside -\n\
    -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
    -A FORWARD -i lan -g inside\n\
    -A FORWARD -m limit --limit 5/min -j LOG\n\
    -A FORWARD -j REJECT\n\
    -A inside -o wan -j ACCEPT\nCOMMIT\n";

#[test]
fn a_firewall_that_drops_what_the_stack_forwards_is_found() {
    each_is_found(&[
        Fault {
            finding: "firewall-drops-data",
            severity: "error",
            cause: 2,
            arguments: &STACK,
            names: &[
                "policy of chain forward of nft inet lab",
                "meta mark and 0x40 == 0x40 accept",
                "--lan",
            ],
            build: |lab| lab.router.nft(INSIDE_ONLY).unwrap(),
        },
        // Of redirected sessions only the first packet meets the firewall, and only if it shall.
        Fault {
            finding: "firewall-drops-control",
            severity: "error",
            cause: 2,
            arguments: &[
                "--wan",
                "wan",
                "--publish",
                "198.51.100.1:21=10.0.0.5:21",
                "--first-packet",
                "firewall",
            ],
            names: &[
                "policy of chain forward of nft inet lab",
                "meta mark and 0x40 == 0x40 accept",
            ],
            build: |lab| lab.router.nft(INSIDE_ONLY).unwrap(),
        },
        Fault {
            finding: "firewall-drops-data",
            severity: "error",
            cause: 2,
            arguments: &STACK,
            names: &[
                "rule 4 of chain FORWARD of iptables filter",
                "-m mark --mark 0x40",
            ],
            build: |lab| iptables(lab, "iptables-restore", INSIDE_ONLY_IPTABLES),
        },
        // The rule on the mark, and none for what comes back.
        Fault {
            finding: "firewall-drops-replies",
            severity: "error",
            cause: 2,
            arguments: &STACK,
            names: &["ct state established,related accept"],
            build: |lab| lab.router.nft(MARKED_ONLY).unwrap(),
        },
        // All that passive mode needs.
        Fault {
            finding: "firewall-drops-active",
            severity: "note",
            cause: 2,
            arguments: &STACK,
            names: &[
                "10.0.0.5:21 connects to its clients",
                "ip saddr 10.0.0.5 accept",
            ],
            build: |lab| {
                lab.router.nft(MARKED_ONLY).unwrap();
                let rule = "add rule inet lab forward ct state established,related accept";
                lab.router.nft(rule).unwrap();
            },
        },
        Fault {
            finding: "firewall-drops-control",
            severity: "error",
            cause: 2,
            arguments: &["--wan", "wan", "--publish", "198.51.100.1:21=local"],
            names: &["tcp dport 21 accept"],
            build: |lab| {
                lab.router
                    .nft(
                        "table inet lab { chain input { type filter hook input priority 0; \
                          policy drop; ct state established accept; iifname lo accept; }; }",
                    )
                    .unwrap();
            },
        },
    ]);
}

#[test]
fn the_kernels_own_helper_on_the_same_port_is_found() {
    const CT_HELPER: &str = "*raw\n:PREROUTING ACCEPT\n\
        -A PREROUTING -p tcp -m tcp --dport 21 -j CT --helper ftp\nCOMMIT\n";
    each_is_found(&[
        Fault {
            finding: "kernel-helper",
            severity: "error",
            cause: 1,
            arguments: &RUN,
            names: &["nf_conntrack_ftp", "rule 1 of chain helper of nft inet lab"],
            build: |lab| lab.router.nft(firewall::KERNEL_HELPER).unwrap(),
        },
        Fault {
            finding: "kernel-helper",
            severity: "error",
            cause: 1,
            arguments: &RUN,
            names: &["rule 1 of chain PREROUTING of iptables raw"],
            build: |lab| iptables(lab, "iptables-restore", CT_HELPER),
        },
        Fault {
            finding: "kernel-helper",
            severity: "error",
            cause: 1,
            arguments: &[
                "--wan",
                "wan",
                "--publish",
                "[2001:db8:1::1]:21=[fd00:10::5]:21",
            ],
            names: &["rule 1 of chain PREROUTING of ip6tables raw"],
            build: |lab| iptables(lab, "ip6tables-restore", CT_HELPER),
        },
        Fault {
            finding: "kernel-helper",
            severity: "error",
            cause: 1,
            arguments: &["--wan", "wan", "--masquerade", "10.0.0.0/24"],
            names: &["rule 1 of chain helper of nft inet lab"],
            build: |lab| lab.router.nft(firewall::MASQUERADE_WITH_HELPER).unwrap(),
        },
    ]);
}

#[test]
fn a_helper_on_another_port_is_not_ours() {
    let lab = Lab::new().unwrap();
    let _server = vsftpd(&lab);
    let rules = firewall::KERNEL_HELPER.replace("dport 21 ", "dport 2121 ");
    lab.router.nft(&rules).unwrap();
    let gateway = Gateway::start(&lab.router, &RUN).unwrap();
    examine(&gateway, &RUN).expect_health();
}

#[test]
fn a_second_translation_of_the_control_port_is_found() {
    const DNAT: &str = "*nat\n:PREROUTING ACCEPT\n\
        -A PREROUTING -i wan -p tcp -m tcp --dport 21 -j DNAT --to-destination 10.0.0.5\nCOMMIT\n";
    each_is_found(&[
        Fault {
            finding: "second-nat-rule",
            severity: "warning",
            cause: 1,
            arguments: &RUN,
            names: &["rule 1 of chain prerouting of nft inet lab", "control_nat"],
            build: |lab| lab.router.nft(firewall::TRANSLATE_PORT_21).unwrap(),
        },
        Fault {
            finding: "second-nat-rule",
            severity: "error",
            cause: 1,
            arguments: &STACK,
            names: &["rule 1 of chain PREROUTING of iptables nat"],
            build: |lab| iptables(lab, "iptables-restore", DNAT),
        },
        Fault {
            finding: "clients-not-translated",
            severity: "warning",
            cause: 1,
            arguments: &["--wan", "wan", "--masquerade", "10.0.0.0/24"],
            names: &["10.0.0.0/24", "masquerade"],
            build: |_| {},
        },
    ]);
}

#[test]
fn a_translation_that_is_left_to_the_kernel_and_missing_is_found() {
    let lab = Lab::new().unwrap();
    let _server = vsftpd(&lab);
    let scratch = Scratch::new().unwrap();
    let file = config(&scratch, "control_nat = \"kernel\"", "");
    let arguments = ["--config", &*file];
    let gateway = Gateway::start(&lab.router, &arguments).unwrap();
    examine(&gateway, &arguments).expect("control-not-translated", "error", 1);
    lab.router.nft(firewall::TRANSLATE_PORT_21).unwrap();
    let examined = examine(&gateway, &arguments);
    assert!(
        examined.named("control-not-translated").is_none(),
        "{:#}",
        examined.report
    );
}
