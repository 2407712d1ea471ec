//! Answers leave by the way that their connection's packets came: the interface, and the router there.

use ftp_nat_common::abi::{Flow, Interface, ReturnPath, Settings, interface_flag, setting};

use crate::{
    fixture::Fixture,
    loaded::{Datapath, Hook, NEXT, REDIRECT, on_router},
    packet::{ACK, PSH, Packet},
    scene::{Ends, control_v4, control_v6, hop},
};

/// Hardware addresses: of the router's WAN, and of two routers in front of it.
const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
const FIRST: [u8; 6] = [2, 0, 0, 0, 0x11, 0x11];
const SECOND: [u8; 6] = [2, 0, 0, 0, 0x22, 0x22];

/// A packet in a frame from one hardware address to another.
fn frame(packet: &Packet, [to, from]: [[u8; 6]; 2]) -> Vec<u8> {
    let mut frame = packet.bytes();
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    frame
}

/// What comes from outside in a frame of this router's.
fn comes(datapath: &Datapath, packet: &Packet, from: [u8; 6]) {
    datapath.run(Hook::WanIngress, &frame(packet, [OWN, from]));
}

/// The verdict on a packet from inside, and the Ethernet addresses that it leaves with.
#[track_caller]
fn leaves(datapath: &Datapath, hook: Hook, packet: &Packet) -> (i32, [[u8; 6]; 2]) {
    let outcome = datapath.run(hook, &packet.bytes());
    let address = |at: usize| outcome.frame[at..at + 6].try_into().unwrap();
    (outcome.verdict, [address(0), address(6)])
}

/// A session whose client's packets come by the first router.
fn session(datapath: &mut Datapath, ends: &Ends) {
    ends.publish(datapath, 0);
    let [syn, answer, ack] = ends.handshake([100, 200]);
    comes(datapath, &syn, FIRST);
    let outwards = leaves(datapath, Hook::LanIngress, &answer);
    assert_eq!(outwards, (REDIRECT, [FIRST, OWN]), "the answer to a SYN");
    comes(datapath, &ack, FIRST);
}

/// A data connection that a client makes, with one packet of each direction.
fn data_connection(datapath: &mut Datapath) -> Ends {
    let data = control_v4().data(50_111, 50_000, 50_000);
    data.announce_passive(datapath);
    comes(datapath, &data.inbound().syn().seq(100), FIRST);
    let segment = data.outbound().seq(200).ack(101);
    assert_eq!(
        leaves(datapath, Hook::LanIngress, &segment),
        (REDIRECT, [FIRST, OWN])
    );
    data
}

/// Lets the next hops of both directions grow old.
fn grow_old(datapath: &mut Datapath, ends: &Ends) {
    let (inbound, outbound) = ends.flows(datapath).unwrap();
    let old = |flow: Flow| Flow {
        fresh_until: flow.last_seen.wrapping_sub(1),
        ..flow
    };
    ends.set_inbound(datapath, old(inbound));
    ends.set_outbound(datapath, old(outbound));
}

#[test]
fn the_server_answers_by_the_router_that_brought_the_client() {
    on_router(|datapath| {
        for ends in [control_v4(), control_v6()] {
            session(datapath, &ends);
            let greeting = ends
                .outbound()
                .flags(ACK | PSH)
                .seq(201)
                .ack(101)
                .payload("220 Ready\r\n");
            // At once, and after the routes were asked: those know nothing of that router.
            for turn in ["fresh", "old"] {
                let outwards = leaves(datapath, Hook::LanIngress, &greeting);
                assert_eq!(outwards, (REDIRECT, [FIRST, OWN]), "{turn}: {ends:?}");
                grow_old(datapath, &ends);
            }
        }
    });
}

/// A balancer that brings packets and does not take the answers.
#[test]
fn the_routing_tables_decide_where_the_way_back_is_not_to_be_taken() {
    on_router(|datapath| {
        datapath.set(Settings {
            flags: setting::BY_ROUTES,
            ..datapath.settings()
        });
        for ends in [control_v4(), control_v6()] {
            ends.publish(datapath, 0);
            let [syn, answer, ack] = ends.handshake([100, 200]);
            comes(datapath, &syn, FIRST);
            let answer = Fixture::lan("the answer to a SYN", &answer);
            answer
                .redirected(&hop(ends.outwards(&ends.handshake([100, 200])[1])))
                .check(datapath);
            comes(datapath, &ack, FIRST);
            let (inbound, _) = ends.flows(datapath).unwrap();
            assert_eq!(inbound.return_path, ReturnPath::default());
            grow_old(datapath, &ends);
            comes(datapath, &ends.inbound().seq(101).ack(201), SECOND);
            let (inbound, _) = ends.flows(datapath).unwrap();
            assert_eq!(inbound.return_path, ReturnPath::default());
        }
    });
}

