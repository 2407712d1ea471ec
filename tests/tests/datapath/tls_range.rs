//! A server's passive range: open to a client with a live TLS session, one connection for each answer.

use ftp_nat_common::{
    abi::{Event, FlowKey4, PublishKey, cause, event, flow_flag, kind, session_flag},
    counter::Counter::{
        self, DeniedNoPermit, DeniedNoTls, DeniedOutsideRange, DeniedUnannounced, PassedEncrypted,
        PermitGranted, PermitUsed, SessionEncrypted,
    },
};

use crate::{
    fixture::Fixture,
    loaded::{Datapath, Hook, ROOM, on_router},
    packet::{ACK, FIN, RST},
    scene::{Ends, addr, control_v4, control_v6, endpoint, hop},
    talk::{Client, Sender, Server, Talk},
};

const RANGE: [u16; 2] = [50_000, 50_999];

/// A TLS record of this type: "change cipher spec" 20, alert 21, handshake 22, application data 23.
fn record(kind: u8, len: u8) -> String {
    assert!(len < 128, "it must be text");
    let header = [kind, 3, 3, 0, len].map(char::from);
    header.iter().collect::<String>() + &"z".repeat(len.into())
}

const CHANGE: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

/// These records pass as they are.
fn passes(talk: &mut Talk<'_>, sender: Sender, records: &str, counted: &[Counter]) {
    let counted = [counted, &[PassedEncrypted]].concat();
    talk.says(sender, records, records, &counted);
}

/// The handshake of TLS 1.2.
fn shake_hands(talk: &mut Talk<'_>) {
    passes(talk, Client, &record(HANDSHAKE, 100), &[]);
    passes(talk, Server, &record(HANDSHAKE, 100), &[]);
    let finished = record(HANDSHAKE, 90) + &record(CHANGE, 1) + &record(HANDSHAKE, 40);
    passes(talk, Client, &finished, &[]);
    passes(
        talk,
        Server,
        &(record(CHANGE, 1) + &record(HANDSHAKE, 40)),
        &[],
    );
}

/// A session with a server whose passive range is [`RANGE`], by TLS, in which nothing was said yet.
fn encrypted<'d>(datapath: &'d mut Datapath, ends: Ends) -> Talk<'d> {
    let mut talk = Talk::begin_beside(datapath, ends, RANGE);
    talk.passes(Server, "220 ready\r\n");
    talk.passes(Client, "AUTH TLS\r\n");
    talk.says(
        Server,
        "234 go on\r\n",
        "234 go on\r\n",
        &[SessionEncrypted],
    );
    shake_hands(&mut talk);
    talk.datapath.events();
    talk
}

/// The client asks something and the server answers.
fn asks(talk: &mut Talk<'_>) {
    passes(talk, Client, &record(DATA, 30), &[]);
    passes(talk, Server, &record(DATA, 60), &[PermitGranted]);
}

/// A data connection to this port, from the client's port.
fn data(ends: Ends, from: u16, port: u16) -> Ends {
    ends.data(from, port, port)
}

/// Its SYN is translated and sent on.
fn enters(datapath: &Datapath, data: Ends, counted: &[Counter]) {
    let syn = data.inbound().syn();
    Fixture::wan(format!("a SYN to {}", data.public), &syn)
        .redirected(&hop(data.inwards(&syn)))
        .counting(counted)
        .check(datapath);
}

/// It meets what a closed port shows: it passes as it is.
fn is_denied(datapath: &Datapath, data: Ends, reason: Counter) {
    Fixture::wan(
        format!("{reason:?}: {}", data.public),
        &data.inbound().syn(),
    )
    .counting(&[reason])
    .check(datapath);
    assert_eq!(data.flows(datapath), None, "{}", data.public);
}

