//! Other programs: run to their end within a limit, or kept running behind a guard.

use std::{
    io::{self, BufRead as _, BufReader, Read},
    os::{fd::AsFd, unix::process::CommandExt as _},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    process::{Pid, Signal, kill_process, kill_process_group},
};

/// What a program that was run to its end left.
#[derive(Debug)]
pub struct Outcome {
    /// The program, for messages.
    pub program: String,
    /// How it ended; `None` when it was killed because its time was up.
    pub status: Option<ExitStatus>,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its error output.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Outcome {
    /// Whether it ended by itself, with exit code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// Its standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The outcome of a program that had to succeed.
    ///
    /// # Errors
    ///
    /// When it did not; the message has all that it said.
    pub fn expect_success(self) -> anyhow::Result<Self> {
        if self.success() {
            return Ok(self);
        }
        bail!(
            "{} {} after {:.1} s\n{}{}",
            self.program,
            self.status
                .map_or_else(|| "was stopped".to_owned(), |s| format!("ended with {s}")),
            self.took.as_secs_f32(),
            self.stderr,
            self.text()
        )
    }
}

/// Runs `command` to its end, or kills it, with all that it started, when `limit` has passed.
///
/// # Errors
///
/// When it cannot be started. How it ends is the outcome's matter.
pub fn run(command: &mut Command, limit: Duration) -> anyhow::Result<Outcome> {
    let program = command.get_program().display().to_string();
    let start = Instant::now();
    let mut child = command
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{program}`: is its package installed?"))?;
    let (mut stdout, mut stderr) = (
        Output::of(child.stdout.take())?,
        Output::of(child.stderr.take())?,
    );
    let mut ended: Option<(Option<ExitStatus>, Instant)> = None;
    loop {
        if ended.is_none() {
            ended = child.try_wait()?.map(|it| (Some(it), Instant::now()));
        }
        if ended.is_none() && start.elapsed() > limit {
            kill_group(&child, Signal::KILL);
            child.wait()?;
            ended = Some((None, Instant::now()));
        }
        // Once it has ended, all that it has said is there to be read, however late that is done.
        let said = [stdout.read()?, stderr.read()?];
        if said.contains(&Progress::More) {
            continue;
        }
        match ended {
            Some(_) if said == [Progress::End; 2] => break,
            // A grandchild that left the group may hold a pipe for ever.
            Some((_, at)) if at.elapsed() > REST => break,
            _ => thread::sleep(LOOK),
        }
    }
    Ok(Outcome {
        program,
        status: ended.and_then(|(status, _)| status),
        stdout: stdout.said,
        stderr: String::from_utf8_lossy(&stderr.said).into_owned(),
        took: start.elapsed(),
    })
}

/// How often a program is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// How long what a program has started may still say something when it has ended.
const REST: Duration = Duration::from_secs(1);

/// What a program writes to a pipe.
struct Output<Pipe> {
    pipe: Option<Pipe>,
    said: Vec<u8>,
}

/// What came of reading from a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Something was read, and there may be more.
    More,
    /// It is empty.
    Nothing,
    /// Nobody can write to it any more.
    End,
}

impl<Pipe: Read + AsFd> Output<Pipe> {
    fn of(pipe: Option<Pipe>) -> anyhow::Result<Self> {
        if let Some(pipe) = &pipe {
            let flags = fcntl_getfl(pipe)?;
            fcntl_setfl(pipe, flags | OFlags::NONBLOCK)?;
        }
        Ok(Self {
            pipe,
            said: Vec::new(),
        })
    }

    /// Reads what is there, a buffer full at most, and waits for nothing.
    fn read(&mut self) -> io::Result<Progress> {
        let Some(pipe) = &mut self.pipe else {
            return Ok(Progress::End);
        };
        let mut buffer = [0; 65536];
        match pipe.read(&mut buffer) {
            Ok(0) => {
                self.pipe = None;
                Ok(Progress::End)
            }
            Ok(length) => {
                self.said.extend_from_slice(&buffer[..length]);
                Ok(Progress::More)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Progress::Nothing),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Progress::More),
            Err(error) => Err(error),
        }
    }
}

/// Waits until `child` ends; `None` when `limit` passes first.
fn wait(child: &mut Child, limit: Duration) -> anyhow::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > limit {
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
}

fn kill_group(child: &Child, signal: Signal) {
    // Not being there any more is what is wanted.
    let _ = kill_process_group(Pid::from_child(child), signal);
}

/// A program in the background. Its lines are kept, and it ends, with all that it started, when
/// this value is dropped.
#[derive(Debug)]
pub struct Running {
    program: String,
    child: Child,
    log: Arc<Log>,
}

/// What a program has said so far.
#[derive(Debug, Default)]
struct Log {
    said: Mutex<Said>,
    grew: Condvar,
}

#[derive(Debug, Default)]
struct Said {
    text: String,
    /// Streams that may still say something.
    open: usize,
}

impl Log {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// Starts `command`.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        let program = command.get_program().display().to_string();
        let mut child = command
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{program}`: is its package installed?"))?;
        let log = Arc::<Log>::default();
        keep_lines(child.stdout.take(), &log);
        keep_lines(child.stderr.take(), &log);
        Ok(Self {
            program,
            child,
            log,
        })
    }

