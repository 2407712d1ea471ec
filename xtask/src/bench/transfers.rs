//! Small files, one after the other: one session of a real client with a real server.
//!
//! vsftpd and Python's ftplib, by PASV, both on one CPU: where the scheduler may choose, its choices decide
//! more than the router does.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, ensure};
use ftp_nat_tests::{
    lab::Lab,
    process,
    server::{FtpServer, Kind, Settings as ServerSettings},
};

use super::{
    figure::Figure,
    options::Options,
    programs::on_cpu,
    scene::{Router, Scene, Settings},
};
use crate::progress::say;

/// Files that one session fetches.
const FILES: u32 = 2_000;
/// And as many before them that are not measured.
const WARMING: u32 = 50;
/// A file's length in bytes.
const LENGTH: usize = 1_000;
/// How long a session may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Fetches `argv[5]` files that do not count and then `argv[6]` that do, from host `argv[1]`, port `argv[2]`,
/// as user `argv[3]` with password `argv[4]`; prints how many seconds those took.
const CLIENT: &str = "
import ftplib, sys, time
host, port, user, password, warming, files = sys.argv[1:]
ftp = ftplib.FTP()
ftp.connect(host, int(port), timeout=20)
ftp.login(user, password)
ftp.voidcmd('TYPE I')
def fetch(times):
    for _ in range(times):
        got = bytearray()
        ftp.retrbinary('RETR /download/small', got.extend)
        assert len(got) == 1000, len(got)
fetch(int(warming))
start = time.perf_counter()
fetch(int(files))
print(time.perf_counter() - start)
ftp.quit()
";

/// A contestant with its server.
struct Match<'lab> {
    scene: Scene<'lab>,
    server: FtpServer,
}

/// Measures everything.
pub(crate) fn run(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let labs = Lab::several(Router::ALL.len())?;
    let mut matches = Vec::new();
    for (lab, router) in labs.iter().zip(Router::ALL) {
        say(&format!("transfers: {}", router.name()));
        let scene = Scene::new(lab, router, &Settings::default())?;
        let server =
            on_cpu(|| FtpServer::start(Kind::Vsftpd, lab.server(), &ServerSettings::default()))?;
        server.offer("small", vec![b'x'; LENGTH])?;
        matches.push(Match { scene, server });
    }
    let mut figures: Vec<_> = Router::ALL
        .iter()
        .map(|router| Figure::new(format!("transfers.{}", router.key()), "files/s"))
        .collect();
    for turn in 0..=options.runs(9) {
        for (contest, figure) in matches.iter().zip(&mut figures) {
            let rate = contest.play(options)?;
            // The first turn warms up.
            if turn > 0 {
                figure.runs.push(rate);
            }
        }
    }
    Ok(figures)
}

impl Match<'_> {
    /// One session; gives files a second.
    fn play(&self, options: &Options) -> anyhow::Result<f64> {
        let target = self.server.target_at(self.scene.control());
        let files = options.turns(FILES);
        let mut command: Command = self.scene.lab.client().namespace.command("python3")?;
        command
            .args(["-c", CLIENT])
            .arg(target.address.ip().to_string())
            .arg(target.address.port().to_string())
            .args([&target.user, &target.password])
            .args([WARMING, files].map(|number| number.to_string()));
        let said = on_cpu(|| process::run(&mut command, LIMIT))?
            .expect_success()
            .with_context(|| format!("transfers: {}", self.scene.router.name()))?;
        let text = String::from_utf8_lossy(&said.stdout);
        let seconds: f64 = text
            .trim()
            .parse()
            .with_context(|| format!("the client said {text:?}"))?;
        ensure!(seconds > 0.0, "the client's clock stands still");
        Ok(f64::from(files) / seconds)
    }
}