#[test]
fn each_answer_inside_tls_lets_one_connection_in() {
    on_router(|datapath| {
        for control in [control_v4(), control_v6()] {
            datapath.forget_connections();
            let mut talk = encrypted(datapath, control);
            is_denied(talk.datapath, data(control, 4000, 50_000), DeniedNoTls);
            asks(&mut talk);
            let first = data(control, 4000, 50_999);
            enters(talk.datapath, first, &[PermitUsed]);
            enters(talk.datapath, first, &[]);
            is_denied(talk.datapath, data(control, 4001, 50_998), DeniedNoPermit);

            let (inbound, outbound) = first.flows(talk.datapath).unwrap();
            let (number, _) = talk.datapath.sessions.all()[0];
            assert_eq!((inbound.kind, inbound.flags), (kind::PASSIVE, 0));
            assert_eq!((inbound.session, outbound.session), (number, number));
            assert_eq!(outbound.flags, flow_flag::OUTBOUND);
            assert_eq!(endpoint(first.inside), inbound.destination());
            // Whatever comes back is of interest.
            assert_ne!(talk.datapath.port_marks(50_999), 0);
            let answer = first.outbound();
            Fixture::lan("the server's answer", &answer)
                .redirected(&hop(first.outwards(&answer)))
                .check(talk.datapath);

            let events = talk.datapath.events();
            let told: Vec<_> = events
                .iter()
                .map(|it| (it.what, it.reason, it.cause))
                .collect();
            assert_eq!(
                told,
                [
                    (event::DENIED, DeniedNoTls as u16, 0),
                    (event::USED, PermitUsed as u16, cause::TLS),
                    (event::DENIED, DeniedNoPermit as u16, 0),
                ]
            );
            let Event {
                session,
                peer,
                public,
                inside,
                ..
            } = events[1];
            assert_eq!(session, number);
            assert_eq!(
                [peer, public, inside],
                [first.outside, first.public, first.inside].map(endpoint)
            );

            // Answers do not add up: a session has one listening port at a time.
            asks(&mut talk);
            asks(&mut talk);
            enters(talk.datapath, data(control, 4002, 50_001), &[PermitUsed]);
            is_denied(talk.datapath, data(control, 4003, 50_001), DeniedNoPermit);
        }
    });
}

#[test]
fn what_a_server_says_by_itself_lets_nobody_in() {
    on_router(|datapath| {
        let control = control_v4();
        let mut talk = encrypted(datapath, control);
        asks(&mut talk);
        enters(talk.datapath, data(control, 4000, 50_000), &[PermitUsed]);
        // The reply that ends a transfer, and an alert.
        for kind in [DATA, ALERT] {
            passes(&mut talk, Server, &record(kind, 40), &[]);
            is_denied(talk.datapath, data(control, 4001, 50_001), DeniedNoPermit);
        }
    });
}

#[test]
fn the_handshake_of_tls_1_3_lets_nobody_in() {
    on_router(|datapath| {
        let control = control_v4();
        let mut talk = Talk::begin_beside(datapath, control, RANGE);
        talk.passes(Server, "220 ready\r\n");
        talk.passes(Client, "AUTH TLS\r\n");
        talk.says(
            Server,
            "234 go on\r\n",
            "234 go on\r\n",
            &[SessionEncrypted],
        );
        passes(&mut talk, Client, &record(HANDSHAKE, 100), &[]);
        let flight = record(HANDSHAKE, 90) + &record(CHANGE, 1) + &record(DATA, 120);
        passes(&mut talk, Server, &flight, &[]);
        passes(
            &mut talk,
            Client,
            &(record(CHANGE, 1) + &record(DATA, 53)),
            &[],
        );
        // Tickets.
        passes(
            &mut talk,
            Server,
            &(record(DATA, 100) + &record(DATA, 100)),
            &[],
        );
        is_denied(talk.datapath, data(control, 4000, 50_000), DeniedNoTls);
        asks(&mut talk);
        enters(talk.datapath, data(control, 4000, 50_000), &[PermitUsed]);
    });
}

