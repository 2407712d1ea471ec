//! What the daemon is told.

use bytemuck::Zeroable as _;
use ftp_nat_common::{
    abi::{Event, cause, event, kind},
    counter::Counter,
    wire::addr::{Addr, Endpoint, Port},
};

use crate::{
    loaded::{Hook, REMAP, on_router},
    scene::{SESSION, control_v4, control_v6, endpoint},
    talk::{Client, Server, Talk},
};

const ISN: [u32; 2] = [100, 200];

/// Bytes of the ring of events.
const RING: usize = 1 << 20;
/// What each takes there: itself and a header.
const EACH: usize = size_of::<Event>() + 8;

/// The events so far, without their times, which must be in order.
fn told(talk: &Talk<'_>) -> Vec<Event> {
    let mut events = talk.datapath.events();
    assert!(events.is_sorted_by_key(|event| event.time));
    for event in &mut events {
        assert_ne!(event.time, 0);
        event.time = 0;
        event.also = 0;
    }
    events
}

#[test]
fn a_session_is_told_when_it_begins() {
    on_router(|datapath| {
        for control in [control_v4(), control_v6()] {
            datapath.forget_connections();
            control.publish(datapath, 0);
            control.connect(datapath, [1, 2]);
            let (number, session) = datapath.sessions.all()[0];
            let [mut event] = datapath.events()[..] else {
                panic!("not one event");
            };
            // A tick may have come between them.
            assert!(event.time - session.born <= 1);
            event.time = 0;
            let expected = Event {
                what: event::SESSION,
                kind: kind::CONTROL,
                reason: Counter::SessionOpened as u16,
                session: number,
                peer: endpoint(control.outside),
                inside: endpoint(control.inside),
                public: endpoint(control.public),
                ..Event::zeroed()
            };
            assert_eq!(event, expected);
        }
    });
}

#[test]
fn the_end_of_a_connection_is_told_when_its_ends_begin_a_new_one() {
    on_router(|datapath| {
        for control in [control_v4(), control_v6()] {
            datapath.forget_connections();
            control.publish(datapath, 0);
            control.connect(datapath, [1, 2]);
            let (number, _) = datapath.sessions.all()[0];
            let (inbound, outbound) = control.flows(datapath).unwrap();
            datapath.events();
            let before = datapath.counts();
            control.connect(datapath, [0x7000_0001, 0x7000_0002]);
            let replaced = datapath.counted_since(&before);
            assert!(replaced.iter().any(|(it, _)| *it == Counter::Replaced));
            let [began, mut ended] = datapath.events()[..] else {
                panic!("not two events");
            };
            assert_eq!(began.what, event::SESSION);
            ended.time = 0;
            let expected = Event {
                what: event::ENDED,
                kind: kind::CONTROL,
                reason: Counter::Replaced as u16,
                session: number,
                peer: endpoint(control.outside),
                inside: endpoint(control.inside),
                public: endpoint(control.public),
                born: inbound.born,
                inbound: inbound.bytes,
                outbound: outbound.bytes,
                ..Event::zeroed()
            };
            assert_eq!(ended, expected);
        }
    });
}

#[test]
fn an_announcement_is_told_from_its_opening_to_its_use() {
    on_router(|datapath| {
        let control = control_v4();
        let mut talk = Talk::begin(datapath, control, ISN);
        let mut other = control.data(1, 50_000, 50_000);
        other.inside.set_port(50_001);
        other.announce_passive(talk.datapath);
        let number = talk.datapath.sessions.all()[0].0;
        talk.passes(Client, "PASV\r\n");
        let reply = "227 Entering Passive Mode (10,0,0,5,195,80).\r\n";
        let packet = talk.segment(Server, reply);
        talk.datapath.run(Hook::LanIngress, &packet.bytes());

        let about = |what, reason| Event {
            what,
            kind: kind::PASSIVE,
            reason: reason as u16,
            session: number,
            // Whichever port it will connect from.
            peer: Endpoint {
                port: Port::default(),
                ..endpoint(control.outside)
            },
            inside: Endpoint {
                port: Port::new(50_000),
                ..endpoint(control.inside)
            },
            public: Endpoint {
                port: Port::new(REMAP),
                ..endpoint(control.public)
            },
            announced: endpoint(control.inside).addr,
            cause: cause::PASV,
            ..Event::zeroed()
        };
        let opened = about(event::OPENED, Counter::PassiveOpened);
        let remapped = about(event::REMAPPED, Counter::Remapped);
        let told_now = told(&talk);
        let rewritten = about(event::REWRITTEN, Counter::Rewrote227);
        assert_eq!(told_now, [opened, remapped, rewritten]);

        let data = control.data(50_111, REMAP, 50_000);
        talk.datapath
            .run(Hook::WanIngress, &data.inbound().syn().bytes());
        let used = Event {
            peer: endpoint(data.outside),
            announced: Addr::default(),
            ..about(event::USED, Counter::PassiveUsed)
        };
        assert_eq!(told(&talk), [used]);
    });
}

