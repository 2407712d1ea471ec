//! SESSIONS: the state of control connections.

use super::published::{Publish, publish_flag};
use crate::edit::edits::Edits;
use crate::wire::addr::{Addr, Endpoint, Port};
use bytemuck::{Pod, Zeroable};

/// Which side of the gateway the FTP server is on.
pub mod role {
    /// A server behind the gateway.
    pub const PUBLISH: u8 = 1;
    /// A client behind the gateway.
    pub const MASQUERADE: u8 = 2;
}

/// A session's number, never 0, from a random one. Gateways of a cluster give numbers that differ in
/// their upper six bits, which are the gateway's own number, 1 to 63; 0: it is in no cluster, and all
/// bits are random.
#[inline(always)]
pub const fn session_number(node: u16, random: u32) -> u32 {
    if node == 0 {
        random | 1
    } else {
        (node as u32) << NODE_SHIFT | random & ((1 << NODE_SHIFT) - 1) | 1
    }
}

/// Where the gateway's own number starts in a session's.
pub const NODE_SHIFT: u32 = 26;

/// [`Session::adopted`] of a session of which no packet has come here yet.
pub const ADOPTED: u64 = u64::MAX;

/// Bits of [`Session::flags`].
pub mod session_flag {
    /// The server runs on this machine: openings need no translation.
    pub const LOCAL: u8 = 1;
    /// Anybody may use a pinhole.
    pub const ANY_PEER: u8 = 2;
    /// The kernel's own NAT translates the control connection.
    pub const KERNEL_NAT: u8 = 4;
    /// The words of the server's greeting are not shown.
    pub const HIDE_GREETING: u8 = 8;
    /// [`Session::deny`](super::Session::deny) has the login's commands because TLS is required.
    pub const REQUIRE_TLS: u8 = 16;
    /// The client is behind the gateway too: its packets come from the inside.
    pub const HAIRPIN: u8 = 32;
}

/// State of one control connection: its ends, what was asked and answered, and for each direction
/// where its next line starts, what of it is held, and TCP's numbers.
///
/// Each field is written by one direction's packets alone, so that the two directions may run on
/// two CPUs at once: [`Session::commands`] and [`Asked`] by the client's, [`Session::replies`] and
/// [`Answered`] by the server's; but [`Direction::acked`] and
/// [`Direction::window`] by those that acknowledge.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Session {
    /// The end behind the gateway: the server (publish) or the client (masquerade).
    pub inside: Endpoint,
    /// The end outside.
    pub outside: Endpoint,
    /// The inside end as the outside sees it.
    pub public: Endpoint,
    /// The end outside as the inside sees it: mostly as it is.
    pub alias: Endpoint,
    /// The address that rewritten replies announce, and a masqueraded client's commands.
    pub advertise: Addr,
    /// [`role`].
    pub role: u8,
    /// [`session_flag`].
    pub flags: u8,
    /// Lowest port that the server may announce; 0: any from 1024 up.
    pub passive_first: u16,
    /// Highest port that the server may announce.
    pub passive_last: u16,
    /// How many data connections may still be made of which another gateway has not told: 1 or 0.
    pub untold: u16,
    /// The publish entry's place in the configuration.
    pub index: u32,
    /// The ports of the keys in MAPPINGS that were opened last, 0: none; the passive one, which the
    /// server's packets write, and the active one, which the client's do.
    pub waiting: [Port; 2],
    /// How many data connections its client may have at once; 0: no bound.
    pub most_connections: u32,
    /// The lowest time to live of each direction's text so far, the client's first; 0: none has come. See
    /// [`crate::stream::hops`].
    pub hops: [u8; 2],
    /// Zero.
    pub pad2: [u8; 2],
    /// When its allowance of announcements will be whole again ([`crate::bucket`]).
    pub announced: u64,
    /// When the first SYN came, in jiffies.
    pub born: u64,
    /// 0, unless it was learned from another gateway: then [`ADOPTED`] until its first packet comes
    /// here, and from then on until when TCP's numbers are judged with [`crate::stream::adopt`]'s
    /// slack, in the driver's unit. A session of this gateway gets the latter when its packets go by
    /// another one too.
    pub adopted: u64,
    /// The commands that are refused: bits of [`crate::ftp::policy::bit`].
    pub deny: u64,
    /// What the client asked for.
    pub asked: Asked,
    /// What the server answered.
    pub answered: Answered,
    /// The client's direction.
    pub commands: Direction,
    /// The server's direction.
    pub replies: Direction,
}

