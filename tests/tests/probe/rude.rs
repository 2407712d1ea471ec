//! Servers that no client hopes for: nothing they do may crash the probe, hang it, or be mistaken
//! for something else.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use ftp_nat_tests::lab::{Host, Lab, Plan};

use crate::Probed;

/// What a server does instead of an answer.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Sends these bytes.
    Say(&'static [u8]),
    /// Sends these bytes and ends the connection.
    SayAndClose(&'static [u8]),
    /// Sends these bytes again and again.
    Repeat(&'static [u8]),
    /// Sends these bytes again and again, so slowly that it never takes too long for the next.
    Drip(&'static [u8]),
    /// Nothing.
    Wait,
}

use Act::{Drip, Repeat, Say, SayAndClose, Wait};

/// A server that does something of its own when it hears a word; the greeting is `""`.
#[derive(Clone, Copy, Debug)]
struct Manners(&'static [(&'static str, Act)]);

/// A running server; it ends with this value.
struct Rude {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Rude {
    fn start(host: &Host, port: u16, manners: Manners) -> Self {
        let address = host.at(port);
        let listener = host.namespace.run(|| Ok(TcpListener::bind(address)?));
        let listener = listener.unwrap();
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let its = Arc::clone(&stop);
        let serve = move || {
            while !its.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let its = Arc::clone(&its);
                        // How a session ends is the probe's matter.
                        thread::spawn(move || drop(converse(stream, manners, &its)));
                    }
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            }
        };
        Self {
            stop,
            thread: Some(host.namespace.spawn(serve).unwrap()),
        }
    }
}

impl Drop for Rude {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Serves one client.
fn converse(stream: TcpStream, manners: Manners, stop: &AtomicBool) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    let mut control = BufReader::new(stream);
    let mut listener = None;
    let mut word = String::new();
    loop {
        let own = manners.0.iter().find(|(wanted, _)| *wanted == word);
        match own.map(|(_, act)| *act) {
            Some(act) => {
                if !perform(act, control.get_mut(), stop)? {
                    return Ok(());
                }
            }
            None => {
                let answer = usual(&word, control.get_ref(), &mut listener)?;
                control.get_mut().write_all(answer.as_bytes())?;
            }
        }
        let mut line = String::new();
        if control.read_line(&mut line)? == 0 {
            return Ok(());
        }
        word = line.split_whitespace().next().unwrap_or("").to_owned();
    }
}

/// What everybody answers. A listing is one line, and whoever waits for it gets it.
fn usual(
    word: &str,
    control: &TcpStream,
    listener: &mut Option<TcpListener>,
) -> std::io::Result<String> {
    let own = control.local_addr()?.ip();
    let mut listen = || {
        let new = TcpListener::bind((own, 0))?;
        let port = new.local_addr()?.port();
        *listener = Some(new);
        std::io::Result::Ok(port)
    };
    Ok(match word {
        "" => "220 hello\r\n".into(),
        "USER" => "331 and?\r\n".into(),
        "PASS" => "230 come in\r\n".into(),
        "SYST" => "215 none of your business\r\n".into(),
        "EPSV" => format!("229 ok (|||{}|)\r\n", listen()?),
        "PASV" => {
            let [high, low] = listen()?.to_be_bytes();
            let own = own.to_string().replace('.', ",");
            format!("227 ok ({own},{high},{low})\r\n")
        }
        "LIST" => {
            let (mut data, _) = listener
                .take()
                .ok_or(std::io::ErrorKind::NotConnected)?
                .accept()?;
            data.write_all(b"one file\r\n")?;
            "150 wait\r\n226 that was it\r\n".into()
        }
        "QUIT" => "221 bye\r\n".into(),
        _ => "502 what?\r\n".into(),
    })
}

/// False: the connection is over.
fn perform(act: Act, stream: &mut TcpStream, stop: &AtomicBool) -> std::io::Result<bool> {
    match act {
        Say(bytes) => stream.write_all(bytes)?,
        SayAndClose(bytes) => {
            stream.write_all(bytes)?;
            return Ok(false);
        }
        Repeat(bytes) => {
            let many = bytes.repeat(16 * 1024 / bytes.len());
            while !stop.load(Ordering::Relaxed) {
                stream.write_all(&many)?;
            }
        }
        Drip(bytes) => {
            while !stop.load(Ordering::Relaxed) {
                stream.write_all(bytes)?;
                thread::sleep(Duration::from_millis(50));
            }
        }
        Wait => {}
    }
    Ok(true)
}

/// Two hosts that see each other.
fn lab() -> Lab {
    Lab::with(Plan {
        outside: 2,
        inside: 1,
    })
    .unwrap()
}

/// A server's manners, the verdict, and a part of its summary.
type Case = (&'static [(&'static str, Act)], &'static str, &'static str);

