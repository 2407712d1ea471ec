//! What the stack forwards: everything with `--lan none`, and packets that do not fit.

use std::{io::Write as _, thread, time::Duration};

use ftp_nat_tests::{
    capture::Capture,
    client::{Client, Job, Mode, Session},
    control::{self, Control},
    firewall,
    gateway::Gateway,
    lab::{HOST_INTERFACE, LAN, Lab, WAN},
    server::FtpServer,
};

use crate::{CONTENT, PUBLIC, RUN, SMALL, kernel, vsftpd, wait_for};

/// As README.md says it.
const ACCEPT_MARK: &str = "
table inet lab {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        meta mark 0x667470 accept
    }
}
";

/// The same, for active mode too.
const SERVERS_MAY_CONNECT: &str =
    "add rule inet lab forward iifname lan oifname wan ip saddr 10.0.0.5 accept";

fn try_to_fetch(lab: &Lab, server: &FtpServer, mode: Mode) -> anyhow::Result<Session> {
    Client::Curl
        .perform(
            lab.client(),
            &server.target_at(PUBLIC),
            mode,
            Job::Fetch(SMALL),
        )
        .and_then(Session::expect_success)
}

#[track_caller]
fn fetch(lab: &Lab, server: &FtpServer, mode: Mode) {
    let session =
        try_to_fetch(lab, server, mode).unwrap_or_else(|error| panic!("{mode:?}: {error:#}"));
    assert_eq!(session.content, CONTENT, "{mode:?}");
}

#[test]
fn on_the_wan_alone_one_rule_on_the_mark_opens_a_firewall() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(&lab);
    let gateway = Gateway::start(&lab.router, &[&RUN[..], &["--lan", "none"]].concat()).unwrap();
    let hooks = kernel::attached(&lab);
    assert_eq!(hooks.len(), 2, "{hooks:?}");
    assert!(hooks.iter().all(|hook| hook.starts_with(WAN)), "{hooks:?}");

    // A firewall that lets pass.
    for mode in [Mode::Pasv, Mode::Epsv, Mode::Port, Mode::Eprt] {
        fetch(&lab, &server, mode);
    }
    assert_eq!(
        gateway
            .metric("inbound_packets_total", "path=\"redirect\"")
            .unwrap(),
        0
    );
    assert!(
        gateway
            .metric("inbound_packets_total", "path=\"stack\"")
            .unwrap()
            > 20
    );
    assert!(
        gateway
            .metric("outbound_packets_total", "path=\"stack\"")
            .unwrap()
            > 20
    );

    // One that does not, with the rule.
    lab.router.nft(ACCEPT_MARK).unwrap();
    for mode in [Mode::Pasv, Mode::Epsv] {
        fetch(&lab, &server, mode);
    }
    // In active mode it is the server that connects, which is another rule's matter.
    lab.router.nft(SERVERS_MAY_CONNECT).unwrap();
    for mode in [Mode::Port, Mode::Eprt] {
        fetch(&lab, &server, mode);
    }

    // And one without the rule.
    lab.router.nft("delete table inet lab").unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    assert!(try_to_fetch(&lab, &server, Mode::Pasv).is_err());
}

const SIZE: usize = 1 << 20;

/// A lab in which the router's end of one link is narrower than everything else.
fn narrow(interface: &str) -> Lab {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    lab.router
        .ip(&format!("link set {interface} mtu 1400"))
        .unwrap();
    lab
}

#[test]
fn a_download_through_a_narrow_way_out_arrives() {
    let lab = narrow(WAN);
    let server = vsftpd(&lab);
    server.offer("large.bin", vec![9; SIZE]).unwrap();
    let gateway = Gateway::start(&lab.router, &RUN).unwrap();
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    let fetched = control
        .fetch(lab.client(), "PASV", "/download/large.bin")
        .unwrap();
    assert_eq!(fetched, vec![9; SIZE]);
    // The stack has told the server, which has sent smaller ones since.
    let too_big = gateway
        .metric("passed_packets_total", "reason=\"too_big\"")
        .unwrap();
    assert!((1..100).contains(&too_big), "{too_big}");
    assert!(
        gateway
            .metric("outbound_packets_total", "path=\"redirect\"")
            .unwrap()
            > too_big
    );
}

#[test]
fn what_is_too_big_for_the_way_in_is_answered_by_the_stack() {
    let lab = narrow(LAN);
    let server = vsftpd(&lab);
    let gateway = Gateway::start(&lab.router, &RUN).unwrap();
    let errors = Capture::start(&lab.client().namespace, HOST_INTERFACE, "icmp").unwrap();
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    let address = control.announce("PASV").unwrap();
    let mut data = control::connect(lab.client(), address).unwrap();
    control.send("STOR /upload/large.bin\r\n").unwrap();
    control.expect("150").unwrap();
    data.write_all(&[8; 20_000]).unwrap();
    wait_for("a segment that does not fit", || {
        (gateway
            .metric("passed_packets_total", "reason=\"too_big\"")
            .unwrap()
            > 0)
        .then_some(())
    });
    // Until the answer has gone through the client's own stack.
    thread::sleep(Duration::from_millis(100));
    let errors = errors.stop().unwrap();
    // RFC 1191: destination unreachable, fragmentation needed, and the MTU that does fit. That the
    // error names the inside address, so that the client cannot tell which connection it is about,
    // is another matter: errors are not translated yet.
    const ICMP: usize = 14 + 20;
    let is_frag_needed = |frame: &Vec<u8>| {
        frame[ICMP..ICMP + 2] == [3, 4] && frame[ICMP + 6..ICMP + 8] == 1400_u16.to_be_bytes()
    };
    assert!(errors.iter().any(is_frag_needed), "{errors:?}");
}
