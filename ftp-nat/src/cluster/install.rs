//! From records to the tables: what another gateway tells is checked against this one's own
//! configuration, compared with what is here, and put where packets find it.
//!
//! Nothing is believed that the configuration does not allow: a record opens no port that is not
//! published here, to nobody but its session's own peer.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use bytemuck::Zeroable as _;
use ftp_nat_common::{
    abi::{
        DialogueKey, Direction, Flow, FlowKey as _, FlowKey4, FlowKey6, InsideNetwork, ListKey,
        Mapping, MappingKey, Publish, PublishKey, REVERSED, RoutedKey, Session, TLS_SESSIONS,
        TlsClientKey, direction_mut, flow_flag, interface_flag, kind, mapping_flag, port,
        publish_flag, refuse_peer, refuse_session, role, session_flag, share_of_session, side,
    },
    edit::{edits::REMEMBERED, text::TEXT_MAX},
    stream::adopt::adopt,
    wire::{
        addr::{Addr, Endpoint, Port},
        seq::distance,
    },
};

use super::{
    describe::key,
    record::{ConnectionRecord, DirectionRecord, MappingRecord, Record, SessionRecord},
};
use crate::{
    datapath::maps::{ListPrefix, Maps, Prefix, RoutedPrefix},
    kernel::{clock::Clock, table::Table},
    model::flow::{self, Key},
};

/// A connection that had a packet so lately lives here, whatever another gateway says of its end.
const BUSY: Duration = Duration::from_secs(2);
/// A connection that is younger by more is another one: what two gateways make of one's age differs by less.
const DRIFT: Duration = Duration::from_secs(1);
/// SYN and ACK, as a connection has them that another gateway let in.
const ESTABLISHED: u8 = 0x12;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the tables.
    Installed,
    /// What is here is at least as new.
    Stale,
    /// The configuration here does not allow it.
    Refused,
    /// The table is full.
    NoRoom,
}

/// What is remembered of a session, so that its connections are checked without a look at the table.
#[derive(Clone, Copy, Debug)]
struct Known {
    inside: Endpoint,
    outside: Endpoint,
    public: Endpoint,
    role: u8,
    flags: u8,
    passive: [u16; 2],
    /// The key of its client's share, and how many data connections that may have.
    client: Addr,
    most_connections: u32,
}

/// Takes over what others tell.
pub struct Installer {
    maps: Arc<Maps>,
    clock: Clock,
    /// The masqueraded clients' networks.
    inside: Vec<(Prefix, InsideNetwork)>,
    /// The networks whose servers keep their addresses.
    routed: Vec<(RoutedPrefix, Publish)>,
    sessions: HashMap<u32, Known>,
    /// Those that are found by their ends' addresses, with their places among their clients'.
    entered: HashMap<u32, u32>,
    /// Those of which an announced connection was told.
    announced: HashSet<u32>,
    /// Interfaces that packets may be redirected through, inside and outside, with their MTU; none:
    /// the stack forwards.
    exits: [Option<(u32, u32)>; 2],
}

impl Installer {
    /// Into these tables.
    pub fn new(maps: Arc<Maps>, clock: Clock) -> Self {
        Self {
            maps,
            clock,
            inside: Vec::new(),
            routed: Vec::new(),
            sessions: HashMap::new(),
            entered: HashMap::new(),
            announced: HashSet::new(),
            exits: [None; 2],
        }
    }

    /// Looks at the interfaces and the configuration anew.
    ///
    /// # Errors
    ///
    /// When a table cannot be read.
    pub fn refresh(&mut self) -> io::Result<()> {
        self.inside = self.maps.inside.all()?;
        self.routed = self.maps.routed.all()?;
        self.sessions.clear();
        self.entered.clear();
        self.announced.clear();
        self.maps.mappings.each(|_, mapping| {
            if mapping.flags & mapping_flag::LEARNED != 0 {
                self.announced.insert(mapping.session);
            }
        })?;
        let mut exits = [None; 2];
        self.maps.interfaces.each(|index, interface| {
            for (place, role) in [interface_flag::LAN, interface_flag::WAN]
                .into_iter()
                .enumerate()
            {
                let wanted = role | interface_flag::ETHERNET;
                if interface.flags & wanted == wanted {
                    exits[place] = Some((*index, interface.mtu));
                }
            }
        })?;
        self.exits = if exits.iter().all(Option::is_some) {
            exits
        } else {
            [None; 2]
        };
        Ok(())
    }

