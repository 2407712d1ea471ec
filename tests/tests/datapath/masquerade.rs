//! Control connections of inside clients, which the kernel's own NAT translates: read and
//! rewritten at the WAN, where they carry their public address.

use std::net::{IpAddr, SocketAddr};

use ftp_nat_common::{
    abi::{ClientKey, role, side},
    counter::Counter::{
        self, ActiveOpened, ActiveUsed, DeniedBounce, DeniedPort, DeniedUnknownClient,
        EditAdjusted, LineHeld, PassedNoAddress, Remapped, RewroteEprt, RewrotePort, Unchanged,
    },
    wire::addr::Addr,
};

use crate::{
    fixture::Fixture,
    loaded::{Datapath, REMAP, on_router},
    packet::{ACK, Packet},
    scene::{addr, endpoint, hop, masqueraded_v4, masqueraded_v6},
    talk::{Client, Server, Talk},
};

const ISN: [u32; 2] = [0xffff_ffd0, 1000];

const PORT: &str = "PORT 10,0,0,105,195,80\r\n";
const PORT_OUT: &str = "PORT 198,51,100,1,195,80\r\n";

#[test]
fn a_session_knows_its_client_by_the_syn_that_came_from_it() {
    on_router(|datapath| {
        for ends in [masqueraded_v4(), masqueraded_v6()] {
            let talk = Talk::begin_masqueraded(datapath, ends, ISN);
            let session = talk.session();
            assert_eq!(session.role, role::MASQUERADE);
            assert_eq!(session.inside, endpoint(ends.inside));
            assert_eq!(session.outside, endpoint(ends.outside));
            assert_eq!(session.public, endpoint(ends.public));
            assert_eq!(session.advertise, addr(ends.public));
        }
    });
}

#[test]
fn a_port_command_says_the_public_address_and_lets_the_server_in() {
    on_router(|datapath| {
        let ends = masqueraded_v4();
        let mut talk = Talk::begin_masqueraded(datapath, ends, ISN);
        let counted = [ActiveOpened, RewrotePort, EditAdjusted];
        talk.says(Client, PORT, PORT_OUT, &counted);
        assert_eq!(talk.mappings(), [(side::INBOUND, 50_000, 50_000)]);
        talk.passes(Server, "200 ok\r\n");
        talk.passes(Client, "RETR file\r\n");

        let data = ends.data(20, 50_000, 50_000);
        let syn = data.inbound().syn();
        Fixture::wan("the server's connection", &syn)
            .redirected(&hop(data.inwards(&syn)))
            .counting(&[ActiveUsed])
            .check(talk.datapath);
        let answer = data.outbound();
        Fixture::lan("the client's answer", &answer)
            .redirected(&hop(data.outwards(&answer)))
            .check(talk.datapath);
    });
}

#[test]
fn an_eprt_command_keeps_its_delimiter() {
    let cases = [
        (
            masqueraded_v4(),
            "EPRT |1|10.0.0.105|50000|\r\n",
            "EPRT |1|198.51.100.1|50000|\r\n",
        ),
        (
            masqueraded_v4(),
            "EPRT !1!10.0.0.105!50000!\r\n",
            "EPRT !1!198.51.100.1!50000!\r\n",
        ),
        (
            masqueraded_v6(),
            "EPRT |2|fd00:10::50|50000|\r\n",
            "EPRT |2|2001:db8:1::1|50000|\r\n",
        ),
    ];
    on_router(|datapath| {
        for (ends, command, out) in cases {
            let mut talk = Talk::begin_masqueraded(datapath, ends, ISN);
            let counted = [ActiveOpened, RewroteEprt, EditAdjusted];
            talk.says(Client, command, out, &counted);
            talk.passes(Server, "200 ok\r\n");
            talk.passes(Client, "LIST\r\n");
        }
    });
}

#[test]
fn two_clients_that_announce_one_port_get_two() {
    on_router(|datapath| {
        let ends = masqueraded_v4();
        let mut talk = Talk::begin_masqueraded(datapath, ends, ISN);
        let mut other = ends.data(20, 50_000, 50_000);
        other.inside.set_ip("10.0.0.7".parse().unwrap());
        other.announce_passive(talk.datapath);
        let out = "PORT 198,51,100,1,238,72\r\n";
        let counted = [ActiveOpened, Remapped, RewrotePort, EditAdjusted];
        talk.says(Client, PORT, out, &counted);
        assert_eq!(
            talk.mappings(),
            [
                (side::INBOUND, 50_000, 50_000),
                (side::INBOUND, REMAP, 50_000)
            ]
        );
    });
}

