//! The loaded programs against the protocol's model on the host, segment by segment: both must
//! send the same, drop the same, open the same, remember the same and count the same.
//!
//! The conversations are made up at random, of what FTP says and of what it does not, and sent as
//! TCP may send it: split, merged, repeated, overlapping, out of order, with numbers that wrap.

mod connection;
mod model;
mod random;
mod stream;
mod text;

use std::{
    env, fmt,
    io::{self, Write as _},
    time::{SystemTime, UNIX_EPOCH},
};

use ftp_nat_common::{
    abi::{Lines, LinesKey, Session, Settings},
    counter::Counter,
    ftp::doubt::{LONGEST, QUIET, STUCK},
    stream::segment,
};

use self::{connection::Connection, model::Model, random::Random};
use crate::loaded::{Datapath, NEVER, on_router};

/// Names a seed, to repeat a run.
const SEED_VARIABLE: &str = "FTP_NAT_TEST_SEED";

/// Conversations that go on at a time, and share clients, servers and ports.
const CONNECTIONS: usize = 40;
/// Segments of each such group.
const SEGMENTS: usize = 4_000;
/// Groups one after the other.
const GROUPS: usize = 30;

/// Counters of what the model does not do: choosing a packet's way, telling.
const NOT_MODELLED: [Counter; 8] = [
    Counter::EventsWithheld,
    Counter::InboundRedirected,
    Counter::OutboundRedirected,
    Counter::InboundStack,
    Counter::OutboundStack,
    Counter::HandshakeStarted,
    Counter::SessionOpened,
    Counter::EventsLost,
];

#[test]
fn the_kernel_does_what_the_model_does() {
    let seed = match env::var(SEED_VARIABLE) {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            u64::from(now.subsec_nanos()) | now.as_secs() << 32
        }
    };
    // Not println: a test that succeeds would show nothing of it.
    writeln!(
        io::stdout(),
        "{} segments of {} conversations with {SEED_VARIABLE}={seed}",
        GROUPS * SEGMENTS,
        GROUPS * CONNECTIONS,
    )
    .unwrap();
    let mut random = Random::new(seed);
    on_router(|datapath| {
        let mut said = Said::default();
        for group in 0..GROUPS {
            run_group(datapath, &mut random, group, &mut said);
        }
        writeln!(io::stdout(), "{said:?}").unwrap();
        said.is_enough();
    });
}

/// What a run was about: a generator that has dried up would show no difference either.
#[derive(Debug, Default)]
struct Said {
    sent: usize,
    dropped: usize,
    changed: usize,
    renumbered: usize,
    opened: u64,
    denied: u64,
    merged: u64,
    acknowledged: u64,
    stale: u64,
}

impl Said {
    fn is_enough(&self) {
        let segments = GROUPS * SEGMENTS;
        assert_eq!(self.sent + self.dropped, segments);
        assert!(self.dropped > segments / 50, "few were dropped");
        assert!(self.changed > segments / 50, "few were changed");
        assert!(self.renumbered > segments / 50, "few were renumbered");
        assert!(self.opened > segments as u64 / 200, "few were opened");
        assert!(self.denied > segments as u64 / 1000, "few were denied");
        assert!(self.merged > segments as u64 / 200, "few were merged");
        assert!(self.acknowledged > 100, "few were acknowledged ahead");
        assert!(self.stale > segments as u64 / 500, "few had old timestamps");
    }
}

fn run_group(datapath: &mut Datapath, random: &mut Random, group: usize, said: &mut Said) {
    datapath.forget_connections();
    // So that no time passes but by `age`.
    datapath.set(Settings {
        hz: 1_000_000,
        ..datapath.settings()
    });
    let mut model = Model::new(datapath);
    let mut connections: Vec<_> = (0..CONNECTIONS)
        .map(|index| Connection::begin(datapath, random, index))
        .collect();
    let before = datapath.counts();
    for step in 0..SEGMENTS {
        let connection = random.pick_mut(&mut connections);
        let place = format!("group {group}, segment {step}");
        exchange(datapath, &mut model, random, connection, &place, said);
        if random.chance(1) {
            model.lose_mapping(datapath, random);
        }
    }
    datapath.events();
    model.compare_mappings(datapath);
    for (counter, by) in datapath.counted_since(&before) {
        match counter {
            Counter::PassiveOpened | Counter::ActiveOpened => said.opened += by.packets,
            Counter::DeniedBounce | Counter::DeniedPort | Counter::DeniedUnreadable => {
                said.denied += by.packets;
            }
            Counter::LineMerged => said.merged += by.packets,
            Counter::DeniedTimestamp => said.stale += by.packets,
            Counter::LineAcknowledged => said.acknowledged += by.packets,
            _ => {}
        }
        if !NOT_MODELLED.contains(&counter) {
            let modelled = model.counted.remove(&(counter as u16)).unwrap_or(0);
            assert_eq!(by.packets, modelled, "group {group}: {counter:?}");
        }
    }
    assert_eq!(model.counted.len(), 0, "group {group}: {:?}", model.counted);
}

