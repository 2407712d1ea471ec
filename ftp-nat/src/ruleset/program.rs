//! What other programs say, within a limit.

use std::{
    io,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

/// How long another program may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where programs of administrators are, for a PATH without them.
const ADMIN_PATHS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// What a program prints; none when it is not installed.
///
/// # Errors
///
/// When it fails, or takes too long.
pub(super) fn output(program: &str, arguments: &[&str]) -> anyhow::Result<Option<String>> {
    let mut child = None;
    let places = [program.to_owned()]
        .into_iter()
        .chain(ADMIN_PATHS.map(|folder| format!("{folder}/{program}")));
    for place in places {
        let started = Command::new(&place)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        match started {
            Ok(running) => {
                child = Some(running);
                break;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot start {place}")),
        }
    }
    let Some(mut child) = child else {
        return Ok(None);
    };
    let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            bail!("{program} did not answer within {} s", PATIENCE.as_secs());
        }
        thread::sleep(Duration::from_millis(5));
    };
    let text = |thread: thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&thread.join().unwrap_or_default()).into_owned()
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    if !status.success() {
        bail!("{program} failed: {}", stderr.trim());
    }
    Ok(Some(stdout))
}

fn collect(stream: Option<impl io::Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // What came before an error is still worth having.
            drop(stream.read_to_end(&mut bytes));
        }
        bytes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_asked_or_missing_or_wrong() {
        assert_eq!(output("echo", &["a"]).unwrap().as_deref(), Some("a\n"));
        assert_eq!(output("no-such-program", &[]).unwrap(), None);
        let error = output("sh", &["-c", "echo why >&2; exit 3"]).unwrap_err();
        assert!(error.to_string().contains("why"), "{error}");
    }
}
