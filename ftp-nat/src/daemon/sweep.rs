//! Ending what has lived too long: connections, mappings, sessions, ports.
//!
//! Packets go on while the sweep reads, so nothing is deleted on the strength of what was read:
//! each is looked at again just before, and what turns out to be alive in the very moment that it
//! is taken out is put back.

use std::{
    collections::HashSet,
    io,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use ftp_nat_common::abi::{Event, Flow, LinesKey, Mapping, MappingKey, event, kind, port, side};

use self::lifetime::Lifetimes;
use super::occurrence::Ended;
use crate::{
    datapath::maps::Maps,
    kernel::{clock::Clock, table::Table},
    model::{
        flow::{self, Key, State},
        mapping,
    },
    policy::Policy,
};

pub(super) mod lifetime;

/// What a sweep saw and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Connections that ended, by state: see [`State::ALL`].
    pub ended: [u64; State::ALL.len()],
    /// Mappings that nobody used in time.
    pub mappings_expired: u64,
    /// Mappings whose session ended.
    pub mappings_dropped: u64,
    /// Sessions whose control connection is gone.
    pub sessions: u64,
    /// Ports that are of no interest any more.
    pub ports: u64,
    /// How long it took.
    pub took: Duration,
}

/// Who is told what has ended.
pub type Tell<'t> = dyn FnMut(&Event, Option<Ended>) + 't;

/// Ports in use.
struct PortSet(Vec<u64>);

impl PortSet {
    fn new() -> Self {
        Self(vec![0; 65536 / 64])
    }

    fn add(&mut self, port: u16) {
        self.0[usize::from(port) / 64] |= 1 << (port % 64);
    }

    fn has(&self, port: u16) -> bool {
        self.0[usize::from(port) / 64] & 1 << (port % 64) != 0
    }
}

/// What is found alive on the way.
struct Alive {
    ports: PortSet,
    /// Sessions that have a control connection.
    sessions: HashSet<u32>,
}

/// Looks at everything once and ends what is over.
///
/// # Errors
///
/// What the kernel said.
pub fn sweep(
    maps: &Maps,
    policy: &Policy,
    lifetimes: &Lifetimes,
    clock: &Clock,
    tell: &mut Tell<'_>,
) -> anyhow::Result<Report> {
    let started = Instant::now();
    let mut report = Report::default();
    let mut alive = Alive {
        ports: PortSet::new(),
        sessions: HashSet::new(),
    };
    policy.mark_ports(maps, clock);
    // In this order, for what is made meanwhile: the ports' bytes before what keeps them, mappings
    // before the flows that they become, sessions before the flows that keep them.
    let marked = maps.ports.marked();
    let now = clock.now();
    let sessions = maps.sessions.all().context("cannot read the sessions")?;
    mappings(maps, lifetimes, now, &mut alive, &mut report, tell)
        .context("cannot sweep the mappings")?;
    flows(
        &maps.flows4,
        lifetimes,
        clock,
        &mut alive,
        &mut report,
        tell,
    )
    .and_then(|()| {
        flows(
            &maps.flows6,
            lifetimes,
            clock,
            &mut alive,
            &mut report,
            tell,
        )
    })
    .context("cannot sweep the flows")?;
    let mut gone = HashSet::new();
    for (number, session) in sessions {
        if !alive.sessions.contains(&number) && lifetimes.is_orphan(session.born, now) {
            delete_session(maps, number).context("cannot delete a session")?;
            gone.insert(number);
        }
    }
    report.sessions = gone.len() as u64;
    drop_mappings(maps, &gone, now, &mut report, tell)
        .context("cannot delete a session's mappings")?;
    for (number, byte) in marked {
        if lifetimes.is_old_port(byte, now)
            && !alive.ports.has(number)
            && maps.ports.clear_bits_if(number, byte, port::EPOCH)
        {
            report.ports += 1;
        }
    }
    report.took = started.elapsed();
    Ok(report)
}