#[test]
fn implicit_tls_opens_the_range_too() {
    on_router(|datapath| {
        let control = control_v4();
        let mut talk = Talk::begin_beside(datapath, control, RANGE);
        talk.passes(Client, &record(HANDSHAKE, 100));
        let hello = record(HANDSHAKE, 100);
        talk.says(Server, &hello, &hello, &[SessionEncrypted]);
        passes(
            &mut talk,
            Client,
            &(record(CHANGE, 1) + &record(HANDSHAKE, 40)),
            &[],
        );
        passes(
            &mut talk,
            Server,
            &(record(CHANGE, 1) + &record(HANDSHAKE, 40)),
            &[],
        );
        // The greeting, USER and its reply.
        passes(&mut talk, Server, &record(DATA, 60), &[]);
        passes(&mut talk, Client, &record(DATA, 30), &[]);
        passes(&mut talk, Server, &record(DATA, 60), &[]);
        is_denied(talk.datapath, data(control, 4000, 50_000), DeniedNoTls);
        asks(&mut talk);
        enters(talk.datapath, data(control, 4000, 50_000), &[PermitUsed]);
    });
}

#[test]
fn nobody_else_enters_and_no_other_port_is_open() {
    on_router(|datapath| {
        for control in [control_v4(), control_v6()] {
            datapath.forget_connections();
            let mut talk = encrypted(datapath, control);
            asks(&mut talk);
            let mut stranger = data(control, 4000, 50_000);
            let other = if control.outside.is_ipv4() {
                "198.51.100.21"
            } else {
                "2001:db8:1::21"
            };
            stranger.outside.set_ip(other.parse().unwrap());
            is_denied(talk.datapath, stranger, DeniedNoTls);
            for port in [1024, 49_999, 51_000, 65_535] {
                is_denied(talk.datapath, data(control, 4000, port), DeniedOutsideRange);
                let mut elsewhere = stranger;
                elsewhere.public.set_port(port);
                is_denied(talk.datapath, elsewhere, DeniedUnannounced);
            }
            // Anything but a SYN.
            for flags in [ACK, RST] {
                let packet = data(control, 4000, 50_500).inbound().flags(flags);
                Fixture::wan("no SYN", &packet).check(talk.datapath);
            }
            enters(talk.datapath, data(control, 4000, 50_000), &[PermitUsed]);
        }
    });
}

/// A client alone can say what it wants.
#[test]
fn both_ends_must_have_spoken_tls() {
    let hello = record(HANDSHAKE, 100);
    let question = record(DATA, 30);
    // What the client says, and what the server answers; then whether that was encrypted.
    let cases: [(&str, &[(&str, &str)]); 4] = [
        (
            "a hello without an answer",
            &[("AUTH TLS\r\n", "234 go on\r\n"), (&hello, "")],
        ),
        (
            "records that an alert answers",
            &[
                ("AUTH TLS\r\n", "234 go on\r\n"),
                (&hello, &record(ALERT, 2)),
                (&question, &record(ALERT, 2)),
            ],
        ),
        (
            "text behind a 234",
            &[
                ("AUTH TLS\r\n", "234 go on\r\n"),
                ("PASV\r\n", "500 no\r\n"),
            ],
        ),
        (
            "a refusal of AUTH",
            &[
                ("AUTH TLS\r\n", "534 no\r\n"),
                (&hello, "500 what?\r\n"),
                (&question, "500 what?\r\n"),
            ],
        ),
    ];
    on_router(|datapath| {
        for (name, lines) in cases {
            datapath.forget_connections();
            let control = control_v4();
            let mut talk = Talk::begin_beside(datapath, control, RANGE);
            talk.passes(Server, "220 ready\r\n");
            for (says, answers) in lines {
                for (sender, text) in [(Client, says), (Server, answers)] {
                    let packet = talk.segment(sender, text);
                    let hook = if sender == Client {
                        Hook::WanIngress
                    } else {
                        Hook::LanIngress
                    };
                    talk.datapath.run(hook, &packet.bytes());
                    talk.next[sender as usize] += text.len() as u32;
                }
            }
            assert_eq!(talk.datapath.permits.len(), 0, "{name}");
            is_denied(talk.datapath, data(control, 4000, 50_000), DeniedNoTls);
        }
    });
}

