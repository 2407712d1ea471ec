//! The layout of everything that kernel and user space both touch: map keys and values, settings
//! and events.
//!
//! Every type is `repr(C)` with its padding spelled out (bytemuck's `Pod` proves that none is
//! left), and holds no enum, bool or Option: two different compilers build the two sides. Times
//! are `jiffies64` (the kernel's tick counter, [`Settings::hz`] a second), because reading them
//! costs a packet nothing. Byte order: [`Addr`] and [`Port`] lie as in a packet, all else is the
//! machine's own.

use crate::addr::{Addr, Endpoint, Port, PortPair};
use crate::edit::Edits;
use bytemuck::{Pod, Zeroable};

/// Changes with every change of a pinned map's layout or meaning: pins of another version are
/// never read.
pub const LAYOUT: u32 = 3;

/// Names of the maps, as pinned and as declared by the datapath.
pub mod map {
    /// [`super::FlowKey4`] to [`super::Flow`].
    pub const FLOWS4: &str = "FLOWS4";
    /// [`super::FlowKey6`] to [`super::Flow`].
    pub const FLOWS6: &str = "FLOWS6";
    /// [`super::MappingKey`] to [`super::Mapping`].
    pub const MAPPINGS: &str = "MAPPINGS";
    /// Session number (`u32`) to [`super::Session`].
    pub const SESSIONS: &str = "SESSIONS";
    /// [`super::LinesKey`] to [`super::Lines`].
    pub const LINES: &str = "LINES";
    /// [`super::PublishKey`] to [`super::Publish`].
    pub const PUBLISHED: &str = "PUBLISHED";
    /// Prefixes ([`crate::addr::Addr`], IPv4 from bit 96 on) of the masqueraded clients.
    pub const INSIDE: &str = "INSIDE";
    /// [`super::ClientKey`] to the client's own [`crate::addr::Endpoint`].
    pub const CLIENTS: &str = "CLIENTS";
    /// Interface index (`u32`) to [`super::Interface`].
    pub const INTERFACES: &str = "INTERFACES";
    /// One [`super::Settings`].
    pub const SETTINGS: &str = "SETTINGS";
    /// One byte a port: see [`super::port`].
    pub const PORTS: &str = "PORTS";
    /// Per CPU, one [`super::Count`] for each [`crate::counter::Counter`].
    pub const COUNTERS: &str = "COUNTERS";
    /// Ring buffer of [`super::Event`].
    pub const EVENTS: &str = "EVENTS";
    /// The programs behind the entrances, by [`super::station`].
    pub const STATIONS: &str = "STATIONS";
}

/// The programs that the entrances hand packets on to: places in the STATIONS map.
pub mod station {
    /// TCP on a port of FTP.
    pub const GATEWAY: u32 = 0;
    /// ICMP errors.
    pub const ICMP: u32 = 1;
    /// How many there are.
    pub const STATIONS: u32 = 2;
}

/// Which way a packet goes through the gateway.
pub mod side {
    /// From the WAN inwards: its destination is translated.
    pub const INBOUND: u32 = 0;
    /// From the inside to the WAN: its source is translated.
    pub const OUTBOUND: u32 = 1;
}

/// A flow's key for IPv4: the packet's own tuple, before translation.
///
/// Twelve bytes and no more: each word takes time to hash. Which side the packet must come by is in
/// the flow ([`Flow::side`]): no tuple is of both, for a client outside has not the public address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct FlowKey4 {
    /// Source address, as it lies in the packet.
    pub src: u32,
    /// Destination address, as it lies in the packet.
    pub dst: u32,
    /// The ports.
    pub ports: PortPair,
}

/// A flow's key for IPv6: the packet's own tuple, before translation.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct FlowKey6 {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// The ports.
    pub ports: PortPair,
}

/// What kind of connection a flow is.
pub mod kind {
    /// A control connection.
    pub const CONTROL: u8 = 1;
    /// A data connection that the client opened.
    pub const PASSIVE: u8 = 2;
    /// A data connection that the server opened.
    pub const ACTIVE: u8 = 3;
}