#[test]
fn the_servers_own_connection_leaves_as_its_session_came() {
    on_router(|datapath| {
        let control = control_v4();
        session(datapath, &control);
        let (inbound, _) = control.flows(datapath).unwrap();
        let data = control.data(50_222, 20, 20);
        let key = data.announce_active(datapath);
        let mut mapping = datapath.mappings.get(&key).unwrap();
        mapping.session = inbound.session;
        datapath.mappings.set(key, mapping);
        let outwards = leaves(datapath, Hook::LanIngress, &data.outbound().syn());
        assert_eq!(outwards, (REDIRECT, [FIRST, OWN]));
    });
}

#[test]
fn another_router_takes_over_with_a_packet_that_tcp_believes() {
    on_router(|datapath| {
        let data = data_connection(datapath);
        let outbound = data.outbound().seq(200).ack(101);
        let inbound = data.inbound().ack(201);
        for (name, seq, from, then) in [
            ("of another million", 101 + (1 << 24), SECOND, FIRST),
            ("a group's address", 101, [1, 0, 0x5e, 0, 0, 1], FIRST),
            ("nobody's address", 101, [0; 6], FIRST),
            ("the next one", 101, SECOND, SECOND),
        ] {
            grow_old(datapath, &data);
            comes(datapath, &inbound.clone().seq(seq), from);
            let outwards = leaves(datapath, Hook::LanIngress, &outbound);
            assert_eq!(outwards, (REDIRECT, [then, OWN]), "{name}");
        }
    });
}

#[test]
fn a_router_that_nobody_answers_behind_takes_turns_with_the_routes() {
    on_router(|datapath| {
        let data = data_connection(datapath);
        let segment = data.outbound().seq(200).ack(101);
        let by_route = segment.bytes();
        let by_route: [[u8; 6]; 2] = [
            by_route[..6].try_into().unwrap(),
            by_route[6..12].try_into().unwrap(),
        ];
        let back = [FIRST, OWN];
        for (turn, addresses) in [back, by_route, back, by_route].into_iter().enumerate() {
            // Older than the last lookup: nobody has answered.
            let (mut inbound, mut outbound) = data.flows(datapath).unwrap();
            let now = outbound.last_seen;
            inbound.last_seen = now - 100_000;
            outbound.fresh_until = now.wrapping_sub(1);
            data.set_inbound(datapath, inbound);
            data.set_outbound(datapath, outbound);
            let outwards = leaves(datapath, Hook::LanIngress, &segment);
            assert_eq!(outwards, (REDIRECT, addresses), "turn {turn}");
            if turn == 0 {
                let (_, outbound) = data.flows(datapath).unwrap();
                assert_eq!(outbound.unanswered, 1);
            }
        }
        comes(datapath, &data.inbound().seq(101).ack(201), FIRST);
        grow_old(datapath, &data);
        let outwards = leaves(datapath, Hook::LanIngress, &segment);
        assert_eq!(outwards, (REDIRECT, back), "once somebody has answered");
    });
}

#[test]
fn what_the_stack_sends_by_another_uplink_is_brought_back() {
    on_router(|datapath| {
        // Nothing inside is redirected to.
        datapath.redirect_nothing();
        let uplink = Interface {
            flags: interface_flag::WAN | interface_flag::ETHERNET,
            mtu: 1500,
        };
        datapath.add_interface(datapath.wan, uplink);
        let data = control_v4().data(50_111, 50_000, 50_000);
        data.announce_passive(datapath);
        comes(datapath, &data.inbound().syn().seq(100), FIRST);
        let segment = data.outbound().seq(200).ack(101);
        for turn in ["at once", "a second later"] {
            let outwards = leaves(datapath, Hook::WanEgress, &segment);
            assert_eq!(outwards, (NEXT, [FIRST, OWN]), "{turn}");
            grow_old(datapath, &data);
        }
        // The other uplink's hook.
        let there = datapath.wan;
        datapath.wan = datapath.lan;
        datapath.add_interface(datapath.wan, uplink);
        for turn in ["at once", "a second later"] {
            let outwards = leaves(datapath, Hook::WanEgress, &segment);
            assert_eq!(outwards, (REDIRECT, [FIRST, OWN]), "{turn}");
            grow_old(datapath, &data);
        }
        datapath.wan = there;
        // Where the stack has the same router itself, it is the stack's choice.
        let outwards = datapath.run(Hook::WanEgress, &frame(&segment, [FIRST, OWN]));
        assert_eq!(outwards.verdict, NEXT);
        let (_, outbound) = data.flows(datapath).unwrap();
        assert_eq!(outbound.return_path.ifindex, 0);
    });
}
