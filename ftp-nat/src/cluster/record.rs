//! What gateways tell each other: records, and batches of them.
//!
//! A format of its own and not the maps' layout, so that gateways of different versions understand
//! each other. A batch is a [`Header`] and records behind it, each with its length in front; both are
//! written by postcard. Behind a record, within its length, stands how long it has waited ([`Told`]). Who does
//! not know a record's kind steps over it; further fields are only ever added at the end.

use std::net::IpAddr;

use ftp_nat_common::wire::addr::{Addr, Endpoint, Port};
use serde::{Deserialize, Serialize};

/// The version of this format.
pub const VERSION: u8 = 1;

/// An address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct End {
    /// The address.
    pub ip: IpAddr,
    /// The port; 0: any, or none yet.
    pub port: u16,
}

impl From<Endpoint> for End {
    fn from(end: Endpoint) -> Self {
        Self {
            ip: end.addr.to_ip(),
            port: end.port.number(),
        }
    }
}

impl From<End> for Endpoint {
    fn from(end: End) -> Self {
        Self::new(Addr::from(end.ip), Port::new(end.port))
    }
}

/// What stands in front of a batch's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`VERSION`].
    pub version: u8,
    /// The number of the gateway that has written it.
    pub node: u8,
    /// Grows with every start of that gateway's daemon: milliseconds since 1970.
    pub epoch: u64,
    /// The batch's number in this epoch, from 0: what is missing is noticed.
    pub number: u64,
    /// When it was written: microseconds since 1970, by that gateway's clock.
    pub time: u64,
    /// A digest of what must be the same in all configurations.
    pub config: u64,
    /// How many records follow.
    pub records: u32,
}

/// Something that a gateway tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A session, as it is now.
    Session(Box<SessionRecord>),
    /// A connection.
    Connection(ConnectionRecord),
    /// An announced connection.
    Mapping(MappingRecord),
    /// A session has ended.
    SessionEnded {
        /// Its number.
        session: u32,
    },
    /// A connection has ended; its age may be 0, where that is not known.
    ConnectionEnded(ConnectionRecord),
    /// An announced connection will not come.
    MappingEnded(MappingRecord),
    /// The writer asks a gateway to tell all that it has; 0: every gateway.
    Ask {
        /// Its number.
        node: u8,
    },
    /// The writer has told all that it has.
    AllTold {
        /// The number of the batch with which it began to.
        from: u64,
    },
    /// Which published addresses the writer has now; of many the first [`HELD`].
    Holds {
        /// In order.
        addresses: Vec<IpAddr>,
    },
    /// An operator has denied a network by command, or has ended that.
    Denied(Box<DeniedRecord>),
    /// An operator has drained a pool's server, or has ended that.
    Drained(DrainedRecord),
}

/// How many addresses [`Record::Holds`] names at most.
pub const HELD: usize = 64;

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Its number.
    pub session: u32,
    /// `ftp_nat_common::abi::role`.
    pub role: u8,
    /// The end behind the gateway.
    pub inside: End,
    /// The end outside.
    pub outside: End,
    /// The inside end as the outside sees it.
    pub public: End,
    /// Its age in milliseconds.
    pub age: u64,
    /// How often it went over to TLS.
    pub encrypted: u32,
    /// The client's direction.
    pub commands: DirectionRecord,
    /// The server's direction.
    pub replies: DirectionRecord,
}

/// One direction of a session, by TCP's numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectionRecord {
    /// The sender's initial number.
    pub isn: u32,
    /// Up to where it was read.
    pub seen: u32,
    /// Up to where it was acknowledged.
    pub acked: u32,
    /// Up to where it was sent.
    pub end: u32,
    /// Up to where it may be sent.
    pub window: u32,
    /// By how many bits its sender's windows are shifted.
    pub scale: u8,
    /// How many changes to TLS lie behind its clear text.
    pub cleared: u32,
    /// How many edits there ever were.
    pub count: u32,
    /// How many of them changed a length.
    pub adjusted: u32,
    /// By how much all of them move what follows.
    pub growth: i32,
    /// The latest edits, the oldest first.
    pub edits: Vec<EditRecord>,
}

