//! One session on two CPUs at once: both ends' segments, and those of one end that come by two ways.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use ftp_nat_common::{abi::Session, counter::Counter};
use rustix::{
    process::setpriority_process,
    thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity},
};

use crate::{
    fixture::without_return_path,
    loaded::{DROP, Datapath, Entrance, Hook, REDIRECT, on_router},
    packet::{ACK, PSH, Packet},
    scene::{Ends, control_v4, control_v6, hop},
    skb::Summed,
    talk::Talk,
};

/// How long each test goes on at least.
const TIME: Duration = Duration::from_secs(4);
/// And at most.
const LONGEST: Duration = Duration::from_secs(60);
/// And until so many announcements were made.
const ENOUGH: u32 = 1000;
/// How many commands may be under way at once and are told apart: [`ftp_nat_common::abi::PIPELINED`].
const AHEAD: u32 = 3;
const PASV: &str = "PASV\r\n";

/// Lets this thread run on the CPU of this place among those that it may run on, and there alone.
fn stay_on(place: usize) {
    let all = sched_getaffinity(None).unwrap();
    let cpu = (0..CpuSet::MAX_CPU)
        .filter(|cpu| all.is_set(*cpu))
        .nth(place)
        .expect("two CPUs");
    let mut one = CpuSet::new();
    one.set(cpu);
    sched_setaffinity(None, &one).unwrap();
    // A router's programs run in soft interrupts, in which no other thread comes in between.
    setpriority_process(Some(gettid()), -20).unwrap();
}

/// Both ends of a session, for two threads.
struct Scene<'d> {
    ends: Ends,
    inwards: Entrance<'d>,
    outwards: Entrance<'d>,
    /// The number of the client's first byte, and of the server's.
    first: [u32; 2],
    /// How many bytes each has said.
    said: [AtomicU32; 2],
    /// How many PASV were asked, and answered.
    passive: [AtomicU32; 2],
}

impl<'d> Scene<'d> {
    fn new(datapath: &'d Datapath, ends: Ends, first: [u32; 2]) -> Self {
        Self {
            ends,
            inwards: datapath.entrance(Hook::WanIngress),
            outwards: datapath.entrance(Hook::LanIngress),
            first,
            said: Default::default(),
            passive: Default::default(),
        }
    }

    /// The client's segment `at` bytes behind its first one. It acknowledges all that it can have.
    fn clients(&self, at: u32, text: &str) -> Packet {
        self.ends
            .inbound()
            .flags(ACK | PSH)
            .seq(self.first[0].wrapping_add(at))
            .ack(self.first[1].wrapping_add(self.said[1].load(SeqCst)))
            .payload(text)
    }

    fn servers(&self, at: u32, text: &str) -> Packet {
        self.ends
            .outbound()
            .flags(ACK | PSH)
            .seq(self.first[1].wrapping_add(at))
            .ack(self.first[0].wrapping_add(self.said[0].load(SeqCst)))
            .payload(text)
    }

    /// The client's segment must leave as it came.
    fn client_says(&self, at: u32, text: &str) {
        let packet = self.clients(at, text);
        let outcome = self.inwards.run(&packet.bytes(), 0, Summed::No);
        assert_eq!(outcome.verdict, REDIRECT, "{text:?} at {at}");
        let wanted = hop(self.ends.inwards(&packet)).bytes();
        assert!(outcome.frame == wanted, "{text:?} at {at}");
    }

    /// The server's segment; gives the text that left in its place, none: it was dropped.
    fn server_says(&self, at: u32, text: &str) -> Option<String> {
        let packet = self.servers(at, text);
        let mut outcome = self.outwards.run(&packet.bytes(), 0, Summed::No);
        if outcome.verdict == DROP {
            return None;
        }
        assert_eq!(outcome.verdict, REDIRECT, "{text:?} at {at}");
        let left = outcome.frame[outcome.frame.len() - text.len()..].to_vec();
        let wanted = hop(self.ends.outwards(&packet.payload(&left))).bytes();
        without_return_path(&mut outcome.frame, &wanted);
        assert!(
            outcome.frame == wanted,
            "{text:?} at {at}: {}",
            left.escape_ascii()
        );
        Some(String::from_utf8(left).unwrap())
    }
}