fn mappings(
    maps: &Maps,
    lifetimes: &Lifetimes,
    now: u64,
    alive: &mut Alive,
    report: &mut Report,
    tell: &mut Tell<'_>,
) -> io::Result<()> {
    let mut forgotten = Vec::new();
    maps.mappings.each(|key, mapping| {
        if lifetimes.is_forgotten(mapping, now) {
            forgotten.push(*key);
        } else {
            alive.ports.add(key.dport.number());
            alive.ports.add(mapping.to.port.number());
        }
    })?;
    for key in forgotten {
        let Some(taken) = maps.mappings.take(&key)? else {
            continue;
        };
        if lifetimes.is_forgotten(&taken, now) {
            report.mappings_expired += 1;
            tell(&expired(&key, &taken, taken.expires), None);
        } else {
            maps.mappings.add(&key, &taken)?;
        }
    }
    Ok(())
}

fn drop_mappings(
    maps: &Maps,
    gone: &HashSet<u32>,
    now: u64,
    report: &mut Report,
    tell: &mut Tell<'_>,
) -> io::Result<()> {
    if gone.is_empty() {
        return Ok(());
    }
    let mut dropped = Vec::new();
    maps.mappings.each(|key, mapping| {
        if gone.contains(&mapping.session) {
            dropped.push(*key);
        }
    })?;
    for key in dropped {
        let Some(taken) = maps.mappings.take(&key)? else {
            continue;
        };
        if gone.contains(&taken.session) {
            report.mappings_dropped += 1;
            tell(&expired(&key, &taken, now), None);
        } else {
            maps.mappings.add(&key, &taken)?;
        }
    }
    Ok(())
}

fn delete_session(maps: &Maps, number: u32) -> io::Result<()> {
    maps.sessions.delete(&number)?;
    for key in lines_of(number) {
        maps.lines.delete(&key)?;
    }
    Ok(())
}

/// The keys of what may be kept of a session's lines.
fn lines_of(session: u32) -> [LinesKey; 2] {
    [0, 1].map(|is_replies| LinesKey {
        session,
        is_replies,
    })
}

fn flows<K: Key>(
    table: &Table<K, Flow>,
    lifetimes: &Lifetimes,
    clock: &Clock,
    alive: &mut Alive,
    report: &mut Report,
    tell: &mut Tell<'_>,
) -> io::Result<()> {
    let now = clock.now();
    let mut suspects = Vec::new();
    table.each(|key, flow| {
        if lifetimes.suspicious(flow.kind, flow.tcp_flags, flow.last_seen, now) {
            suspects.push(*key);
        } else {
            alive.keep(key, flow);
        }
    })?;
    for key in suspects {
        // The other direction was a suspect too and is gone with this one.
        let Some(flow) = table.get(&key)? else {
            continue;
        };
        let other_key = flow::other_way(&key, &flow);
        let other = table.get(&other_key)?;
        let (inbound, outbound) = if flow.side() == side::INBOUND {
            (key, other_key)
        } else {
            (other_key, key)
        };
        let state = state(&flow, other.as_ref());
        if lifetimes.is_over(flow.kind, state, seen(&flow, other.as_ref()), clock.now())
            && let Some((event, ended)) = end_both(table, lifetimes, clock, inbound, outbound)?
        {
            report.ended[ended.state as usize] += 1;
            tell(&event, Some(ended));
        } else {
            alive.keep(&key, &flow);
        }
    }
    Ok(())
}

fn state(flow: &Flow, other: Option<&Flow>) -> State {
    State::of(flow.tcp_flags, other.map_or(0, |other| other.tcp_flags))
}

fn seen(flow: &Flow, other: Option<&Flow>) -> u64 {
    flow.last_seen.max(other.map_or(0, |other| other.last_seen))
}

