//! `ftp-nat top` in a real terminal, while a real transfer goes through the gateway.

use std::{fs, net::SocketAddr, time::Duration};

use ftp_nat_tests::{
    gateway::Gateway,
    lab::{Lab, WAN_ADDRESS},
    process::Running,
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
    terminal::Terminal,
};
use rustix::process::{Pid, Signal, kill_process};

const RUN: [&str; 4] = ["--wan", "wan", "--publish", "198.51.100.1:21=10.0.0.5:21"];

/// Long enough for whatever must happen.
const PATIENCE: Duration = Duration::from_secs(45);

const PROMPT: &str = "lab$";

/// The line that starts it, with its process number in a file.
fn line(gateway: &Gateway<'_>, scratch: &Scratch) -> String {
    let command = gateway.command(&["top", "--interval", "0.2"]).unwrap();
    let words: Vec<_> = [command.get_program()]
        .into_iter()
        .chain(command.get_args())
        .map(|word| word.to_str().unwrap())
        .collect();
    format!(
        "sh -c 'echo $$ >{}; exec {}'",
        scratch.path().join("pid").display(),
        words.join(" ")
    )
}

/// A slow download by curl, which ends with this value.
fn download(lab: &Lab) -> Running {
    // With little memory for what it has not read yet it takes small steps.
    let client = &lab.client().namespace;
    client
        .sysctl("net.ipv4.tcp_rmem", "4096 16384 16384")
        .unwrap();
    let public: SocketAddr = (WAN_ADDRESS, 21).into();
    let mut command = client.command("curl").unwrap();
    command
        .args([
            "--disable",
            "--silent",
            "--no-ftp-skip-pasv-ip",
            "--limit-rate",
            "200k",
        ])
        .args(["--max-time", "60", "--output", "/dev/null", "--user"])
        .arg("anonymous:lab@example.net")
        .arg(format!("ftp://{public}/download/large.bin"));
    Running::start(&mut command).unwrap()
}

/// That the terminal is the shell's again, as it was.
#[track_caller]
fn is_given_back(terminal: &Terminal<'_>) {
    let text = terminal
        .wait_for("the prompt", PATIENCE, |text| {
            text.trim_end().ends_with(PROMPT) && text.contains("as it was")
        })
        .unwrap();
    assert!(!text.contains("TRANSFERS"), "{text}");
    assert!(!terminal.is_taken().unwrap());
    terminal
        .type_line("clear; stty -a; echo as it was")
        .unwrap();
    let text = terminal
        .wait_for("the terminal's settings", PATIENCE, |text| {
            text.contains("icanon") && text.contains("as it was\n")
        })
        .unwrap();
    let settings: Vec<_> = text.split_whitespace().collect();
    for mode in ["icanon", "echo", "isig", "opost"] {
        assert!(settings.contains(&mode), "{mode} is not in {text}");
    }
}

