//! The control connection: a command, its reply, and all that may go wrong between them.

use std::{
    fmt,
    io::{self, Read as _, Write as _},
};

use super::{
    limits::Limits,
    reply::{Progress, Reader, Reply, printable},
    story::Story,
    stream::Stream,
};

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The other end closed the connection.
    Closed,
    /// The connection was reset.
    Reset,
    /// Nothing, or nothing whole, came in time; what there was.
    TimedOut(Option<String>),
    /// It went on and on.
    Endless,
    /// Something else.
    Failed(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection was closed"),
            Self::Reset => f.write_str("the connection was reset"),
            Self::TimedOut(None) => f.write_str("no answer in time"),
            Self::TimedOut(Some(part)) => {
                let part: String = part.chars().take(60).collect();
                write!(f, "no whole answer in time, only {part:?}")
            }
            Self::Endless => f.write_str("an answer without an end"),
            Self::Failed(error) => f.write_str(error),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::TimedOut(None),
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => Self::Reset,
            io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// A control connection.
#[derive(Debug)]
pub struct Control<'s> {
    stream: Stream,
    /// What has come and was not read yet, and how far it was read.
    buffer: Vec<u8>,
    read: usize,
    limits: Limits,
    story: &'s Story,
}

impl<'s> Control<'s> {
    /// Takes over a connection.
    #[must_use]
    pub fn new(stream: Stream, limits: Limits, story: &'s Story) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            read: 0,
            limits,
            story,
        }
    }

    /// Sends a command and waits for its reply.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn command(&mut self, line: &str) -> Result<Reply, Trouble> {
        self.send(line, line)?;
        self.reply()
    }

    /// Sends a command whose argument nobody may see.
    ///
    /// # Errors
    ///
    /// As [`Self::command`].
    pub fn secret(&mut self, verb: &str, argument: &str) -> Result<Reply, Trouble> {
        self.send(&format!("{verb} {argument}"), &format!("{verb} ****"))?;
        self.reply()
    }

    /// Sends a command; `shown` is what the story says about it.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub fn send(&mut self, line: &str, shown: &str) -> Result<(), Trouble> {
        self.story.said("client", shown);
        self.stream.until(self.limits.deadline());
        self.stream.write_all(format!("{line}\r\n").as_bytes())?;
        self.stream.flush()?;
        Ok(())
    }

    /// Waits for a reply.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn reply(&mut self) -> Result<Reply, Trouble> {
        self.stream.until(self.limits.deadline());
        let mut reader = Reader::default();
        loop {
            while let Some(byte) = self.buffer.get(self.read).copied() {
                self.read += 1;
                match reader.feed(byte) {
                    Progress::More => {}
                    Progress::Endless => return Err(Trouble::Endless),
                    Progress::Whole => {
                        let reply = reader.into_reply();
                        for line in &reply.lines {
                            self.story.said("server", line);
                        }
                        return Ok(reply);
                    }
                }
            }
            self.buffer.resize(4096, 0);
            self.read = 0;
            match self.stream.read(&mut self.buffer) {
                Ok(0) => {
                    self.buffer.clear();
                    return Err(Trouble::Closed);
                }
                Ok(count) => self.buffer.truncate(count),
                Err(error) => {
                    self.buffer.clear();
                    return Err(match error.into() {
                        Trouble::TimedOut(_) => Trouble::TimedOut(reader.unfinished()),
                        other => other,
                    });
                }
            }
        }
    }

    /// What the other end said unasked, which a reply before an encryption must not be followed by.
    #[must_use]
    pub fn unread(&self) -> Option<String> {
        let rest = &self.buffer[self.read.min(self.buffer.len())..];
        (!rest.is_empty()).then(|| printable(rest))
    }

    /// The connection itself, for encrypting it.
    #[must_use]
    pub fn into_stream(self) -> Stream {
        self.stream
    }

    /// Says goodbye and does not wait for an answer.
    pub fn quit(mut self) {
        drop(self.send("QUIT", "QUIT"));
    }
}
