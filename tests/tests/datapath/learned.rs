//! Connections that another gateway of the cluster has told of.

use ftp_nat_common::{
    abi::{
        ADOPTED, Event, Mapping, MappingKey, PublishKey, REVERSED, Settings, TlsClient,
        TlsClientKey, cause, cluster, event, kind, mapping_flag, publish_flag, side,
    },
    counter::Counter,
    wire::addr::{Endpoint, Port},
};

use crate::{
    fixture::Fixture,
    loaded::{Datapath, on_router},
    scene::{Ends, addr, control_v4, control_v6, endpoint, hop},
    talk::{Client, Server, Talk},
};

/// Sets [`Settings::cluster`].
fn share(datapath: &mut Datapath, cluster: u16) {
    let settings = Settings {
        cluster,
        learning_until: 0,
        ..datapath.settings()
    };
    datapath.set(settings);
}

/// Makes an announced connection one that was learned, with the entry for the other end's packets.
fn learn(datapath: &mut Datapath, key: MappingKey, reversed: MappingKey, to: Endpoint) {
    let mapping = datapath.mappings.get(&key).unwrap();
    let learned = Mapping {
        flags: mapping_flag::LEARNED,
        ..mapping
    };
    datapath.mappings.set(key, learned);
    datapath.mappings.set(reversed, Mapping { to, ..learned });
}

fn learn_passive(datapath: &mut Datapath, data: &Ends) {
    let key = data.announce_passive(datapath);
    let reversed = MappingKey {
        src: addr(data.inside),
        dst: addr(data.outside),
        dport: Port::new(data.inside.port()),
        side: side::OUTBOUND | REVERSED,
        ..MappingKey::default()
    };
    learn(datapath, key, reversed, endpoint(data.public));
}

fn learn_active(datapath: &mut Datapath, data: &Ends) {
    let key = data.announce_active(datapath);
    let reversed = MappingKey {
        src: addr(data.outside),
        dst: addr(data.public),
        dport: Port::new(data.outside.port()),
        side: side::INBOUND | REVERSED,
        ..MappingKey::default()
    };
    let to = Endpoint::new(addr(data.inside), Port::default());
    learn(datapath, key, reversed, to);
}

#[test]
fn any_packet_of_either_end_is_the_first_one_of_a_connection_that_was_learned() {
    on_router(|datapath| {
        share(datapath, cluster::SHARED);
        for control in [control_v4(), control_v6()] {
            for (passive, data) in [
                (true, control.data(50_111, 50_000, 50_000)),
                (false, control.data(50_112, 20, 20)),
            ] {
                let learn = if passive { learn_passive } else { learn_active };
                for from_outside in [true, false] {
                    datapath.forget_connections();
                    learn(datapath, &data);
                    assert_eq!(datapath.mappings.len(), 2);
                    let fixture = if from_outside {
                        let packet = data.inbound();
                        Fixture::wan("from outside", &packet)
                            .redirected(&hop(data.inwards(&packet)))
                    } else {
                        let packet = data.outbound();
                        Fixture::lan("from inside", &packet)
                            .redirected(&hop(data.outwards(&packet)))
                    };
                    let counter = if !passive {
                        Counter::ActiveUsed
                    } else {
                        Counter::PassiveUsed
                    };
                    fixture.counting(&[counter]).check(datapath);
                    assert!(data.flows(datapath).is_some(), "passive: {passive}");
                    assert_eq!(datapath.mappings.len(), 0, "passive: {passive}");
                }
            }
        }
    });
}

#[test]
fn only_a_syn_uses_what_was_announced_here() {
    on_router(|datapath| {
        share(datapath, cluster::SHARED);
        for control in [control_v4(), control_v6()] {
            datapath.forget_connections();
            let data = control.data(50_111, 50_000, 50_000);
            data.announce_passive(datapath);
            Fixture::wan("no SYN", &data.inbound())
                .counting(&[Counter::PassedNoFlow])
                .check(datapath);
            assert_eq!(datapath.mappings.len(), 1);
        }
    });
}

