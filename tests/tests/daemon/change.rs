//! A change of datapath: what was redirected goes on until it ends, and new connections go the new
//! way.

use std::{io::Read as _, net::TcpStream, thread, time::Duration};

use ftp_nat_tests::{
    control::{self, Control},
    gateway::Gateway,
    lab::Lab,
};
use serde_json::Value;

use crate::{CONTENT, ConfigFile, ONE_SERVER, PUBLIC, SMALL, vsftpd, wait_for};

const SIZE: usize = 24 << 20;

/// How the change comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Reload,
    Restart,
    Crash,
}

fn programs(gateway: &Gateway<'_>) -> usize {
    let status = gateway.json(&["status"]).unwrap();
    status["gateways"][0]["programs"].as_array().unwrap().len()
}

fn flows(gateway: &Gateway<'_>, peer_port: u16) -> Value {
    let flows = gateway.json(&["flows", "--all"]).unwrap();
    let mut flows = flows.as_array().unwrap().iter();
    let found = flows.find(|flow| flow["outside_port"] == peer_port);
    found.unwrap_or(&Value::Null).clone()
}

fn goes_on(by: By, change: &str) {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let content: Vec<u8> = (0..SIZE).map(|at| (at % 251) as u8).collect();
    server.offer("large.bin", content.clone()).unwrap();
    let file = ConfigFile::new(ONE_SERVER);
    let mut gateway = file.run(&lab);
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    let announced = control.announce("PASV").unwrap();
    let mut data: TcpStream = control::connect(lab.client(), announced).unwrap();
    control.send("RETR /download/large.bin\r\n").unwrap();
    control.expect("150").unwrap();
    let mut received = vec![0; 1 << 20];
    data.read_exact(&mut received).unwrap();

    file.write(&ONE_SERVER.replace("[gateway]\n", &format!("[gateway]\n{change}\n")));
    match by {
        By::Reload => drop(gateway.ask(&["reload"]).unwrap().expect_success().unwrap()),
        By::Restart => {
            gateway.stop().unwrap();
            gateway.restart().unwrap();
        }
        By::Crash => {
            gateway.kill().unwrap();
            gateway.restart().unwrap();
        }
    }
    assert_eq!(programs(&gateway), 3, "{by:?} {change}: the inside's stays");
    // A new connection goes by the stack at once.
    let mut new = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    let port = new.local_address().unwrap().port();
    let flow = flows(&gateway, port);
    assert_eq!(
        flow["inbound"]["path"], "stack",
        "{by:?} {change}: {flow:#}"
    );
    assert_eq!(new.fetch(lab.client(), "PASV", SMALL).unwrap(), CONTENT);

    data.read_to_end(&mut received).unwrap();
    control.expect("226").unwrap();
    assert!(received == content, "{by:?} {change}");
    // And its session, with a further transfer.
    assert_eq!(control.fetch(lab.client(), "EPSV", SMALL).unwrap(), CONTENT);
    drop(data);
    control.send("QUIT\r\n").unwrap();
    drop(control);
    if by != By::Crash {
        return;
    }
    // Ten seconds after their end they are swept, and then the program goes.
    thread::sleep(Duration::from_secs(12));
    wait_for("the end of the old ones", || {
        (programs(&gateway) == 2).then_some(())
    });
    assert_eq!(new.fetch(lab.client(), "PASV", SMALL).unwrap(), CONTENT);
}

#[test]
fn from_redirect_to_stack_by_reload_restart_and_crash() {
    for by in [By::Reload, By::Restart, By::Crash] {
        goes_on(by, "datapath = \"stack\"");
    }
}

#[test]
fn from_redirect_to_no_inside_by_reload_restart_and_crash() {
    for by in [By::Reload, By::Restart, By::Crash] {
        goes_on(by, "lan = \"none\"");
    }
}
