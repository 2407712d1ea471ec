//! Control connections of inside clients, which the kernel's own NAT translates: read and
//! rewritten at the WAN, where they carry their public address.

use ftp_nat_common::{
    abi::{role, side},
    counter::Counter::{
        self, ActiveOpened, DeniedBounce, DeniedPort, EditAdjusted, MappingUsed, PassedNoAddress,
        Remapped, RewroteEprt, RewrotePort, Unchanged,
    },
    wire::addr::Addr,
};

use crate::{
    fixture::Fixture,
    loaded::{Hook, REMAP, on_router},
    packet::{ACK, Packet, SYN},
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
            .counting(&[MappingUsed])
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

#[test]
fn a_client_that_nobody_saw_may_announce_any_inside_address() {
    on_router(|datapath| {
        for (address, is_inside) in [("10.7.7.7", true), ("192.0.2.1", false)] {
            let ends = masqueraded_v4();
            datapath.forget_connections();
            datapath.masquerade(ends.outside.port());
            // The gateway was attached after the client's SYN had passed the inside's hook.
            let client = Packet::new(ends.public, ends.outside);
            datapath.run(Hook::WanEgress, &client.clone().syn().seq(77).bytes());
            let answer = ends.inbound().flags(SYN | ACK).seq(5).ack(78);
            datapath.run(Hook::WanIngress, &answer.bytes());
            let ack = client.flags(ACK).seq(78).ack(6);
            datapath.run(Hook::WanEgress, &ack.bytes());
            let [(_, session)] = datapath.sessions.all()[..] else {
                panic!("not one session");
            };
            assert_eq!(session.inside.addr, Addr::default());
            let greeting = Packet::new(ends.outside, ends.public)
                .flags(ACK)
                .seq(6)
                .ack(78)
                .payload("220 Hi\r\n");
            datapath.run(Hook::WanIngress, &greeting.bytes());
            let command = format!("PORT {},195,80\r\n", address.replace('.', ","));
            let packet = Packet::new(ends.public, ends.outside)
                .flags(ACK)
                .seq(78)
                .ack(14)
                .payload(command);
            let before = datapath.counts();
            datapath.run(Hook::WanEgress, &packet.bytes());
            let counted: Vec<Counter> = datapath
                .counted_since(&before)
                .iter()
                .map(|(counter, _)| *counter)
                .collect();
            assert_eq!(counted.contains(&ActiveOpened), is_inside, "{address}");
            assert_eq!(counted.contains(&DeniedBounce), !is_inside, "{address}");
        }
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
