//! What the stack forwards: everything with `--lan none`, and packets that do not fit.

use ftp_nat_tests::{
    capture::Capture,
    client::{Client, Job, Mode, Session},
    control::Control,
    firewall,
    gateway::Gateway,
    lab::{HOST_INTERFACE, LAN, Lab, WAN, WAN_ADDRESS},
    scratch::Scratch,
    server::FtpServer,
};

use crate::{CONTENT, PUBLIC, RUN, SMALL, kernel, vsftpd};

/// As README.md says it.
const ACCEPT_MARK: &str = "
table inet lab {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        meta mark and 0x40 == 0x40 accept
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
    for program in ["wan_ingress", "wan_egress"] {
        let is_there = hooks.iter().any(|hook| hook.contains(program));
        assert!(is_there, "{program} is not among {hooks:#?}");
    }
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

/// Without a clamp, the ends have to find out what fits.
fn unclamped() -> Vec<&'static str> {
    [&RUN[..], &["--mss-clamp", "off"]].concat()
}

fn too_big(gateway: &Gateway<'_>) -> u64 {
    gateway
        .metric("passed_packets_total", "reason=\"too_big\"")
        .unwrap()
}

#[test]
fn a_download_through_a_narrow_way_out_arrives() {
    let lab = narrow(WAN);
    let server = vsftpd(&lab);
    server.offer("large.bin", vec![9; SIZE]).unwrap();
    let gateway = Gateway::start(&lab.router, &unclamped()).unwrap();
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    let fetched = control
        .fetch(lab.client(), "PASV", "/download/large.bin")
        .unwrap();
    assert_eq!(fetched, vec![9; SIZE]);
    // The stack has told the server, which has sent smaller ones since.
    let too_big = too_big(&gateway);
    assert!((1..100).contains(&too_big), "{too_big}");
    assert!(
        gateway
            .metric("outbound_packets_total", "path=\"redirect\"")
            .unwrap()
            > too_big
    );
}

#[test]
fn an_upload_through_a_narrow_way_in_arrives_because_the_client_hears_what_fits() {
    let lab = narrow(LAN);
    let server = vsftpd(&lab);
    let gateway = Gateway::start(&lab.router, &unclamped()).unwrap();
    let errors = Capture::start(&lab.client().namespace, HOST_INTERFACE, "icmp").unwrap();
    let content = vec![8; SIZE];
    let scratch = Scratch::new().unwrap();
    let file = scratch.write("large.bin", &content).unwrap();
    let session = Client::Curl
        .perform(
            lab.client(),
            &server.target_at(PUBLIC),
            Mode::Pasv,
            Job::Store(&file, "/upload/large.bin"),
        )
        .and_then(Session::expect_success);
    let errors = errors.stop().unwrap();
    session.unwrap();
    assert_eq!(server.stored("large.bin").unwrap(), content);
    assert!(too_big(&gateway) > 0);
    let translated = gateway
        .metric("icmp_errors_total", "direction=\"outbound\"")
        .unwrap();
    assert!(translated > 0);
    // RFC 1191: destination unreachable, fragmentation needed, and the MTU that does fit; about
    // what the client itself has sent.
    const ICMP: usize = 14 + 20;
    const QUOTED_DESTINATION: usize = ICMP + 8 + 16;
    let is_frag_needed = |frame: &Vec<u8>| {
        frame[ICMP..ICMP + 2] == [3, 4]
            && frame[ICMP + 6..ICMP + 8] == 1400_u16.to_be_bytes()
            && frame[QUOTED_DESTINATION..QUOTED_DESTINATION + 4] == WAN_ADDRESS.octets()
    };
    assert!(errors.iter().any(is_frag_needed), "{errors:?}");
}

#[test]
fn redirected_connections_agree_on_segments_that_fit() {
    for interface in [WAN, LAN] {
        let lab = narrow(interface);
        let server = vsftpd(&lab);
        server.offer("large.bin", vec![9; SIZE]).unwrap();
        let gateway = Gateway::start(&lab.router, &RUN).unwrap();
        let target = server.target_at(PUBLIC);
        let content = vec![8; SIZE];
        let scratch = Scratch::new().unwrap();
        let file = scratch.write("large.bin", &content).unwrap();
        for job in [
            Job::Fetch("/download/large.bin"),
            Job::Store(&file, "/upload/large.bin"),
        ] {
            Client::Curl
                .perform(lab.client(), &target, Mode::Pasv, job)
                .and_then(Session::expect_success)
                .unwrap_or_else(|error| panic!("{interface}, {job:?}: {error:#}"));
        }
        assert_eq!(server.stored("large.bin").unwrap(), content);
        assert_eq!(too_big(&gateway), 0, "{interface}");
        assert!(gateway.metric("mss_clamped_total", "").unwrap() > 0);
    }
}
