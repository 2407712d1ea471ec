//! Every client in every mode that it knows, one transfer of each kind, contents compared.

use std::net::SocketAddr;

use crate::{
    client::{Client, Job, Mode, Session},
    lab::Host,
    scratch::Scratch,
    server::FtpServer,
};

/// One file fetched, one stored and a folder listed by every client that can, in every one of
/// `modes`; `host` reaches the server at `address`. Gives what went wrong.
///
/// # Errors
///
/// When the file system refuses.
pub fn all(
    host: &Host,
    server: &FtpServer,
    address: SocketAddr,
    modes: &[Mode],
) -> anyhow::Result<Vec<String>> {
    by(&Client::ALL, host, server, address, modes)
}

/// The same by some of the clients.
///
/// # Errors
///
/// As [`all`].
pub fn by(
    clients: &[Client],
    host: &Host,
    server: &FtpServer,
    address: SocketAddr,
    modes: &[Mode],
) -> anyhow::Result<Vec<String>> {
    let content: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
    server.offer("file.bin", &content)?;
    let scratch = Scratch::new()?;
    let local = scratch.write("local.bin", &content)?;
    let mut failures = Vec::new();
    for &client in clients {
        for &mode in modes {
            let name = format!("{client:?}-{mode:?}.bin");
            let path = format!("/upload/{name}");
            for job in [
                Job::Fetch("/download/file.bin"),
                Job::Store(&local, &path),
                Job::List("/download"),
            ] {
                if !client.can(address, mode, job) {
                    continue;
                }
                let result = client
                    .perform(host, &server.target_at(address), mode, job)
                    .and_then(Session::expect_success);
                let is_right = |session: &Session| match job {
                    Job::Fetch(_) => session.content == content,
                    Job::Store(..) => server.stored(&name).is_ok_and(|stored| stored == content),
                    Job::List(_) => String::from_utf8_lossy(&session.content).contains("file.bin"),
                };
                match result {
                    Ok(session) if is_right(&session) => (),
                    Ok(session) => failures.push(format!(
                        "{client:?} {mode:?} {job:?}: another content\n{}",
                        session.transcript
                    )),
                    Err(error) => failures.push(format!("{client:?} {mode:?} {job:?}: {error:#}")),
                }
            }
        }
    }
    Ok(failures)
}