    /// Takes a record over.
    ///
    /// # Errors
    ///
    /// When a table cannot be read or written, but for want of room.
    pub fn install(&mut self, record: &Record) -> io::Result<Outcome> {
        let installed = match record {
            Record::Session(record) => self.session(record),
            Record::Connection(record) => self.connection(record),
            Record::Mapping(record) => self.mapping(record),
            Record::SessionEnded { session } => self.session_ended(*session),
            Record::ConnectionEnded(record) => self.connection_ended(record),
            Record::MappingEnded(record) => self.mapping_ended(record),
            Record::Ask { .. }
            | Record::AllTold { .. }
            | Record::Holds { .. }
            | Record::Denied(_)
            | Record::Drained(_) => Ok(Outcome::Stale),
        };
        match installed {
            // E2BIG, ENOMEM: full.
            Err(error) if matches!(error.raw_os_error(), Some(libc::E2BIG | libc::ENOMEM)) => {
                Ok(Outcome::NoRoom)
            }
            other => other,
        }
    }

    fn session(&mut self, record: &SessionRecord) -> io::Result<Outcome> {
        let Some(mut session) = self.allowed(record)? else {
            return Ok(Outcome::Refused);
        };
        let known = Known::of(&session);
        let here = self.maps.sessions.get(&record.session)?;
        if let Some(here) = here {
            if Known::of(&here).ends() != known.ends() {
                return Ok(Outcome::Refused);
            }
            self.sessions.insert(record.session, Known::of(&here));
            if !is_behind(&here, record) {
                return Ok(Outcome::Stale);
            }
        }
        session.born = self.ago(record.age);
        session.answered.encrypted = record.encrypted;
        fill(direction_mut(&mut session, 0), &record.commands);
        fill(direction_mut(&mut session, 1), &record.replies);
        adopt(&mut session);
        session.answered.place = self.enter(record.session, &known)?;
        if let Err(error) = self.maps.sessions.set(&record.session, &session) {
            self.forget(record.session);
            return Err(error);
        }
        self.sessions.insert(record.session, known);
        if here.is_none() {
            // A connection that its server makes to its client unasked is told here, too.
            let dialogue = DialogueKey::of(&session);
            self.maps.dialogues.set(&dialogue, &record.session)?;
        }
        Ok(Outcome::Installed)
    }

    /// Makes a session one of its client's, so that either end's packets find it: as the datapath does
    /// with those that speak TLS. Gives its place among the client's.
    fn enter(&mut self, number: u32, known: &Known) -> io::Result<u32> {
        if let Some(place) = self.entered.get(&number) {
            return Ok(*place);
        }
        let mut place = 0;
        for server in [known.public.addr, known.inside.addr] {
            let key = TlsClientKey {
                client: known.outside.addr,
                public: server,
            };
            let mut client = self.maps.tls_clients.get(&key)?.unwrap_or_default();
            place = client.entered % TLS_SESSIONS as u32;
            if !client.sessions.contains(&number) {
                client.sessions[place as usize] = number;
                client.entered = client.entered.wrapping_add(1);
                self.maps.tls_clients.set(&key, &client)?;
            }
        }
        self.entered.insert(number, place);
        Ok(place)
    }

    /// The same with a session of this gateway.
    ///
    /// # Errors
    ///
    /// When a table cannot be read or written.
    pub fn enter_own(&mut self, number: u32) -> io::Result<()> {
        if let Some(known) = self.known(number)? {
            self.enter(number, &known)?;
        }
        Ok(())
    }