impl Session {
    /// Takes what holds for sessions of a published server; its ends are set already.
    #[inline(always)]
    pub fn go_by(&mut self, found: &Publish) {
        let public = self.public;
        let mut flags = 0;
        if found.flags & publish_flag::KERNEL_NAT != 0 {
            flags |= session_flag::KERNEL_NAT;
        }
        if found.flags & publish_flag::LOCAL != 0 {
            flags |= session_flag::LOCAL;
        }
        if found.flags & publish_flag::ANY_PEER != 0 {
            flags |= session_flag::ANY_PEER;
        }
        if found.flags & publish_flag::HIDE_GREETING != 0 {
            flags |= session_flag::HIDE_GREETING;
        }
        if found.flags & publish_flag::REQUIRE_TLS != 0 {
            flags |= session_flag::REQUIRE_TLS;
        }
        self.advertise = found.advertise_for(&public);
        self.flags = flags;
        self.deny = found.deny;
        self.passive_first = found.passive_first;
        self.passive_last = found.passive_last;
        self.index = found.index;
        self.most_connections = found.client_connections;
    }
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
    /// [`Asked::commands`] at PASV or EPSV number `n`, itself included, at place
    /// `n % PIPELINED`.
    pub passive_at: [u32; PIPELINED],
    /// PASV and EPSV up to this number have no licence: their replies open nothing.
    pub unlicensed: u32,
    /// [`Asked::commands`] at the last command whose answer may hold anything, itself included,
    /// until that answer has ended beyond doubt; 0: none ([`mod@crate::ftp::doubt`]).
    pub doubtful: u32,
    /// [`Direction::seen`] of the replies when the command that is withheld was looked at first
    /// with these replies.
    pub withheld_seen: u32,
    /// [`begin`] of the client's side.
    pub begin: u8,
    /// Bits of [`asked_flag`].
    pub flags: u8,
    /// 1: [`Asked::doubtful`] was asked while a transfer went on, and some servers answer one of all such
    /// commands.
    pub beside_transfer: u8,
    /// Zero.
    pub pad: u8,
    /// [`Direction::seen`] of the replies when the last PASV or EPSV passed: what the server had said
    /// until then had ended, and the next line begins there.
    pub replies_ended: u32,
    /// TLS records so far in which the client may have asked something: see [`crate::ftp::records`].
    pub records: u32,
    /// The PASV or EPSV of this number is answered by the first line that the server says behind it, or not
    /// at all; 0: none ([`mod@crate::ftp::doubt`]).
    pub first_line: u32,
    /// When that was, in milliseconds; 0: no command is withheld.
    pub withheld_since: u64,
    /// When the command that is withheld was looked at for the first time, in milliseconds.
    pub withheld_first: u64,
    /// Which of the last 64 commands were told, by the lowest bits of their number: their replies are
    /// told too.
    pub told: u64,
    /// The window of time that [`Asked::told_count`] is of: see [`crate::ftp::said`].
    pub told_window: u32,
    /// How many commands were told in it.
    pub told_count: u32,
}

/// How one side of a connection began.
pub mod begin {
    /// It has said nothing yet.
    pub const OPEN: u8 = 0;
    /// As FTP does.
    pub const FTP: u8 = 1;
    /// Not as FTP does: nothing is opened in this session.
    pub const OTHER: u8 = 2;
}

