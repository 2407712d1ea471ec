//! A CPU's scratch memory: a program's stack has 512 bytes.
//!
//! Each part is taken at one place of a packet's way and handed down from there, so that no two
//! references to the same memory are alive at once. Parts that are used while another one is held
//! are maps of their own.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use ftp_nat_common::abi::{
    Event, Flow, HalfOpen, HalfOpenKey, HandshakeSegment, LINE_MAX, Lines, Mapping, MappingKey,
    ReturnPath, Session,
};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::edit::text::TEXT_MAX;
use ftp_nat_common::ftp::parser::Inspection;
use ftp_nat_common::ftp::tls::PlainText;
use ftp_nat_common::stream::driver::{Cursor, Segment};
use ftp_nat_common::wire::addr::{Addr, Endpoint};

use crate::kernel::route::Hop;
use crate::packet::checksum::Words;

/// Bytes of payload that are read at once, a power of two.
pub const WINDOW: usize = 2048;

/// What a connection is made of while it is opened. Taken in `stations::gateway`.
///
/// No other type of the programs has this name: BTF tells pointers to structs by it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Draft {
    /// The packet that may open something.
    pub head: Head,
    /// The handshake that it belongs to.
    pub half_open: HalfOpen,
    /// Where that is in its table.
    pub key: HalfOpenKey,
    /// The session that is being made.
    pub session: Session,
    /// The connection that is being made.
    pub connection: Connection,
    /// Its flow, of one direction and then of the other.
    pub flow: Flow,
    /// Where its inbound direction leaves.
    pub inward: Path,
    /// Where its outbound direction leaves.
    pub outward: Path,
    /// The next hop that was looked up last.
    pub hop: Hop,
    /// The mapping that is being used.
    pub mapping: Mapping,
    /// The end of the connection whose place was taken, until it is told; [`Event::what`] 0: none.
    pub replaced: Event,
}

/// The headers of a packet that may open something. Places are in bytes from the Ethernet header on.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Head {
    /// Who sent it.
    pub source: Endpoint,
    /// Where to.
    pub destination: Endpoint,
    /// Its numbers and flags.
    pub segment: HandshakeSegment,
    /// Length of the IP packet, in bytes.
    pub total: u32,
    /// Where the TCP header starts.
    pub tcp: u32,
    /// Where the payload starts.
    pub payload: u32,
    /// Length of the payload, in bytes.
    pub len: u32,
    /// The window that it advertises, as it stands in the header.
    pub window: u32,
}

/// A connection through the gateway.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Connection {
    /// The end outside.
    pub outside: Endpoint,
    /// The inside end as the outside sees it.
    pub public: Endpoint,
    /// The end behind the gateway.
    pub inside: Endpoint,
    /// The end outside as the inside sees it.
    pub alias: Endpoint,
    /// The way back to the end outside.
    pub return_path: ReturnPath,
    /// Its control connection.
    pub session: u32,
    /// [`ftp_nat_common::abi::kind`].
    pub kind: u8,
    /// [`ftp_nat_common::abi::flow_flag`] of both directions.
    pub flags: u8,
    /// 1: the server is inside, the outbound flow carries the replies.
    pub server_inside: u8,
}

/// Where a direction's packets leave: the fields of the same names in [`Flow`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Path {
    /// The interface; 0: the stack forwards.
    pub ifindex: u32,
    /// The largest IP packet that fits there, in bytes.
    pub mtu: u16,
    /// The Ethernet addresses there, destination first, as they lie in the packet.
    pub macs: [u16; 6],
    /// When they must be looked up again: the low half of jiffies.
    pub fresh_until: u32,
    /// [`ftp_nat_common::abi::Settings::route_epoch`] when they were looked up; 0: never.
    pub route_epoch: u16,
    /// [`ftp_nat_common::abi::flow_flag::XDP`] or 0.
    pub flags: u32,
}

