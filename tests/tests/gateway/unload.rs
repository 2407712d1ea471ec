//! What `ftp-nat unload` leaves: nothing.

use std::net::TcpStream;

use ftp_nat_tests::{control::Control, firewall, gateway::Gateway, lab::Lab};

use crate::{
    CONTENT, PATIENCE, PUBLIC, RUN, SMALL,
    kernel::{self, Objects},
    vsftpd,
};

fn leaves_nothing(attach: &str) {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    let server = vsftpd(&lab);
    assert_eq!(kernel::attached(&lab), [""; 0]);

    let arguments = [&RUN[..], &["--attach", attach]].concat();
    let mut gateway = Gateway::start(&lab.router, &arguments).unwrap();
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    assert_eq!(control.fetch(lab.client(), "PASV", SMALL).unwrap(), CONTENT);
    let objects = Objects::pinned_below(gateway.state_dir());
    // Three hooks, with and without an Ethernet header, and two traced stations.
    assert_eq!(objects.programs.len(), 8, "{objects:?}");
    assert!(objects.maps.len() > 5, "{objects:?}");
    let hooks = kernel::attached(&lab);
    for program in ["wan_ingress", "wan_egress", "lan_ingress"] {
        let is_there = hooks.iter().any(|hook| hook.contains(program));
        assert!(is_there, "{program} is not among {hooks:#?}");
    }

    // A running daemon is not robbed of its programs.
    let refused = gateway.ask(&["unload"]).unwrap();
    assert_eq!(refused.status.unwrap().code(), Some(1), "{refused:?}");
    let pid = gateway.pid().unwrap().to_string();
    assert!(refused.stderr.contains(&pid), "{}", refused.stderr);
    assert_eq!(kernel::attached(&lab), hooks);

    // One that has stopped leaves them where they are.
    gateway.stop().unwrap();
    assert_eq!(kernel::attached(&lab), hooks);

    gateway.ask(&["unload"]).unwrap().expect_success().unwrap();
    assert_eq!(kernel::attached(&lab), [""; 0]);
    assert!(!gateway.state_dir().exists());
    objects.wait_until_gone();
    let status = gateway.ask(&["status"]).unwrap();
    assert_eq!(status.status.unwrap().code(), Some(3), "{status:?}");

    // Nobody is at the public address any more, as if there never had been.
    let attempt = lab
        .client()
        .namespace
        .run(|| Ok(TcpStream::connect_timeout(&PUBLIC, PATIENCE)))
        .unwrap();
    assert_eq!(
        attempt.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
    // There is nothing to unload now, which is as good.
    gateway.ask(&["unload"]).unwrap().expect_success().unwrap();
}

#[test]
fn unload_leaves_nothing_of_what_tcx_attached() {
    leaves_nothing("tcx");
}

#[test]
fn unload_leaves_nothing_of_what_clsact_attached() {
    leaves_nothing("clsact");
}