/// A replaced piece of a direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditRecord {
    /// The piece's first sequence number.
    pub start: u32,
    /// By how much earlier edits moved it.
    pub before: i32,
    /// Its old length.
    pub old_len: u16,
    /// What it became.
    pub text: Vec<u8>,
}

/// A connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionRecord {
    /// The session that it belongs to.
    pub session: u32,
    /// `ftp_nat_common::abi::kind`.
    pub kind: u8,
    /// Whether the kernel's own NAT translates it, or nobody needs to.
    pub is_untranslated: bool,
    /// The end outside.
    pub outside: End,
    /// The public end.
    pub public: End,
    /// What the end outside is called inside; none: the same.
    pub seen: Option<End>,
    /// The end behind the gateway.
    pub inside: End,
    /// Its age in milliseconds.
    pub age: u64,
    /// How long ago its last packet came, in milliseconds.
    pub silent: u64,
}

/// An announced connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingRecord {
    /// The session that announced it.
    pub session: u32,
    /// `ftp_nat_common::abi::kind`.
    pub kind: u8,
    /// `ftp_nat_common::abi::cause`.
    pub cause: u8,
    /// Whether the server behind the gateway opens it.
    pub is_outward: bool,
    /// The end outside: with a port where `is_outward`; none: anybody.
    pub outside: Option<End>,
    /// The public end: with a port where not `is_outward`.
    pub public: End,
    /// The end behind the gateway: with a port where not `is_outward`.
    pub inside: End,
    /// How long it may still wait, in milliseconds.
    pub left: u64,
}

/// A network in the deny list, or one that was taken out of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeniedRecord {
    /// The network's first address.
    pub address: IpAddr,
    /// Its bits that count.
    pub bits: u8,
    /// The published server, by what clients dial; none: all of them.
    pub publish: Option<String>,
    /// The time of the command, in microseconds since 1970, by the clock of the gateway that got it; later
    /// than that of the decision which it replaces.
    pub time: u64,
    /// The number of that gateway.
    pub node: u8,
    /// Whether it was taken out.
    pub is_removed: bool,
    /// How long it still holds, in milliseconds; none: until it is removed.
    pub left: Option<u64>,
    /// Why, in the operator's words.
    pub why: Option<String>,
}

/// A pool's server that gets no new sessions, or gets them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainedRecord {
    /// What the pool's clients dial.
    pub public: End,
    /// The server.
    pub server: End,
    /// As [`DeniedRecord::time`].
    pub time: u64,
    /// As [`DeniedRecord::node`].
    pub node: u8,
    /// Whether it gets no new sessions.
    pub is_drained: bool,
}

/// A record in a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    /// What is told.
    pub record: Record,
    /// How long before [`Header::time`] the event was read that it tells of, in microseconds, plus one; 0: it
    /// tells of no event.
    pub waited: u32,
}

impl From<Record> for Told {
    fn from(record: Record) -> Self {
        Self { record, waited: 0 }
    }
}

/// Writes a batch.
///
/// # Errors
///
/// None that can happen: what is written has no unbounded part.
pub fn write(header: &Header, records: &[Told]) -> anyhow::Result<Vec<u8>> {
    let mut bytes = postcard::to_allocvec(header)?;
    for record in records {
        let place = bytes.len();
        bytes.extend_from_slice(&[0, 0]);
        bytes = postcard::to_extend(record, bytes)?;
        let length = u16::try_from(bytes.len() - place - 2)?;
        bytes[place..place + 2].copy_from_slice(&length.to_be_bytes());
    }
    Ok(bytes)
}

/// What a batch holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    /// What stands in front.
    pub header: Header,
    /// The records that are understood.
    pub records: Vec<Told>,
    /// How many are not.
    pub unknown: u64,
}