/// A control segment under way. Taken in `control`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Control {
    /// The driver's part.
    pub segment: Segment,
    /// Where it lies in its packet.
    pub place: SegmentLayout,
    /// Where the reading of it is. Not on the stack: a number that the verifier knows at a loop's
    /// start it follows turn by turn.
    pub cursor: Cursor,
    /// The reader of its bytes.
    pub inspection: Inspection,
    /// Judges whether an encrypted direction is plain text again.
    pub judge: PlainText,
    /// Where the walk through SACK blocks is.
    pub options: Options,
    /// A piece of the payload that is patched.
    pub piece: Piece,
    /// The kept bytes in front of the segment.
    pub kept: [u8; LINE_MAX],
    /// Zeros: what a direction's lines begin as.
    pub no_lines: Lines,
    /// Payload as it came.
    pub window: [u8; WINDOW],
    /// Payload as it leaves.
    pub out: [u8; WINDOW],
}

/// Where a control segment lies in its packet. Places are in bytes from the Ethernet header on.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SegmentLayout {
    /// The session's number.
    pub session: u32,
    /// Where the TCP header starts.
    pub tcp: u32,
    /// Where the payload starts.
    pub payload: u32,
    /// Length of the IP packet.
    pub total: u32,
    /// 1: IPv4.
    pub v4: u32,
    /// Its timestamp (RFC 7323 section 3.2); 0: it has none.
    pub timestamp: u32,
    /// Its time to live or hop limit.
    pub ttl: u32,
}

/// Where the walk through SACK blocks is. Places are in bytes from the Ethernet header on.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Options {
    /// Where the next edge of a block stands, or where the options behind the last one start.
    pub at: u32,
    /// The number of the SACK block's edge that comes next; even ones are left edges.
    pub edge: u32,
    /// Where the blocks end.
    pub blocks_end: u32,
    /// 1: a write failed.
    pub failed: u32,
}

/// A piece of the payload, zeros behind it, and the text that takes its place.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Piece {
    /// The payload's bytes.
    pub words: [u32; TEXT_MAX / 2],
    /// The text's, and zeros.
    pub text: [u32; TEXT_MAX / 2],
}

/// The pinhole that is being opened. Taken in `open::pinhole`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Pinhole {
    /// Its entry.
    pub mapping: Mapping,
    /// Its key, with the port that is tried.
    pub key: MappingKey,
    /// How the last try ended: `open::pinhole::Try`.
    pub tried: u32,
    /// Why there is no pinhole, where there is none.
    pub reason: Counter,
}

/// The route that is being looked up again. Taken in `forward::send`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Route {
    /// The next hop.
    pub hop: Hop,
    /// The packet's source and destination.
    pub ends: [Addr; 2],
    /// The connection's return path.
    pub back: ReturnPath,
}

macro_rules! parts {
    ($($map:ident $take:ident $type:ty, $doc:literal;)*) => {
        $(
            #[map]
            static $map: PerCpuArray<$type> = PerCpuArray::with_max_entries(1, 0);

            #[doc = $doc]
            ///
            /// Nobody else reaches it before this program ends: programs at TC's egress hook run
            /// with bottom halves disabled (`__dev_queue_xmit`), those at the ingress hooks within a
            /// softirq, so none interrupts another one on its CPU; a redirected packet meets the
            /// next hook after this program has returned (`skb_do_redirect`, `xdp_do_flush`). With
            /// PREEMPT_RT since Linux 6.18 that is no longer so, and the daemon does not start there.
            #[inline(always)]
            pub fn $take() -> Option<*mut $type> {
                $map.get_ptr_mut(0)
            }
        )*
    };
}

parts! {
    OPENING opening Draft, "This CPU's memory for opening connections.";
    CONTROL control Control, "This CPU's memory for a control segment.";
    PINHOLE pinhole Pinhole, "This CPU's memory for a pinhole.";
    ROUTE route Route, "This CPU's memory for a route.";
    SUMMED summed Words, "This CPU's memory for words that are summed.";
}
