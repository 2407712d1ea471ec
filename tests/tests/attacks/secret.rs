//! Ports that nobody has published: who reaches one has found a hole.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use ftp_nat_tests::{lab::Host, namespace::Namespace};

/// A listener that counts its visitors and tells them who it is.
pub(crate) struct Secret {
    visits: Arc<AtomicUsize>,
}

impl Secret {
    /// Listens at `address` until the test ends.
    pub(crate) fn at(namespace: &Namespace, address: SocketAddr, name: &'static str) -> Self {
        let visits = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&visits);
        let listener = namespace.run(|| Ok(TcpListener::bind(address)?)).unwrap();
        // Ends with the process: a listener does not keep its namespace from being removed.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::Relaxed);
                // A visitor that has gone already counts too.
                drop((&stream).write_all(name.as_bytes()));
            }
        });
        Self { visits }
    }

    /// How many have come.
    pub(crate) fn visits(&self) -> usize {
        self.visits.load(Ordering::Relaxed)
    }

    /// That nobody has.
    pub(crate) fn keep(&self) -> anyhow::Result<()> {
        let visits = self.visits();
        self.visits.store(0, Ordering::Relaxed);
        ensure!(
            visits == 0,
            "a stranger reaches a port that nobody published"
        );
        Ok(())
    }
}

/// Tries to connect; it is no matter whether that is refused or stays unanswered.
pub(crate) fn knock(host: &Host, address: SocketAddr) {
    let limit = Duration::from_millis(300);
    let attempt = host
        .namespace
        .run(|| Ok(TcpStream::connect_timeout(&address, limit)))
        .unwrap();
    if attempt.is_ok() {
        // The listener is told by a thread of its own.
        thread::sleep(Duration::from_millis(50));
    }
}

/// Connects and gives what the other end says first.
pub(crate) fn ask(host: &Host, address: SocketAddr) -> anyhow::Result<String> {
    let limit = Duration::from_secs(2);
    let mut stream = host
        .namespace
        .run(|| Ok(TcpStream::connect_timeout(&address, limit)?))
        .with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(limit))?;
    let mut said = [0; 64];
    let length = stream.read(&mut said)?;
    Ok(String::from_utf8_lossy(&said[..length]).into_owned())
}