/// Bits of [`Flow::flags`].
pub mod flow_flag {
    /// Addresses stay as they are: the kernel's own NAT translates this connection, or nobody
    /// needs to.
    pub const NO_NAT: u8 = 1;
    /// The replies' direction of a control connection (else the commands').
    pub const REPLIES: u8 = 2;
    /// XDP may send its packets, straight out of [`super::Flow::out_ifindex`].
    pub const XDP: u8 = 4;
    /// The direction that leaves for the outside: see [`super::Flow::side`].
    pub const OUTBOUND: u8 = 8;
}

/// One direction of one connection, with all that its packets need.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Flow {
    /// What the translated end becomes: the destination inbound, the source outbound.
    pub to: Addr,
    /// Its port.
    pub port: Port,
    /// [`kind`].
    pub kind: u8,
    /// [`flow_flag`].
    pub flags: u8,
    /// Ones' complement difference of the addresses, folded to 16 bits: for the IPv4 header and
    /// for TCP's pseudo header.
    pub addr_diff: u16,
    /// The same of the ports: for the TCP header.
    pub port_diff: u16,
    /// Where the packet leaves by redirect; 0: the stack forwards it.
    pub out_ifindex: u32,
    /// The largest IP packet that fits there, in bytes.
    pub out_mtu: u32,
    /// The Ethernet header's addresses there, destination first, as they lie in the packet.
    pub macs: [u16; 6],
    /// When [`Flow::macs`] must be looked up again: the low half of jiffies.
    pub fresh_until: u32,
    /// [`Settings::route_epoch`] when they were looked up; 0: never.
    pub route_epoch: u32,
    /// The control connection it belongs to.
    pub session: u32,
    /// The acknowledgement number of its last packet: what the other direction's next one starts
    /// with, about.
    pub acked: u32,
    /// All TCP flags seen so far; FIN and RST only where their number can be right.
    pub tcp_flags: u8,
    /// Zero.
    pub pad: [u8; 3],
    /// When it was created, in jiffies.
    pub born: u64,
    /// When its last packet came, in jiffies.
    pub last_seen: u64,
    /// Packets so far.
    pub packets: u64,
    /// Bytes so far, from the IP header on.
    pub bytes: u64,
}

impl Flow {
    /// Which way its packets go: [`side`]. Packets of the same tuple that come by the other side
    /// are not of this flow.
    #[inline(always)]
    pub const fn side(&self) -> u32 {
        if self.flags & flow_flag::OUTBOUND == 0 {
            side::INBOUND
        } else {
            side::OUTBOUND
        }
    }
}

/// The pinhole's key: the first SYN of the announced connection, all but its source port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct MappingKey {
    /// The SYN's source address: the peer that the connection was announced to.
    pub src: Addr,
    /// The SYN's destination address.
    pub dst: Addr,
    /// The SYN's destination port.
    pub dport: Port,
    /// Zero.
    pub pad: u16,
    /// [`side`].
    pub side: u32,
}

/// An announced data connection that has not come yet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Mapping {
    /// Inbound: where the connection goes. Outbound: what its source becomes (the port is kept if
    /// it is free).
    pub to: Endpoint,
    /// The control connection that announced it.
    pub session: u32,
    /// [`kind`].
    pub kind: u8,
    /// [`cause`].
    pub cause: u8,
    /// Zero.
    pub pad: [u8; 2],
    /// Zero.
    pub pad2: u32,
    /// When it was opened, in jiffies.
    pub born: u64,
    /// When it ends, in jiffies.
    pub expires: u64,
}

/// A control address as clients see it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct PublishKey {
    /// The public address.
    pub addr: Addr,
    /// The public port.
    pub port: Port,
    /// Zero.
    pub pad: u16,
}

/// Bits of [`Publish::flags`].
pub mod publish_flag {
    /// The kernel's own NAT translates the control connection.
    pub const KERNEL_NAT: u16 = 1;
    /// The server runs on this machine: rewrite only.
    pub const LOCAL: u16 = 2;
    /// Anybody may use a pinhole (`peer = "any"`), not just the client that it was announced to.
    pub const ANY_PEER: u16 = 4;
}

/// A published server.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Publish {
    /// Where its control connections go.
    pub server: Endpoint,
    /// The address that replies announce.
    pub advertise: Addr,
    /// [`publish_flag`].
    pub flags: u16,
    /// Lowest port that the server may announce; 0: any from 1024 up.
    pub passive_first: u16,
    /// Highest port that the server may announce.
    pub passive_last: u16,
    /// Zero.
    pub pad: u16,
    /// The entry's place in the configuration, from 0.
    pub index: u32,
}

