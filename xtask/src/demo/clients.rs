//! Real clients fetch, store and list; what arrives is compared by its SHA-256.

use std::path::Path;

use anyhow::{Context as _, ensure};
use ftp_nat_tests::{
    client::{Client, Job, Mode, Session},
    lab::Lab,
    scratch::Scratch,
    server::FtpServer,
};

use super::{report, scene::PUBLIC};
use crate::command::{output, program};

/// Enough for some thousand packets in each direction.
const SIZE: usize = 20 << 20;

/// Every client by PASV and EPSV.
pub(super) fn run_all(lab: &Lab, server: &FtpServer) -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let content = content();
    server.offer("large.bin", &content)?;
    let local = scratch.write("local.bin", &content)?;
    let wanted = sha256(&local)?;
    report::line("file", &format!("{} MiB, SHA-256 {wanted}", SIZE >> 20));

    for mode in [Mode::Pasv, Mode::Epsv] {
        // The others cannot do everything; the tests have them.
        for client in [Client::Curl, Client::Ftplib, Client::Lftp] {
            let said_before = announced(server, mode).len();
            let perform = |job| {
                client
                    .perform(lab.client(), &server.target_at(PUBLIC), mode, job)
                    .and_then(Session::expect_success)
                    .with_context(|| format!("{client:?}, {mode:?}, {job:?}"))
            };
            let fetched = perform(Job::Fetch("/download/large.bin"))?;
            report::line(
                "client",
                &format!("{client:?} fetches, stores and lists by {mode:?}"),
            );
            report::announcements(
                &announced(server, mode)[said_before..],
                fetched.replies(code(mode)),
            );
            let name = format!("{client:?}-{mode:?}.bin");
            let path = format!("/upload/{name}");
            let stored = perform(Job::Store(&local, &path))?;
            let listing = perform(Job::List("/upload"))?;

            for (what, bytes, session) in [
                ("fetched", fetched.content.clone(), &fetched),
                ("stored", server.stored(&name)?, &stored),
            ] {
                let sum = sha256(&scratch.write("arrived.bin", bytes)?)?;
                let seconds = session.outcome.took.as_secs_f32();
                report::line(what, &format!("SHA-256 {sum}, {seconds:.2} s"));
                ensure!(
                    sum == wanted,
                    "what {client:?} {what} by {mode:?} is damaged"
                );
            }
            let listing = String::from_utf8_lossy(&listing.content).into_owned();
            let entry = listing.lines().find(|line| line.contains(&name));
            report::line(
                "listed",
                entry.context("the stored file is not in the listing")?,
            );
        }
    }
    Ok(())
}

/// The answer to the command of `mode`.
fn code(mode: Mode) -> &'static str {
    match mode {
        Mode::Epsv => "229",
        _ => "227",
    }
}

fn announced(server: &FtpServer, mode: Mode) -> Vec<String> {
    server.replies(code(mode))
}

/// Bytes without a period that a lost or repeated segment could hide in.
fn content() -> Vec<u8> {
    let mut state = 1_u32;
    (0..SIZE)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

fn sha256(file: &Path) -> anyhow::Result<String> {
    let sum = output(program("sha256sum").arg(file))?;
    Ok(sum.split_whitespace().next().unwrap_or_default().to_owned())
}