    /// The session as this gateway's configuration has it; none: it allows no such session.
    fn allowed(&self, record: &SessionRecord) -> io::Result<Option<Session>> {
        let mut session = Session::zeroed();
        session.role = record.role;
        session.inside = record.inside.into();
        session.outside = record.outside.into();
        session.public = record.public.into();
        session.alias = session.outside;
        let ends = [&session.inside, &session.outside, &session.public];
        let hosts = [&session.inside.addr, &session.public.addr];
        if record.session == 0 || !are_ends(&ends) || hosts.contains(&&session.outside.addr) {
            return Ok(None);
        }
        match record.role {
            role::PUBLISH => {
                let Some(publish) = self.published(&session.public, &session.inside)? else {
                    return Ok(None);
                };
                session.go_by(&publish);
            }
            role::MASQUERADE => {
                let client = &session.inside.addr;
                // The smallest network counts.
                let network = self
                    .inside
                    .iter()
                    .filter(|(network, _)| network.contains(client))
                    .max_by_key(|(network, _)| network.bits);
                let Some((_, network)) = network else {
                    return Ok(None);
                };
                let bits = self.maps.ports.get(session.outside.port.number());
                if bits & port::MASQUERADED == 0 {
                    return Ok(None);
                }
                session.flags = session_flag::KERNEL_NAT | network.flags as u8;
                session.deny = network.deny;
                session.advertise = session.public.addr;
                let settings = self.maps.settings();
                session.most_connections = settings.map_or(0, |it| it.client_connections);
            }
            _ => return Ok(None),
        }
        if self.is_denied(&session)? {
            return Ok(None);
        }
        Ok(Some(session))
    }

    /// Whether the lists of this gateway keep the session's peer out, as the datapath judges it.
    fn is_denied(&self, session: &Session) -> io::Result<bool> {
        let now = self.clock.now();
        let mut unread = None;
        let refuses = |list, scope| {
            let key = ListKey {
                list,
                scope,
                addr: session.outside.addr,
            };
            let bits = ListKey::ALL;
            match self.maps.lists.get(&ListPrefix { bits, key }) {
                Ok(found) => found.is_some_and(|it| it.refuses(list, now)),
                Err(error) => {
                    unread = Some(error);
                    false
                }
            }
        };
        let refusal = if session.role == role::PUBLISH {
            refuse_session(session.index.wrapping_add(1), refuses)
        } else {
            // Who may be called is no matter of allow lists.
            refuse_peer(refuses)
        };
        match unread {
            Some(error) => Err(error),
            None => Ok(refusal.is_some()),
        }
    }

    /// What is published at this end, if it leads to this server.
    fn published(&self, public: &Endpoint, server: &Endpoint) -> io::Result<Option<Publish>> {
        let key = PublishKey {
            addr: public.addr,
            port: public.port,
            pad: 0,
        };
        if let Some(publish) = self.maps.published.get(&key)? {
            let leads = self.is_server(&key, &publish, server)?;
            return Ok(leads.then_some(publish));
        }
        // The smallest network counts.
        let routed = self
            .routed
            .iter()
            .filter(|(network, _)| {
                let addresses = Prefix {
                    bits: network.bits.saturating_sub(RoutedKey::BEFORE_ADDRESS),
                    address: network.key.addr,
                };
                network.key.port == public.port && addresses.contains(&public.addr)
            })
            .max_by_key(|(network, _)| network.bits);
        let publish = routed.map(|(_, publish)| *publish);
        Ok(publish.filter(|_| server == public))
    }

    /// Whether a published end leads to this server: to one of its pool's, whatever its state is here.
    fn is_server(
        &self,
        public: &PublishKey,
        publish: &Publish,
        server: &Endpoint,
    ) -> io::Result<bool> {
        if publish.flags & publish_flag::POOL == 0 {
            let dialled = Endpoint::new(public.addr, public.port);
            return Ok(publish.server_for(&dialled) == *server);
        }
        let pool = self.maps.pools.get(public)?;
        Ok(pool.is_some_and(|pool| pool.all().iter().any(|it| it.server == *server)))
    }

    /// What is known of a session that is in the table.
    fn known(&mut self, number: u32) -> io::Result<Option<Known>> {
        if let Some(known) = self.sessions.get(&number) {
            return Ok(Some(*known));
        }
        let session = self.maps.sessions.get(&number)?;
        let known = session.as_ref().map(Known::of);
        if let Some(known) = known {
            self.sessions.insert(number, known);
        }
        Ok(known)
    }

    fn connection(&mut self, record: &ConnectionRecord) -> io::Result<Outcome> {
        let Some(known) = self.known(record.session)? else {
            return Ok(Outcome::Refused);
        };
        if !known.allows_connection(record) {
            return Ok(Outcome::Refused);
        }
        let public: Endpoint = record.public.into();
        let outcome = if public.addr.is_v4() {
            self.put_connection(&self.maps.flows4, &known, record)
        } else {
            self.put_connection(&self.maps.flows6, &known, record)
        }?;
        let was_announced = self.announced.contains(&record.session);
        if outcome == Outcome::Installed && record.kind != kind::CONTROL && was_announced {
            self.forget_mapping(&known, record)?;
        }
        Ok(outcome)
    }

