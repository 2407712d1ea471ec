//! What really was on a wire.

use std::{fs, time::Duration};

use anyhow::{Context as _, bail, ensure};

use crate::{namespace::Namespace, process::Running, scratch::Scratch};

/// How long tcpdump may take to start and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The length of a pcap file's header, and of the header of each packet in it.
const FILE_HEADER: usize = 24;
const PACKET_HEADER: usize = 16;

/// tcpdump, running on one interface.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Running,
    scratch: Scratch,
}

impl Capture {
    /// Begins to record what passes `interface` and matches `filter` (as of pcap-filter(7)).
    ///
    /// # Errors
    ///
    /// When tcpdump does not start; the message has what it said.
    pub fn start(namespace: &Namespace, interface: &str, filter: &str) -> anyhow::Result<Self> {
        let scratch = Scratch::new()?;
        let mut tcpdump = Running::start(
            namespace
                .command("tcpdump")?
                // Write at once what comes; keep root's rights, because the folder is root's.
                .args([
                    "--immediate-mode",
                    "-U",
                    "-n",
                    "-Z",
                    "root",
                    "-i",
                    interface,
                    "-w",
                ])
                .arg(scratch.path().join("capture.pcap"))
                .arg(filter),
        )?;
        tcpdump.wait_for("listening", PATIENCE)?;
        Ok(Self { tcpdump, scratch })
    }

    /// Ends the recording and gives the frames, each from its Ethernet header on.
    ///
    /// # Errors
    ///
    /// When tcpdump does not end, or leaves no capture.
    pub fn stop(self) -> anyhow::Result<Vec<Vec<u8>>> {
        // A packet that was just sent may still be on its way to tcpdump.
        std::thread::sleep(Duration::from_millis(50));
        self.tcpdump.stop(PATIENCE)?;
        let file = fs::read(self.scratch.path().join("capture.pcap"))
            .context("tcpdump left no capture")?;
        frames(&file)
    }
}

/// The packets of a pcap file in this machine's byte order, as tcpdump writes it.
fn frames(file: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    ensure!(
        file.len() >= FILE_HEADER && file[..4] == 0xa1b2_c3d4_u32.to_ne_bytes(),
        "this is no pcap file of this machine"
    );
    let mut rest = &file[FILE_HEADER..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let length = rest
            .get(8..12)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u32::from_ne_bytes)
            .context("the capture ends within a packet's header")?;
        let end = PACKET_HEADER + length as usize;
        let Some(frame) = rest.get(PACKET_HEADER..end) else {
            bail!("the capture ends within a packet");
        };
        frames.push(frame.to_vec());
        rest = &rest[end..];
    }
    Ok(frames)
}

/// The payload of every TCP segment of `frames` from `port`, in the order in which they passed:
/// for a control connection, what the server said. Retransmissions are in it twice.
#[must_use]
pub fn tcp_payload_from(frames: &[Vec<u8>], port: u16) -> Vec<u8> {
    frames
        .iter()
        .filter_map(|frame| tcp_segment(frame))
        .filter(|segment| segment[..2] == port.to_be_bytes())
        .flat_map(|segment| segment[usize::from(segment[12] >> 4) * 4..].to_vec())
        .collect()
}

/// From the TCP header to the end of the IP packet, without the padding of short frames.
fn tcp_segment(frame: &[u8]) -> Option<&[u8]> {
    let ip = frame.get(14..)?;
    let segment = match frame.get(12..14)? {
        [0x08, 0x00] if *ip.get(9)? == 6 => {
            let total = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
            ip.get(usize::from(ip[0] & 0xf) * 4..total)?
        }
        [0x86, 0xdd] if *ip.get(6)? == 6 => {
            let payload = usize::from(u16::from_be_bytes([*ip.get(4)?, *ip.get(5)?]));
            ip.get(40..40 + payload)?
        }
        _ => return None,
    };
    let header = usize::from(*segment.get(12)? >> 4) * 4;
    (header >= 20 && segment.len() >= header).then_some(segment)
}