#[test]
fn the_range_closes_with_the_session() {
    on_router(|datapath| {
        for control in [control_v4(), control_v6()] {
            for sender in [Client, Server] {
                for (name, flags) in [("FIN", ACK | FIN), ("RST", RST)] {
                    datapath.forget_connections();
                    let mut talk = encrypted(datapath, control);
                    asks(&mut talk);
                    let live = data(control, 4000, 50_000);
                    enters(talk.datapath, live, &[PermitUsed]);
                    asks(&mut talk);
                    let packet = talk.segment(sender, "").flags(flags);
                    let hook = if sender == Client {
                        Hook::WanIngress
                    } else {
                        Hook::LanIngress
                    };
                    talk.datapath.run(hook, &packet.bytes());
                    let (inbound, outbound) = control.flows(talk.datapath).unwrap();
                    assert_ne!(
                        inbound.tcp_flags | outbound.tcp_flags,
                        ACK,
                        "{name} by {sender:?}"
                    );
                    is_denied(talk.datapath, data(control, 4001, 50_001), DeniedNoTls);
                    // What came before goes on.
                    let packet = live.inbound();
                    Fixture::wan("a transfer's packet", &packet)
                        .redirected(&hop(live.inwards(&packet)))
                        .check(talk.datapath);
                }
            }
        }
    });
}

#[test]
fn clear_text_again_closes_the_range() {
    on_router(|datapath| {
        let control = control_v4();
        let mut talk = encrypted(datapath, control);
        asks(&mut talk);
        talk.says(Client, "NOOP\r\n", "NOOP\r\n", &[Counter::SessionCleared]);
        is_denied(talk.datapath, data(control, 4000, 50_000), DeniedNoTls);
    });
}

#[test]
fn a_permit_lasts_as_long_as_a_mapping() {
    on_router(|datapath| {
        let control = control_v4();
        let mut talk = encrypted(datapath, control);
        asks(&mut talk);
        let mut settings = talk.datapath.settings();
        settings.mapping_timeout = 0;
        talk.datapath.set(settings);
        std::thread::sleep(std::time::Duration::from_millis(20));
        is_denied(talk.datapath, data(control, 4000, 50_000), DeniedNoPermit);
        settings.mapping_timeout = 1 << 20;
        talk.datapath.set(settings);
        enters(talk.datapath, data(control, 4000, 50_000), &[PermitUsed]);
    });
}

#[test]
fn a_permit_waits_while_there_is_no_room_for_flows() {
    on_router(|datapath| {
        let control = control_v4();
        let mut talk = encrypted(datapath, control);
        asks(&mut talk);
        let flow = control.flows(talk.datapath).unwrap().0;
        while talk.datapath.flows4.len() < ROOM as usize {
            let key = FlowKey4 {
                src: talk.datapath.flows4.len() as u32,
                ..FlowKey4::default()
            };
            talk.datapath.flows4.set(key, flow);
        }
        let syn = data(control, 4000, 50_000).inbound().syn();
        Fixture::wan("no room", &syn)
            .dropped()
            .counting(&[Counter::DeniedNoRoom])
            .check(talk.datapath);
        assert_eq!(talk.datapath.permits.len(), 1);
    });
}

/// Two servers behind one address, on two ports, with the same range.
#[test]
fn a_connection_goes_to_the_server_that_its_client_talks_to() {
    on_router(|datapath| {
        let first = control_v4();
        let mut second = first.data(40_001, 2121, 21);
        second.inside.set_ip("10.0.0.6".parse().unwrap());
        let mut stranger = second;
        stranger.outside.set_ip("198.51.100.21".parse().unwrap());

        let mut talk = encrypted(datapath, first);
        asks(&mut talk);
        let mut talk = encrypted(datapath, stranger);
        asks(&mut talk);
        enters(datapath, data(first, 4000, 50_000), &[PermitUsed]);
        enters(datapath, data(stranger, 4000, 50_000), &[PermitUsed]);

        // One client with both: the server that spoke last.
        let mut talk = encrypted(datapath, second);
        asks(&mut talk);
        enters(datapath, data(second, 4001, 50_000), &[PermitUsed]);
        is_denied(datapath, data(first, 4002, 50_000), DeniedNoPermit);
    });
}

/// A whole office behind one address: more sessions than are remembered.
#[test]
fn each_of_many_sessions_of_one_address_is_served() {
    on_router(|datapath| {
        let control = control_v4();
        for number in 0..40 {
            let mut own = control;
            own.outside.set_port(41_000 + number);
            let mut talk = encrypted(datapath, own);
            asks(&mut talk);
            enters(datapath, data(own, 4000 + number, 50_000), &[PermitUsed]);
        }
        assert_eq!(datapath.tls_clients.len(), 1);
        is_denied(datapath, data(control, 3999, 50_000), DeniedNoPermit);
    });
}

