//! A TCP client made of single segments, at an address that its host's own stack does not know: it
//! does what it likes, when it likes.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::{
    segment::{ACK, PSH, SYN, Segment},
    wire::{Wire, packet_socket},
};
use crate::{
    lab::{HOST_INTERFACE, Host, Lab},
    link::ifindex,
};

/// Bytes that may wait to be received (`net.core.rmem_max` limits them).
const RECEIVE_BUFFER: usize = 32 << 20;

/// A segment that came.
#[derive(Clone, Debug)]
pub struct Received {
    /// TCP's flags.
    pub flags: u8,
    /// Its sequence number.
    pub seq: u32,
    /// Its acknowledgement number.
    pub ack: u32,
    /// Its text.
    pub payload: Vec<u8>,
}

/// One end of a connection, over IPv4.
#[derive(Debug)]
pub struct RawClient {
    wire: Wire,
    receives: OwnedFd,
    /// Its own end.
    pub own: SocketAddr,
    /// The other end.
    pub other: SocketAddr,
    /// The number of its next byte.
    pub seq: u32,
    /// The number that it waits for.
    pub ack: u32,
}

impl RawClient {
    /// A client that has sent nothing yet. The router must send packets for `own`'s address to
    /// `host`, which must not have that address.
    ///
    /// # Errors
    ///
    /// `EPERM` without CAP_NET_RAW.
    pub fn new(lab: &Lab, host: &Host, own: SocketAddr, other: SocketAddr) -> anyhow::Result<Self> {
        let index = ifindex(&host.namespace, HOST_INTERFACE)?;
        let ipv4 = (libc::ETH_P_IP as u16).to_be();
        let receives = host.namespace.run(|| packet_socket(index, ipv4))?;
        // A flood's answers come by the same interface.
        socket2::SockRef::from(&receives).set_recv_buffer_size(RECEIVE_BUFFER)?;
        Ok(Self {
            wire: Wire::from_outside(lab, host)?,
            receives,
            own,
            other,
            seq: 1_000_000,
            ack: 0,
        })
    }

    /// A segment with its next numbers.
    #[must_use]
    pub fn segment(&self, flags: u8) -> Segment {
        Segment::new(self.own, self.other, flags, self.seq, self.ack)
    }

    /// Sends a segment as it is; no number of this client changes.
    ///
    /// # Errors
    ///
    /// As [`Wire::send`].
    pub fn send(&self, segment: &Segment) -> anyhow::Result<()> {
        self.wire.send(segment)
    }

    /// Sends the SYN, with this text in it, and waits for the answer. What of the text the other end
    /// has not acknowledged is still to be sent.
    ///
    /// # Errors
    ///
    /// When no SYN+ACK comes in time.
    pub fn begin(&mut self, text: &[u8], limit: Duration) -> anyhow::Result<()> {
        self.send(&Segment::syn(self.own, self.other, self.seq).with(text))?;
        let answer = self
            .wait(limit, |it| it.flags & (SYN | ACK) == SYN | ACK)
            .context("no answer to the SYN")?;
        self.seq = answer.ack;
        self.ack = answer.seq.wrapping_add(1);
        Ok(())
    }

    /// Sends the handshake's last segment.
    ///
    /// # Errors
    ///
    /// As [`Wire::send`].
    pub fn finish(&self) -> anyhow::Result<()> {
        self.send(&self.segment(ACK))
    }

    /// Sends text.
    ///
    /// # Errors
    ///
    /// As [`Wire::send`].
    pub fn say(&mut self, text: &[u8]) -> anyhow::Result<()> {
        self.send(&self.segment(PSH | ACK).with(text))?;
        self.seq = self.seq.wrapping_add(text.len() as u32);
        Ok(())
    }

    /// Waits for text that begins with this, acknowledging all text that comes.
    ///
    /// # Errors
    ///
    /// When it does not come in time.
    pub fn hear(&mut self, begins: &str, limit: Duration) -> anyhow::Result<String> {
        let start = Instant::now();
        while let Some(left) = limit.checked_sub(start.elapsed()) {
            let segment = self.wait(left, |it| !it.payload.is_empty() || it.flags & SYN != 0)?;
            if segment.flags & SYN != 0 {
                // The other end has not seen the handshake's last segment.
                self.finish()?;
                continue;
            }
            if segment.seq == self.ack {
                self.ack = self.ack.wrapping_add(segment.payload.len() as u32);
                self.send(&self.segment(ACK))?;
                let text = String::from_utf8_lossy(&segment.payload).into_owned();
                if text.starts_with(begins) {
                    return Ok(text);
                }
            }
        }
        bail!("no {begins} came")
    }

    /// The next segment for this client that is `wanted`.
    ///
    /// # Errors
    ///
    /// When none comes in time.
    pub fn wait(
        &self,
        limit: Duration,
        wanted: impl Fn(&Received) -> bool,
    ) -> anyhow::Result<Received> {
        let start = Instant::now();
        let mut frame = vec![0_u8; 1 << 16];
        while start.elapsed() < limit {
            // SAFETY: the kernel writes at most as many bytes as the buffer has.
            let length = unsafe {
                libc::recv(
                    self.receives.as_raw_fd(),
                    frame.as_mut_ptr().cast(),
                    frame.len(),
                    libc::MSG_DONTWAIT,
                )
            };
            let Ok(length) = usize::try_from(length) else {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::WouldBlock {
                    return Err(error).context("cannot receive");
                }
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            if let Some(segment) = self.read(&frame[..length]).filter(&wanted) {
                return Ok(segment);
            }
        }
        bail!("nothing came to {}", self.own)
    }

    /// A frame's segment, if it is from the other end to this one.
    fn read(&self, frame: &[u8]) -> Option<Received> {
        let packet = SlicedPacket::from_ethernet(frame).ok()?;
        let (NetSlice::Ipv4(ip), TransportSlice::Tcp(tcp)) = (packet.net?, packet.transport?)
        else {
            return None;
        };
        let end = |address: Ipv4Addr, port| SocketAddr::from((address, port));
        let header = ip.header();
        let is_ours = end(header.source_addr(), tcp.source_port()) == self.other
            && end(header.destination_addr(), tcp.destination_port()) == self.own;
        is_ours.then(|| Received {
            flags: tcp.slice()[13],
            seq: tcp.sequence_number(),
            ack: tcp.acknowledgment_number(),
            payload: tcp.payload().to_vec(),
        })
    }
}