/// The server's answer to its PASV of this number, and how it must reach the client.
fn answer(ends: Ends, number: u32) -> [String; 2] {
    let port = 20_000 + number % 20_000;
    if ends.outside.is_ipv6() {
        let text = format!("229 Entering Extended Passive Mode (|||{port}|)\r\n");
        return [text.clone(), text];
    }
    let port = format!("{},{}", port >> 8, port & 255);
    // As long as each other, so that no number moves.
    ["10,0,0,5", "198,51,100,1"].map(|address| {
        let words = if address.len() == 8 { "    " } else { "" };
        format!("227 Entering Passive Mode {words}({address},{port}).\r\n")
    })
}

fn session_of(datapath: &Datapath) -> Session {
    let [(_, session)] = datapath.sessions.all()[..] else {
        panic!("{} sessions", datapath.sessions.len());
    };
    session
}

#[test]
fn both_ends_on_two_cpus_lose_nothing_and_every_reply_is_right() {
    on_router(|datapath| {
        for ends in [control_v4(), control_v6()] {
            let talk = Talk::begin(datapath, ends, [u32::MAX - 5000, 77]);
            let first = talk.next;
            let before = datapath.counts();
            let flows = ends.flows(datapath).unwrap();
            let scene = Scene::new(datapath, ends, first);
            let verb = if ends.outside.is_ipv6() {
                "EPSV\r\n"
            } else {
                PASV
            };
            let start = Instant::now();
            let [asked, answered] = &scene.passive;
            let [client_said, server_said] = &scene.said;
            // What the client asks last is asked before this is set.
            let has_asked_all = AtomicBool::new(false);
            let packets = thread::scope(|scope| {
                let client = scope.spawn(|| {
                    stay_on(0);
                    let mut packets = 0;
                    while start.elapsed() < TIME || asked.load(SeqCst) < ENOUGH {
                        let number = asked.load(SeqCst);
                        if number - answered.load(SeqCst) >= AHEAD {
                            // An acknowledgement, which the server's CPU notes in the same session.
                            scene.client_says(client_said.load(SeqCst), "");
                        } else {
                            scene.client_says(client_said.load(SeqCst), verb);
                            client_said.fetch_add(verb.len() as u32, SeqCst);
                            asked.fetch_add(1, SeqCst);
                        }
                        packets += 1;
                    }
                    has_asked_all.store(true, SeqCst);
                    packets
                });
                let server = scope.spawn(|| {
                    stay_on(1);
                    let mut packets = 0;
                    // A client that has failed says nothing any more.
                    let is_going_on = || {
                        let is_over = has_asked_all.load(SeqCst)
                            && answered.load(SeqCst) == asked.load(SeqCst);
                        !is_over && start.elapsed() < LONGEST
                    };
                    while is_going_on() {
                        let number = answered.load(SeqCst);
                        let at = server_said.load(SeqCst);
                        if number == asked.load(SeqCst) {
                            assert_eq!(scene.server_says(at, ""), Some(String::new()));
                        } else {
                            let [said, wanted] = answer(ends, number);
                            let heard = scene.server_says(at, &said);
                            assert_eq!(heard.as_ref(), Some(&wanted), "reply {number}");
                            server_said.fetch_add(said.len() as u32, SeqCst);
                            answered.fetch_add(1, SeqCst);
                        }
                        packets += 1;
                    }
                    packets
                });
                [client.join().unwrap(), server.join().unwrap()]
            });
            let asked = asked.load(SeqCst);
            println!("{asked} announcements in {packets:?} packets");
            // What each has said was seen, counted and noted, all of it.
            scene.client_says(client_said.load(SeqCst), "");
            let heard = scene.server_says(server_said.load(SeqCst), "");
            assert_eq!(heard, Some(String::new()));
            let session = session_of(datapath);
            let end = [0, 1].map(|side| first[side].wrapping_add(scene.said[side].load(SeqCst)));
            for (direction, end) in [(&session.commands, end[0]), (&session.replies, end[1])] {
                assert_eq!([direction.seen, direction.end, direction.acked], [end; 3]);
                assert_eq!((direction.held_len, direction.gap_since), (0, 0));
            }
            assert_eq!(session.asked.passive, asked);
            assert_eq!(session.answered.passive, asked);
            let after = ends.flows(datapath).unwrap();
            let counted = [
                after.0.packets - flows.0.packets,
                after.1.packets - flows.1.packets,
            ];
            assert_eq!(counted, packets.map(|it: u64| it + 1));
            // A session has one passive announcement waiting.
            assert_eq!(datapath.mappings.len(), 1);
            for (counter, by) in datapath.counted_since(&before) {
                match counter {
                    Counter::PassiveOpened | Counter::Rewrote227 | Counter::EditEqual => {
                        assert_eq!(by.packets, u64::from(asked), "{counter:?}");
                    }
                    Counter::Unchanged | Counter::Rewrote229 => {}
                    Counter::InboundRedirected | Counter::OutboundRedirected => {}
                    Counter::EventsLost | Counter::EventsWithheld => {}
                    other => panic!("{other:?}: {by:?}"),
                }
            }
            datapath.events();
        }
    });
}

