//! Reading capture files, pcap and pcapng, packet by packet.

use std::{fs::File, path::Path};

use anyhow::{Context as _, anyhow, bail};
use pcap_parser::{
    Block, Linktype, PcapBlockOwned, PcapError, create_reader, traits::PcapReaderIterator,
};

/// A packet of a capture.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'a> {
    /// When, in nanoseconds since 1970, as the capturing machine's clock had it.
    pub time: u64,
    /// What its bytes begin with.
    pub link: Linktype,
    /// Its bytes, as many as were kept.
    pub data: &'a [u8],
}

/// Room for one block of the file; it grows up to [`LONGEST`].
const BUFFER: usize = 1 << 18;
/// No block is longer in any file that is not broken: a packet of 64 KiB, GRO'd ones of more.
const LONGEST: usize = 1 << 26;

/// An interface of a pcapng section.
struct Interface {
    link: Linktype,
    /// Ticks a second, and the clock's start in seconds.
    resolution: u64,
    offset: i64,
    /// Bytes that are kept of a packet at most; 0: all.
    snaplen: u32,
}

/// Shows every packet of the file to `see`, which says from which layer on it could not.
///
/// # Errors
///
/// When it is not a capture, cannot be read, or ends within a packet: what came before that was
/// seen.
pub fn read(path: &Path, mut see: impl FnMut(Captured<'_>)) -> anyhow::Result<()> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
    let what = file
        .metadata()
        .with_context(|| format!("cannot read {name}"))?;
    if what.is_dir() {
        bail!("{name} is a folder, not a capture file");
    }
    let mut reader = match create_reader(BUFFER, file) {
        Ok(reader) => reader,
        Err(PcapError::Eof) => bail!("{name} is empty"),
        Err(PcapError::Incomplete(_) | PcapError::UnexpectedEof) => {
            bail!("{name} ends within its header")
        }
        Err(PcapError::ReadError) => bail!("cannot read {name}"),
        Err(_) => bail!(
            "{name} is not a capture: it begins as neither pcap nor pcapng does (tcpdump -w and \
             Wireshark write both)"
        ),
    };
    let mut section = Section::default();
    let mut packets: u64 = 0;
    loop {
        let capacity_needed = match reader.next() {
            Ok((len, block)) => {
                packets += u64::from(
                    section
                        .see(&block, &mut see)
                        .with_context(|| format!("{name} is broken behind packet {packets}"))?,
                );
                reader.consume(len);
                continue;
            }
            Err(PcapError::Eof) => return Ok(()),
            Err(PcapError::Incomplete(_)) => 0,
            Err(PcapError::BufferTooSmall) => reader.data().len() * 2,
            Err(PcapError::UnexpectedEof) => {
                return Err(anyhow!(
                    "{name} ends within a packet, behind packet {packets}: it was cut off"
                ));
            }
            Err(PcapError::ReadError) => bail!("cannot read {name} behind packet {packets}"),
            Err(_) => bail!("{name} is broken behind packet {packets}"),
        };
        refill(reader.as_mut(), capacity_needed)
            .with_context(|| format!("{name} is broken behind packet {packets}"))?;
    }
}

/// Reads on; where the buffer is full, into a larger one.
fn refill(reader: &mut dyn PcapReaderIterator, capacity_needed: usize) -> anyhow::Result<()> {
    if capacity_needed > 0 {
        let size = capacity_needed.max(2 * BUFFER);
        if size > LONGEST || !reader.grow(size) {
            bail!("a block claims to be longer than {LONGEST} bytes");
        }
    }
    reader.refill().map_err(|_| anyhow!("it cannot be read"))
}

/// What the blocks before tell about those that follow.
#[derive(Default)]
struct Section {
    interfaces: Vec<Interface>,
}

impl Section {
    /// Whether the block was a packet.
    fn see(
        &mut self,
        block: &PcapBlockOwned<'_>,
        see: &mut impl FnMut(Captured<'_>),
    ) -> anyhow::Result<bool> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                let resolution = if header.is_nanosecond_precision() {
                    1_000_000_000
                } else {
                    1_000_000
                };
                self.interfaces = vec![Interface {
                    link: header.network,
                    resolution,
                    offset: 0,
                    snaplen: 0,
                }];
                return Ok(false);
            }
            PcapBlockOwned::NG(Block::SectionHeader(_)) => {
                self.interfaces.clear();
                return Ok(false);
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(it)) => {
                self.interfaces.push(Interface {
                    link: it.linktype,
                    resolution: it.ts_resolution().unwrap_or(1_000_000).max(1),
                    offset: it.ts_offset(),
                    snaplen: it.snaplen,
                });
                return Ok(false);
            }
            PcapBlockOwned::Legacy(packet) => {
                let interface = self.interface(0)?;
                let nanoseconds =
                    u64::from(packet.ts_usec) * (1_000_000_000 / interface.resolution);
                see(Captured {
                    time: u64::from(packet.ts_sec) * 1_000_000_000 + nanoseconds,
                    link: interface.link,
                    data: &packet.data[..packet.data.len().min(packet.caplen as usize)],
                });
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                let interface = self.interface(packet.if_id)?;
                let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                let time = u128::from(ticks) * 1_000_000_000 / u128::from(interface.resolution);
                let offset = interface.offset.saturating_mul(1_000_000_000);
                see(Captured {
                    time: (time as u64).saturating_add_signed(offset),
                    link: interface.link,
                    data: &packet.data[..packet.data.len().min(packet.caplen as usize)],
                });
            }
            PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
                let interface = self.interface(0)?;
                let mut len = packet.data.len().min(packet.origlen as usize);
                if interface.snaplen > 0 {
                    len = len.min(interface.snaplen as usize);
                }
                see(Captured {
                    time: 0,
                    link: interface.link,
                    data: &packet.data[..len],
                });
            }
            PcapBlockOwned::NG(_) => return Ok(false),
        }
        Ok(true)
    }

    fn interface(&self, number: u32) -> anyhow::Result<&Interface> {
        self.interfaces
            .get(number as usize)
            .with_context(|| format!("a packet of interface {number}, which it does not describe"))
    }
}
