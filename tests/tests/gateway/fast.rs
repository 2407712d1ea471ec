//! `--datapath xdp`: data by XDP where that can be, by TC where it cannot.

use ftp_nat_tests::{
    client::{Client, Job, Mode, Session},
    firewall,
    gateway::Gateway,
    lab::{HOST_INTERFACE, LAN, Lab, WAN},
    link::{ethtool, like_hardware},
    scratch::Scratch,
    server::FtpServer,
};

use crate::{CONTENT, PUBLIC, RUN, SMALL, kernel, vsftpd, wait_for};

/// Larger than any buffer on the way.
const SIZE: usize = 3_000_000;

fn lab() -> Lab {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    lab
}

fn start<'l>(lab: &'l Lab, more: &[&str]) -> Gateway<'l> {
    let words = [&RUN[..], &["--datapath", "xdp"], more].concat();
    Gateway::start(&lab.router, &words).unwrap()
}

fn packets(gateway: &Gateway<'_>, direction: &str, path: &str) -> u64 {
    gateway
        .metric(
            &format!("{direction}_packets_total"),
            &format!("path=\"{path}\""),
        )
        .unwrap()
}

/// Fetches and stores in every mode.
fn transfer(lab: &Lab, server: &FtpServer) {
    let content: Vec<u8> = (0..SIZE).map(|at| (at / 7) as u8).collect();
    server.offer("large.bin", content.clone()).unwrap();
    let scratch = Scratch::new().unwrap();
    let file = scratch.write("large.bin", &content).unwrap();
    for mode in [Mode::Pasv, Mode::Epsv, Mode::Port, Mode::Eprt] {
        let perform = |job| {
            Client::Curl
                .perform(lab.client(), &server.target_at(PUBLIC), mode, job)
                .and_then(Session::expect_success)
                .unwrap_or_else(|error| panic!("{mode:?}: {error:#}"))
        };
        let fetched = perform(Job::Fetch("/download/large.bin"));
        assert!(fetched.content == content, "{mode:?}");
        perform(Job::Store(&file, "/upload/large.bin"));
        assert!(server.stored("large.bin").unwrap() == content, "{mode:?}");
    }
}

#[test]
fn data_goes_by_xdp_and_its_daemon_may_come_and_go() {
    let lab = lab();
    like_hardware(&lab.client().namespace, HOST_INTERFACE).unwrap();
    like_hardware(&lab.server().namespace, HOST_INTERFACE).unwrap();
    let server = vsftpd(&lab);
    let mut gateway = start(&lab, &[]);
    assert!(!gateway.log().contains("XDP"), "{}", gateway.log());
    transfer(&lab, &server);
    for direction in ["inbound", "outbound"] {
        let (xdp, tc) = (
            packets(&gateway, direction, "xdp"),
            packets(&gateway, direction, "redirect"),
        );
        assert!(xdp > 1000, "{direction}: {xdp} by XDP, {tc} by TC");
        assert!(xdp > tc, "{direction}: {xdp} by XDP, {tc} by TC");
    }
    let status = gateway.json(&["status"]).unwrap();
    let programs = status["gateways"][0]["programs"].as_array().unwrap();
    let by_xdp: Vec<_> = programs.iter().filter(|it| it["attach"] == "xdp").collect();
    assert_eq!(by_xdp.len(), 2, "{programs:#?}");

    gateway.kill().unwrap();
    let before = packets(&gateway, "outbound", "xdp");
    transfer(&lab, &server);
    assert!(packets(&gateway, "outbound", "xdp") > before);
    gateway.restart().unwrap();
    assert!(gateway.log().contains("took over"), "{}", gateway.log());
    transfer(&lab, &server);

    gateway.stop().unwrap();
    let objects = kernel::Objects::pinned_below(gateway.state_dir());
    // Those of TC, and two of XDP.
    assert_eq!(objects.programs.len(), 10, "{objects:?}");
    gateway.ask(&["unload"]).unwrap().expect_success().unwrap();
    objects.wait_until_gone();
    assert_eq!(kernel::attached(&lab), [""; 0]);
}

#[test]
fn checksums_that_hardware_has_to_finish_are_left_to_tc() {
    let lab = lab();
    like_hardware(&lab.client().namespace, HOST_INTERFACE).unwrap();
    like_hardware(&lab.server().namespace, HOST_INTERFACE).unwrap();
    for host in [lab.client(), lab.server()] {
        ethtool(&host.namespace, HOST_INTERFACE, ["tx", "on"]).unwrap();
    }
    let server = vsftpd(&lab);
    let gateway = start(&lab, &[]);
    transfer(&lab, &server);
    for direction in ["inbound", "outbound"] {
        // But for what a stack answers without a connection, and finishes itself.
        let (xdp, tc) = (
            packets(&gateway, direction, "xdp"),
            packets(&gateway, direction, "redirect"),
        );
        assert!(xdp * 10 < tc, "{direction}: {xdp} by XDP, {tc} by TC");
    }
}

#[test]
fn what_cannot_be_sent_by_xdp_goes_by_tc() {
    // As veth is by default: the other ends take no frames from XDP.
    let lab = lab();
    let server = vsftpd(&lab);
    let gateway = start(&lab, &[]);
    for interface in [WAN, LAN] {
        let said = format!("{interface} does not send XDP's frames");
        assert!(gateway.log().contains(&said), "{}", gateway.log());
    }
    transfer(&lab, &server);
    for direction in ["inbound", "outbound"] {
        assert_eq!(packets(&gateway, direction, "xdp"), 0, "{direction}");
        assert!(packets(&gateway, direction, "redirect") > 0, "{direction}");
    }
    // The daemon notices when they do.
    like_hardware(&lab.client().namespace, HOST_INTERFACE).unwrap();
    like_hardware(&lab.server().namespace, HOST_INTERFACE).unwrap();
    wait_for("XDP", || {
        transfer(&lab, &server);
        let both = ["inbound", "outbound"].map(|it| packets(&gateway, it, "xdp"));
        both.iter().all(|packets| *packets > 100).then_some(())
    });
}

#[test]
fn where_a_driver_has_no_xdp_that_is_said_and_tc_does_it() {
    let lab = lab();
    lab.router
        .ip(&format!(
            "link add link {WAN} name over type macvlan mode private\nlink set over up"
        ))
        .unwrap();
    let server = vsftpd(&lab);
    let gateway = start(&lab, &["--wan", "over"]);
    let log = gateway.log();
    assert!(log.contains("no XDP on over"), "{log}");
    assert!(!log.contains(&format!("no XDP on {LAN}")), "{log}");
    let fetched = Client::Curl
        .perform(
            lab.client(),
            &server.target_at(PUBLIC),
            Mode::Pasv,
            Job::Fetch(SMALL),
        )
        .and_then(Session::expect_success)
        .unwrap();
    assert_eq!(fetched.content, CONTENT);
}