/// Takes both directions out. The outbound one goes first and the inbound one, which is the lock
/// on the public port, last; if either was used meanwhile, both are put back. Gives what has ended.
fn end_both<K: Key>(
    table: &Table<K, Flow>,
    lifetimes: &Lifetimes,
    clock: &Clock,
    inbound: K,
    outbound: K,
) -> io::Result<Option<(Event, Ended)>> {
    let (out_flow, in_flow) = (table.take(&outbound)?, table.take(&inbound)?);
    let Some(flow) = in_flow.as_ref().or(out_flow.as_ref()) else {
        return Ok(None);
    };
    let other = in_flow.as_ref().and(out_flow.as_ref());
    let state = state(flow, other);
    let last = seen(flow, other);
    if lifetimes.is_over(flow.kind, state, last, clock.now()) {
        let key = if in_flow.is_some() {
            &inbound
        } else {
            &outbound
        };
        let bytes = |flow: &Option<Flow>| flow.map_or(0, |flow| flow.bytes);
        let ended = Ended {
            state,
            inbound: bytes(&in_flow),
            outbound: bytes(&out_flow),
            seconds: clock.between(flow.born, last).as_secs_f64(),
        };
        return Ok(Some((over(key, flow, last), ended)));
    }
    for (key, flow) in [(inbound, in_flow), (outbound, out_flow)] {
        if let Some(flow) = flow {
            table.add(&key, &flow)?;
        }
    }
    Ok(None)
}

/// That a connection has ended, with its last packet.
fn over<K: Key>(key: &K, flow: &Flow, time: u64) -> Event {
    let (peer, public) = flow::ends(key, flow);
    let other = flow::other_way(key, flow);
    let inside = if flow.side() == side::INBOUND {
        other.source()
    } else {
        key.source()
    };
    Event {
        time,
        what: event::ENDED,
        kind: flow.kind,
        session: flow.session,
        peer,
        inside,
        public,
        ..Event::default()
    }
}

/// That a mapping has ended unused.
fn expired(key: &MappingKey, mapping: &Mapping, time: u64) -> Event {
    let [peer, public, inside] = mapping::ends(key, mapping);
    Event {
        time,
        what: event::EXPIRED,
        kind: mapping.kind,
        session: mapping.session,
        peer,
        inside,
        public,
        cause: mapping.cause,
        ..Event::default()
    }
}

