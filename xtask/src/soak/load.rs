//! What honest clients do: sessions of a few files each, and one download that takes its time.

use std::{
    io::Read as _,
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use fastrand::Rng;
use ftp_nat_tests::{
    control::Control,
    lab::{Host, Lab, WAN_ADDRESS, WAN_ADDRESS_V6},
    server::FtpServer,
};

use super::{
    client::{self, Failure, Verb},
    record::Record,
};

/// How many clients work at once, beside the slow one.
pub(super) const WORKERS: u64 = 3;

/// Bytes of the files that are fetched: less than a segment, many segments, and sizes around both.
const SIZES: [usize; 8] = [0, 1, 17, 1447, 1449, 70_000, 1_000_000, 3_000_001];
/// Bytes of the file that takes its time, and how fast it is read.
const SLOW: usize = 12 << 20;
const STEP: usize = 64 << 10;
const STEP_TIME: Duration = Duration::from_millis(250);

/// A host's connections, with what its TCP knows of them.
fn sockets(host: &Host) -> String {
    let shown = host.run(&["ss", "--tcp", "-ino"], Duration::from_secs(5));
    shown.map_or_else(|error| error.to_string(), |it| it.text())
}

/// What all of them share.
pub(super) struct Load<'l> {
    lab: &'l Lab,
    server: &'l FtpServer,
    files: Vec<(String, Vec<u8>)>,
    slow: Vec<u8>,
    stored: AtomicU64,
}

impl<'l> Load<'l> {
    /// Offers the files.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub(super) fn new(lab: &'l Lab, server: &'l FtpServer) -> anyhow::Result<Self> {
        let mut random = Rng::with_seed(4711);
        let mut content = |size| (0..size).map(|_| random.u8(..)).collect::<Vec<_>>();
        let mut files = Vec::new();
        for size in SIZES {
            let (name, content) = (format!("{size}.bin"), content(size));
            server.offer(&name, &content)?;
            files.push((name, content));
        }
        let slow = content(SLOW);
        server.offer("slow.bin", &slow)?;
        Ok(Self {
            lab,
            server,
            files,
            slow,
            stored: AtomicU64::new(0),
        })
    }

    fn public(v4: bool) -> SocketAddr {
        if v4 {
            (WAN_ADDRESS, 21).into()
        } else {
            (WAN_ADDRESS_V6, 21).into()
        }
    }

    fn log_in(&self, host: &Host, v4: bool) -> Result<Control, Failure> {
        let stream = client::dial(host, Self::public(v4))?;
        let mut control = Control::over_within(stream, Duration::from_secs(30))?;
        let target = self.server.target_at(Self::public(v4));
        // vsftpd wants no password of this user.
        let reply = control.command(&format!("USER {}", target.user))?;
        if !reply.starts_with("230") {
            return Err(anyhow::anyhow!("USER: {reply}").into());
        }
        control.send("TYPE I\r\n")?;
        control.expect("200")?;
        Ok(control)
    }

    /// One client after the other, until it is enough.
    pub(super) fn work(&self, number: u64, seed: u64, record: &Record, stop: &AtomicBool) {
        let mut random = Rng::with_seed(seed ^ (number + 1) << 32);
        while !stop.load(Ordering::Relaxed) {
            match self.session(&mut random, record) {
                Ok(()) => record.session(),
                Err(Failure::NotConnected(start, error)) => {
                    record.not_connected(start, format!("a client could not connect: {error:#}"));
                }
                Err(Failure::Broken(error)) => {
                    record.violation(format!("an honest client's session: {error:#}"));
                }
            }
            thread::sleep(Duration::from_millis(random.u64(200..1500)));
        }
    }

    fn session(&self, random: &mut Rng, record: &Record) -> Result<(), Failure> {
        let v4 = random.u8(..4) > 0;
        let host = &self.lab.outside[random.usize(..2)];
        let mut control = self.log_in(host, v4)?;
        let local = control.local_address()?;
        self.files(random, record, host, v4, &mut control)
            .map_err(|failure| match failure {
                Failure::Broken(error) => Failure::Broken(error.context(format!("{local}"))),
                other => other,
            })?;
        client::quit(&mut control).with_context(|| format!("{local}: QUIT"))?;
        Ok(())
    }

    /// A few files, each compared.
    fn files(
        &self,
        random: &mut Rng,
        record: &Record,
        host: &Host,
        v4: bool,
        control: &mut Control,
    ) -> Result<(), Failure> {
        for _ in 0..random.u8(1..6) {
            let verbs = Verb::all(v4);
            let verb = verbs[random.usize(..verbs.len())];
            let (name, content) = &self.files[random.usize(..self.files.len())];
            if random.u8(..3) > 0 {
                client::fetch(control, host, verb, name, content)?;
            } else {
                let number = self.stored.fetch_add(1, Ordering::Relaxed);
                let name = format!("{number}.bin");
                client::store(control, host, verb, &name, content)?;
                let stored = self.server.stored(&name)?;
                if stored != *content {
                    return Err(anyhow::anyhow!("{verb:?} STOR {name}: another content").into());
                }
                self.server.remove_stored(&name)?;
            }
            record.file(content.len());
            // Some rest between two files, so that faults meet them.
            thread::sleep(Duration::from_millis(random.u64(..400)));
        }
        Ok(())
    }

    /// One download after the other, each so slow that faults fall into it.
    pub(super) fn trickle(&self, record: &Record, stop: &AtomicBool) {
        let host = &self.lab.outside[0];
        while !stop.load(Ordering::Relaxed) {
            match self.slowly(host, record) {
                Ok(()) => record.session(),
                Err(Failure::NotConnected(start, error)) => {
                    record.not_connected(start, format!("a client could not connect: {error:#}"));
                }
                Err(Failure::Broken(error)) => {
                    record.violation(format!(
                        "a slow download: {error:#}\n{}{}",
                        sockets(host),
                        sockets(self.lab.server())
                    ));
                }
            }
            thread::sleep(Duration::from_secs(1));
        }
    }

    fn slowly(&self, host: &Host, record: &Record) -> Result<(), Failure> {
        let mut control = self.log_in(host, true)?;
        let mut data = client::dial(host, control.announce("PASV")?)?;
        control.send("RETR /download/slow.bin\r\n")?;
        control.expect("150")?;
        let mut read = || -> anyhow::Result<()> {
            data.set_read_timeout(Some(Duration::from_secs(30)))?;
            let mut step = vec![0; STEP];
            for wanted in self.slow.chunks(STEP) {
                let step = &mut step[..wanted.len()];
                data.read_exact(step)?;
                ensure!(step == wanted, "another content");
                thread::sleep(STEP_TIME);
            }
            Ok(())
        };
        read()?;
        control.expect("226")?;
        client::quit(&mut control)?;
        record.file(SLOW);
        Ok(())
    }
}