/// How a public address is here only since a moment.
#[derive(Clone, Copy, Debug)]
enum Learning {
    /// Another gateway has it, or had it a moment ago.
    Away,
    /// It came here.
    Came,
}

/// Has the gateway learn what comes for a published address, which the datapath knows by an entry
/// without a port.
fn begin_to_learn(datapath: &mut Datapath, control: Ends, learning: Learning) {
    let key = PublishKey {
        addr: addr(control.public),
        ..PublishKey::default()
    };
    let mut address = datapath.published.get(&key).unwrap_or_default();
    let learning_until = match learning {
        Learning::Away => {
            address.flags |= publish_flag::AWAY;
            0
        }
        Learning::Came => u64::MAX,
    };
    datapath.publish(key, address);
    let settings = Settings {
        cluster: cluster::SHARED,
        learning_until,
        ..datapath.settings()
    };
    datapath.set(settings);
}

#[test]
fn while_a_gateway_learns_nobody_is_refused() {
    on_router(|datapath| {
        for (control, learning) in [
            (control_v4(), Learning::Away),
            (control_v6(), Learning::Came),
        ] {
            datapath.forget_connections();
            control.publish(datapath, 0);
            begin_to_learn(datapath, control, learning);
            let data = control.data(50_111, 50_000, 50_000);
            datapath.mark_port(50_000, 1);
            for (name, packet) in [
                ("a data connection", data.inbound()),
                ("its SYN", data.inbound().syn()),
                ("a control connection", control.inbound()),
            ] {
                Fixture::wan(name, &packet)
                    .dropped()
                    .counting(&[Counter::DroppedLearning])
                    .check(datapath);
            }
        }
    });
}

const RANGE: [u16; 2] = [50_000, 50_999];

/// A session that was learned from another gateway, of whose data connections one may be untold.
fn take_over(datapath: &mut Datapath, control: Ends) -> u32 {
    datapath.forget_connections();
    Talk::begin_beside(datapath, control, RANGE);
    let (number, mut session) = datapath.sessions.all()[0];
    session.adopted = ADOPTED;
    session.untold = 1;
    datapath.sessions.set(number, session);
    let mut client = TlsClient::default();
    client.sessions[3] = number;
    for server in [control.public, control.inside] {
        let key = TlsClientKey {
            client: addr(control.outside),
            public: addr(server),
        };
        datapath.tls_clients.set(key, client);
    }
    for port in [20, 1500, 50_111, 50_000, 50_999, 51_000] {
        datapath.mark_port(port, 1);
    }
    datapath.events();
    number
}

#[test]
fn a_data_connection_that_another_gateway_let_in_goes_on_here_by_any_packet() {
    on_router(|datapath| {
        for (control, learning) in [
            (control_v4(), Learning::Away),
            (control_v6(), Learning::Came),
        ] {
            let passive = control.data(50_111, 50_999, 50_999);
            let active = control.data(50_111, 20, 20);
            for (what, data, from_outside, is_syn) in [
                (kind::PASSIVE, passive, true, true),
                (kind::PASSIVE, passive, true, false),
                (kind::PASSIVE, passive, false, false),
                (kind::ACTIVE, active, false, true),
                (kind::ACTIVE, active, false, false),
            ] {
                let number = take_over(datapath, control);
                begin_to_learn(datapath, control, learning);
                let packet = if from_outside {
                    data.inbound()
                } else {
                    data.outbound()
                };
                let packet = if is_syn { packet.syn() } else { packet };
                let name = format!("kind {what} from outside: {from_outside} SYN: {is_syn}");
                let fixture = if from_outside {
                    Fixture::wan(name, &packet).redirected(&hop(data.inwards(&packet)))
                } else {
                    Fixture::lan(name, &packet).redirected(&hop(data.outwards(&packet)))
                };
                fixture.counting(&[Counter::TakenOver]).check(datapath);
                let (inbound, outbound) = data.flows(datapath).unwrap();
                assert_eq!((inbound.kind, outbound.kind), (what, what));
                assert_eq!(inbound.session, number);
                let [Event { what, cause, .. }] = datapath.events()[..] else {
                    panic!("one event");
                };
                assert_eq!((what, cause), (event::USED, cause::TAKEOVER));
                // There was one at most.
                let second = control.data(50_112, 50_998, 50_998).inbound();
                Fixture::wan("a second one", &second.syn())
                    .dropped()
                    .counting(&[Counter::DroppedLearning])
                    .check(datapath);
            }
        }
    });
}