/// Bits of [`Asked::flags`].
pub mod asked_flag {
    /// Nothing was unanswered when [`Asked::doubtful`](super::Asked::doubtful) was asked.
    pub const ALONE: u8 = 1;
    /// The stream's first bytes were those of a TLS handshake.
    pub const HELLO: u8 = 2;
    /// PORT, EPRT, PASV or EPSV was asked: data connections no longer use the default port.
    pub const DATA_PORT: u8 = 4;
    /// The last AUTH asked for TLS or SSL, and not for another mechanism (RFC 2228).
    pub const AUTH_TLS: u8 = 8;
    /// Some line ended with CR LF.
    pub const CRLF: u8 = 16;
    /// The last PASV or EPSV ended with a bare line feed, and perhaps not for its server.
    pub const BARE: u8 = 32;
    /// [`Asked::doubtful`](super::Asked::doubtful) is in doubt for its bare line feed alone.
    pub const BARE_DOUBT: u8 = 64;
    /// A TLS record of application data came: see [`crate::ftp::records`].
    pub const BEGAN_TLS: u8 = 128;
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
    /// AUTH answered by 234 so far: see [`crate::ftp::tls`].
    pub encrypted: u32,
    /// The code of the multi-line reply that is under way; 0: none.
    pub multiline: u16,
    /// [`begin`] of the server's side.
    pub begin: u8,
    /// 1: the reply under way announced something, or it was told why not.
    pub announced: u8,
    /// The server's port of the reply that is under way, already opened; 0: none.
    pub opened_port: Port,
    /// The public port that it got.
    pub opened_public: Port,
    /// PASV and EPSV up to this number were perhaps refused: the refusal may be another command's.
    pub refused: u32,
    /// [`Asked::commands`] when that refusal came: it is taken for theirs once a further command
    /// comes.
    pub refused_at: u32,
    /// [`Asked::commands`] at the last line of the multi-line reply under way.
    pub multiline_at: u32,
    /// [`Asked::doubtful`] that was answered by a single line, alone in its segment.
    pub settled: u32,
    /// The sequence number behind that line.
    pub settled_end: u32,
    /// Bits of [`line_end`].
    pub line_ends: u8,
    /// 1: the last reply was a preliminary one (RFC 959 section 4.2), so a transfer goes on.
    pub in_transfer: u8,
    /// Zero.
    pub pad: [u8; 2],
    /// TLS records of application data so far: see [`crate::ftp::records`].
    pub records: u32,
    /// How many of [`Asked::records`] have an answer.
    pub answers: u32,
    /// Where the session stands in [`super::TlsClient::sessions`], if it still does.
    pub place: u32,
    /// The number in [`Answered::replies`] of a reply that is told as well: a command that was told got an
    /// answer before it that was perhaps a later one's ([`crate::ftp::said`]).
    pub told_next: u32,
}

/// Bits of [`Answered::line_ends`]: how lines end on this connection (RFC 959 section 2.2 has CR LF).
pub mod line_end {
    /// The server takes a bare line feed for the end of a command: it has answered one with success.
    pub const COMMANDS: u8 = 1;
    /// The server ends its own lines with a bare line feed: its greeting has one.
    pub const REPLIES: u8 = 2;
    /// The server's last line ended with a bare line feed, and [`REPLIES`] is not set: the line may go on.
    pub const BARE: u8 = 4;
}

/// Bits of [`Direction::flags`].
pub mod direction_flag {
    /// The initial sequence number is known: [`seen`](super::Direction::seen) means something.
    pub const STARTED: u8 = 1;
    /// The current line is let through as it is, up to its end.
    pub const LET_GO: u8 = 2;
    /// The last byte, in front of a command, was telnet's IAC.
    pub const AFTER_IAC: u8 = 4;
    /// The handshake was seen: segments are judged by TCP's numbers, see
    /// [`crate::stream::window`].
    pub const TRACKED: u8 = 8;
    /// The last two bytes, in front of a command, were telnet's IAC and WILL, WONT, DO or DONT.
    pub const AFTER_OPTION: u8 = 16;
    /// The last byte of the line was a carriage return.
    pub const AFTER_CR: u8 = 32;
    /// How far a PORT within an over-long line was read, from this bit on: two bits.
    pub const WITHIN: u8 = 64;
    /// All that the reader keeps from one segment to the next.
    pub const READER: u8 = AFTER_IAC | AFTER_OPTION | AFTER_CR | (3 * WITHIN);
}