    fn put_connection<K: Key>(
        &self,
        table: &Table<K, Flow>,
        known: &Known,
        record: &ConnectionRecord,
    ) -> io::Result<Outcome> {
        let (outside, public, inside): (Endpoint, Endpoint, Endpoint) = (
            record.outside.into(),
            record.public.into(),
            record.inside.into(),
        );
        let inbound_key = K::new(&outside, &public);
        let [inbound, outbound] = self.flows(known, record);
        let outbound_key = inbound_key.other_way(&inbound);
        let is_new = table.add(&inbound_key, &inbound)?;
        if !is_new && let Some(mut here) = table.get(&inbound_key)? {
            let last_seen = self.ago(record.silent);
            if here.session == record.session {
                // Nothing but its age changes; and that only where no packet keeps it young.
                if here.seen_at(self.clock.now()) < last_seen && here.packets == 0 {
                    here.last_seen = last_seen as u32;
                    table.replace(&inbound_key, &here)?;
                }
                return Ok(Outcome::Stale);
            }
            if here.born >= self.ago(record.age) {
                return Ok(Outcome::Stale);
            }
            table.delete(&inbound_key.other_way(&here))?;
        }
        if !is_new {
            table.set(&inbound_key, &inbound)?;
        }
        if let Err(error) = table.set(&outbound_key, &outbound) {
            table.delete(&inbound_key)?;
            return Err(error);
        }
        self.mark(&[public.port, inside.port, outside.port], record.kind);
        Ok(Outcome::Installed)
    }

    /// The entries of a connection, inbound and outbound.
    fn flows(&self, known: &Known, record: &ConnectionRecord) -> [Flow; 2] {
        let (outside, public, inside): (Endpoint, Endpoint, Endpoint) = (
            record.outside.into(),
            record.public.into(),
            record.inside.into(),
        );
        let seen: Endpoint = record.seen.map_or(outside, Into::into);
        let [born, last_seen] = [record.age, record.silent].map(|millis| self.ago(millis));
        let mut inbound = Flow::zeroed();
        let mut outbound = Flow::zeroed();
        inbound.translate([&outside, &public], [&seen, &inside]);
        outbound.translate([&inside, &seen], [&public, &outside]);
        let server_inside = known.role == role::PUBLISH;
        for (flow, is_outbound, exit) in [
            (&mut inbound, false, self.exits[0]),
            (&mut outbound, true, self.exits[1]),
        ] {
            flow.kind = record.kind;
            flow.session = record.session;
            flow.born = born;
            flow.last_seen = last_seen as u32;
            flow.tcp_flags = ESTABLISHED;
            flow.flags = flow_flag::LEARNED;
            if is_outbound {
                flow.flags |= flow_flag::OUTBOUND;
            }
            if record.is_untranslated {
                flow.flags |= flow_flag::NO_NAT;
            }
            if record.kind == kind::CONTROL && is_outbound == server_inside {
                flow.flags |= flow_flag::REPLIES;
            }
            if let Some((ifindex, mtu)) = exit
                && !record.is_untranslated
            {
                // The first packet looks its route up.
                flow.out_ifindex = ifindex;
                flow.out_mtu = mtu.try_into().unwrap_or(u16::MAX);
            }
        }
        [inbound, outbound]
    }

    /// Marks the ports of a data connection as in use; those of control connections are by the
    /// configuration.
    fn mark(&self, ports: &[Port], of: u8) {
        if of == kind::CONTROL {
            return;
        }
        let epoch = port::epoch(self.clock.now(), self.clock.hz());
        for port in ports.iter().filter(|port| port.number() != 0) {
            self.maps.ports.set_epoch(port.number(), epoch);
        }
    }