#[test]
fn an_active_opening_tells_where_the_client_listens() {
    on_router(|datapath| {
        let control = control_v4();
        let talk = Talk::begin(datapath, control, ISN);
        let number = talk.datapath.sessions.all()[0].0;
        let segment = talk.segment(Client, "PORT 198,51,100,20,175,200\r\n");
        talk.datapath.run(Hook::WanIngress, &segment.bytes());
        let opened = Event {
            what: event::OPENED,
            kind: kind::ACTIVE,
            reason: Counter::ActiveOpened as u16,
            session: number,
            peer: Endpoint {
                port: Port::new(175 << 8 | 200),
                ..endpoint(control.outside)
            },
            // Which ports the server will come from is not known yet.
            inside: Endpoint {
                port: Port::default(),
                ..endpoint(control.inside)
            },
            public: Endpoint {
                port: Port::default(),
                ..endpoint(control.public)
            },
            announced: endpoint(control.outside).addr,
            cause: cause::PORT,
            ..Event::zeroed()
        };
        assert_eq!(told(&talk), [opened]);
    });
}

#[test]
fn what_is_denied_or_passed_is_told_with_its_reason() {
    let cases = [
        (
            Client,
            "PORT 198,51,100,21,175,200\r\n",
            event::DENIED,
            Counter::DeniedBounce,
        ),
        (
            Client,
            "PORT 198,51,100,20,0,21\r\n",
            event::DENIED,
            Counter::DeniedPort,
        ),
        (
            Server,
            "227 (10,0,0,5,195,80)\r\n",
            event::PASSED,
            Counter::PassedUnasked,
        ),
    ];
    on_router(|datapath| {
        for (sender, text, what, reason) in cases {
            let talk = Talk::begin(datapath, control_v4(), ISN);
            let hook = match sender {
                Client => Hook::WanIngress,
                Server => Hook::LanIngress,
            };
            talk.datapath.run(hook, &talk.segment(sender, text).bytes());
            let events = told(&talk);
            let [event] = events[..] else {
                panic!("{text}: {events:?}");
            };
            assert_eq!((event.what, event.reason), (what, reason as u16), "{text}");
            assert_eq!(event.peer.addr, endpoint(talk.ends.outside).addr, "{text}");
            let names_somebody_else = reason == Counter::DeniedBounce;
            let other = Addr::from_octets([198, 51, 100, 21]);
            assert_eq!(event.announced == other, names_somebody_else, "{text}");
        }
    });
}

#[test]
fn a_connection_that_nobody_announced_is_told() {
    on_router(|datapath| {
        let data = control_v4().data(50_111, 50_000, 50_000);
        datapath.mark_port(50_000, 1);
        datapath.run(Hook::WanIngress, &data.inbound().syn().bytes());
        let [mut event] = datapath.events()[..] else {
            panic!("not one event");
        };
        event.time = 0;
        let expected = Event {
            what: event::DENIED,
            reason: Counter::DeniedUnannounced as u16,
            peer: endpoint(data.outside),
            public: endpoint(data.public),
            ..Event::zeroed()
        };
        assert_eq!(event, expected);
    });
}

#[test]
fn events_that_find_the_ring_full_are_counted() {
    on_router(|datapath| {
        let data = control_v4().data(50_111, 50_000, 50_000);
        let before = datapath.counts();
        let syn = data.inbound().syn().bytes();
        let too_many = RING / EACH + 100;
        for _ in 0..too_many {
            data.announce_passive(datapath);
            datapath.run(Hook::WanIngress, &syn);
        }
        let events = datapath.events();
        let lost = datapath
            .counted_since(&before)
            .iter()
            .find(|(counter, _)| *counter == Counter::EventsLost)
            .map(|(_, by)| by.packets)
            .unwrap();
        assert!(lost >= 100, "{lost}");
        // Each connection is told, and all but the first take the place of the one before.
        assert_eq!(events.len() + lost as usize, 2 * too_many - 1);

        // There is room again, and packets were treated alike all the time.
        data.announce_passive(datapath);
        datapath.run(Hook::WanIngress, &syn);
        let events = datapath.events();
        let told = events.iter().find(|it| it.what == event::USED).unwrap();
        assert_eq!((events.len(), told.session), (2, SESSION));
    });
}