/// Reads a batch.
///
/// # Errors
///
/// When it is no batch, or of another version.
pub fn read(bytes: &[u8]) -> anyhow::Result<Batch> {
    let (header, mut rest) = postcard::take_from_bytes::<Header>(bytes)?;
    anyhow::ensure!(
        header.version == VERSION,
        "a batch of version {} where {VERSION} is understood",
        header.version
    );
    let mut records = Vec::new();
    let mut unknown = 0;
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        let Some((record, behind)) = behind.split_at_checked(length) else {
            anyhow::bail!("a batch that was cut off");
        };
        match postcard::take_from_bytes::<Record>(record) {
            Ok((record, behind)) => {
                let waited = postcard::take_from_bytes::<u32>(behind);
                let waited = waited.map_or(0, |(waited, _)| waited);
                records.push(Told { record, waited });
            }
            Err(_) => unknown += 1,
        }
        rest = behind;
    }
    Ok(Batch {
        header,
        records,
        unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        version: VERSION,
        node: 3,
        epoch: 1_795_852_800_000,
        number: 7,
        time: 1_795_852_800_000_000,
        config: 99,
        records: 2,
    };

    fn end(text: &str, port: u16) -> End {
        End {
            ip: text.parse().unwrap(),
            port,
        }
    }

    fn connection() -> ConnectionRecord {
        ConnectionRecord {
            session: 0x0400_0001,
            kind: 2,
            is_untranslated: false,
            outside: end("192.0.2.9", 40000),
            public: end("198.51.100.1", 50001),
            seen: None,
            inside: end("10.0.0.5", 50000),
            age: 1500,
            silent: 3,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let records = vec![
            Record::Connection(connection()),
            Record::Session(Box::new(SessionRecord {
                session: 5,
                role: 1,
                inside: end("fd00::5", 21),
                outside: end("2001:db8::9", 40000),
                public: end("2001:db8::1", 21),
                age: 0,
                encrypted: 0,
                commands: DirectionRecord::default(),
                replies: DirectionRecord {
                    edits: vec![EditRecord {
                        start: 100,
                        before: 0,
                        old_len: 20,
                        text: b"198,51,100,1,195,81".to_vec(),
                    }],
                    ..DirectionRecord::default()
                },
            })),
            Record::Ask { node: 0 },
            Record::AllTold { from: 4 },
        ];
        let waited = [300, 0, 1, u32::MAX];
        let records = records.into_iter().zip(waited);
        let records = records.map(|(record, waited)| Told { record, waited });
        let records: Vec<_> = records.collect();
        let bytes = write(&HEADER, &records).unwrap();
        let batch = read(&bytes).unwrap();
        assert_eq!((batch.header, batch.unknown), (HEADER, 0));
        assert_eq!(batch.records, records);
    }

    #[test]
    fn a_connection_takes_less_than_fifty_bytes() {
        let record = postcard::to_allocvec(&Record::Connection(connection())).unwrap();
        assert!(record.len() < 50, "{}", record.len());
    }

    #[test]
    fn what_is_not_known_is_stepped_over() {
        let mut bytes = write(&HEADER, &[Record::AllTold { from: 4 }.into()]).unwrap();
        bytes.extend_from_slice(&[0, 3, 99, 1, 2]);
        bytes.extend(
            &write(&HEADER, &[Record::Ask { node: 1 }.into()]).unwrap()
                [postcard::to_allocvec(&HEADER).unwrap().len()..],
        );
        let batch = read(&bytes).unwrap();
        assert_eq!(batch.unknown, 1);
        assert_eq!(
            batch.records,
            [Record::AllTold { from: 4 }, Record::Ask { node: 1 }].map(Told::from)
        );
    }

    #[test]
    fn a_record_may_have_more_or_less_behind_it() {
        let record = Record::Ask { node: 1 };
        for (behind, waited) in [(&[][..], 0), (&[7], 7), (&[7, 9, 9], 7)] {
            let mut bytes = write(&HEADER, &[]).unwrap();
            let record = [&postcard::to_allocvec(&record).unwrap(), behind].concat();
            bytes.extend([0, record.len() as u8]);
            bytes.extend(record);
            let batch = read(&bytes).unwrap();
            assert_eq!(batch.records[0].waited, waited, "{behind:?}");
            assert_eq!(batch.unknown, 0);
        }
    }

    #[test]
    fn what_is_cut_off_or_of_another_version_is_refused() {
        let bytes = write(&HEADER, &[Record::Connection(connection()).into()]).unwrap();
        for length in 0..bytes.len() {
            let header = postcard::to_allocvec(&HEADER).unwrap().len();
            if length != header && length != header + 1 {
                assert!(read(&bytes[..length]).is_err(), "{length}");
            }
        }
        let other = Header {
            version: 2,
            ..HEADER
        };
        assert!(read(&write(&other, &[]).unwrap()).is_err());
    }
}
