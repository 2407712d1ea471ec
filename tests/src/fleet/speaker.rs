//! Somebody who writes to the engine as a gateway does: what other gateways make of that is tested with it.
//!
//! The records' format is written here once more, by hand, from `ftp-nat/src/cluster/record.rs`: postcard
//! has numbers in groups of seven bits, the lowest first, and signed ones zigzag; an enumeration's variant
//! and a sequence's length are numbers too.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};

use super::{ENGINE, Fleet};

/// How long the engine may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of a record.
#[derive(Clone, Debug, Default)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    /// Adds a byte as it is.
    #[must_use]
    pub fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    /// Adds a number.
    #[must_use]
    pub fn number(mut self, mut number: u64) -> Self {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
        self
    }

    /// Adds an address and a port.
    #[must_use]
    pub fn end(self, end: SocketAddr) -> Self {
        let mut this = match end.ip() {
            IpAddr::V4(ip) => {
                let mut this = self.byte(0);
                this.0.extend(ip.octets());
                this
            }
            IpAddr::V6(ip) => {
                let mut this = self.byte(1);
                this.0.extend(ip.octets());
                this
            }
        };
        this = this.number(end.port().into());
        this
    }

    /// Adds one that may be missing.
    #[must_use]
    pub fn maybe_end(self, end: Option<SocketAddr>) -> Self {
        match end {
            None => self.byte(0),
            Some(end) => self.byte(1).end(end),
        }
    }
}

/// A session's record, of which both directions were read up to number `seen`.
#[derive(Clone, Copy, Debug)]
pub struct SessionRecord {
    /// Its number.
    pub session: u32,
    /// 1: of a published server; 2: of a masqueraded client.
    pub role: u8,
    /// The end behind the gateway.
    pub inside: SocketAddr,
    /// The end outside.
    pub outside: SocketAddr,
    /// The public end.
    pub public: SocketAddr,
    /// The number of the next byte of both directions.
    pub seen: u32,
}

impl SessionRecord {
    /// As it is written.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        let direction = |bytes: Bytes| {
            let numbers = [self.seen, self.seen, self.seen, self.seen].map(u64::from);
            let bytes = bytes.number(self.seen.wrapping_sub(1).into());
            let bytes = numbers.into_iter().fold(bytes, Bytes::number);
            // Scale; cleared, count, adjusted, growth; no edits.
            (0..5).fold(bytes.byte(0), |bytes, _| bytes.number(0))
        };
        let bytes = Bytes::default()
            .byte(0)
            .number(self.session.into())
            .byte(self.role)
            .end(self.inside)
            .end(self.outside)
            .end(self.public)
            .number(1000)
            .number(0);
        direction(direction(bytes))
    }
}

/// A connection's record.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionRecord {
    /// Its session.
    pub session: u32,
    /// 1: control, 2: passive, 3: active.
    pub kind: u8,
    /// Whether nothing is translated.
    pub is_untranslated: bool,
    /// The end outside.
    pub outside: SocketAddr,
    /// The public end.
    pub public: SocketAddr,
    /// What the end outside is called inside.
    pub seen: Option<SocketAddr>,
    /// The end behind the gateway.
    pub inside: SocketAddr,
}

impl ConnectionRecord {
    /// As it is written.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        Bytes::default()
            .byte(1)
            .number(self.session.into())
            .byte(self.kind)
            .byte(self.is_untranslated.into())
            .end(self.outside)
            .end(self.public)
            .maybe_end(self.seen)
            .end(self.inside)
            .number(1000)
            .number(0)
    }
}

impl ConnectionRecord {
    /// That it has ended.
    #[must_use]
    pub fn ended(&self) -> Bytes {
        let mut bytes = self.bytes();
        bytes.0[0] = 4;
        bytes
    }
}

/// An announced connection's record.
#[derive(Clone, Copy, Debug)]
pub struct MappingRecord {
    /// Its session.
    pub session: u32,
    /// 2: passive, 3: active.
    pub kind: u8,
    /// Whether the server opens it.
    pub is_outward: bool,
    /// The end outside; none: anybody.
    pub outside: Option<SocketAddr>,
    /// The public end.
    pub public: SocketAddr,
    /// The end behind the gateway.
    pub inside: SocketAddr,
}

impl MappingRecord {
    /// As it is written.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        Bytes::default()
            .byte(2)
            .number(self.session.into())
            .byte(self.kind)
            .byte(1)
            .byte(self.is_outward.into())
            .maybe_end(self.outside)
            .end(self.public)
            .end(self.inside)
            .number(60_000)
    }
}

