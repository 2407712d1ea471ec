//! Where nothing is wrong, nothing is found.

use ftp_nat_tests::{
    client::{Client, Job, Mode, Session},
    firewall,
    gateway::Gateway,
    lab::Lab,
    process,
    scratch::Scratch,
};

use crate::{LIMIT, PUBLIC, RUN, STACK, config, examine, examined, vsftpd};

/// As README.md says it.
const ACCEPT_MARK: &str = "
table inet lab {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        meta mark and 0x40 == 0x40 accept
        iifname lan oifname wan ip saddr 10.0.0.5 accept
    }
}
";

#[test]
fn a_healthy_gateway_gives_exit_code_0() {
    let masquerade = ["--wan", "wan", "--masquerade", "10.0.0.0/24"];
    let both_families = [
        &RUN[..],
        &["--publish", "[2001:db8:1::1]:21=[fd00:10::5]:21"],
    ]
    .concat();
    let cases: [(&[&str], &str); 5] = [
        (&RUN, ""),
        (&RUN, firewall::DROP_FORWARDED),
        (&both_families, ""),
        (&STACK, ACCEPT_MARK),
        (&masquerade, firewall::MASQUERADE),
    ];
    for (arguments, rules) in cases {
        println!("--- {arguments:?}");
        let lab = Lab::new().unwrap();
        lab.router.nft(rules).unwrap();
        let server = vsftpd(&lab);
        server.offer("small.txt", b"small").unwrap();
        let gateway = Gateway::start(&lab.router, arguments).unwrap();
        examine(&gateway, arguments).expect_health();
        if arguments.contains(&"--publish") {
            // What has been used is healthy as well.
            for mode in [Mode::Pasv, Mode::Epsv] {
                Client::Curl
                    .perform(
                        lab.client(),
                        &server.target_at(PUBLIC),
                        mode,
                        Job::Fetch("/download/small.txt"),
                    )
                    .and_then(Session::expect_success)
                    .unwrap();
            }
            examine(&gateway, arguments).expect_health();
        }
    }
}

#[test]
fn iptables_rules_that_let_pass_are_understood() {
    let lab = Lab::new().unwrap();
    let _server = vsftpd(&lab);
    let gateway = Gateway::start(&lab.router, &STACK).unwrap();
    let rules = "*filter\n:FORWARD DROP\n\
        -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
        -A FORWARD -i lan -o wan -s 10.0.0.5/32 -j ACCEPT\n\
        -A FORWARD -m mark --mark 0x40/0x40 -j ACCEPT\nCOMMIT\n";
    crate::rules::iptables(&lab, "iptables-restore", rules);
    examine(&gateway, &STACK).expect_health();
}

/// A table of the name that iptables has one by, of chains that it does not show, with and without some of its
/// own beside them.
#[test]
fn rules_of_nftables_in_a_table_of_iptables_name_are_seen() {
    let arguments = ["--wan", "wan", "--masquerade", "10.0.0.0/24"];
    for beside in ["", "*nat\n:OWN -\n-A OWN -p udp -j RETURN\nCOMMIT\n"] {
        let lab = Lab::new().unwrap();
        if !beside.is_empty() {
            crate::rules::iptables(&lab, "iptables-restore", beside);
        }
        lab.router
            .nft(
                "table ip nat {\n\
                     chain postrouting {\n\
                         type nat hook postrouting priority srcnat;\n\
                         oifname wan masquerade\n\
                     }\n\
                 }",
            )
            .unwrap();
        let gateway = Gateway::start(&lab.router, &arguments).unwrap();
        examine(&gateway, &arguments).expect_health();
    }
}

#[test]
fn without_arguments_the_loaded_gateway_is_examined() {
    let lab = Lab::new().unwrap();
    let _server = vsftpd(&lab);
    let gateway = Gateway::start(&lab.router, &RUN).unwrap();
    // Whatever configuration file this machine has is out of sight.
    let hidden = "[ ! -d /etc/ftp-nat ] || mount -t tmpfs none /etc/ftp-nat; exec \"$@\"";
    let ask = || {
        let words = gateway.command(&["doctor", "--json"]).unwrap();
        let mut command = lab.router.command("unshare").unwrap();
        command.args(["--mount", "sh", "-c", hidden, "sh"]);
        command.arg(words.get_program()).args(words.get_args());
        examined(&mut command)
    };
    let healthy = ask();
    healthy.expect_health();
    assert_eq!(healthy.report["gateways"][0]["name"], "wan");
    assert_eq!(
        healthy.report["gateways"][0]["daemon"],
        gateway.pid().unwrap()
    );

    lab.router.sysctl("net.ipv4.ip_forward", "0").unwrap();
    ask().expect("forwarding-off", "error", 2);
}

#[test]
fn people_read_it_in_groups_with_a_summary() {
    let lab = Lab::new().unwrap();
    let _server = vsftpd(&lab);
    let scratch = Scratch::new().unwrap();
    let file = config(&scratch, "", "");
    let gateway = Gateway::start(&lab.router, &["--config", &file]).unwrap();
    let ask = || {
        let mut command = gateway.command(&["doctor", "--config", &file]).unwrap();
        process::run(&mut command, LIMIT).unwrap()
    };
    let text = ask().expect_success().unwrap().text();
    println!("{text}");
    assert!(text.contains("ok       servers"), "{text}");
    assert!(text.contains("0 errors, 0 warnings, 0 notes"), "{text}");

    lab.router.sysctl("net.ipv4.ip_forward", "0").unwrap();
    let outcome = ask();
    let text = outcome.text();
    println!("{text}");
    assert_eq!(outcome.status.unwrap().code(), Some(1));
    assert_eq!(outcome.stderr, "");
    assert!(text.contains("error    forwarding"), "{text}");
    assert!(text.contains("sysctl -w net.ipv4.ip_forward=1"), "{text}");
    assert!(text.contains("1 error, 0 warnings, 0 notes"), "{text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
}
