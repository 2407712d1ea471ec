//! Where nothing is wrong, nothing is found.

use std::{fs, os::unix::fs::PermissionsExt as _};

use ftp_nat_tests::{
    firewall,
    gateway::Gateway,
    lab::{Lab, Plan},
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
};

use crate::{Probed, binary, code, run};

const RUN: [&str; 6] = [
    "--wan",
    "wan",
    "--publish",
    "198.51.100.1:21=10.0.0.5:21",
    "--publish",
    "[2001:db8:1::1]:21=[fd00:10::5]:21",
];

/// All modes, through a gateway whose firewall forwards nothing, on both families.
fn works_through_the_gateway(kind: Kind, name: &str, modes: &[&str], v6_modes: &[&str]) {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    let server = FtpServer::start(kind, lab.server(), &Settings::default()).unwrap();
    let target = server.target_at(crate::PUBLIC);
    let login = Scratch::new().unwrap();
    let password = login.write("password", &target.password).unwrap();
    let _gateway = Gateway::start(&lab.router, &RUN).unwrap();
    for (address, modes) in [("198.51.100.1", modes), ("[2001:db8:1::1]:21", v6_modes)] {
        let words = [
            address,
            "--active",
            "--user",
            &target.user,
            "--password-file",
            password.to_str().unwrap(),
        ];
        let probed = Probed::on(lab.client(), &words);
        probed.assert_works(modes);
        assert_eq!(probed.json["seen"]["server"]["program"], name);
        assert_eq!(probed.json["findings"].as_array().map(Vec::len), Some(0));
    }
}

const V4: [&str; 4] = ["PASV", "EPSV", "PORT", "EPRT"];
const V6: [&str; 2] = ["EPSV", "EPRT"];

#[test]
fn vsftpd_works_through_the_gateway_in_all_modes() {
    works_through_the_gateway(Kind::Vsftpd, "vsftpd", &V4, &V6);
}

#[test]
fn proftpd_works_through_the_gateway_in_all_modes() {
    works_through_the_gateway(Kind::Proftpd, "proftpd", &V4, &V6);
}

#[test]
fn pure_ftpd_works_through_the_gateway_in_all_modes() {
    works_through_the_gateway(Kind::PureFtpd, "pure_ftpd", &V4, &V6);
}

#[test]
fn pyftpdlib_works_through_the_gateway_in_all_modes() {
    works_through_the_gateway(Kind::Pyftpdlib, "pyftpdlib", &V4, &V6);
}

#[test]
fn an_address_of_one_link_only_works() {
    let lab = Lab::with(Plan {
        outside: 2,
        inside: 1,
    })
    .unwrap();
    let (host, client) = (&lab.outside[0], &lab.outside[1]);
    for (host, address) in [(host, "fe80::20"), (client, "fe80::21")] {
        let line = format!("addr add {address}/64 dev eth0 nodad");
        host.namespace.ip(&line).unwrap();
    }
    let _server = FtpServer::start(Kind::Vsftpd, host, &Settings::default()).unwrap();
    let probed = Probed::on(client, &["[fe80::20%eth0]:21"]);
    probed.assert_works(&["EPSV"]);
}

#[test]
fn it_needs_no_privileges_and_reads_step_by_step() {
    let lab = Lab::new().unwrap();
    let _server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    let _gateway = Gateway::start(&lab.router, &RUN).unwrap();
    // The binary must be where that user may go.
    let scratch = Scratch::new().unwrap();
    let copy = scratch.path().join("ftp-nat");
    fs::copy(binary(), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = lab.client().namespace.command("setpriv").unwrap();
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args(["--inh-caps=-all", "--bounding-set=-all"])
        .arg(copy)
        .args(["probe", "198.51.100.1", "--verbose"]);
    let outcome = run(command);
    assert_eq!(code(&outcome), Some(0));
    let text = outcome.text();
    let mut from = 0;
    for part in [
        "connect",
        "< 220 (vsFTPd",
        "> USER anonymous",
        "login",
        "> PASV",
        "< 227 ",
        "connected",
        "226 ",
        "> EPSV",
        "< 229 ",
        "Verdict: PASV and EPSV work.",
    ] {
        let at = text[from..].find(part);
        from += at.unwrap_or_else(|| panic!("{part:?} is not where it belongs in:\n{text}"));
    }
    assert_eq!(outcome.stderr, "");
}