/// A network that doubles packets brings both by different queues: whichever CPU is first, no client hears
/// of an inner address, and both copies say the same.
#[test]
fn a_reply_that_comes_by_both_cpus_at_once_is_rewritten_on_both() {
    on_router(|datapath| {
        let ends = control_v4();
        let talk = Talk::begin(datapath, ends, [10, 20]);
        let first = talk.next;
        let scene = Scene::new(datapath, ends, first);
        let before = datapath.counts();
        // The round that has begun, and how many threads are through with it.
        let (round, through) = (AtomicU32::new(0), AtomicU32::new(0));
        let wait_for = |place: &AtomicU32, wanted: u32| {
            while place.load(SeqCst) < wanted {
                thread::yield_now();
            }
        };
        let say = |number: u32| {
            let [said, wanted] = answer(ends, number);
            let heard = scene.server_says(scene.said[1].load(SeqCst), &said);
            through.fetch_add(1, SeqCst);
            wait_for(&through, 2 * (number + 1));
            (said.len() as u32, heard.is_none_or(|heard| heard == wanted))
        };
        let start = Instant::now();
        let [rounds, wrong] = thread::scope(|scope| {
            let first = scope.spawn(|| {
                stay_on(0);
                let (mut number, mut wrong) = (0, 0);
                while start.elapsed() < TIME {
                    scene.client_says(scene.said[0].load(SeqCst), PASV);
                    scene.said[0].fetch_add(PASV.len() as u32, SeqCst);
                    round.store(number + 1, SeqCst);
                    let (len, is_right) = say(number);
                    wrong += u32::from(!is_right);
                    scene.said[1].fetch_add(len, SeqCst);
                    number += 1;
                }
                round.store(u32::MAX, SeqCst);
                [number, wrong]
            });
            let second = scope.spawn(|| {
                stay_on(1);
                let mut wrong = 0;
                for number in 0.. {
                    wait_for(&round, number + 1);
                    if round.load(SeqCst) == u32::MAX {
                        break;
                    }
                    wrong += u32::from(!say(number).1);
                }
                wrong
            });
            let [rounds, wrong] = first.join().unwrap();
            [rounds, wrong + second.join().unwrap()]
        });
        let counts = datapath.counted_since(&before);
        println!("{rounds} replies, {wrong} of twice as many wrong: {counts:?}");
        assert!(rounds > 100, "few: {rounds}");
        assert_eq!(wrong, 0);
        // The next one is read as any.
        scene.client_says(scene.said[0].load(SeqCst), PASV);
        let [said, wanted] = answer(ends, rounds);
        let heard = scene.server_says(scene.said[1].load(SeqCst), &said);
        assert_eq!(heard, Some(wanted));
        datapath.events();
    });
}