#[test]
fn nothing_else_is_taken_over() {
    on_router(|datapath| {
        for control in [control_v4(), control_v6()] {
            for (name, data, from_outside) in [
                ("below the range", control.data(50_111, 1500, 1500), true),
                ("above it", control.data(50_111, 51_000, 51_000), true),
                (
                    "to the server's port 20",
                    control.data(50_111, 20, 20),
                    true,
                ),
                (
                    "to a system port of the client",
                    control.data(22, 20, 20),
                    false,
                ),
            ] {
                take_over(datapath, control);
                begin_to_learn(datapath, control, Learning::Came);
                datapath.mark_port(22, 1);
                let packet = if from_outside {
                    data.inbound()
                } else {
                    data.outbound()
                };
                let fixture = if from_outside {
                    Fixture::wan(name, &packet)
                } else {
                    Fixture::lan(name, &packet)
                };
                fixture
                    .dropped()
                    .counting(&[Counter::DroppedLearning])
                    .check(datapath);
                assert!(data.flows(datapath).is_none(), "{name}");
            }
            let data = control.data(50_111, 50_999, 50_999);
            // Once the gateway has learned all, and of a session that lives here only.
            take_over(datapath, control);
            share(datapath, cluster::SHARED);
            Fixture::wan("all is learned", &data.inbound())
                .counting(&[Counter::PassedNoFlow])
                .check(datapath);
            let number = take_over(datapath, control);
            begin_to_learn(datapath, control, Learning::Came);
            let mut session = datapath.sessions.get(&number).unwrap();
            session.adopted = 0;
            datapath.sessions.set(number, session);
            Fixture::wan("a session of this gateway", &data.inbound())
                .dropped()
                .counting(&[Counter::DroppedLearning])
                .check(datapath);
        }
    });
}

#[test]
fn what_changes_a_length_waits_once_while_another_gateway_listens() {
    const REPLY: &str = "227 10,0,0,5,195,80\r\n";
    const REPLY_OUT: &str = "227 198,51,100,1,195,80\r\n";
    on_router(|datapath| {
        share(datapath, cluster::SHARED | cluster::LISTENED);
        let mut talk = Talk::begin(datapath, control_v4(), [100, 500]);
        talk.passes(Client, "PASV\r\n");
        let opened = [Counter::PassiveOpened, Counter::Rewrote227];
        let packet = talk.segment(Server, REPLY);
        talk.fixture(Server, "it is not told yet", &packet)
            .dropped()
            .counting(&opened)
            .counting(&[Counter::EditAdjusted, Counter::HeldUntold])
            .check(talk.datapath);
        // Its sender repeats it.
        talk.says(Server, REPLY, REPLY_OUT, &[]);
        assert_eq!(talk.ahead, [0, 4]);
        talk.passes(Client, "PASV\r\n");
        // What keeps its length does not wait.
        talk.says(
            Server,
            "227 Entering Passive Mode (10,0,0,5,195,81).\r\n",
            "227 Entering Passive  (198,51,100,1,195,81).\r\n",
            &[
                Counter::PassiveOpened,
                Counter::Rewrote227,
                Counter::EditEqual,
            ],
        );
        share(talk.datapath, cluster::SHARED);
        talk.passes(Client, "PASV\r\n");
        let reply = REPLY.replace(",80", ",82");
        let out = REPLY_OUT.replace(",80", ",82");
        let counted = [&opened[..], &[Counter::EditAdjusted]].concat();
        talk.says(Server, &reply, &out, &counted);
    });
}
