//! FileZilla, as its users see it: it asks for AUTH TLS by itself wherever a server has it.

use ftp_nat_tests::{
    filezilla::FileZilla,
    gateway::Gateway,
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
};

use crate::{CONTENT, PUBLIC, by_tls, lab, published};

#[test]
fn filezilla_lists_and_fetches() {
    // It has a password of its own for anonymous users, which the lab's Pure-FTPd and pyftpdlib do not take.
    for kind in [Kind::Vsftpd, Kind::Proftpd] {
        let lab = lab(1, 1);
        let settings = Settings {
            tls_resumption: true,
            ..by_tls()
        };
        let server = FtpServer::start(kind, lab.server(), &settings).unwrap();
        server.offer("small.txt", CONTENT).unwrap();
        let scratch = Scratch::new().unwrap();
        let config = published(&scratch, "", &[(21, lab.server().v4, 21)], "");
        let gateway = Gateway::start(&lab.router, &["--config", &config]).unwrap();
        let target = server.target_at(PUBLIC);
        let mut client = FileZilla::open(lab.client(), &target, "/download").unwrap();
        client.accept_certificate().unwrap();
        client.wait_for_listing("/download").unwrap();
        assert_eq!(client.fetch_the_file("small.txt").unwrap(), CONTENT);
        let used = gateway.metric("tls_permits_used_total", "").unwrap();
        assert_eq!(used, 2, "a listing and a file: {}", gateway.log());
    }
}
