//! The daemon may die at any moment: no connection breaks, no byte is lost.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
    process::Command,
    time::Duration,
};

use ftp_nat_tests::{
    client::{Client, Job, Mode, Session},
    control::{self, Control},
    firewall,
    gateway::Gateway,
    lab::Lab,
    process::{self, Running},
    server::FtpServer,
};
use serde_json::Value;

use crate::{CONTENT, PUBLIC, RUN, SMALL, vsftpd, wait_for};

const MIB: usize = 1 << 20;
/// A gigabyte: 2^30 bytes.
const GIGABYTE: usize = 1 << 30;

/// Writes a gigabyte in which no two pieces are alike, so that none can be lost, doubled or
/// swapped unseen.
fn write_gigabyte(path: &Path) {
    let mut block = vec![0_u8; MIB];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for word in block.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    let mut file = BufWriter::new(File::create(path).unwrap());
    for number in 0..GIGABYTE / MIB {
        // In every 4 KiB.
        for page in block.chunks_exact_mut(4096) {
            page[..8].copy_from_slice(&number.to_le_bytes());
        }
        file.write_all(&block).unwrap();
    }
    file.flush().unwrap();
}

fn sha256(path: &Path) -> String {
    let outcome = process::run(
        Command::new("sha256sum").arg(path),
        Duration::from_secs(300),
    );
    first_word(&outcome.unwrap().expect_success().unwrap().text())
}

fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or_default().into()
}

/// The data connection that is alive, with how much the server has sent over it.
fn download(gateway: &Gateway<'_>) -> Option<(Value, u64)> {
    let flows = gateway.json(&["flows"]).unwrap();
    let flow = flows
        .as_array()?
        .iter()
        .find(|flow| flow["kind"] == "passive" && flow["state"] == "established")?;
    Some((flow.clone(), flow["outbound"]["bytes"].as_u64()?))
}

fn sessions(gateway: &Gateway<'_>) -> Vec<String> {
    let sessions = gateway.json(&["sessions"]).unwrap();
    let mut numbers: Vec<_> = sessions
        .as_array()
        .unwrap()
        .iter()
        .filter(|session| session["state"] == "established")
        .map(|session| session["session"].as_str().unwrap().to_owned())
        .collect();
    numbers.sort();
    numbers
}

fn fetch_in_a_session_of_its_own(lab: &Lab, server: &FtpServer, mode: Mode) {
    let target = server.target_at(PUBLIC);
    let session = Client::Curl
        .perform(lab.client(), &target, mode, Job::Fetch(SMALL))
        .and_then(Session::expect_success)
        .unwrap_or_else(|error| panic!("{mode:?}: {error:#}"));
    assert_eq!(session.content, CONTENT, "{mode:?}");
}

#[test]
fn a_gigabyte_arrives_whole_though_the_daemon_is_killed() {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    let server = vsftpd(&lab);
    let big = server.path_of("big.bin");
    write_gigabyte(&big);
    let mut gateway = Gateway::start(&lab.router, &RUN).unwrap();

    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    assert_eq!(control.fetch(lab.client(), "PASV", SMALL).unwrap(), CONTENT);
    // At full speed it would be over before the new daemon is there.
    let fetch = format!(
        "curl --silent --show-error --disable --no-ftp-skip-pasv-ip --disable-epsv \
         --limit-rate 200M ftp://{PUBLIC}/download/big.bin | sha256sum"
    );
    let mut curl = lab.client().namespace.command("sh").unwrap();
    let mut curl = Running::start(curl.args(["-c", &fetch])).unwrap();
    let (_, before) = wait_for("a tenth of the download", || {
        download(&gateway).filter(|(_, bytes)| *bytes > GIGABYTE as u64 / 10)
    });
    let known = sessions(&gateway);
    assert_eq!(known.len(), 2);

    gateway.kill().unwrap();
    assert_eq!(control.fetch(lab.client(), "PASV", SMALL).unwrap(), CONTENT);
    // Nobody needs a daemon to begin a session, either.
    for mode in [Mode::Pasv, Mode::Epsv, Mode::Port] {
        fetch_in_a_session_of_its_own(&lab, &server, mode);
    }
    assert_eq!(gateway.metric("sessions_opened_total", "").unwrap(), 5);
    let status = gateway.json(&["status"]).unwrap();
    assert_eq!(status["gateways"][0]["daemon"], Value::Null);
    let early = control.announce("PASV").unwrap();
    let (_, during) = download(&gateway).unwrap();
    assert!(during > before);
    assert_eq!(sessions(&gateway), known);

    gateway.restart().unwrap();
    assert!(gateway.log().contains("took over"), "{}", gateway.log());
    let (flow, after) = download(&gateway).expect("the download was still under way");
    assert!(after > during && after < GIGABYTE as u64, "{after}");
    assert_eq!(sessions(&gateway), known);
    assert!(known.iter().any(|number| flow["session"] == **number));
    // Announced while there was no daemon.
    let data = control::connect(lab.client(), early).unwrap();
    assert_eq!(control.fetch_over(&data, SMALL).unwrap(), CONTENT);
    assert_eq!(control.fetch(lab.client(), "EPSV", SMALL).unwrap(), CONTENT);

    let expected = sha256(&big);
    // A minute or more in an emulated machine.
    curl.wait_for(&expected, Duration::from_secs(300)).unwrap();
    println!(
        "{GIGABYTE} bytes, SHA-256 {expected}; killed after {before} bytes, taken over after \
         {after}"
    );
}
