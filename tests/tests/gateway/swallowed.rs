//! Commands that come while a transfer goes on: Pure-FTPd answers one of several, whatever their number.

use std::{
    thread,
    time::{Duration, Instant},
};

use ftp_nat_tests::{
    control::{self, Control},
    gateway::Gateway,
    lab::Lab,
    server::{FtpServer, Kind, Settings},
};

use crate::{CONTENT, PUBLIC, RUN, SMALL};

/// For how long the commands have no company: all servers read what they read during a transfer.
const ALONE: Duration = Duration::from_millis(500);
/// Below what a command is withheld at most.
const SOON: Duration = Duration::from_secs(6);

/// A STAT, whose answer may hold names, is perhaps never answered. A PASV behind it comes through soon.
#[test]
fn a_stat_that_a_transfer_swallows_holds_no_pasv_up_for_long() {
    let lab = Lab::new().unwrap();
    let _gateway = Gateway::start(&lab.router, &RUN).unwrap();
    for kind in Kind::ALL {
        let server = FtpServer::start(kind, lab.server(), &Settings::default()).unwrap();
        server.offer("small.txt", CONTENT).unwrap();
        let mut is_swallowed = false;
        for commands in ["STAT\r\n", "NOOP\r\nSTAT\r\n", "STAT\r\nSTAT /\r\nNOOP\r\n"] {
            let about = format!("{kind:?} {commands:?}");
            let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
            let address = control.announce("PASV").unwrap();
            let data = control::connect(lab.client(), address).unwrap();
            control.send("STOR /upload/x\r\n").unwrap();
            // 125: the data connection is open already.
            assert!(control.reply().unwrap().starts_with('1'), "{about}");
            control.send(commands).unwrap();
            thread::sleep(ALONE);
            drop(data);
            let mut heard = Vec::new();
            while !heard
                .last()
                .is_some_and(|it: &String| it.starts_with("226"))
            {
                heard.push(control.reply().unwrap());
            }
            let start = Instant::now();
            control.send("PASV\r\n").unwrap();
            let reply = loop {
                let reply = control.reply().unwrap();
                if reply.starts_with("227") {
                    break reply;
                }
                heard.push(reply);
            };
            let took = start.elapsed();
            println!(
                "{about}: 227 after {took:.1?}, behind {} replies",
                heard.len()
            );
            assert!(took < SOON, "{about}: {took:?} {heard:?}");
            is_swallowed |= heard.len() <= commands.lines().count();
            let address = control::address_in_227(&reply).unwrap();
            let data = control::connect(lab.client(), address).unwrap();
            let content = control.fetch_over(&data, SMALL).unwrap();
            assert_eq!(content, CONTENT, "{about}");
        }
        assert_eq!(is_swallowed, kind == Kind::PureFtpd, "{kind:?}");
    }
}