/// Probes each server, some at a time; a probe that takes too long is killed and has no verdict.
fn probe_each(cases: &[Case], more: &[&str]) {
    const AT_A_TIME: usize = 12;
    let lab = lab();
    let (host, client) = (&lab.outside[0], &lab.outside[1]);
    let probe = |port: u16, (manners, verdict, part): &Case| {
        let _server = Rude::start(host, port, Manners(manners));
        let address = host.at(port).to_string();
        let words = [&[&address, "--timeout", "2"], more].concat();
        let probed = Probed::on(client, &words);
        assert_eq!(probed.json["verdict"], *verdict, "{manners:?}");
        let summary = probed.json["summary"].as_str().unwrap();
        assert!(summary.contains(part), "{manners:?}: {summary}");
        let good = *verdict == "works";
        assert_eq!(probed.code, Some(if good { 0 } else { 1 }), "{manners:?}");
        assert!(!summary.contains('\u{1b}'), "{summary:?}");
    };
    for (round, some) in cases.chunks(AT_A_TIME).enumerate() {
        thread::scope(|scope| {
            for (place, case) in some.iter().enumerate() {
                let port = 2100 + (round * AT_A_TIME + place) as u16;
                scope.spawn(move || probe(port, case));
            }
        });
    }
}

#[test]
fn odd_greetings() {
    probe_each(
        &[
            (
                &[("", Say(b"220-a\r\n220-b\r\n 220 c\r\nfree\r\n220 d\r\n"))],
                "works",
                "PASV and EPSV work",
            ),
            (&[("", Say(b"120 in a minute\r\n220 now\r\n"))], "works", ""),
            (
                &[("", Say(b"220 \x1b[2J\x07\xff\xfe\x00\r\n"))],
                "works",
                "",
            ),
            (&[("", Say(b"220\n"))], "works", ""),
            (&[("", Wait)], "not_ftp", "--implicit-tls"),
            (&[("", SayAndClose(b""))], "not_ftp", "ends it at once"),
            (
                &[("", SayAndClose(b"220-so"))],
                "not_ftp",
                "ends it at once",
            ),
            (&[("", Say(b"220 no end"))], "not_ftp", "220 no end"),
            (
                &[("", Say(b"220-no last line\r\n"))],
                "not_ftp",
                "no last line",
            ),
            (&[("", Repeat(b"x"))], "not_ftp", "answer without an end"),
            (
                &[("", Repeat(b"220-x\r\n"))],
                "not_ftp",
                "answer without an end",
            ),
            (&[("", Repeat(b"\0\xff\r\n"))], "not_ftp", "no FTP server"),
            (&[("", Drip(b"x"))], "not_ftp", "no whole answer in time"),
            (
                &[("", Drip(b"220-x\r\n"))],
                "not_ftp",
                "no whole answer in time",
            ),
            (
                &[("", Say(b"SSH-2.0-OpenSSH_9.2p1\r\n"))],
                "not_ftp",
                "SFTP is not FTP",
            ),
            (
                &[("", Say(b"HTTP/1.1 400 Bad Request\r\n"))],
                "not_ftp",
                "HTTP",
            ),
            (
                &[("", SayAndClose(b"421 too many users\r\n"))],
                "busy",
                "421 too many users",
            ),
            (&[("", Say(b"530 not you\r\n"))], "busy", "530 not you"),
        ],
        &[],
    );
}

#[test]
fn odd_logins() {
    probe_each(
        &[
            (&[("USER", Say(b"230 no password needed\r\n"))], "works", ""),
            (&[("SYST", Say(b"500 no\r\n"))], "works", ""),
            (
                &[(
                    "FEAT",
                    Say(b"211-Features:\r\n EPSV\r\n\xff\xfe\r\n211 End\r\n"),
                )],
                "works",
                "",
            ),
            (
                &[("PASS", Say(b"530 wrong\r\n"))],
                "login_refused",
                "--user",
            ),
            (
                &[("USER", Say(b"530 use TLS\r\n"))],
                "login_refused",
                "--tls",
            ),
            (&[("USER", Say(b"421 go away\r\n"))], "busy", "421 go away"),
            (&[("USER", Wait)], "not_ftp", "no answer to USER"),
            (
                &[("USER", SayAndClose(b""))],
                "not_ftp",
                "no answer to USER",
            ),
            (&[("PASS", Say(b"\x00garbage\r\n"))], "not_ftp", "no FTP"),
            (&[("PASS", SayAndClose(b"23"))], "not_ftp", "closed"),
            (
                &[("SYST", SayAndClose(b"421 idle\r\n"))],
                "not_ftp",
                "no answer to FEAT",
            ),
            (&[("FEAT", Repeat(b" X\r\n"))], "broken", "server itself"),
            (
                &[("FEAT", Repeat(b"211-X\r\n"))],
                "not_ftp",
                "without an end",
            ),
        ],
        &["--samples", "1"],
    );
}