#[test]
fn a_transfer_is_watched_and_the_terminal_given_back() {
    let lab = Lab::new().unwrap();
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    server.offer("large.bin", vec![7; 16 << 20]).unwrap();
    let mut gateway = Gateway::start(&lab.router, &RUN).unwrap();
    let scratch = Scratch::new().unwrap();
    let start = line(&gateway, &scratch);
    let terminal = Terminal::open(&lab.router, 80, 24).unwrap();
    let shows = |what: &str, words: &[&str]| {
        let all = |text: &str| words.iter().all(|word| text.contains(word));
        terminal.wait_for(what, PATIENCE, all).unwrap()
    };
    terminal.type_line("echo as it was").unwrap();
    shows("a shell", &["as it was\n"]);
    let _download = download(&lab);

    terminal.type_line(&start).unwrap();
    // The transfer with its rate, the session that it belongs to, and the sums.
    let daemon = format!("wan: daemon {}", gateway.pid().unwrap());
    let text = terminal
        .wait_for("the transfer's rate", PATIENCE, |text| {
            let row = text.lines().find(|line| {
                line.starts_with("passive estab ") && line.contains(" 198.51.100.20:")
            });
            row.is_some_and(|row| row.contains(" 10.0.0.5:") && row.contains("B/s"))
                && text
                    .lines()
                    .any(|line| line.starts_with("out") && line.contains("B/s"))
        })
        .unwrap();
    println!("{text}");
    for words in [
        &*daemon,
        "sessions 1  connections 2 of",
        "opened 1 (",
        "used 1",
        "denied 0 (0.0/s)  no room 0  lost 0  fullest 0 %: ",
        "TRANSFERS 1",
        "SESSIONS 1",
        "10.0.0.5:21",
        "q quit",
    ] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    assert_eq!(text.lines().count(), 24, "{text}");

    terminal.press(&["s"]).unwrap();
    shows("another order", &["sort: bytes"]);
    terminal.press(&["/", "z", "z", "Enter"]).unwrap();
    shows(
        "nothing through the filter",
        &["TRANSFERS 0/1", "SESSIONS 0/1", "filter: zz"],
    );
    terminal.press(&["Escape"]).unwrap();
    shows("all again", &["TRANSFERS 1", "SESSIONS 1"]);
    terminal.press(&["3"]).unwrap();
    shows(
        "the counters",
        &["COUNT", "Data connections announced by a server"],
    );
    terminal.press(&["2"]).unwrap();
    shows(
        "the openings",
        &[
            "WAITING 0",
            "Data connections announced by a server that its client made",
        ],
    );
    terminal.press(&["?"]).unwrap();
    shows("the help", &["turn the order round"]);
    terminal.press(&["x", "1"]).unwrap();
    shows("the transfers again", &["TRANSFERS 1"]);

    terminal.press(&["p"]).unwrap();
    shows("the pause", &["PAUSED"]);
    terminal.press(&["p"]).unwrap();
    terminal.press(&["q"]).unwrap();
    is_given_back(&terminal);

    watches_on_any_size(&lab, &start);

    // From the maps alone; and each way out gives the terminal back.
    gateway.kill().unwrap();
    for way in ["Ctrl-C", "SIGTERM"] {
        terminal.type_line(&start).unwrap();
        shows(
            "a gateway without a daemon",
            &["wan: no daemon", "TRANSFERS 1", "B/s"],
        );
        if way == "Ctrl-C" {
            terminal.press(&["C-c"]).unwrap();
        } else {
            let pid = fs::read_to_string(scratch.path().join("pid")).unwrap();
            let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
            kill_process(pid, Signal::TERM).unwrap();
        }
        is_given_back(&terminal);
    }

    // A gateway that goes away is missed, and nothing else happens.
    terminal.type_line(&start).unwrap();
    shows("the transfer", &["TRANSFERS 1"]);
    gateway.ask(&["unload"]).unwrap().expect_success().unwrap();
    shows("that it is gone", &["no gateway is loaded"]);
    terminal.press(&["q"]).unwrap();
    is_given_back(&terminal);
}

/// In a terminal of its own: what tmux itself brings back after a new size is another matter.
fn watches_on_any_size(lab: &Lab, start: &str) {
    let terminal = Terminal::open(&lab.router, 80, 24).unwrap();
    terminal.type_line(start).unwrap();
    for (width, height) in [(80, 24), (60, 12), (100, 30), (160, 50)] {
        terminal.resize(width, height).unwrap();
        let text = terminal
            .wait_for("a picture of that size", PATIENCE, |text| {
                let lines: Vec<_> = text.lines().collect();
                lines.len() == usize::from(height)
                    && lines[0].starts_with("ftp-nat top")
                    && lines.iter().any(|line| line.starts_with("TRANSFERS 1"))
                    && lines.last().is_some_and(|line| line.starts_with("q quit"))
            })
            .unwrap();
        assert!(
            text.lines()
                .all(|line| line.chars().count() <= width.into()),
            "{text}"
        );
    }
    terminal.press(&["q"]).unwrap();
    terminal
        .wait_for("the prompt", PATIENCE, |text| {
            text.trim_end().ends_with(PROMPT)
        })
        .unwrap();
    assert!(!terminal.is_taken().unwrap());
}

#[test]
fn without_a_gateway_or_a_terminal_it_says_so() {
    let lab = Lab::new().unwrap();
    let mut gateway = Gateway::start(&lab.router, &RUN).unwrap();
    let outcome = gateway.ask(&["top"]).unwrap();
    assert_eq!(outcome.status.unwrap().code(), Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("terminal"), "{outcome:?}");
    let outcome = gateway.ask(&["top", "--interval", "0"]).unwrap();
    assert_eq!(outcome.status.unwrap().code(), Some(2), "{outcome:?}");

    gateway.stop().unwrap();
    gateway.ask(&["unload"]).unwrap().expect_success().unwrap();
    let status = gateway.ask(&["status"]).unwrap();
    let outcome = gateway.ask(&["top"]).unwrap();
    assert_eq!(outcome.status.unwrap().code(), Some(3), "{outcome:?}");
    assert_eq!(outcome.stderr, status.stderr);
}
