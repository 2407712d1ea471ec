//! Somebody in between who answers in the server's place.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use ftp_nat_tests::{
    firewall,
    lab::{Lab, WAN_ADDRESS},
    namespace::Namespace,
    server::{FtpServer, Kind, Settings},
};

use crate::Probed;

/// Accepts connections on a port, and ends them at once.
struct Accepter {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Accepter {
    fn start(namespace: &Namespace, port: u16) -> Self {
        let listener = namespace.run(|| Ok(TcpListener::bind(("0.0.0.0", port))?));
        let listener = listener.unwrap();
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let its = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !its.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok(_) => {}
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Accepter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

#[test]
fn a_gateway_that_accepts_data_connections_itself_is_seen() {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::TRANSLATE_PORT_21).unwrap();
    lab.router
        .nft("insert rule inet lab prerouting iifname wan tcp dport 50000-50009 redirect to :9")
        .unwrap();
    let _accepter = Accepter::start(&lab.router, 9);
    let settings = Settings {
        passive_ports: Some(50_000..=50_009),
        announce: Some(WAN_ADDRESS),
        ..Settings::default()
    };
    let _server = FtpServer::start(Kind::Vsftpd, lab.server(), &settings).unwrap();
    let probed = Probed::on(
        lab.client(),
        &["198.51.100.1", "--timeout", "2", "--samples", "1"],
    );
    assert_eq!(probed.code, Some(1));
    let first = &probed.json["findings"][0];
    assert_eq!(first["name"], "intercepted", "{first:#}");
    assert_eq!(first["certainty"], "certain", "{first:#}");
    let evidence = probed.evidence();
    assert!(
        evidence.contains("1 hops for data, 2 for control"),
        "{evidence}"
    );
}

#[test]
fn the_kernels_own_helper_does_no_harm() {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::KERNEL_HELPER).unwrap();
    // On IPv4 only, so that it announces its own address.
    let settings = Settings {
        announce: Some(lab.server().v4),
        ..Settings::default()
    };
    let _server = FtpServer::start(Kind::Vsftpd, lab.server(), &settings).unwrap();
    Probed::on(lab.client(), &["198.51.100.1"]).assert_works(&["PASV", "EPSV"]);
}