#[test]
fn odd_answers_to_pasv() {
    probe_each(
        &[
            (
                &[("PASV", Say(b"502 no\r\n"))],
                "works",
                "PASV is not offered",
            ),
            (
                &[("EPSV", Say(b"522 no\r\n"))],
                "works",
                "EPSV is not offered",
            ),
            (
                &[
                    ("EPSV", Say(b"500 no\r\n")),
                    ("FEAT", Say(b"211-\r\n EPSV\r\n211 End\r\n")),
                ],
                "broken",
                "interferes",
            ),
            (&[("PASV", Say(b"227 Logout.\r\n"))], "broken", "cause 3"),
            (
                &[("PASV", Say(b"227 (1,2,3,4,5)\r\n"))],
                "broken",
                "cause 3",
            ),
            (
                &[("PASV", Say(b"227 (1,2,3,256,5,6)\r\n"))],
                "broken",
                "cause 3",
            ),
            (
                &[("PASV", Say(b"227 (0,0,0,0,0,0)\r\n"))],
                "broken",
                "cause 3",
            ),
            (
                &[("PASV", Say(b"227 (224,0,0,1,0,99)\r\n"))],
                "broken",
                "cause 3",
            ),
            (
                &[("PASV", Say(b"227 (127,0,0,1,0,99)\r\n"))],
                "broken",
                "cause 3",
            ),
            (&[("EPSV", Say(b"229 (|||0|)\r\n"))], "broken", "cause 3"),
            (
                &[("EPSV", Say(b"229 (|||99999|)\r\n"))],
                "broken",
                "cause 3",
            ),
            (&[("PASV", Say(b"425 no port\r\n"))], "broken", "cause 4"),
            (&[("PASV", Say(b"421 bye\r\n"))], "broken", "server itself"),
            (
                &[("PASV", SayAndClose(b"421 bye\r\n"))],
                "broken",
                "EPSV works",
            ),
            (&[("PASV", SayAndClose(b""))], "broken", "EPSV works"),
            (&[("PASV", Wait)], "broken", "EPSV works"),
            (&[("PASV", Say(b"\xff\xff\r\n"))], "broken", "EPSV works"),
            (&[("PASV", Repeat(b"227-\r\n"))], "broken", "EPSV works"),
        ],
        &["--samples", "1"],
    );
}

#[test]
fn odd_answers_to_list() {
    probe_each(
        &[
            (&[("LIST", Say(b"550 no files\r\n"))], "works", ""),
            (
                &[("LIST", Say(b"425 no connection\r\n"))],
                "broken",
                "interferes",
            ),
            (
                &[("LIST", Say(b"425 Security: Bad IP connecting.\r\n"))],
                "broken",
                "cause 6",
            ),
            (
                &[(
                    "LIST",
                    Say(b"522 SSL connection failed; session reuse required\r\n"),
                )],
                "broken",
                "TLS",
            ),
            (&[("LIST", Say(b"504 no\r\n"))], "broken", "server itself"),
            (&[("LIST", Say(b"150 wait\r\n"))], "broken", "interferes"),
            (&[("LIST", Wait)], "broken", "interferes"),
            (
                &[("LIST", SayAndClose(b"150 wait\r\n"))],
                "broken",
                "interferes",
            ),
            (&[("LIST", Drip(b"150-wait\r\n"))], "broken", "interferes"),
        ],
        &["--samples", "1"],
    );
}

#[test]
fn odd_answers_to_port() {
    probe_each(
        &[
            (
                &[
                    ("PORT", Say(b"500 'XXXX' not understood\r\n")),
                    ("EPRT", Say(b"502 no\r\n")),
                ],
                "broken",
                "interferes",
            ),
            (
                &[
                    ("PORT", Say(b"200 PORT 203,0,113,9,195,80 ok\r\n")),
                    ("EPRT", Say(b"502 no\r\n")),
                    ("LIST", Say(b"425 cannot connect\r\n")),
                    ("PASV", Say(b"502 no\r\n")),
                    ("EPSV", Say(b"502 no\r\n")),
                ],
                "broken",
                "cause 5",
            ),
            (
                &[
                    ("PORT", Say(b"550 not allowed\r\n")),
                    ("EPRT", Say(b"502 no\r\n")),
                ],
                "broken",
                "server itself",
            ),
            (&[("PORT", SayAndClose(b""))], "broken", "server itself"),
        ],
        &["--samples", "1", "--active"],
    );
}

#[test]
fn odd_answers_to_auth() {
    const FEAT: Act = Say(b"211-\r\n AUTH TLS\r\n211 End\r\n");
    probe_each(
        &[
            (&[], "not_encrypted", "does not encrypt"),
            (&[("FEAT", FEAT)], "encryption_stripped", "in between"),
            (
                &[("AUTH", Say(b"234 go\r\n230 in\r\n"))],
                "not_encrypted",
                "attack",
            ),
            (
                &[("AUTH", Say(b"234 go\r\n"))],
                "not_encrypted",
                "does not come about",
            ),
            (
                &[("AUTH", SayAndClose(b"234 go\r\n"))],
                "not_encrypted",
                "does not come about",
            ),
            (
                &[("AUTH", SayAndClose(b""))],
                "not_ftp",
                "no answer to AUTH",
            ),
        ],
        &["--tls", "--insecure"],
    );
    probe_each(
        &[
            (&[], "not_encrypted", "not TLS"),
            (&[("", SayAndClose(b""))], "not_encrypted", "no TLS at"),
            (&[("", Wait)], "not_encrypted", "no TLS at"),
        ],
        &["--implicit-tls", "--insecure"],
    );
}