/// One segment through both.
fn exchange(
    datapath: &mut Datapath,
    model: &mut Model,
    random: &mut Random,
    connection: &mut Connection,
    place: &str,
    said: &mut Said,
) {
    if random.chance(2) {
        let time = random.pick(&[NEVER >> 5, NEVER + 1, 2 * NEVER + 2]);
        let milliseconds = random.pick(&[50, QUIET + 50, STUCK + 50, LONGEST + 50]);
        connection.age(datapath, time, milliseconds);
    }
    let (sender, packet) = connection.next_packet(random);
    let expected = connection.expect(model, sender, &packet);
    let frame = packet.bytes();
    let length = expected
        .as_ref()
        .map_or(frame.len(), |leaves| leaves.bytes().len());
    let outcome = datapath.run_to(connection.hook(sender), &frame, length, 0);
    let story = || connection.story(sender, &packet, place);
    match connection.compare(&outcome, expected) {
        Ok(Some(leaves)) => {
            said.sent += 1;
            said.changed += usize::from(leaves.payload != packet.payload);
            said.renumbered += usize::from((leaves.seq, leaves.ack) != (packet.seq, packet.ack));
        }
        Ok(None) => said.dropped += 1,
        Err(difference) => panic!("{}\n{difference}", story()),
    }
    let kernel = datapath.sessions.get(&connection.number).unwrap();
    let (kernel, modelled) = (timeless(kernel), timeless(connection.session));
    assert!(
        kernel == modelled,
        "{}\nthe kernel remembers{}\nand the model{}",
        story(),
        Sketch(&kernel),
        Sketch(&modelled),
    );
    compare_lines(datapath, connection, &story);
    connection.learn(sender, random);
}

/// Both keep the same of the lines that are held.
fn compare_lines(datapath: &Datapath, connection: &Connection, story: &dyn Fn() -> String) {
    let session = &connection.session;
    for (is_replies, direction) in [(0, &session.commands), (1, &session.replies)] {
        if direction.held_len == 0 {
            continue;
        }
        let key = LinesKey {
            session: connection.number,
            is_replies,
        };
        let place = segment::place(direction, direction.seen);
        let held = |lines: &Lines| lines.half(place)[..usize::from(direction.held_len)].to_vec();
        let kernel = datapath.lines.get(&key).as_ref().map(held);
        let modelled = held(&connection.lines[is_replies as usize]);
        assert_eq!(kernel, Some(modelled), "{}", story());
    }
}

/// A session without its times, which only the kernel's clock tells, and without what packets' IP headers
/// say, of which the model has none.
fn timeless(mut session: Session) -> Session {
    session.born = 0;
    session.hops = [0; 2];
    let asked = &mut session.asked;
    asked.withheld_since = u64::from(asked.withheld_since != 0);
    asked.withheld_first = 0;
    for direction in [&mut session.commands, &mut session.replies] {
        direction.held_since = u64::from(direction.held_since != 0);
        direction.gap_since = u64::from(direction.gap_since != 0);
    }
    session
}

/// A session without most of the bytes that it keeps.
struct Sketch<'s>(&'s Session);

impl fmt::Display for Sketch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n  {:?}\n  {:?}", self.0.asked, self.0.answered)?;
        for it in [&self.0.commands, &self.0.replies] {
            write!(f, "\n  seen {} held {}", it.seen, it.held_len)?;
            write!(f, " line {} head {:x}", it.line_len, it.head)?;
            write!(f, " flags {} gap {}", it.flags, it.gap_since)?;
            write!(f, " owed {:x} acked {}", it.owed, it.acked)?;
            write!(f, " cleared {} growth {}", it.cleared, it.edits.growth)?;
            write!(f, " timestamp {}", it.timestamp)?;
            for age in 0..4 {
                if let Some(edit) = it.edits.recent(age) {
                    write!(f, "\n    {} {}", edit.start, edit.before)?;
                    write!(f, " {} {} ", edit.old_len, edit.new_len)?;
                    write!(f, "{}", edit.text.escape_ascii())?;
                }
            }
        }
        Ok(())
    }
}
