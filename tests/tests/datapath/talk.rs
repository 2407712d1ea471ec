//! A control connection, segment by segment.

use ftp_nat_common::{abi::Session, counter::Counter};

use crate::{
    fixture::Fixture,
    loaded::Datapath,
    packet::{ACK, PSH, Packet, SYN},
    scene::{Ends, hop},
};

/// Who sends a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    Client,
    Server,
}
pub(crate) use Sender::{Client, Server};

/// A control connection that has begun.
///
/// Each end has its own numbers; what the other end sees is ahead by what edits have added.
pub(crate) struct Talk<'d> {
    pub(crate) datapath: &'d mut Datapath,
    pub(crate) ends: Ends,
    /// Of a published server; otherwise of a masqueraded client.
    is_published: bool,
    /// The next sequence number, as the sender counts: client, server.
    pub(crate) next: [u32; 2],
    /// By how much the receiver's count is ahead of the sender's: client, server.
    pub(crate) ahead: [u32; 2],
}

/// TCP options with nothing but this timestamp (RFC 7323 appendix A).
pub(crate) fn timestamp_options(timestamp: u32) -> [u8; 12] {
    let mut options = [1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0];
    options[4..8].copy_from_slice(&timestamp.to_be_bytes());
    options
}

/// The greeting of the server.
const GREETING: &str = "220 ready\r\n";

impl<'d> Talk<'d> {
    /// The handshake and the greeting of a published server, with these initial sequence numbers.
    pub(crate) fn begin(datapath: &'d mut Datapath, ends: Ends, isn: [u32; 2]) -> Self {
        datapath.forget_connections();
        ends.publish(datapath, 0);
        Self::shake_hands(datapath, ends, true, isn).greeted()
    }

    /// The same before the server has said anything.
    pub(crate) fn begin_silently(datapath: &'d mut Datapath, ends: Ends, isn: [u32; 2]) -> Self {
        datapath.forget_connections();
        ends.publish(datapath, 0);
        Self::shake_hands(datapath, ends, true, isn)
    }

    /// The same of a server with a passive range, silently; other servers and sessions stay.
    pub(crate) fn begin_beside(datapath: &'d mut Datapath, ends: Ends, range: [u16; 2]) -> Self {
        ends.publish_range(datapath, range[0], range[1]);
        Self::shake_hands(datapath, ends, true, [1, 2])
    }

    /// The same with bits of [`ftp_nat_common::abi::publish_flag`] and commands that are denied.
    pub(crate) fn begin_denying(
        datapath: &'d mut Datapath,
        ends: Ends,
        flags: u16,
        deny: u64,
    ) -> Self {
        datapath.forget_connections();
        ends.publish_denying(datapath, flags, deny);
        Self::shake_hands(datapath, ends, true, [1000, 2000])
    }

    /// The same of a masqueraded client, behind the kernel's own NAT.
    pub(crate) fn begin_masqueraded(datapath: &'d mut Datapath, ends: Ends, isn: [u32; 2]) -> Self {
        datapath.forget_connections();
        datapath.masquerade(ends.outside.port());
        let own = Packet::new(ends.inside, ends.outside).syn().seq(isn[0]);
        Fixture::lan("the client's own SYN", &own).check(datapath);
        Self::shake_hands(datapath, ends, false, isn).greeted()
    }

    /// The same of a client whose SYN no interface of the inside has seen.
    pub(crate) fn begin_translated(datapath: &'d mut Datapath, ends: Ends, isn: [u32; 2]) -> Self {
        datapath.forget_connections();
        datapath.masquerade(ends.outside.port());
        Self::shake_hands(datapath, ends, false, isn).greeted()
    }

    /// The same of a published server whose SYN has a timestamp, as the client's always has.
    pub(crate) fn begin_with_timestamps(
        datapath: &'d mut Datapath,
        ends: Ends,
        server: u32,
    ) -> Self {
        datapath.forget_connections();
        ends.publish(datapath, 0);
        let options = timestamp_options(server);
        Self::shake_hands_with(datapath, ends, true, [1000, 2000], &options)
    }

    /// A handshake, behind which nothing was said.
    pub(crate) fn shake_hands(
        datapath: &'d mut Datapath,
        ends: Ends,
        is_published: bool,
        isn: [u32; 2],
    ) -> Self {
        Self::shake_hands_with(datapath, ends, is_published, isn, &[])
    }

    fn shake_hands_with(
        datapath: &'d mut Datapath,
        ends: Ends,
        is_published: bool,
        isn: [u32; 2],
        server_options: &[u8],
    ) -> Self {
        let mut talk = Self {
            datapath,
            ends,
            is_published,
            next: isn,
            ahead: [0, 0],
        };
        let syn = talk.segment(Client, "").syn();
        talk.arrives("SYN", Client, &syn, "", &[Counter::HandshakeStarted]);
        talk.next[0] = isn[0].wrapping_add(1);
        let answer = talk.segment(Server, "").flags(SYN | ACK);
        let answer = answer.tcp_options(server_options);
        talk.arrives("SYN and ACK", Server, &answer, "", &[]);
        talk.next[1] = isn[1].wrapping_add(1);
        let ack = talk.segment(Client, "").flags(ACK);
        talk.arrives("ACK", Client, &ack, "", &[Counter::SessionOpened]);
        talk.datapath.events();
        talk
    }