/// A decision of an operator about a network of the deny list.
#[derive(Clone, Debug)]
pub struct DeniedRecord {
    /// The network's address.
    pub address: IpAddr,
    /// Its bits.
    pub bits: u8,
    /// The published server; none: all.
    pub publish: Option<String>,
    /// When, in microseconds since 1970.
    pub time: u64,
    /// At which gateway.
    pub node: u8,
    /// Whether it is taken out.
    pub is_removed: bool,
    /// How long it holds, in milliseconds.
    pub left: Option<u64>,
    /// Why.
    pub why: Option<String>,
}

impl DeniedRecord {
    /// As it is written.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        let text = |bytes: Bytes, text: &Option<String>| match text {
            None => bytes.byte(0),
            Some(text) => {
                let mut bytes = bytes.byte(1).number(text.len() as u64);
                bytes.0.extend(text.bytes());
                bytes
            }
        };
        // An end without its port.
        let mut bytes = Bytes::default().byte(9).end((self.address, 0).into());
        bytes.0.pop();
        let bytes = text(bytes.byte(self.bits), &self.publish)
            .number(self.time)
            .byte(self.node)
            .byte(self.is_removed.into());
        let bytes = match self.left {
            None => bytes.byte(0),
            Some(left) => bytes.byte(1).number(left),
        };
        text(bytes, &self.why)
    }
}

/// That all was told.
#[must_use]
pub fn all_told() -> Bytes {
    Bytes::default().byte(7).number(0)
}

/// Who writes.
#[derive(Debug)]
pub struct Speaker {
    stream: BufReader<TcpStream>,
    node: u8,
    epoch: u64,
    number: u64,
    /// By how many microseconds its clock is ahead.
    ahead: u64,
}

impl Speaker {
    /// Writes from now on under this number of a gateway.
    ///
    /// # Errors
    ///
    /// When the engine does not take the connection.
    pub fn join(fleet: &Fleet, node: u8) -> anyhow::Result<Self> {
        let stream = fleet.switch.run(|| {
            let stream = TcpStream::connect(format!("{ENGINE}:6379"))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(stream)
        })?;
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
        Ok(Self {
            stream: BufReader::new(stream),
            node,
            epoch,
            number: 0,
            ahead: 0,
        })
    }

    /// From now on its clock is ahead by so much.
    pub fn set_clock_ahead(&mut self, ahead: Duration) {
        self.ahead = ahead.as_micros() as u64;
    }

    /// Tells these records, in one batch.
    ///
    /// # Errors
    ///
    /// When the engine does not take it.
    pub fn tell(&mut self, records: &[Bytes]) -> anyhow::Result<()> {
        self.tell_after(records, 0)
    }

    /// The same as of events of this moment: their delay counts at the other gateways.
    ///
    /// # Errors
    ///
    /// As [`Self::tell`].
    pub fn tell_of_events(&mut self, records: &[Bytes]) -> anyhow::Result<()> {
        self.tell_after(records, 1)
    }

    fn tell_after(&mut self, records: &[Bytes], waited: u8) -> anyhow::Result<()> {
        let time = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let micros = time.as_micros() as u64 + self.ahead;
        // Version, node, epoch, number, time, the configuration's digest, records.
        let mut batch = Bytes::default().byte(1).byte(self.node);
        let count = records.len() as u64;
        for number in [self.epoch, self.number, micros, 7, count] {
            batch = batch.number(number);
        }
        self.number += 1;
        let mut batch = batch.0;
        for record in records {
            batch.extend(u16::try_from(record.0.len() + 1)?.to_be_bytes());
            batch.extend(&record.0);
            batch.push(waited);
        }
        self.write(&batch)
    }

    /// Writes a batch as it is.
    ///
    /// # Errors
    ///
    /// When the engine does not take it.
    pub fn write(&mut self, batch: &[u8]) -> anyhow::Result<()> {
        let key = format!("ftpnat:{{lab}}:{}", self.node);
        let words = [b"XADD", key.as_bytes(), b"*", b"b", batch];
        let mut text = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            text.extend(format!("${}\r\n", word.len()).bytes());
            text.extend(word);
            text.extend(b"\r\n");
        }
        self.stream.get_mut().write_all(&text)?;
        let mut answer = String::new();
        self.stream.read_line(&mut answer)?;
        ensure!(answer.starts_with('$'), "the engine says {answer}");
        answer.clear();
        self.stream
            .read_line(&mut answer)
            .context("the entry's number")?;
        Ok(())
    }
}
