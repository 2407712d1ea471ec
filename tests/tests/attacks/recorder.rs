//! A server that takes down every byte, and says yes to every line: what it heard a more lenient
//! one might have obeyed.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use ftp_nat_tests::lab::Host;

/// The listening server; its threads end with the process.
pub(crate) struct Recorder {
    heard: Arc<Mutex<Heard>>,
}

/// What one connection said.
type Heard = Arc<Mutex<Vec<u8>>>;

impl Recorder {
    /// Listens on `port` of `host`. Urgent data (RFC 9293, section 3.8.5) is read in its place, or
    /// left out, as with most servers.
    pub(crate) fn start(host: &Host, port: u16, urgent_in_place: bool) -> Self {
        Self::start_at(host, host.at(port), urgent_in_place)
    }

    /// The same at any address of the host.
    pub(crate) fn start_at(host: &Host, address: SocketAddr, urgent_in_place: bool) -> Self {
        let listener = host
            .namespace
            .run(|| Ok(TcpListener::bind(address)?))
            .unwrap();
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let its = Arc::clone(&heard);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let heard = Heard::default();
                *its.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&heard);
                thread::spawn(move || {
                    // A client that goes away has said what it wanted to say.
                    drop(listen(&stream, &heard, urgent_in_place));
                });
            }
        });
        Self { heard }
    }

    /// What it has heard on the connection that came last, since it was asked last. An end of the one
    /// before may arrive late.
    pub(crate) fn heard(&self) -> Vec<u8> {
        let last = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *last.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn listen(
    mut stream: &TcpStream,
    heard: &Mutex<Vec<u8>>,
    urgent_in_place: bool,
) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    socket2::SockRef::from(stream).set_out_of_band_inline(urgent_in_place)?;
    stream.write_all(b"220 yes\r\n")?;
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let bytes = &buffer[..length];
        heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        for _ in bytes.iter().filter(|byte| **byte == b'\n') {
            stream.write_all(b"200 yes\r\n")?;
        }
    }
}