/// A client's first SYN to an outside server, by what the kernel's own NAT leaves as it is: so the
/// WAN's hook knows whose connection it sees.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct ClientKey {
    /// The server's control address.
    pub server: Endpoint,
    /// The SYN's sequence number.
    pub isn: u32,
}

/// Bits of [`Interface::flags`].
pub mod interface_flag {
    /// Outside.
    pub const WAN: u32 = 1;
    /// Inside, with the datapath attached: flows may be redirected through it.
    pub const LAN: u32 = 2;
    /// Packets have an Ethernet header.
    pub const ETHERNET: u32 = 4;
    /// XDP runs in its driver, which so can send XDP's frames.
    pub const XDP: u32 = 8;
}

/// An interface that the datapath is attached to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Interface {
    /// [`interface_flag`].
    pub flags: u32,
    /// Its MTU, in bytes.
    pub mtu: u32,
}

/// Bits of one byte of the PORTS map, the one look that tells FTP from the rest.
///
/// The low six bits are the epoch of the last opening on that port, from 1; the daemon's sweep
/// clears ports of old epochs that no flow uses.
pub mod port {
    /// A published control port.
    pub const PUBLISHED: u8 = 0x80;
    /// A control port of outside servers that our clients use.
    pub const MASQUERADED: u8 = 0x40;
    /// The epoch's bits.
    pub const EPOCH: u8 = 0x3f;
    /// Length of an epoch in seconds.
    pub const EPOCH_SECONDS: u64 = 32;

    /// The epoch of a moment.
    #[inline(always)]
    pub const fn epoch(jiffies: u64, hz: u32) -> u8 {
        let hz = if hz == 0 { 1 } else { hz as u64 };
        ((jiffies / (hz * EPOCH_SECONDS)) % EPOCH as u64) as u8 + 1
    }
}

/// The PORTS map's one value: a byte a port, at its [`Port::place`].
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Ports(pub [u8; 65536]);

/// Values of [`Settings::mss_clamp`]; others are a size in bytes.
pub mod mss {
    /// What fits the two interfaces that a connection goes through.
    pub const AUTO: u16 = 0;
    /// Whatever the ends say.
    pub const OFF: u16 = 1;
}

/// What the daemon tells the datapath.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// Jiffies a second.
    pub hz: u32,
    /// The mark of translated packets that the stack forwards, for a firewall's rule.
    pub mark: u32,
    /// Grows whenever routes or MTUs change, never 0: flows look theirs up again.
    pub route_epoch: u32,
    /// Lowest port for a remap.
    pub remap_first: u16,
    /// Highest port for a remap.
    pub remap_last: u16,
    /// The largest TCP segment that redirected connections may agree on: [`mss`].
    pub mss_clamp: u16,
    /// Zero.
    pub pad: [u16; 3],
    /// How long an unused mapping lives, in jiffies.
    pub mapping_timeout: u64,
    /// How long an unfinished line is held, in jiffies.
    pub hold_timeout: u64,
}

/// Packets and bytes that met one verdict, on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Count {
    /// Packets, or happenings.
    pub packets: u64,
    /// Bytes of those packets, from the IP header on; 0 for happenings.
    pub bytes: u64,
}

/// Which side of the gateway the FTP server is on.
pub mod role {
    /// A server behind the gateway.
    pub const PUBLISH: u8 = 1;
    /// A client behind the gateway.
    pub const MASQUERADE: u8 = 2;
}

/// Bits of [`Session::flags`].
pub mod session_flag {
    /// The server runs on this machine: openings need no translation.
    pub const LOCAL: u8 = 1;
    /// Anybody may use a pinhole.
    pub const ANY_PEER: u8 = 2;
    /// The kernel's own NAT translates the control connection.
    pub const KERNEL_NAT: u8 = 4;
}

/// The bytes of a line that are kept: a longer one can be neither held nor rewritten behind that
/// many bytes. A power of two.
pub const LINE_MAX: usize = 512;

