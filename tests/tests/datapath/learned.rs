//! Connections that another gateway of the cluster has told of.

use ftp_nat_common::{
    abi::{Mapping, MappingKey, PublishKey, REVERSED, Settings, cluster, mapping_flag, side},
    counter::Counter,
    wire::addr::{Endpoint, Port},
};

use crate::{
    fixture::Fixture,
    loaded::{Datapath, on_router},
    scene::{Ends, addr, control_v4, control_v6, endpoint, hop},
};

/// Sets [`Settings::cluster`].
fn share(datapath: &mut Datapath, cluster: u16) {
    let settings = Settings {
        cluster,
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
                    fixture.counting(&[Counter::MappingUsed]).check(datapath);
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

#[test]
fn while_a_gateway_learns_nobody_is_refused() {
    on_router(|datapath| {
        share(datapath, cluster::SHARED | cluster::LEARNING);
        for control in [control_v4(), control_v6()] {
            datapath.forget_connections();
            control.publish(datapath, 0);
            let key = PublishKey {
                addr: addr(control.public),
                ..PublishKey::default()
            };
            datapath.publish(key, ftp_nat_common::abi::Publish::default());
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