/// An address can be invented: a session of a client outside opens nothing to the inside, and one of a client
/// behind the gateway nothing to the outside.
#[test]
fn a_connection_comes_from_the_side_that_its_session_came_from() {
    on_router(|datapath| {
        for control in [control_v4(), control_v6()] {
            datapath.forget_connections();
            let mut talk = encrypted(datapath, control);
            asks(&mut talk);
            let data = data(control, 4000, 50_001);
            Fixture::lan("from the inside", &data.inbound().syn())
                .counting(&[DeniedNoTls])
                .check(talk.datapath);
            let (number, session) = talk.datapath.sessions.all()[0];
            let mut of_the_inside = session;
            of_the_inside.flags |= session_flag::HAIRPIN;
            talk.datapath.sessions.set(number, of_the_inside);
            is_denied(talk.datapath, data, DeniedNoTls);
            talk.datapath.sessions.set(number, session);
            enters(talk.datapath, data, &[PermitUsed]);
        }
    });
}

#[test]
fn a_server_without_a_range_opens_none() {
    on_router(|datapath| {
        let control = control_v4();
        let mut talk = Talk::begin(datapath, control, [1, 2]);
        talk.passes(Client, "AUTH TLS\r\n");
        talk.says(
            Server,
            "234 go on\r\n",
            "234 go on\r\n",
            &[SessionEncrypted],
        );
        shake_hands(&mut talk);
        passes(&mut talk, Client, &record(DATA, 30), &[]);
        passes(&mut talk, Server, &record(DATA, 60), &[]);
        talk.datapath.mark_port(50_000, 1);
        is_denied(
            talk.datapath,
            data(control, 4000, 50_000),
            DeniedUnannounced,
        );
    });
}

/// What is announced in clear text is still found by its announcement.
#[test]
fn a_clear_session_has_no_range() {
    on_router(|datapath| {
        let control = control_v4();
        let mut talk = Talk::begin_beside(datapath, control, RANGE);
        talk.passes(Server, "220 ready\r\n");
        talk.passes(Client, "NOOP\r\n");
        talk.passes(Server, "200 ok\r\n");
        is_denied(talk.datapath, data(control, 4000, 50_000), DeniedNoTls);
        let announced = data(control, 4000, 50_007);
        announced.announce_passive(talk.datapath);
        enters(talk.datapath, announced, &[Counter::PassiveUsed]);
    });
}

#[test]
fn a_connection_that_the_kernel_translates_has_a_range_too() {
    on_router(|datapath| {
        let control = control_v4();
        let mut talk = encrypted(datapath, control);
        asks(&mut talk);
        // The server's own packets carry the public address then, at the WAN's egress.
        let (number, mut session) = talk.datapath.sessions.all()[0];
        session.flags |= session_flag::KERNEL_NAT;
        talk.datapath.sessions.set(number, session);
        is_denied(talk.datapath, data(control, 4000, 50_000), DeniedNoTls);
        let mut seen = control;
        seen.inside = seen.public;
        let (_, outbound) = control.flows(talk.datapath).unwrap();
        seen.set_outbound(talk.datapath, outbound);
        enters(talk.datapath, data(control, 4000, 50_000), &[PermitUsed]);
    });
}

/// A server that keeps its address: nothing is translated, and what else comes to it may be meant so.
#[test]
fn a_routed_server_has_a_range_too() {
    on_router(|datapath| {
        let mut control = control_v4();
        control.public = control.inside;
        let mut talk = encrypted(datapath, control);
        let address = PublishKey {
            addr: addr(control.public),
            ..PublishKey::default()
        };
        talk.datapath.published.remove(&address);
        asks(&mut talk);
        let other = data(control, 4000, 8443);
        Fixture::wan("another service", &other.inbound().syn()).check(talk.datapath);
        enters(talk.datapath, data(control, 4000, 50_000), &[PermitUsed]);
        is_denied(talk.datapath, data(control, 4001, 50_001), DeniedNoPermit);
    });
}