    fn greeted(mut self) -> Self {
        self.passes(Server, GREETING);
        self
    }

    /// The segment that `sender` would send next.
    pub(crate) fn segment(&self, sender: Sender, text: impl AsRef<[u8]>) -> Packet {
        let (own, other) = (sender as usize, 1 - sender as usize);
        let packet = match (sender, self.is_published) {
            (Client, true) | (Server, false) => self.ends.inbound(),
            (Server, true) => self.ends.outbound(),
            (Client, false) => Packet::new(self.ends.public, self.ends.outside),
        };
        packet
            .flags(ACK | PSH)
            .seq(self.next[own])
            .ack(self.next[other].wrapping_add(self.ahead[other]))
            .payload(text)
    }

    /// What must leave in place of a segment of `sender`, with this text in it.
    pub(crate) fn becomes(
        &self,
        sender: Sender,
        packet: &Packet,
        text: impl AsRef<[u8]>,
    ) -> Packet {
        let (own, other) = (sender as usize, 1 - sender as usize);
        let packet = packet.clone().payload(text).padding(&[]);
        let seq = packet.seq.wrapping_add(self.ahead[own]);
        let ack = packet.ack.wrapping_sub(self.ahead[other]);
        let packet = packet.seq(seq).ack(ack);
        match (sender, self.is_published) {
            (Client, true) => hop(self.ends.inwards(&packet)),
            (Server, true) => hop(self.ends.outwards(&packet)),
            (_, false) => packet,
        }
    }

    /// A row about this packet of `sender`.
    pub(crate) fn fixture(&self, sender: Sender, name: &str, packet: &Packet) -> Fixture {
        let name = format!("{sender:?} {:?}: {name}", self.ends.outside);
        match (sender, self.is_published) {
            (Client, true) | (Server, false) => Fixture::wan(name, packet),
            (Server, true) => Fixture::lan(name, packet),
            (Client, false) => Fixture::egress(name, packet),
        }
    }

    /// This packet of `sender` arrives, with `text` in it, and these counters move.
    pub(crate) fn arrives(
        &self,
        name: &str,
        sender: Sender,
        packet: &Packet,
        text: &str,
        counted: &[Counter],
    ) {
        let out = self.becomes(sender, packet, text);
        let fixture = self.fixture(sender, name, packet);
        let fixture = if self.is_published {
            fixture.redirected(&out)
        } else {
            fixture.rewritten(&out)
        };
        fixture.counting(counted).check(self.datapath);
    }

    /// `sender` says `text`, which arrives as `arrives`, and these counters move.
    pub(crate) fn says(&mut self, sender: Sender, text: &str, arrives: &str, counted: &[Counter]) {
        let packet = self.segment(sender, text);
        self.arrives(text, sender, &packet, arrives, counted);
        let own = sender as usize;
        self.next[own] = self.next[own].wrapping_add(text.len() as u32);
        self.ahead[own] = self.ahead[own]
            .wrapping_add(arrives.len() as u32)
            .wrapping_sub(text.len() as u32);
    }

    /// `sender` says `text`, which arrives as it is.
    pub(crate) fn passes(&mut self, sender: Sender, text: &str) {
        self.says(sender, text, text, &[]);
    }

    /// `sender` says `text`, which does not arrive now: its next segment will be behind it.
    pub(crate) fn is_held(&mut self, sender: Sender, text: &str) {
        let packet = self.segment(sender, text);
        self.fixture(sender, text, &packet)
            .dropped()
            .counting(&[Counter::LineHeld])
            .check(self.datapath);
        let own = sender as usize;
        self.next[own] = self.next[own].wrapping_add(text.len() as u32);
    }

    /// The end of a line whose first part, `held`, stopped at the gateway: both arrive.
    pub(crate) fn completes(
        &mut self,
        sender: Sender,
        held: &str,
        text: &str,
        arrives: &str,
        counted: &[Counter],
    ) {
        let packet = self.segment(sender, text);
        let from_start = packet
            .clone()
            .seq(packet.seq.wrapping_sub(held.len() as u32));
        let out = self.becomes(sender, &from_start, arrives);
        let fixture = self.fixture(sender, text, &packet);
        let fixture = if self.is_published {
            fixture.redirected(&out)
        } else {
            fixture.rewritten(&out)
        };
        fixture
            .counting(counted)
            .counting(&[Counter::LineMerged])
            .check(self.datapath);
        let own = sender as usize;
        self.next[own] = self.next[own].wrapping_add(text.len() as u32);
        self.ahead[own] = self.ahead[own]
            .wrapping_add(arrives.len() as u32)
            .wrapping_sub((held.len() + text.len()) as u32);
    }

    /// The one session there is.
    pub(crate) fn session(&self) -> Session {
        let [(_, session)] = self.datapath.sessions.all()[..] else {
            panic!("{} sessions", self.datapath.sessions.len());
        };
        session
    }

    /// What is announced and has not come: side, port at the gateway, port it leads to.
    pub(crate) fn mappings(&self) -> Vec<(u32, u16, u16)> {
        let mut mappings: Vec<_> = self
            .datapath
            .mappings
            .all()
            .iter()
            .map(|(key, mapping)| (key.side, key.dport.number(), mapping.to.port.number()))
            .collect();
        mappings.sort_unstable();
        mappings
    }
}
