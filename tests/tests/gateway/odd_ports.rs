//! PORT and EPRT that are written oddly: what real servers make of them, and what comes about through the
//! gateway. docs/decisions.md has the table.

use std::{
    net::{SocketAddr, TcpListener},
    thread,
    time::{Duration, Instant},
};

use ftp_nat_tests::{
    control::{self, Control},
    gateway::Gateway,
    lab::{Host, Lab, Plan},
    server::{FtpServer, Kind, Settings},
};

use crate::{PUBLIC, RUN};

/// Where clients listen: 195 * 256 + 80.
const DATA_PORT: u16 = 50_000;
/// How long a server that takes a command may take to dial.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// What the gateway does with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// It opens what the command announces, and the server decides: not all take it.
    Opens,
    /// It refuses it, although some servers take it: they do not all read the same.
    Stricter,
    /// It refuses it, or leaves it to the server, as all servers do.
    Refuses,
}
use Gate::{Opens, Refuses, Stricter};

/// Commands; `{h}` is the client's own address with commas, `{a}` with dots.
const COMMANDS: &[(&str, Gate)] = &[
    ("PORT {h},195,80", Opens),
    ("port {h},195,80", Opens),
    ("PORT  {h},195,80", Opens),
    ("PORT {h},195,80 ", Opens),
    ("PORT\t{h},195,80", Opens),
    ("PORT {h},195,080", Opens),
    ("PORT {h},0195,80", Stricter),
    ("PORT {h}, 195, 80", Opens),
    ("PORT {h},195,80 x", Opens),
    ("PORT {h},195,80,1", Stricter),
    ("PORT {h},195,80x", Opens),
    ("PORT ({h},195,80)", Refuses),
    ("PORT {h},195", Refuses),
    ("PORT {h},195,", Refuses),
    ("PORT {h},195,336", Refuses),
    ("PORT {h},451,80", Refuses),
    ("PORT {h},+195,80", Stricter),
    ("PORT {h},-61,80", Refuses),
    ("PORT 0{h},195,80", Stricter),
    ("PORT +{h},195,80", Stricter),
    ("PORT 256{h},195,80", Refuses),
    ("PORT {a},195,80", Refuses),
    ("PORT {h};195;80", Refuses),
    ("PORT{h},195,80", Refuses),
    ("PORT {h},0,80", Refuses),
    ("PORT", Refuses),
    ("EPRT |1|{a}|50000|", Opens),
    ("eprt |1|{a}|50000|", Opens),
    ("EPRT  |1|{a}|50000|", Opens),
    ("EPRT |1|{a}|50000| ", Opens),
    ("EPRT !1!{a}!50000!", Opens),
    ("EPRT |1|{a}|050000|", Stricter),
    ("EPRT |1|{a}|50000", Stricter),
    ("EPRT |1|{a}|50000|x", Opens),
    ("EPRT |01|{a}|50000|", Stricter),
    ("EPRT |1| {a}|50000|", Stricter),
    ("EPRT |1|0{a}|50000|", Stricter),
    ("EPRT |1|{a}|115536|", Stricter),
    ("EPRT |1|{a}|+50000|", Stricter),
    ("EPRT |1|{a}|50000.0|", Stricter),
    ("EPRT |1||50000|", Refuses),
    ("EPRT ||{a}|50000|", Refuses),
    ("EPRT |2|{a}|50000|", Stricter),
    ("EPRT |2|::ffff:{a}|50000|", Opens),
    ("EPRT |3|{a}|50000|", Refuses),
    ("EPRT 1|{a}|50000|", Refuses),
    ("EPRT|1|{a}|50000|", Opens),
    ("EPRT |1|{a}|80|", Refuses),
];

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// The server dialled the client's port.
    Dialled,
    /// It said 200, and did not.
    Taken,
    /// It said another code.
    Code(String),
    /// It said nothing.
    Silence,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Dialled => "dials",
            Self::Taken => "200",
            Self::Code(code) => code,
            Self::Silence => "nothing",
        })
    }
}

/// Says a command to the server at `address`, and asks for a listing if it is taken.
fn try_out(host: &Host, server: &FtpServer, address: SocketAddr, command: &str) -> Outcome {
    let listener = host
        .namespace
        .run(|| Ok(TcpListener::bind((host.v4, DATA_PORT))?))
        .unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut control = Control::log_in(host, &server.target_at(address)).unwrap();
    let text = host.v4.to_string();
    let command = command
        .replace("{h}", &text.replace('.', ","))
        .replace("{a}", &text);
    control.stream().set_read_timeout(Some(PATIENCE)).unwrap();
    let Ok(reply) = control.command(&command) else {
        return Outcome::Silence;
    };
    if !reply.starts_with('2') {
        return Outcome::Code(reply[..3].to_owned());
    }
    control.send("NLST\r\n").unwrap();
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Ok((data, _)) = listener.accept() {
            data.set_nonblocking(false).unwrap();
            control::read_all(&data).unwrap();
            return Outcome::Dialled;
        }
        thread::sleep(Duration::from_millis(5));
    }
    Outcome::Taken
}

#[test]
fn no_more_and_no_less_is_opened_than_servers_take() {
    let plan = Plan {
        inside: 2,
        ..Plan::default()
    };
    let lab = Lab::with(plan).unwrap();
    let gateway = Gateway::start(&lab.router, &RUN).unwrap();
    let opened = || {
        let labels = "kind=\"active\"";
        gateway.metric("mappings_opened_total", labels).unwrap()
    };
    let mut failures = Vec::new();
    let mut rows: Vec<String> = COMMANDS
        .iter()
        .map(|(command, gate)| format!("| `{command}` | {gate:?}"))
        .collect();
    let mut taken = vec![0; COMMANDS.len()];
    for kind in Kind::ALL {
        let server = FtpServer::start(kind, lab.server(), &Settings::default()).unwrap();
        let own = (lab.server().v4, 21).into();
        for (number, (command, gate)) in COMMANDS.iter().enumerate() {
            let direct = try_out(&lab.inside[1], &server, own, command);
            let before = opened();
            let through = try_out(lab.client(), &server, PUBLIC, command);
            let has_opened = opened() > before;
            rows[number] += &format!(" | {direct} ({through})");
            taken[number] += usize::from(direct == Outcome::Dialled);
            let wanted = if *gate == Opens {
                through == direct
            } else {
                through != Outcome::Dialled
            };
            if !wanted || has_opened != (*gate == Opens) {
                failures.push(format!(
                    "{kind:?} {command:?}: {direct} {through} {has_opened}"
                ));
            }
        }
    }
    for ((command, gate), taken) in COMMANDS.iter().zip(taken) {
        // Without a blank behind its verb it is taken by servers that the lab has not.
        let is_tight = command.starts_with("EPRT|");
        if (taken > 0) != (*gate != Refuses) && !is_tight {
            failures.push(format!("{command:?}: {taken} servers take it"));
        }
    }
    println!("{}", rows.join(" |\n"));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