/// A control connection's mind.
///
/// Each field is written by one direction's packets alone, so that the two directions may run on
/// two CPUs at once: [`Session::commands`] and [`Asked`] by the client's, [`Session::replies`] and
/// [`Answered`] by the server's; but [`Direction::acked`] by those that acknowledge.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Session {
    /// The end behind the gateway: the server (publish) or the client (masquerade).
    pub inside: Endpoint,
    /// The end outside.
    pub outside: Endpoint,
    /// The inside end as the outside sees it.
    pub public: Endpoint,
    /// The address that rewritten text announces.
    pub advertise: Addr,
    /// [`role`].
    pub role: u8,
    /// [`session_flag`].
    pub flags: u8,
    /// Lowest port that the server may announce; 0: any from 1024 up.
    pub passive_first: u16,
    /// Highest port that the server may announce.
    pub passive_last: u16,
    /// Zero.
    pub pad: u16,
    /// The publish entry's place in the configuration.
    pub index: u32,
    /// When the first SYN came, in jiffies.
    pub born: u64,
    /// What the client asked for.
    pub asked: Asked,
    /// What the server answered.
    pub answered: Answered,
    /// The client's direction.
    pub commands: Direction,
    /// The server's direction.
    pub replies: Direction,
}

/// What the client asked for; written by its own packets only.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Asked {
    /// PASV and EPSV so far.
    pub passive: u32,
    /// Commands so far.
    pub commands: u32,
    /// AUTH so far.
    pub auth: u32,
    /// TLS handshakes that began without AUTH so far.
    pub hellos: u32,
    /// [`Asked::commands`] at PASV or EPSV number `n`, itself included, at place
    /// `n % PIPELINED`.
    pub passive_at: [u32; PIPELINED],
}

/// How many PASV and EPSV may wait for their answers at once and be told apart, a power of two.
pub const PIPELINED: usize = 4;

/// What the server answered; written by its own packets only.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Answered {
    /// How many of [`Asked::passive`] were answered: all means that no PASV waits.
    pub passive: u32,
    /// Final replies to commands so far (RFC 959 section 4.2), the greeting not counted.
    pub replies: u32,
    /// [`Asked::auth`] that was answered last.
    pub auth: u32,
    /// AUTH answered by 234 so far: see [`crate::tls`].
    pub encrypted: u32,
    /// The code of the multi-line reply that is under way; 0: none.
    pub multiline: u16,
    /// 1 once the greeting has come.
    pub greeted: u16,
    /// The server's port of the reply that is under way, already opened; 0: none.
    pub opened_port: Port,
    /// The public port that it got.
    pub opened_public: Port,
}

/// Bits of [`Direction::flags`].
pub mod direction_flag {
    /// The initial sequence number is known: [`seen`](super::Direction::seen) means something.
    pub const STARTED: u8 = 1;
    /// The current line is let through as it is, up to its end.
    pub const LET_GO: u8 = 2;
    /// The last byte, in front of a command, was telnet's IAC.
    pub const AFTER_IAC: u8 = 4;
}

/// One direction of a control connection: where its next line starts and what of it is held.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Direction {
    /// Everything before this sequence number (the sender's own) has been inspected and sent on.
    pub seen: u32,
    /// How many bytes of an unfinished line are held: they stand in [`Lines`] at
    /// [`crate::segment::place`], their first sequence number is [`Direction::seen`].
    pub held_len: u16,
    /// Bytes of the current line before [`Direction::seen`]; saturates.
    pub line_len: u16,
    /// The first eight bytes of the current line in upper case, the first one highest; zeros where
    /// it is shorter.
    pub head: u64,
    /// [`direction_flag`].
    pub flags: u8,
    /// Zero.
    pub pad: [u8; 3],
    /// The sender's initial sequence number.
    pub isn: u32,
    /// Since when a line is held, in jiffies; 0: none.
    pub held_since: u64,
    /// Since when segments beyond a gap are dropped, in jiffies; 0: none.
    pub gap_since: u64,
    /// Bytes that the sender was told are delivered before they were:
    /// [`crate::segment::Owed`].
    pub owed: u64,
    /// Up to where the receiver has acknowledged, as the sender counts; written by the receiver's
    /// packets.
    pub acked: u32,
    /// How many changes to TLS lie behind the clear text that is read: see [`crate::tls`].
    pub cleared: u32,
    /// What was changed, for retransmissions and for sequence numbers.
    pub edits: Edits,
}