/// Bits of [`Direction::may_jump`]: when a direction may go on where nothing was seen yet, because what is
/// missing went by another gateway.
pub mod may_jump {
    /// Once, whenever it is.
    pub const ONCE: u8 = 1;
    /// Where the receiver has acknowledged what is missing.
    pub const BEHIND_ACKNOWLEDGED: u8 = 2;
    /// Where its sender repeats what stands behind the gap: what is in it, it does not repeat.
    pub const REPEATED: u8 = 4;
}

/// One direction of a control connection: where its next line starts and what of it is held.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Direction {
    /// Everything before this sequence number (the sender's own) has been inspected and sent on.
    pub seen: u32,
    /// How many bytes of an unfinished line are held: they stand in [`Lines`](super::Lines) at
    /// [`crate::stream::segment::place`], their first sequence number is [`Direction::seen`].
    pub held_len: u16,
    /// Bytes of the current line before [`Direction::seen`]; saturates. While the direction is
    /// encrypted: 0 if [`Direction::head`] says where its records begin.
    pub line_len: u16,
    /// The first eight bytes of the current line in upper case, the first one highest; zeros where
    /// it is shorter. While the direction is encrypted: how far the TLS record under way was read,
    /// see [`crate::ftp::tls`].
    pub head: u64,
    /// [`direction_flag`].
    pub flags: u8,
    /// By how many bits the windows that this direction's sender advertises are shifted (RFC 7323
    /// section 2.2), 0 to 14.
    pub scale: u8,
    /// Bits of [`may_jump`].
    pub may_jump: u8,
    /// 1: a segment behind the sender's SYN had a TCP timestamp.
    pub has_timestamps: u8,
    /// The sender's initial sequence number.
    pub isn: u32,
    /// Since when a line is held, in jiffies; 0: none.
    pub held_since: u64,
    /// Since when segments beyond a gap are dropped, in jiffies; 0: none.
    pub gap_since: u64,
    /// Bytes that the sender was told are delivered before they were:
    /// [`crate::stream::segment::Owed`].
    pub owed: u64,
    /// Up to where the receiver has acknowledged, as the sender counts; written by the receiver's
    /// packets.
    pub acked: u32,
    /// The number behind the last byte, SYN or FIN that the sender has sent, its own.
    pub end: u32,
    /// The first number that the sender may not send yet, its own: the receiver's largest
    /// acknowledgement and advertised window together. Written by the receiver's packets.
    pub window: u32,
    /// How many changes to TLS lie behind the clear text that is read: see [`crate::ftp::tls`].
    pub cleared: u32,
    /// The change to TLS, from 1, after which the sender really spoke it; 0: none. See
    /// [`crate::ftp::records`].
    pub spoke_tls: u32,
    /// The sender's latest TCP timestamp (RFC 7323 section 3), of what came in order; 0: none. See
    /// [`crate::stream::timestamp`].
    pub timestamp: u32,
    /// What was changed, for retransmissions and for sequence numbers.
    pub edits: Edits,
}

impl Session {
    /// Whether the server sees its client under another address than the client has: then that is
    /// what the client's commands must announce.
    #[inline(always)]
    pub fn is_client_hidden(&self) -> bool {
        self.alias.addr != self.outside.addr
    }
}

/// One direction of a session.
#[inline(always)]
pub const fn direction(session: &Session, is_replies: u8) -> &Direction {
    if is_replies != 0 {
        &session.replies
    } else {
        &session.commands
    }
}

/// One direction of a session.
#[inline(always)]
pub const fn direction_mut(session: &mut Session, is_replies: u8) -> &mut Direction {
    if is_replies != 0 {
        &mut session.replies
    } else {
        &mut session.commands
    }
}