    /// Everything it has said so far, both streams.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.said().text.clone()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has said `word`, as a word of its own ("already" is not "ready").
    ///
    /// # Errors
    ///
    /// When it ends before, or `limit` passes; the message has what it said instead.
    pub fn wait_for(&mut self, word: &str, limit: Duration) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let said = self.log.said();
            if said
                .text
                .split(|c: char| !c.is_alphanumeric())
                .any(|said| said == word)
            {
                return Ok(());
            }
            // Its last words count: only when both streams are closed has it said all.
            if said.open == 0
                && let Some(status) = self.child.try_wait()?
            {
                bail!(
                    "{} ended with {status} before it said \"{word}\":\n{}",
                    self.program,
                    said.text
                );
            }
            if start.elapsed() > limit {
                bail!(
                    "{} did not say \"{word}\" within {limit:?}:\n{}",
                    self.program,
                    said.text
                );
            }
            drop(self.log.grew.wait_timeout(said, Duration::from_millis(50)));
        }
    }

    /// Whether it still runs.
    ///
    /// # Errors
    ///
    /// When the kernel does not say.
    pub fn is_alive(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Sends it a signal: to the program itself, not to what it started.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("cannot send a signal to {}", self.program))
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Errors
    ///
    /// When it does not within `limit`; it is killed then.
    pub fn stop(mut self, limit: Duration) -> anyhow::Result<(ExitStatus, String)> {
        kill_group(&self.child, Signal::TERM);
        let Some(status) = wait(&mut self.child, limit)? else {
            bail!(
                "{} did not end within {limit:?} of SIGTERM:\n{}",
                self.program,
                self.log()
            );
        };
        Ok((status, self.log()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.child.try_wait() {
            return;
        }
        kill_group(&self.child, Signal::TERM);
        if let Ok(None) = wait(&mut self.child, Duration::from_secs(2)) {
            kill_group(&self.child, Signal::KILL);
        }
        drop(self.child.wait());
    }
}

/// Appends the lines of `stream` to `log` on a thread of its own.
fn keep_lines(stream: Option<impl Read + Send + 'static>, log: &Arc<Log>) {
    let Some(stream) = stream else { return };
    let log = Arc::clone(log);
    log.said().open += 1;
    thread::spawn(move || {
        let mut lines = BufReader::new(stream);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            log.said().text.push_str(&String::from_utf8_lossy(&line));
            log.grew.notify_all();
            line.clear();
        }
        log.said().open -= 1;
        log.grew.notify_all();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn an_outcome_has_both_streams_and_the_exit_code() {
        let outcome = run(
            &mut shell("echo out; echo err >&2; exit 3"),
            Duration::from_secs(5),
        )
        .unwrap();
        assert_eq!(outcome.text(), "out\n");
        assert_eq!(outcome.stderr, "err\n");
        assert_eq!(outcome.status.unwrap().code(), Some(3));
        assert!(!outcome.success());
        assert!(outcome.expect_success().is_err());
    }

    #[test]
    fn a_program_that_hangs_is_stopped_with_its_children() {
        let outcome = run(
            &mut shell("echo started; sleep 60 & sleep 60"),
            Duration::from_millis(300),
        )
        .unwrap();
        assert!(outcome.status.is_none());
        assert_eq!(outcome.text(), "started\n");
        assert!(outcome.took < Duration::from_secs(10));
    }

    #[test]
    fn a_long_answer_is_whole_and_an_endless_one_is_stopped() {
        let outcome = run(
            &mut shell("head -c 3000000 /dev/zero"),
            Duration::from_secs(60),
        );
        assert_eq!(outcome.unwrap().stdout.len(), 3_000_000);
        let outcome = run(&mut shell("yes"), Duration::from_millis(300)).unwrap();
        assert!(outcome.status.is_none());
        assert!(outcome.took < Duration::from_secs(30));
    }

    #[test]
    fn a_grandchild_that_holds_the_pipe_keeps_nobody_waiting() {
        let outcome = run(
            &mut shell("echo said; setsid sleep 20 &"),
            Duration::from_secs(60),
        )
        .unwrap();
        assert!(outcome.success());
        assert_eq!(outcome.text(), "said\n");
        assert!(outcome.took < Duration::from_secs(15));
    }

    #[test]
    fn a_running_program_can_be_waited_for_and_stopped() {
        let mut running =
            Running::start(&mut shell("echo already; echo now: ready; sleep 60")).unwrap();
        running.wait_for("ready", Duration::from_secs(5)).unwrap();
        assert!(running.is_alive().unwrap());
        let (status, log) = running.stop(Duration::from_secs(5)).unwrap();
        assert!(!status.success());
        assert_eq!(log, "already\nnow: ready\n");
    }

    #[test]
    fn waiting_ends_when_the_program_does() {
        let mut running = Running::start(&mut shell("echo already other")).unwrap();
        let error = running
            .wait_for("ready", Duration::from_secs(5))
            .unwrap_err();
        assert!(error.to_string().contains("other"), "{error}");
    }
}
