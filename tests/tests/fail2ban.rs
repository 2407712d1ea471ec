//! fail2ban itself, with the filter, the action and the jail that are in packaging/: who tries to
//! have the server connect elsewhere is banned, and comes back when the ban is lifted.

use std::{
    fs,
    net::{IpAddr, SocketAddr, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use ftp_nat_tests::{
    control::Control,
    firewall,
    gateway::Gateway,
    lab::{Lab, WAN_ADDRESS},
    process::{self, Running},
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
    tools::Tools,
};

const PUBLIC: SocketAddr = SocketAddr::new(IpAddr::V4(WAN_ADDRESS), 21);
/// How long fail2ban may take to see a line and act on it.
const PATIENCE: Duration = Duration::from_secs(30);

/// fail2ban's own configuration with ours in it.
fn configure(folder: &Path, options: &str, audit_log: &Path) {
    let copied = process::run(
        std::process::Command::new("cp")
            .args(["--recursive", "--dereference", "/etc/fail2ban"])
            .arg(folder),
        PATIENCE,
    );
    copied.unwrap().expect_success().unwrap();
    // Debian's own jails are none of ours.
    fs::remove_dir_all(folder.join("jail.d")).unwrap();
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/fail2ban");
    for name in ["action.d", "filter.d", "jail.d"] {
        fs::create_dir_all(folder.join(name)).unwrap();
        let file = ours.join(name).join("ftp-nat.conf");
        fs::copy(file, folder.join(name).join("ftp-nat.conf")).unwrap();
    }
    let binary = Tools::get().unwrap().binary;
    let local = format!(
        "[ftp-nat]\nenabled = true\nlogpath = {}\nmaxretry = 3\n\
         action = ftp-nat[name=ftp-nat, command=\"{}\", options=\"{options}\"]\n",
        audit_log.display(),
        binary.display()
    );
    fs::write(folder.join("jail.d/local.local"), local).unwrap();
    let server = "[Definition]\ndbfile = None\nlogtarget = STDOUT\n";
    fs::write(folder.join("fail2ban.local"), server).unwrap();
}

#[track_caller]
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn fail2ban_bans_and_unbans_by_ftp_nat() {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    let scratch = Scratch::new().unwrap();
    let [audit_log, lists] = ["audit.jsonl", "lists.json"].map(|name| scratch.path().join(name));
    let run = [
        "--wan",
        "wan",
        "--publish",
        "198.51.100.1:21=10.0.0.5:21",
        "--audit-log",
        audit_log.to_str().unwrap(),
        "--lists-file",
        lists.to_str().unwrap(),
    ];
    let gateway = Gateway::start(&lab.router, &run).unwrap();
    let folder = scratch.path().join("fail2ban");
    let options = format!("--state-dir {}", gateway.state_dir().display());
    configure(&folder, &options, &audit_log);
    let [socket, pid] = ["fail2ban.sock", "fail2ban.pid"].map(|name| scratch.path().join(name));
    let fail2ban = |words: &[&str]| {
        let mut command = lab.router.command("fail2ban-client").unwrap();
        command.arg("-c").arg(&folder).arg("-s").arg(&socket);
        command.arg("-p").arg(&pid).args(words);
        command
    };
    let running = Running::start(&mut fail2ban(&["-f", "start"])).unwrap();
    wait_for("fail2ban's jail", || {
        let asked = process::run(&mut fail2ban(&["status", "ftp-nat"]), PATIENCE).unwrap();
        asked.expect_success().is_ok()
    });

    let client = lab.client();
    let mut control = Control::log_in(client, &server.target_at(PUBLIC)).unwrap();
    for _ in 0..3 {
        let reply = control.command("PORT 192,0,2,1,195,80").unwrap();
        assert!(reply.starts_with('5'), "{reply}");
    }
    let denied = || gateway.json(&["deny", "list"]).unwrap();
    wait_for(&format!("a ban; fail2ban said: {}", running.log()), || {
        !denied().as_array().unwrap().is_empty()
    });
    let list = denied();
    assert_eq!(list[0]["network"], format!("{}/32", client.v4));
    assert_eq!(list[0]["why"], "fail2ban: ftp-nat");
    let left = list[0]["expires_in"].as_f64().unwrap();
    assert!((3000.0..=3600.0).contains(&left), "{left}");
    let connect = || {
        let limit = Duration::from_millis(700);
        let attempt = client
            .namespace
            .run(|| Ok(TcpStream::connect_timeout(&PUBLIC, limit)));
        attempt.unwrap().is_ok()
    };
    assert!(!connect());

    let unban = ["set", "ftp-nat", "unbanip", &client.v4.to_string()].map(str::to_owned);
    let unban: Vec<&str> = unban.iter().map(String::as_str).collect();
    let unbanned = process::run(&mut fail2ban(&unban), PATIENCE).unwrap();
    unbanned.expect_success().unwrap();
    assert!(denied().as_array().unwrap().is_empty());
    assert!(connect());
    process::run(&mut fail2ban(&["stop"]), PATIENCE)
        .unwrap()
        .expect_success()
        .unwrap();
}