    fn mapping(&mut self, record: &MappingRecord) -> io::Result<Outcome> {
        let Some(known) = self.known(record.session)? else {
            return Ok(Outcome::Refused);
        };
        if !known.allows_mapping(record) {
            return Ok(Outcome::Refused);
        }
        let now = self.clock.now();
        let [forward, reversed] = keys(&known, record);
        let (public, inside): (Endpoint, Endpoint) = (record.public.into(), record.inside.into());
        let (to, back) = if record.is_outward {
            (public, inside)
        } else {
            (inside, public)
        };
        let mut mapping = Mapping {
            to,
            session: record.session,
            kind: record.kind,
            cause: record.cause,
            flags: mapping_flag::LEARNED,
            client: known.client,
            most_connections: known.most_connections,
            born: now,
            expires: now.saturating_add(self.clock.ticks(Duration::from_millis(record.left))),
            ..Mapping::zeroed()
        };
        let here = self.maps.mappings.get(&forward)?;
        if let Some(here) = here {
            // One of another session that still waits was first.
            if here.session != record.session && here.expires > now {
                return Ok(Outcome::Stale);
            }
            if here.flags & mapping_flag::LEARNED == 0 && here.expires >= mapping.expires {
                return Ok(Outcome::Stale);
            }
        }
        self.announced.insert(record.session);
        self.mark(&[forward.dport, inside.port, public.port], record.kind);
        if here.is_some() {
            self.maps.mappings.set(&forward, &mapping)?;
        } else if !self.maps.mappings.add(&forward, &mapping)? {
            // One that was announced here has come meanwhile.
            return Ok(Outcome::Stale);
        }
        mapping.to = back;
        self.maps.mappings.set(&reversed, &mapping)?;
        Ok(Outcome::Installed)
    }

    /// Removes the mapping that a connection has used at the other gateway.
    fn forget_mapping(&self, known: &Known, record: &ConnectionRecord) -> io::Result<()> {
        let (outside, public, inside): (Endpoint, Endpoint, Endpoint) = (
            record.outside.into(),
            record.public.into(),
            record.inside.into(),
        );
        let is_outward = record.kind == kind::ACTIVE && known.role == role::PUBLISH;
        let keys = keys_of(known, is_outward, &outside, &public, &inside);
        for key in keys {
            self.take_learned(&key, record.session)?;
        }
        Ok(())
    }

    /// Removes a mapping of this session that was learned; whether there was one. What this gateway has let through
    /// itself waits on: it may be a later announcement of the same port.
    fn take_learned(&self, key: &MappingKey, session: u32) -> io::Result<bool> {
        let is_it = |mapping: Mapping| {
            mapping.session == session && mapping.flags & mapping_flag::LEARNED != 0
        };
        let mappings = &self.maps.mappings;
        if !mappings.get(key)?.is_some_and(is_it) {
            return Ok(false);
        }
        let taken = mappings.take(key)?;
        if let Some(another) = taken.filter(|taken| !is_it(*taken)) {
            // It has come meanwhile.
            mappings.add(key, &another)?;
            return Ok(false);
        }
        Ok(taken.is_some())
    }

    fn mapping_ended(&mut self, record: &MappingRecord) -> io::Result<Outcome> {
        let Some(known) = self.known(record.session)? else {
            return Ok(Outcome::Stale);
        };
        let mut outcome = Outcome::Stale;
        for key in keys(&known, record) {
            if self.take_learned(&key, record.session)? {
                outcome = Outcome::Installed;
            }
        }
        Ok(outcome)
    }

    fn connection_ended(&self, record: &ConnectionRecord) -> io::Result<Outcome> {
        let public: Endpoint = record.public.into();
        if public.addr.is_v4() {
            self.end_connection(&self.maps.flows4, record)
        } else {
            self.end_connection(&self.maps.flows6, record)
        }
    }

    fn end_connection<K: Key>(
        &self,
        table: &Table<K, Flow>,
        record: &ConnectionRecord,
    ) -> io::Result<Outcome> {
        let (outside, public): (Endpoint, Endpoint) = (record.outside.into(), record.public.into());
        let key = K::new(&outside, &public);
        let Some(flow) = table.get(&key)? else {
            return Ok(Outcome::Stale);
        };
        let other_key = key.other_way(&flow);
        let other = table.get(&other_key)?;
        let now = self.clock.now();
        let last = flow::seen_at(&flow, other.as_ref(), now);
        let is_used = flow.packets + other.map_or(0, |other| other.packets) > 0;
        let busy = self.clock.ticks(BUSY);
        // Its end may be told when the next one between the same ends is here.
        let is_next = record.age > 0 && flow.born > self.ago(record.age) + self.clock.ticks(DRIFT);
        if is_next || flow.session != record.session || is_used && last + busy > now {
            return Ok(Outcome::Stale);
        }
        table.delete(&other_key)?;
        table.delete(&key)?;
        Ok(Outcome::Installed)
    }