#[test]
fn a_client_announces_only_itself() {
    let cases = [
        ("PORT 10,0,0,106,195,80\r\n", DeniedBounce),
        ("PORT 10,0,0,105,3,255\r\n", DeniedPort),
    ];
    on_router(|datapath| {
        for (command, counter) in cases {
            let mut talk = Talk::begin_masqueraded(datapath, masqueraded_v4(), ISN);
            let out = format!("XXXX{}", &command[4..]);
            talk.says(Client, command, &out, &[counter]);
            assert_eq!(talk.mappings(), [], "{command}");
        }
    });
}

/// Somebody told it, and whatever leads there leads to it.
#[test]
fn a_client_may_name_the_gateway() {
    on_router(|datapath| {
        let mut talk = Talk::begin_masqueraded(datapath, masqueraded_v4(), ISN);
        let command = "PORT 198,51,100,1,195,80\r\n";
        talk.says(Client, command, command, &[ActiveOpened, Unchanged]);
        assert_eq!(talk.mappings(), [(side::INBOUND, 50_000, 50_000)]);
    });
}

/// A client's SYN at the inside's hook.
fn seen_inside(datapath: &Datapath, client: SocketAddr, server: SocketAddr) {
    let syn = Packet::new(client, server).syn().seq(ISN[0]);
    Fixture::lan("the client's own SYN", &syn).check(datapath);
}

/// What a PORT of this address counts, and what the server hears: the client was waited for already.
fn announces(talk: &mut Talk<'_>, address: IpAddr, counter: Counter) {
    let command = format!("PORT {},195,80\r\n", address.to_string().replace('.', ","));
    if counter == ActiveOpened {
        let counted = [ActiveOpened, RewrotePort, EditAdjusted];
        talk.says(Client, &command, PORT_OUT, &counted);
    } else {
        let [(number, mut session)] = talk.datapath.sessions.all()[..] else {
            panic!("not one session");
        };
        session.asked.withheld_since = 1;
        talk.datapath.sessions.set(number, session);
        let out = format!("XXXX{}", &command[4..]);
        talk.says(Client, &command, &out, &[counter]);
    }
}

#[test]
fn an_announcement_is_held_until_its_client_is_known() {
    on_router(|datapath| {
        let ends = masqueraded_v4();
        let mut talk = Talk::begin_translated(datapath, ends, ISN);
        let port = talk.segment(Client, PORT);
        talk.fixture(Client, "held", &port)
            .dropped()
            .counting(&[LineHeld])
            .check(talk.datapath);
        let [(number, _)] = talk.datapath.sessions.all()[..] else {
            panic!("not one session");
        };
        let key = ClientKey {
            server: endpoint(ends.outside),
            number,
            ifindex: 0,
        };
        talk.datapath.clients.set(key, endpoint(ends.inside));
        let counted = [ActiveOpened, RewrotePort, EditAdjusted];
        talk.says(Client, PORT, PORT_OUT, &counted);
    });
}

#[test]
fn a_client_that_nobody_saw_announces_nothing() {
    on_router(|datapath| {
        let ends = masqueraded_v4();
        for address in [ends.inside.ip(), ends.public.ip()] {
            let mut talk = Talk::begin_translated(datapath, ends, ISN);
            assert_eq!(talk.session().inside.addr, Addr::default());
            announces(&mut talk, address, DeniedUnknownClient);
            assert_eq!(talk.mappings(), []);
        }
    });
}

#[test]
fn a_client_that_the_daemon_has_found_announces_itself_if_it_is_one_of_the_networks() {
    on_router(|datapath| {
        let ends = masqueraded_v4();
        for (found, counter) in [
            (ends.inside, ActiveOpened),
            ("10.0.0.106:40000".parse().unwrap(), DeniedBounce),
            ("192.0.2.1:40000".parse().unwrap(), DeniedUnknownClient),
        ] {
            let mut talk = Talk::begin_translated(datapath, ends, ISN);
            let [(number, _)] = talk.datapath.sessions.all()[..] else {
                panic!("not one session");
            };
            let key = ClientKey {
                server: endpoint(ends.outside),
                number,
                ifindex: 0,
            };
            talk.datapath.clients.set(key, endpoint(found));
            announces(&mut talk, ends.inside.ip(), counter);
        }
    });
}

