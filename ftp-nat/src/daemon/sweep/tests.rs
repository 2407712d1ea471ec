use std::time::Duration;

use bytemuck::Zeroable as _;
use ftp_nat_common::{
    abi::{
        Event, Flow, FlowKey as _, FlowKey4, Lines, Mapping, MappingKey, Permit, Session, event,
        flow_flag, kind,
    },
    wire::addr::{Addr, Endpoint, Port},
};

use super::{flows::end_both, sessions::lines_of, *};
use crate::{
    config::Timeouts,
    daemon::occurrence::{Detail, End},
    datapath::maps,
    model::flow::State,
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
    fn new() -> Self {
        let clock = Clock::of_this_kernel().unwrap();
        let timeouts = Timeouts::default();
        Self {
            maps: maps::scratch(1024),
            policy: Policy::default(),
            lifetimes: Lifetimes::new(&timeouts, &clock),
            clock,
            now: clock.now(),
        }
    }

    fn ago(&self, seconds: u64) -> u64 {
        self.now - self.clock.ticks(Duration::from_secs(seconds))
    }

    fn sweep(&self) -> Report {
        self.sweep_and_collect().0
    }

    fn sweep_and_collect(&self) -> (Report, Vec<(Event, Detail)>) {
        let mut published = Vec::new();
        let (maps, policy) = (&self.maps, &self.policy);
        let report = sweep(
            maps,
            policy,
            &self.lifetimes,
            &self.clock,
            &mut |event, ended| {
                published.push((*event, ended));
            },
        );
        (report.unwrap(), published)
    }

    /// Makes a connection to the public port, and gives its keys.
    fn connect(&self, of: &Wanted) -> (FlowKey4, FlowKey4) {
        let client = end([192, 0, 2, 9], 40_000);
        let (public, server) = (end([198, 51, 100, 1], of.port), end([10, 0, 0, 5], of.port));
        let inbound = FlowKey4::new(&client, &public);
        let outbound = FlowKey4::new(&server, &client);
        let [in_seen, out_seen] = of.silent.map(|seconds| self.ago(seconds));
        let flow = |key: &FlowKey4, to: [&Endpoint; 2], flags, tcp_flags, last_seen: u64| {
            let mut flow = Flow {
                flags,
                kind: of.kind,
                session: of.session,
                tcp_flags,
                last_seen: last_seen as u32,
                ..Flow::default()
            };
            flow.translate([&key.source(), &key.destination()], to);
            flow
        };
        let table = &self.maps.flows4;
        table
            .set(
                &inbound,
                &flow(&inbound, [&client, &server], 0, of.flags[0], in_seen),
            )
            .unwrap();
        table
            .set(
                &outbound,
                &flow(
                    &outbound,
                    [&public, &client],
                    flow_flag::OUTBOUND,
                    of.flags[1],
                    out_seen,
                ),
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
        let permit = Permit::default();
        self.maps.permits.set(&number, &permit).unwrap();
    }

    fn has_permit(&self, number: u32) -> bool {
        self.maps.permits.get(&number).unwrap().is_some()
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
    let scene = Scene::new();
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
    let scene = Scene::new();
    scene.connect(&Wanted {
        flags: [ANSWERED | FIN, ANSWERED | FIN],
        silent: [20, 30],
        ..DATA
    });
    let (_, published) = scene.sweep_and_collect();
    let [(event, Detail::Ended(ended))] = published[..] else {
        panic!("{published:?}");
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
    assert_eq!(ended.end, End::Swept(State::Closed));
}

#[test]
fn what_an_operator_has_ended_is_known_until_its_ends_give_up() {
    let scene = Scene::new();
    for (flags, silent, lives) in [
        (ANSWERED, 200, true),
        (ANSWERED, 250, false),
        // Both ends have obeyed a reset.
        (ANSWERED | RST, 5, true),
        (ANSWERED | RST, 15, false),
    ] {
        let keys = scene.connect(&Wanted {
            flags: [flags; 2],
            silent: [silent; 2],
            ..DATA
        });
        for key in [keys.0, keys.1] {
            let mut flow = scene.maps.flows4.get(&key).unwrap().unwrap();
            flow.flags |= flow_flag::CUT;
            scene.maps.flows4.set(&key, &flow).unwrap();
        }
        let (_, published) = scene.sweep_and_collect();
        assert_eq!(scene.has(keys), lives, "{flags:x} {silent}");
        if let [(_, Detail::Ended(ended))] = published[..] {
            assert!(ended.by_operator);
        } else {
            assert!(lives && published.is_empty(), "{published:?}");
        }
    }
}

#[test]
fn what_comes_alive_while_it_is_taken_out_is_put_back() {
    let scene = Scene::new();
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
    let scene = Scene::new();
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
    let scene = Scene::new();
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
    assert_eq!(
        [1, 2, 3].map(|number| scene.has_permit(number)),
        [true, false, true]
    );
    assert!(scene.has_mapping(&kept) && !scene.has_mapping(&dropped));
    assert_eq!((report.sessions, report.mappings_dropped), (1, 1));
}

/// The answer to a transfer comes at its end: until then the control connection may be silent for as
/// long as the transfer takes, also with one of its ends closed (ncftp closes early).
#[test]
fn a_control_connection_lives_while_data_of_its_session_flows() {
    const DAYS: u64 = 2 * 86_400;
    for (control, data, silent, lives) in [
        ([ANSWERED; 2], [ANSWERED; 2], 5, true),
        ([ANSWERED | FIN, ANSWERED], [ANSWERED; 2], 5, true),
        (
            [ANSWERED, ANSWERED | FIN],
            [ANSWERED | FIN, ANSWERED],
            200,
            true,
        ),
        ([ANSWERED; 2], [ANSWERED; 2], 3700, false),
        ([ANSWERED | FIN, ANSWERED | FIN], [ANSWERED; 2], 5, false),
        ([ANSWERED, ANSWERED | RST], [ANSWERED; 2], 5, false),
        ([ANSWERED; 2], [ANSWERED | FIN; 2], 12, false),
    ] {
        let scene = Scene::new();
        scene.session(1, DAYS);
        let its = scene.connect(&Wanted {
            port: 21,
            kind: kind::CONTROL,
            session: 1,
            flags: control,
            silent: [DAYS; 2],
        });
        scene.connect(&Wanted {
            session: 1,
            flags: data,
            silent: [silent; 2],
            ..DATA
        });
        scene.connect(&Wanted {
            port: 50_001,
            session: 2,
            ..DATA
        });
        scene.sweep();
        let about = format!("{control:x?} {data:x?} {silent}");
        assert_eq!(scene.has(its), lives, "{about}");
        assert_eq!(scene.has_session(1), lives, "{about}");
    }
}

#[test]
fn a_mapping_goes_half_a_minute_after_its_end() {
    let scene = Scene::new();
    scene.session(1, 5);
    let keys = [0, 20, 40].map(|ago| scene.announce(50_000 + ago, 1, scene.ago(ago.into())));
    let (report, published) = scene.sweep_and_collect();
    let [(event, Detail::None)] = published[..] else {
        panic!("{published:?}");
    };
    assert_eq!((event.what, event.session), (event::EXPIRED, 1));
    assert_eq!(event.public, end([198, 51, 100, 1], 50_040));
    assert_eq!(event.time, scene.ago(40));
    assert_eq!(keys.map(|key| scene.has_mapping(&key)), [true, true, false]);
    assert_eq!(report.mappings_expired, 1);
}

#[test]
fn a_port_that_nobody_uses_is_forgotten_but_not_what_the_daemon_marked() {
    let mut scene = Scene::new();
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
    let scene = Scene::new();
    let ports = &scene.maps.ports;
    ports.set_bits(50_000, 3);
    assert!(!ports.clear_bits_if(50_000, 2, port::EPOCH));
    assert_eq!(ports.get(50_000), 3);
}

/// The sweep sets a client's count right: what has ended takes no room from it, though it is known for some
/// seconds more; nor does what only another gateway has seen.
#[test]
fn what_has_ended_or_lives_elsewhere_takes_no_room_from_its_client() {
    let scene = Scene::new();
    let client = Addr::from_octets([192, 0, 2, 9]);
    let ended = [
        [ANSWERED | FIN, ANSWERED | FIN],
        [ANSWERED | RST, ANSWERED],
        [ANSWERED, ANSWERED | RST],
    ];
    let alive = [
        [ANSWERED, ANSWERED],
        [ANSWERED | FIN, ANSWERED],
        [ANSWERED, ANSWERED | FIN],
        [SYN, 0],
    ];
    let mut keys = Vec::new();
    for (port, flags) in (50_000..).zip(ended.iter().chain(&alive)) {
        keys.push(scene.connect(&Wanted {
            kind: kind::PASSIVE,
            session: 7,
            port,
            flags: *flags,
            silent: [0, 0],
        }));
    }
    let learned = scene.connect(&Wanted {
        kind: kind::PASSIVE,
        session: 7,
        port: 50_100,
        flags: [ANSWERED, ANSWERED],
        silent: [0, 0],
    });
    let flows = &scene.maps.flows4;
    let connections = || scene.maps.shares.get(&client).unwrap().unwrap().connections;
    for (flags, packets, more) in [
        (0, 0, 1),
        (flow_flag::LEARNED, 0, 0),
        (flow_flag::LEARNED, 1, 1),
    ] {
        let mut flow = flows.get(&learned.0).unwrap().unwrap();
        (flow.flags, flow.packets) = (flags, packets);
        flows.set(&learned.0, &flow).unwrap();
        scene.sweep();
        assert_eq!(
            connections(),
            alive.len() as u32 + more,
            "{flags} {packets}"
        );
    }
    assert!(keys.iter().all(|keys| scene.has(*keys)));
}