    /// A session has ended.
    pub fn forget(&mut self, number: u32) {
        self.sessions.remove(&number);
        self.entered.remove(&number);
        self.announced.remove(&number);
    }

    fn session_ended(&mut self, number: u32) -> io::Result<Outcome> {
        self.forget(number);
        let Some(session) = self.maps.sessions.get(&number)? else {
            return Ok(Outcome::Stale);
        };
        // The one that lives here has its control connection here, which was not ended.
        let (outside, public) = (&session.outside, &session.public);
        let is_connected = if public.addr.is_v4() {
            let key = FlowKey4::new(outside, public);
            self.maps
                .flows4
                .get(&key)?
                .is_some_and(|it| it.session == number)
        } else {
            let key = FlowKey6::new(outside, public);
            self.maps
                .flows6
                .get(&key)?
                .is_some_and(|it| it.session == number)
        };
        if is_connected {
            return Ok(Outcome::Stale);
        }
        self.maps.sessions.delete(&number)?;
        Ok(Outcome::Installed)
    }

    /// The tick of so many milliseconds ago.
    fn ago(&self, millis: u64) -> u64 {
        let ticks = self.clock.ticks(Duration::from_millis(millis));
        self.clock.now().saturating_sub(ticks)
    }
}

impl Known {
    fn of(session: &Session) -> Self {
        Self {
            inside: session.inside,
            outside: session.outside,
            public: session.public,
            role: session.role,
            flags: session.flags,
            passive: [session.passive_first, session.passive_last],
            client: share_of_session(session),
            most_connections: session.most_connections,
        }
    }

    fn ends(&self) -> [Endpoint; 3] {
        [self.inside, self.outside, self.public]
    }

    /// Whether a connection may be of this session.
    fn allows_connection(&self, record: &ConnectionRecord) -> bool {
        let (outside, public, inside): (Endpoint, Endpoint, Endpoint) = (
            record.outside.into(),
            record.public.into(),
            record.inside.into(),
        );
        if public.addr != self.public.addr
            || inside.addr != self.inside.addr
            || record.seen.is_some()
        {
            return false;
        }
        match record.kind {
            kind::CONTROL => {
                let is_untranslated =
                    self.flags & (session_flag::KERNEL_NAT | session_flag::LOCAL) != 0;
                outside == self.outside
                    && public.port == self.public.port
                    && inside.port == self.inside.port
                    && record.is_untranslated == is_untranslated
            }
            kind::PASSIVE | kind::ACTIVE => {
                let may_be_anybody = self.flags & session_flag::ANY_PEER != 0;
                let is_inward = record.kind == kind::PASSIVE || self.role == role::MASQUERADE;
                let is_own = outside.addr == self.outside.addr || may_be_anybody;
                let may_be = if is_inward {
                    self.may_listen(inside.port.number(), true) && public.port.number() >= 1024
                } else {
                    self.may_listen(outside.port.number(), false)
                        && [inside.port, public.port].iter().all(dials)
                };
                is_own && may_be && !record.is_untranslated && are_ends(&[&outside])
            }
            _ => false,
        }
    }

    /// Whether an announcement may be of this session.
    fn allows_mapping(&self, record: &MappingRecord) -> bool {
        let (public, inside): (Endpoint, Endpoint) = (record.public.into(), record.inside.into());
        let is_outward = record.kind == kind::ACTIVE && self.role == role::PUBLISH;
        let may_be_anybody = self.flags & session_flag::ANY_PEER != 0;
        let is_own = match record.outside {
            Some(outside) => Endpoint::from(outside).addr == self.outside.addr,
            None => may_be_anybody && !record.is_outward,
        };
        // 0: the server has yet to choose.
        let public_port_fits = if record.is_outward {
            public.port.number() == 0 || dials(&public.port)
        } else {
            public.port.number() >= 1024
        };
        let listens = if record.is_outward {
            record.outside.map_or(0, |end| end.port)
        } else {
            inside.port.number()
        };
        matches!(record.kind, kind::PASSIVE | kind::ACTIVE)
            && record.is_outward == is_outward
            && is_own
            && public.addr == self.public.addr
            && inside.addr == self.inside.addr
            && public_port_fits
            && self.may_listen(listens, !record.is_outward)
    }

    /// Whether a data connection may go to this port: as the datapath judges announcements.
    fn may_listen(&self, port: u16, is_inward: bool) -> bool {
        let [first, last] = self.passive;
        let in_range = first == 0 || (first..=last).contains(&port);
        port >= 1024 && (self.role != role::PUBLISH || !is_inward || in_range)
    }
}