/// Somebody inside who sends a second SYN, in his neighbour's name, gets nothing by it: neither
/// before nor behind his own one, nor by another interface.
#[test]
fn whose_a_session_is_is_not_said_by_a_second_syn_in_another_name() {
    on_router(|datapath| {
        let ends = masqueraded_v4();
        let neighbour: SocketAddr = "10.0.0.106:40000".parse().unwrap();
        for syns in [[ends.inside, neighbour], [neighbour, ends.inside]] {
            datapath.forget_connections();
            datapath.masquerade(ends.outside.port());
            for source in syns {
                seen_inside(datapath, source, ends.outside);
            }
            let talk = Talk::shake_hands(datapath, ends, false, ISN);
            assert_eq!(talk.session().inside.addr, Addr::default());
        }
        datapath.forget_connections();
        seen_inside(datapath, neighbour, ends.outside);
        datapath.sender = datapath.lan + 100;
        let talk = Talk::shake_hands(datapath, ends, false, ISN);
        assert_eq!(talk.session().inside.addr, Addr::default());
    });
}

#[test]
fn a_client_that_nobody_translates_or_that_is_this_machine_is_known_by_its_packets() {
    on_router(|datapath| {
        let mut ends = masqueraded_v4();
        let mut talk = {
            datapath.sender = 0;
            Talk::begin_translated(datapath, ends, ISN)
        };
        let command = "PORT 198,51,100,1,195,80\r\n";
        talk.says(Client, command, command, &[ActiveOpened, Unchanged]);

        ends.public = ends.inside;
        datapath.sender = datapath.lan;
        let mut talk = Talk::begin_translated(datapath, ends, ISN);
        let command = "PORT 10,0,0,105,195,80\r\n";
        talk.says(Client, command, command, &[ActiveOpened, Unchanged]);
    });
}

#[test]
fn what_an_outside_server_says_stays_as_it_is() {
    let replies = [
        "227 Entering Passive Mode (198,51,100,30,195,80).\r\n",
        "229 Entering Extended Passive Mode (|||50000|)\r\n",
    ];
    on_router(|datapath| {
        for reply in replies {
            let mut talk = Talk::begin_masqueraded(datapath, masqueraded_v4(), ISN);
            talk.passes(Client, "PASV\r\n");
            talk.passes(Server, reply);
            assert_eq!(talk.mappings(), []);
        }
    });
}

#[test]
fn a_port_command_without_an_address_passes() {
    on_router(|datapath| {
        let mut talk = Talk::begin_masqueraded(datapath, masqueraded_v4(), ISN);
        let command = "PORT 10,0,0,105\r\n";
        talk.says(Client, command, command, &[PassedNoAddress]);
    });
}

#[test]
fn a_repetition_within_a_shortened_text_asks_for_the_acknowledgement() {
    on_router(|datapath| {
        let mut ends = masqueraded_v4();
        ends.inside.set_ip("10.100.100.105".parse().unwrap());
        let command = "PORT 10,100,100,105,195,80\r\n";
        let mut talk = Talk::begin_masqueraded(datapath, ends, ISN);
        let whole = talk.segment(Client, command);
        let counted = [ActiveOpened, RewrotePort, EditAdjusted];
        talk.says(Client, command, PORT_OUT, &counted);
        // The announcement's last two bytes have no place in the new text.
        let end = command.len() - 2;
        for from in [end - 2, end - 1] {
            let piece = whole
                .clone()
                .seq(whole.seq.wrapping_add(from as u32))
                .payload(&command[from..end]);
            let keep_alive = whole
                .clone()
                .seq(whole.seq.wrapping_add(end as u32 - 2).wrapping_sub(1))
                .payload("");
            talk.fixture(Client, "swallowed", &piece)
                .rewritten(&keep_alive)
                .check(talk.datapath);
        }
        // The server answers with what it waits for, which is all of the command to the client.
        let answer = talk.segment(Server, "").flags(ACK);
        talk.arrives("the answer", Server, &answer, "", &[]);
    });
}

/// The same for a client of our own: at its port outside, which is not its own one.
#[test]
fn a_transfer_without_an_announcement_uses_the_default_port() {
    on_router(|datapath| {
        let ends = masqueraded_v4();
        let mut talk = Talk::begin_masqueraded(datapath, ends, ISN);
        talk.says(Client, "LIST\r\n", "LIST\r\n", &[ActiveOpened]);
        let [outside, inside] = [ends.public.port(), ends.inside.port()];
        assert_eq!(talk.mappings(), [(side::INBOUND, outside, inside)]);
    });
}
