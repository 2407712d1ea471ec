//! A PASV that the gateway withholds behind a command whose answer prints names, with real servers.

use ftp_nat_tests::{
    control::{self, Control},
    gateway::Gateway,
    lab::Lab,
    server::{FtpServer, Kind, Settings},
};

use crate::{CONTENT, PUBLIC, RUN, SMALL};

#[test]
fn every_server_answers_a_pasv_that_was_withheld() {
    let lab = Lab::new().unwrap();
    let gateway = Gateway::start(&lab.router, &RUN).unwrap();
    for kind in Kind::ALL {
        let server = FtpServer::start(kind, lab.server(), &Settings::default()).unwrap();
        server.offer("small.txt", CONTENT).unwrap();
        let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
        for pieces in [
            &["STAT /download\r\nPASV\r\n"][..],
            &["STAT /download\r\n", "PASV\r\n"],
            &["HELP\r\nPA", "SV\r\n"],
            &["STAT /download\r\nPASV\r\nRETR /download/small.txt\r\n"],
        ] {
            let before = gateway
                .metric("lines_total", "happening=\"withheld\"")
                .unwrap();
            for piece in pieces {
                control.send(piece).unwrap();
            }
            let about = format!("{kind:?} {pieces:?}");
            let listing = control.reply().unwrap();
            assert!(listing.starts_with('2'), "{about}: {listing}");
            let reply = control
                .expect("227")
                .unwrap_or_else(|error| panic!("{about}: {error:#}"));
            let address = control::address_in_227(&reply).unwrap();
            let data = control::connect(lab.client(), address).unwrap();
            let content = if pieces.concat().contains("RETR") {
                control.expect("150").unwrap();
                let content = control::read_all(&data).unwrap();
                control.expect("226").unwrap();
                content
            } else {
                control.fetch_over(&data, SMALL).unwrap()
            };
            assert_eq!(content, CONTENT, "{about}");
            let now = gateway
                .metric("lines_total", "happening=\"withheld\"")
                .unwrap();
            assert!(now > before, "{about}: nothing was withheld");
        }
    }
}