/// One direction of a control connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct LinesKey {
    /// The session's number.
    pub session: u32,
    /// 1: the server's direction.
    pub is_replies: u32,
}

/// What is kept of a direction's lines because it was not sent on yet. Most sessions never have
/// that: their lines come whole.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Lines {
    /// The line that is held, in one half; in the other half, one whose first bytes are owed.
    pub halves: [[u8; LINE_MAX]; 2],
}

impl Lines {
    /// The half at `place`, 0 or 1.
    #[inline(always)]
    pub const fn half(&self, place: u16) -> &[u8; LINE_MAX] {
        &self.halves[place as usize & 1]
    }

    /// The same, to be written to.
    #[inline(always)]
    pub const fn half_mut(&mut self, place: u16) -> &mut [u8; LINE_MAX] {
        &mut self.halves[place as usize & 1]
    }
}

/// What an [`Event`] tells.
pub mod event {
    /// A session began.
    pub const SESSION: u8 = 1;
    /// A mapping was opened.
    pub const OPENED: u8 = 2;
    /// A mapping was used by the announced connection.
    pub const USED: u8 = 3;
    /// A mapping was opened on another port than the announced one.
    pub const REMAPPED: u8 = 4;
    /// A reply or command was rewritten.
    pub const REWRITTEN: u8 = 5;
    /// Something was denied; the reason is in [`super::Event::reason`].
    pub const DENIED: u8 = 6;
    /// Something was passed as it was; the reason is in [`super::Event::reason`].
    pub const PASSED: u8 = 7;
    /// The session is encrypted from here on.
    pub const ENCRYPTED: u8 = 8;
    /// The session is clear text again.
    pub const CLEARED: u8 = 9;
    /// A mapping ended that nobody had used; the daemon's own word.
    pub const EXPIRED: u8 = 10;
    /// A connection ended; the daemon's own word.
    pub const ENDED: u8 = 11;
}

/// The words that announced a data connection.
pub mod cause {
    /// A reply to PASV: 227.
    pub const PASV: u8 = 1;
    /// A reply to EPSV: 229.
    pub const EPSV: u8 = 2;
    /// A PORT command.
    pub const PORT: u8 = 3;
    /// An EPRT command.
    pub const EPRT: u8 = 4;
}

/// Something that an operator may want to know.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Event {
    /// When, in jiffies.
    pub time: u64,
    /// [`event`].
    pub what: u8,
    /// [`kind`] of the connection it is about; 0: none.
    pub kind: u8,
    /// The number of the [`crate::counter::Counter`] that counted it.
    pub reason: u16,
    /// The session; 0: none.
    pub session: u32,
    /// The end outside.
    pub peer: Endpoint,
    /// The end behind the gateway.
    pub inside: Endpoint,
    /// The public address and port.
    pub public: Endpoint,
    /// The address that was announced, before it was rewritten; none: no announcement, or one
    /// without an address.
    pub announced: Addr,
    /// The words that announced it: [`cause`]; 0: none did.
    pub cause: u8,
    /// Zero.
    pub pad: [u8; 3],
}

const _: () = assert!(size_of::<FlowKey4>() == 12);
const _: () = assert!(size_of::<FlowKey6>() == 36);
const _: () = assert!(size_of::<Flow>() == 96);
const _: () = assert!(size_of::<MappingKey>() == 40);
const _: () = assert!(size_of::<Mapping>() == 48);
const _: () = assert!(size_of::<Event>() == 96);

/// aya wants its own marker before user space may read or write a type through a map.
#[cfg(feature = "user")]
mod user {
    use super::*;

    macro_rules! pod {
        ($($name:ty),* $(,)?) => {
            $(
                // SAFETY: bytemuck's `Pod` holds for the type: plain data without padding.
                unsafe impl aya::Pod for $name {}
            )*
        };
    }

    pod!(
        Addr, Endpoint, ClientKey, FlowKey4, FlowKey6, Flow, MappingKey, Mapping, PublishKey,
        Publish, Interface, Ports, Settings, Count, Session, LinesKey, Lines, Event
    );
}