/// The port that servers connect from (RFC 959 section 3.2).
const DATA_PORT: u16 = 20;

/// Whether a server may connect from this port.
fn dials(port: &Port) -> bool {
    port.number() == DATA_PORT || port.number() >= 1024
}

/// Whether these can be the ends of one connection: hosts, by one version of IP.
fn are_ends(ends: &[&Endpoint]) -> bool {
    let is_host = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => {
            !ip.is_broadcast() && !ip.is_multicast() && !ip.is_loopback() && ip.octets()[0] != 0
        }
        IpAddr::V6(ip) => !ip.is_multicast() && !ip.is_loopback() && !ip.is_unspecified(),
    };
    ends.iter().all(|end| {
        end.port.number() != 0
            && is_host(end.addr.to_ip())
            && end.addr.is_v4() == ends[0].addr.is_v4()
    })
}

/// Whom a pinhole of this session names.
fn peer(known: &Known, outside: &Endpoint) -> Addr {
    if known.flags & session_flag::ANY_PEER != 0 {
        Addr::default()
    } else {
        outside.addr
    }
}

/// The two keys of a mapping that was learned: of packets of the end that opens the connection, and of
/// the other end's.
fn keys(known: &Known, record: &MappingRecord) -> [MappingKey; 2] {
    let outside = record.outside.map_or(known.outside, Into::into);
    let (public, inside) = (record.public.into(), record.inside.into());
    keys_of(known, record.is_outward, &outside, &public, &inside)
}

/// The same for a connection between these ends. `is_outward`: the server behind the gateway opens it.
fn keys_of(
    known: &Known,
    is_outward: bool,
    outside: &Endpoint,
    public: &Endpoint,
    inside: &Endpoint,
) -> [MappingKey; 2] {
    if is_outward {
        [
            key(&inside.addr, outside, side::OUTBOUND),
            reverse(&outside.addr, &public.addr, outside.port, side::INBOUND),
        ]
    } else {
        [
            key(&peer(known, outside), public, side::INBOUND),
            reverse(&inside.addr, &outside.addr, inside.port, side::OUTBOUND),
        ]
    }
}

fn reverse(src: &Addr, dst: &Addr, sport: Port, side: u32) -> MappingKey {
    key(src, &Endpoint::new(*dst, sport), side | REVERSED)
}

/// Whether what is here is older than a record, in either direction.
fn is_behind(here: &Session, record: &SessionRecord) -> bool {
    let ahead = |direction: &Direction, record: &DirectionRecord| {
        distance(record.end, direction.end) > 0
            || distance(record.seen, direction.seen) > 0
            || record
                .count
                .wrapping_sub(direction.edits.count)
                .cast_signed()
                > 0
    };
    let is_ahead =
        |direction: &Direction, record: &DirectionRecord| distance(direction.end, record.end) > 0;
    (ahead(&here.commands, &record.commands) || ahead(&here.replies, &record.replies))
        && !is_ahead(&here.commands, &record.commands)
        && !is_ahead(&here.replies, &record.replies)
        || record
            .encrypted
            .wrapping_sub(here.answered.encrypted)
            .cast_signed()
            > 0
}

fn fill(direction: &mut Direction, record: &DirectionRecord) {
    direction.isn = record.isn;
    direction.seen = record.seen;
    direction.acked = record.acked;
    direction.end = record.end;
    direction.window = record.window;
    direction.scale = record.scale & 15;
    direction.cleared = record.cleared;
    let edits = &mut direction.edits;
    edits.count = record.count;
    edits.adjusted = record.adjusted;
    edits.growth = record.growth;
    let told = record.edits.len().min(REMEMBERED);
    let skipped = record.edits.len() - told;
    for (place, edit) in record.edits.iter().skip(skipped).enumerate() {
        let number = (record.count as usize)
            .wrapping_sub(told)
            .wrapping_add(place);
        let latest = &mut edits.latest[number % REMEMBERED];
        let length = edit.text.len().min(TEXT_MAX);
        latest.start = edit.start;
        latest.before = edit.before;
        latest.old_len = edit.old_len;
        latest.new_len = length as u16;
        latest.from = 0;
        latest.text[..length].copy_from_slice(&edit.text[..length]);
    }
}