impl Alive {
    fn keep<K: Key>(&mut self, key: &K, flow: &Flow) {
        if flow.kind == kind::CONTROL {
            self.sessions.insert(flow.session);
        }
        let (outside, public) = flow::ends(key, flow);
        self.ports.add(public.port.number());
        let inside = if flow.side() == side::INBOUND {
            flow.port
        } else {
            key.source().port
        };
        self.ports.add(inside.number());
        // The port that the server dials is the client's: that one was announced.
        if flow.kind == kind::ACTIVE {
            self.ports.add(outside.port.number());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Timeouts, datapath::maps};
    use bytemuck::Zeroable as _;
    use ftp_nat_common::{
        abi::{FlowKey4, Lines, Session, flow_flag},
        wire::addr::{Addr, Endpoint, Port},
    };

    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    const FIN: u8 = 0x01;
    const RST: u8 = 0x04;
    const ANSWERED: u8 = SYN | ACK;

    /// A gateway's tables, and the means to fill and sweep them.
    struct Scene {
        maps: Maps,
        policy: Policy,
        lifetimes: Lifetimes,
        clock: Clock,
        now: u64,
    }

    impl Scene {
        /// None where maps cannot be made.
        fn new() -> Option<Self> {
            let clock = Clock::of_this_kernel().unwrap();
            let timeouts = Timeouts::default();
            Some(Self {
                maps: maps::scratch(1024)?,
                policy: Policy::default(),
                lifetimes: Lifetimes::new(&timeouts, &clock),
                clock,
                now: clock.now(),
            })
        }

        fn ago(&self, seconds: u64) -> u64 {
            self.now - self.clock.ticks(Duration::from_secs(seconds))
        }

        fn sweep(&self) -> Report {
            self.sweep_and_tell().0
        }

        fn sweep_and_tell(&self) -> (Report, Vec<(Event, Option<Ended>)>) {
            let mut told = Vec::new();
            let (maps, policy) = (&self.maps, &self.policy);
            let report = sweep(
                maps,
                policy,
                &self.lifetimes,
                &self.clock,
                &mut |event, ended| {
                    told.push((*event, ended));
                },
            );
            (report.unwrap(), told)
        }

        /// Makes a connection to the public port, and gives its keys.
        fn connect(&self, of: &Wanted) -> (FlowKey4, FlowKey4) {
            let client = end([192, 0, 2, 9], 40_000);
            let (public, server) = (end([198, 51, 100, 1], of.port), end([10, 0, 0, 5], of.port));
            let inbound = FlowKey4::new(client, public);
            let outbound = FlowKey4::new(server, client);
            let [in_seen, out_seen] = of.silent.map(|seconds| self.ago(seconds));
            let flow = |to: Endpoint, flags, tcp_flags, last_seen| Flow {
                to: to.addr,
                port: to.port,
                flags,
                kind: of.kind,
                session: of.session,
                tcp_flags,
                last_seen,
                ..Flow::default()
            };
            let table = &self.maps.flows4;
            table
                .set(&inbound, &flow(server, 0, of.flags[0], in_seen))
                .unwrap();
            table
                .set(
                    &outbound,
                    &flow(public, flow_flag::OUTBOUND, of.flags[1], out_seen),
                )
                .unwrap();
            (inbound, outbound)
        }

        fn has(&self, keys: (FlowKey4, FlowKey4)) -> bool {
            let has = |key| self.maps.flows4.get(key).unwrap().is_some();
            assert_eq!(
                has(&keys.0),
                has(&keys.1),
                "one direction without the other"
            );
            has(&keys.0)
        }

        fn session(&self, number: u32, seconds: u64) {
            let session = Session {
                born: self.ago(seconds),
                ..Session::zeroed()
            };
            self.maps.sessions.set(&number, &session).unwrap();
            for key in lines_of(number) {
                self.maps.lines.set(&key, &Lines::zeroed()).unwrap();
            }
        }

        /// Whether the lines of both its directions are kept; or those of neither.
        fn has_lines(&self, number: u32) -> bool {
            let has = lines_of(number).map(|key| self.maps.lines.get(&key).unwrap().is_some());
            assert_eq!(has[0], has[1], "one direction without the other");
            has[0]
        }

        fn has_session(&self, number: u32) -> bool {
            self.maps.sessions.get(&number).unwrap().is_some()
        }

        fn announce(&self, port: u16, session: u32, expires: u64) -> MappingKey {
            let key = MappingKey {
                src: Addr::from_octets([192, 0, 2, 9]),
                dst: Addr::from_octets([198, 51, 100, 1]),
                dport: Port::new(port),
                ..MappingKey::default()
            };
            let mapping = Mapping {
                to: end([10, 0, 0, 5], port),
                session,
                expires,
                ..Mapping::default()
            };
            self.maps.mappings.set(&key, &mapping).unwrap();
            key
        }

        fn has_mapping(&self, key: &MappingKey) -> bool {
            self.maps.mappings.get(key).unwrap().is_some()
        }
    }

    /// A connection to be made: inbound first where there are two.
    struct Wanted {
        port: u16,
        kind: u8,
        session: u32,
        flags: [u8; 2],
        /// Seconds since the last packet of each direction.
        silent: [u64; 2],
    }

    const DATA: Wanted = Wanted {
        port: 50_000,
        kind: kind::PASSIVE,
        session: 7,
        flags: [ANSWERED; 2],
        silent: [0; 2],
    };

    fn end(octets: [u8; 4], port: u16) -> Endpoint {
        Endpoint::new(Addr::from_octets(octets), Port::new(port))
    }

    #[test]
    fn connections_end_when_both_directions_have_been_silent_for_their_states_time() {
        let Some(scene) = Scene::new() else { return };
        let cases = [
            ([ANSWERED, ANSWERED], [3000, 3000], true),
            ([ANSWERED, ANSWERED], [3700, 3700], false),
            ([ANSWERED, ANSWERED], [3700, 5], true),
            ([ANSWERED, ANSWERED], [5, 3700], true),
            ([SYN, 0], [50, 50], true),
            ([SYN, 0], [70, 70], false),
            ([SYN, ANSWERED], [70, 70], false),
            ([ANSWERED | FIN, ANSWERED], [100, 100], true),
            ([ANSWERED | FIN, ANSWERED], [250, 250], false),
            ([ANSWERED | FIN, ANSWERED | FIN], [5, 5], true),
            ([ANSWERED | FIN, ANSWERED | FIN], [12, 12], false),
            ([ANSWERED, ANSWERED | FIN], [12, 250], true),
            ([ANSWERED, ANSWERED | RST], [12, 12], false),
            ([SYN, RST | ACK], [12, 12], false),
        ];
        let made: Vec<_> = cases
            .iter()
            .zip(50_000..)
            .map(|((flags, silent, _), port)| {
                scene.connect(&Wanted {
                    port,
                    flags: *flags,
                    silent: *silent,
                    ..DATA
                })
            })
            .collect();
        let report = scene.sweep();
        for ((flags, silent, lives), keys) in cases.iter().zip(made) {
            assert_eq!(scene.has(keys), *lives, "{flags:x?} {silent:?}");
        }
        let ended = cases.iter().filter(|(.., lives)| !lives).count();
        assert_eq!(report.ended.iter().sum::<u64>(), ended as u64);
    }

    #[test]
    fn what_has_ended_is_told_with_its_ends_and_its_last_packet() {
        let Some(scene) = Scene::new() else { return };
        scene.connect(&Wanted {
            flags: [ANSWERED | FIN, ANSWERED | FIN],
            silent: [20, 30],
            ..DATA
        });
        let (_, told) = scene.sweep_and_tell();
        let [(event, Some(ended))] = told[..] else {
            panic!("{told:?}");
        };
        let expected = Event {
            time: scene.ago(20),
            what: event::ENDED,
            kind: kind::PASSIVE,
            session: 7,
            peer: end([192, 0, 2, 9], 40_000),
            inside: end([10, 0, 0, 5], 50_000),
            public: end([198, 51, 100, 1], 50_000),
            ..Event::default()
        };
        assert_eq!(event, expected);
        assert_eq!(ended.state, State::Closed);
    }

    #[test]
    fn what_comes_alive_while_it_is_taken_out_is_put_back() {
        let Some(scene) = Scene::new() else { return };
        let keys = scene.connect(&Wanted {
            silent: [5000, 0],
            ..DATA
        });
        let before = scene.maps.flows4.get(&keys.0).unwrap();
        for (key, other) in [keys, (keys.1, keys.0)] {
            let table = &scene.maps.flows4;
            let ended = end_both(table, &scene.lifetimes, &scene.clock, key, other).unwrap();
            assert_eq!(ended, None);
            assert!(scene.has(keys));
        }
        assert_eq!(scene.maps.flows4.get(&keys.0).unwrap(), before);
    }

    #[test]
    fn a_direction_without_its_other_does_not_stay() {
        let Some(scene) = Scene::new() else { return };
        let (inbound, outbound) = scene.connect(&Wanted {
            flags: [SYN, 0],
            silent: [70, 70],
            ..DATA
        });
        scene.maps.flows4.delete(&outbound).unwrap();
        scene.sweep();
        assert_eq!(scene.maps.flows4.get(&inbound).unwrap(), None);
    }

    #[test]
    fn a_session_lives_as_long_as_its_control_connection_and_its_mappings_with_it() {
        let Some(scene) = Scene::new() else { return };
        for (number, seconds) in [(1, 1000), (2, 1000), (3, 5)] {
            scene.session(number, seconds);
        }
        scene.connect(&Wanted {
            port: 21,
            kind: kind::CONTROL,
            session: 1,
            silent: [3700; 2],
            ..DATA
        });
        // A data connection alone keeps no session.
        scene.connect(&Wanted { session: 2, ..DATA });
        let soon = scene.now + scene.clock.ticks(Duration::from_secs(30));
        let kept = scene.announce(50_001, 1, soon);
        let dropped = scene.announce(50_002, 2, soon);
        let report = scene.sweep();
        assert!(scene.has_session(1) && !scene.has_session(2));
        assert!(scene.has_session(3), "its flows may be being made");
        assert_eq!(
            [1, 2, 3].map(|number| scene.has_lines(number)),
            [true, false, true]
        );
        assert!(scene.has_mapping(&kept) && !scene.has_mapping(&dropped));
        assert_eq!((report.sessions, report.mappings_dropped), (1, 1));
    }

    #[test]
    fn a_mapping_goes_half_a_minute_after_its_end() {
        let Some(scene) = Scene::new() else { return };
        scene.session(1, 5);
        let keys = [0, 20, 40].map(|ago| scene.announce(50_000 + ago, 1, scene.ago(ago.into())));
        let (report, told) = scene.sweep_and_tell();
        let [(event, None)] = told[..] else {
            panic!("{told:?}");
        };
        assert_eq!((event.what, event.session), (event::EXPIRED, 1));
        assert_eq!(event.public, end([198, 51, 100, 1], 50_040));
        assert_eq!(event.time, scene.ago(40));
        assert_eq!(keys.map(|key| scene.has_mapping(&key)), [true, true, false]);
        assert_eq!(report.mappings_expired, 1);
    }

    #[test]
    fn a_port_that_nobody_uses_is_forgotten_but_not_what_the_daemon_marked() {
        let Some(mut scene) = Scene::new() else {
            return;
        };
        let old = port::epoch(scene.ago(200), scene.clock.hz());
        let young = port::epoch(scene.now, scene.clock.hz());
        let ports = &scene.maps.ports;
        for (number, byte) in [
            (50_000, old),
            (50_001, old),
            (50_002, old),
            (50_003, young),
            (21, port::PUBLISHED | old),
            (2121, port::PUBLISHED),
        ] {
            ports.set_bits(number, byte);
        }
        scene.policy.ports.insert(21, port::PUBLISHED);
        scene.policy.ports.insert(990, port::PUBLISHED);
        scene.connect(&DATA);
        scene.announce(50_001, 0, scene.now + 10_000);
        let report = scene.sweep();
        let ports = &scene.maps.ports;
        assert_eq!(ports.get(50_000), old, "a connection uses it");
        assert_eq!(ports.get(50_001), old, "a mapping may yet be used");
        assert_eq!(ports.get(50_002), 0);
        assert_eq!(ports.get(50_003), young);
        assert_eq!(ports.get(21), port::PUBLISHED);
        let lasting = ports.get(2121);
        assert_eq!(lasting & port::PUBLISHED, 0, "published no longer");
        assert_eq!(lasting, young, "but its sessions go on");
        assert_eq!(ports.get(990), port::PUBLISHED, "published since");
        assert_eq!(report.ports, 2);
    }

    #[test]
    fn a_port_that_changes_while_it_is_looked_at_is_left_alone() {
        let Some(scene) = Scene::new() else { return };
        let ports = &scene.maps.ports;
        ports.set_bits(50_000, 3);
        assert!(!ports.clear_bits_if(50_000, 2, port::EPOCH));
        assert_eq!(ports.get(50_000), 3);
    }

    #[test]
    fn a_port_set_holds_every_port() {
        let mut set = PortSet::new();
        for port in [0, 1, 63, 64, 21, 65535] {
            assert!(!set.has(port));
            set.add(port);
            assert!(set.has(port));
        }
        assert!(!set.has(22));
    }
}
