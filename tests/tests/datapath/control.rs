//! Control segments: what is read in them, rewritten, opened, held and denied.

use std::{net::SocketAddr, thread, time::Duration};

use ftp_nat_common::{
    abi::{MappingKey, PublishKey, side},
    counter::Counter::{
        self, ActiveOpened, ActiveUsed, CommandWithheld, DeniedBounce, DeniedHidden, DeniedPort,
        DeniedUnannounced, EditEqual, HandshakeStarted, LineHeld, PassedNoAddress, PassedNoRoute,
        PassedTtl, PassedUnasked, PassedUntakable, PassiveOpened, PassiveUsed, Refused227,
        Remapped, Rewrote227, Rewrote229, SegmentCut, SessionOpened, Unchanged,
    },
    wire::addr::{Endpoint, Port},
};

use crate::{
    fixture::Fixture,
    loaded::{NEVER, REMAP, on_router},
    packet::{ACK, SYN},
    scene::{addr, control_v4, control_v6, endpoint, hop},
    talk::{Client, Server, Talk},
};

const ISN: [u32; 2] = [1000, 0xffff_ffb0];

const PASSIVE_REPLY: &str = "227 Entering Passive Mode (10,0,0,5,195,80).\r\n";
const PASSIVE_REPLY_OUT: &str = "227 Entering Passive  (198,51,100,1,195,80).\r\n";
const PASSIVE: [Counter; 3] = [PassiveOpened, Rewrote227, EditEqual];

#[test]
fn a_227_is_rewritten_at_its_length_and_opens_its_port() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        talk.passes(Client, "PASV\r\n");
        talk.says(Server, PASSIVE_REPLY, PASSIVE_REPLY_OUT, &PASSIVE);
        assert_eq!(talk.mappings(), [(side::INBOUND, 50_000, 50_000)]);

        let data = talk.ends.data(50_111, 50_000, 50_000);
        let syn = data.inbound().syn();
        Fixture::wan("the announced connection", &syn)
            .redirected(&hop(data.inwards(&syn)))
            .counting(&[PassiveUsed])
            .check(talk.datapath);
        talk.passes(Server, "150 here it comes\r\n");
        talk.passes(Client, "QUIT\r\n");
    });
}

#[test]
fn a_229_says_the_public_port_and_stays_as_it_is_where_that_is_the_same() {
    on_router(|datapath| {
        for control in [control_v4(), control_v6()] {
            let mut talk = Talk::begin(datapath, control, ISN);
            talk.passes(Client, "EPSV\r\n");
            let reply = "229 Entering Extended Passive Mode (|||50000|)\r\n";
            talk.says(Server, reply, reply, &[PassiveOpened, Unchanged]);
            assert_eq!(talk.mappings(), [(side::INBOUND, 50_000, 50_000)]);
        }
    });
}

#[test]
fn a_port_that_belongs_to_somebody_else_is_replaced() {
    on_router(|datapath| {
        for (control, any) in [
            (control_v4(), "0.0.0.0:50000"),
            (control_v6(), "[::]:50000"),
        ] {
            let announced = SocketAddr::new(control.inside.ip(), 50_000);
            let here = SocketAddr::new(control.public.ip(), 50_000);
            let other = SocketAddr::new(control.inside.ip(), 50_001);
            let elsewhere = "203.0.113.1:50000".parse().unwrap();
            let any = any.parse().unwrap();
            for (reserved, leads_to, is_kept) in [
                (here, None, false),
                (any, None, false),
                (any, Some(other), false),
                // The very same end, and another public address.
                (any, Some(announced), true),
                (elsewhere, None, true),
            ] {
                let mut talk = Talk::begin(datapath, control, ISN);
                talk.datapath.reserve_nothing();
                let key = PublishKey {
                    addr: addr(reserved),
                    port: Port::new(reserved.port()),
                    pad: 0,
                };
                let to = leads_to.map_or_else(Endpoint::default, endpoint);
                talk.datapath.reserve(key, to);
                talk.passes(Client, "EPSV\r\n");
                let reply = "229 Entering Extended Passive Mode (|||50000|)\r\n";
                let replaced = reply.replace("50000", "61000");
                let (out, counted): (&str, &[Counter]) = if is_kept {
                    (reply, &[PassiveOpened, Unchanged])
                } else {
                    let counted = &[PassiveOpened, Remapped, Rewrote229, EditEqual];
                    (&replaced, counted)
                };
                talk.says(Server, reply, out, counted);
            }
        }
        datapath.reserve_nothing();
    });
}

#[test]
fn a_port_that_the_peer_has_already_is_replaced() {
    on_router(|datapath| {
        for control in [control_v4(), control_v6()] {
            let mut talk = Talk::begin(datapath, control, ISN);
            // Another server's announcement to the same client.
            let mut other = control.data(1, 50_000, 50_000);
            other.inside.set_port(50_001);
            other.announce_passive(talk.datapath);
            talk.passes(Client, "EPSV\r\n");
            talk.says(
                Server,
                "229 Entering Extended Passive Mode (|||50000|)\r\n",
                "229 Entering Extended Passive Mode (|||61000|)\r\n",
                &[PassiveOpened, Remapped, Rewrote229, EditEqual],
            );
            assert_eq!(
                talk.mappings(),
                [
                    (side::INBOUND, 50_000, 50_001),
                    (side::INBOUND, REMAP, 50_000)
                ]
            );
            let data = control.data(50_111, REMAP, 50_000);
            let syn = data.inbound().syn();
            Fixture::wan("the announced connection", &syn)
                .redirected(&hop(data.inwards(&syn)))
                .counting(&[PassiveUsed])
                .check(talk.datapath);
            let answer = data.outbound();
            Fixture::lan("an answer", &answer)
                .redirected(&hop(data.outwards(&answer)))
                .check(talk.datapath);
        }
    });
}

#[test]
fn one_segment_may_hold_several_lines() {
    let around = [
        ("", "150 next\r\n"),
        ("250-one\r\n two\r\n250 three\r\n", ""),
        ("200 ok\r\n", "200 ok\r\n"),
    ];
    on_router(|datapath| {
        for (before, behind) in around {
            let mut talk = Talk::begin(datapath, control_v4(), ISN);
            talk.passes(Client, "TYPE I\r\nPASV\r\nTYPE A\r\n");
            let text = format!("{before}{PASSIVE_REPLY}{behind}");
            let out = format!("{before}{PASSIVE_REPLY_OUT}{behind}");
            talk.says(Server, &text, &out, &PASSIVE);
        }
    });
}

#[test]
fn a_line_split_anywhere_arrives_whole() {
    on_router(|datapath| {
        for at in 1..PASSIVE_REPLY.len() {
            let mut talk = Talk::begin(datapath, control_v4(), ISN);
            talk.passes(Client, "PASV\r\n");
            let (held, rest) = PASSIVE_REPLY.split_at(at);
            let is_whole = held.contains(')');
            if is_whole {
                // All that matters of the line has come.
                talk.says(Server, held, &PASSIVE_REPLY_OUT[..at], &PASSIVE);
                talk.passes(Server, rest);
            } else {
                talk.is_held(Server, held);
                talk.completes(Server, held, rest, PASSIVE_REPLY_OUT, &PASSIVE);
            }
            assert_eq!(talk.mappings(), [(side::INBOUND, 50_000, 50_000)], "{at}");
        }
    });
}

#[test]
fn a_line_may_come_byte_by_byte() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        talk.passes(Client, "PASV\r\n");
        let announced = PASSIVE_REPLY.find(')').unwrap();
        for byte in PASSIVE_REPLY[..announced].chars() {
            talk.is_held(Server, &byte.to_string());
        }
        let (held, rest) = PASSIVE_REPLY.split_at(announced);
        let out = &PASSIVE_REPLY_OUT[..=announced];
        talk.completes(Server, held, &rest[..1], out, &PASSIVE);
        for byte in rest[1..].chars() {
            talk.passes(Server, &byte.to_string());
        }
    });
}

#[test]
fn whole_lines_in_front_of_a_split_one_are_sent_on() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        talk.passes(Client, "TYPE I\r\nPASV\r\n");
        let (front, start) = ("200 ok\r\n", "227 Entering Passive Mode (10,0,");
        let packet = talk
            .segment(Server, format!("{front}{start}"))
            .padding(&[0; 3]);
        let out = talk.becomes(Server, &packet, front);
        talk.fixture(Server, "one line and a half", &packet)
            .redirected(&out)
            .counting(&[SegmentCut])
            .check(talk.datapath);
        // The client acknowledges what it got, and the server repeats the rest, with more behind.
        talk.next[1] = talk.next[1].wrapping_add(front.len() as u32);
        let rest = &PASSIVE_REPLY[start.len()..];
        talk.says(
            Server,
            &format!("{start}{rest}"),
            PASSIVE_REPLY_OUT,
            &PASSIVE,
        );
    });
}

#[test]
fn a_rewritten_segment_is_rewritten_to_the_same_bytes_again() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        talk.passes(Client, "PASV\r\n");
        let packet = talk.segment(Server, PASSIVE_REPLY);
        talk.says(Server, PASSIVE_REPLY, PASSIVE_REPLY_OUT, &PASSIVE);
        let out = talk.becomes(Server, &packet, PASSIVE_REPLY_OUT);
        talk.fixture(Server, "the same segment", &packet)
            .redirected(&out)
            .check(talk.datapath);
        // In pieces, and with what follows.
        for (from, to) in [(0, 30), (20, 35), (33, PASSIVE_REPLY.len())] {
            let mut piece = packet.clone().payload(&PASSIVE_REPLY[from..to]);
            piece.seq = piece.seq.wrapping_add(from as u32);
            let out = talk.becomes(Server, &piece, &PASSIVE_REPLY_OUT[from..to]);
            talk.fixture(Server, "a piece of it", &piece)
                .redirected(&out)
                .check(talk.datapath);
        }
        let more = packet.payload(format!("{PASSIVE_REPLY}150 next\r\n"));
        let out = talk.becomes(Server, &more, format!("{PASSIVE_REPLY_OUT}150 next\r\n"));
        talk.fixture(Server, "with more behind", &more)
            .redirected(&out)
            .check(talk.datapath);
        assert_eq!(talk.mappings().len(), 1);
    });
}

#[test]
fn replies_that_announce_nothing_pass_as_they_are() {
    let cases: [(&str, &str, &[_]); 6] = [
        ("NOOP\r\n", PASSIVE_REPLY, &[PassedUnasked]),
        ("PASV\r\n", "227 (10,0,0,5,195)\r\n", &[PassedNoAddress]),
        (
            "PASV\r\n",
            "227 (10,0,0,256,195,80)\r\n",
            &[PassedNoAddress],
        ),
        ("PASV\r\n", "227 Logout.\r\n", &[PassedNoAddress]),
        ("PASV\r\n", "500 no\r\n", &[]),
        ("PASV\r\n", " 227 (10,0,0,5,195,80)\r\n", &[]),
    ];
    on_router(|datapath| {
        for (command, reply, counted) in cases {
            let mut talk = Talk::begin(datapath, control_v4(), ISN);
            talk.passes(Client, command);
            talk.says(Server, reply, reply, counted);
            assert_eq!(talk.mappings(), [], "{reply}");
        }
    });
}

#[test]
fn a_server_may_not_announce_a_port_of_the_system() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        talk.passes(Client, "PASV\r\n");
        let reply = "227 Entering Passive Mode (10,0,0,5,0,22).\r\n";
        let out = "425 No data connection: the gateway cann).\r\n";
        talk.says(Server, reply, out, &[DeniedPort, Refused227]);
        assert_eq!(talk.mappings(), []);
    });
}

#[test]
fn a_client_announces_its_own_address_to_a_published_server() {
    let cases = [
        (control_v4(), "PORT 198,51,100,20,175,200\r\n"),
        (control_v4(), "port 198,51,100,20,175,200\r\n"),
        (control_v4(), "EPRT |1|198.51.100.20|45000|\r\n"),
        (control_v6(), "EPRT |2|2001:db8:1::20|45000|\r\n"),
    ];
    on_router(|datapath| {
        for (control, command) in cases {
            let mut talk = Talk::begin(datapath, control, ISN);
            talk.says(Client, command, command, &[ActiveOpened, Unchanged]);
            let key = MappingKey {
                src: addr(control.inside),
                dst: addr(control.outside),
                dport: Port::new(45_000),
                pad: 0,
                side: side::OUTBOUND,
            };
            let mapping = talk.datapath.mappings.get(&key).unwrap();
            assert_eq!(mapping.to.addr, addr(control.public), "{command}");
            assert!(mapping.expires >= NEVER);
            talk.passes(Server, "200 ok\r\n");

            let data = control.data(45_000, 20, 20);
            let syn = data.outbound().syn();
            Fixture::lan("the server's connection", &syn)
                .redirected(&hop(data.outwards(&syn)))
                .counting(&[ActiveUsed])
                .check(talk.datapath);
        }
    });
}

#[test]
fn a_client_may_announce_nobody_else() {
    let cases = [
        (control_v4(), "PORT 198,51,100,21,175,200\r\n", DeniedBounce),
        (control_v4(), "PORT 10,0,0,5,175,200\r\n", DeniedBounce),
        (control_v4(), "PORT 198,51,100,20,0,22\r\n", DeniedPort),
        (
            control_v4(),
            "EPRT |1|198.51.100.21|45000|\r\n",
            DeniedBounce,
        ),
        (
            control_v4(),
            "EPRT |2|2001:db8:1::20|45000|\r\n",
            DeniedBounce,
        ),
        (
            control_v6(),
            "EPRT |2|2001:db8:1::21|45000|\r\n",
            DeniedBounce,
        ),
    ];
    on_router(|datapath| {
        for (control, command, counter) in cases {
            let mut talk = Talk::begin(datapath, control, ISN);
            let out = format!("XXXX{}", &command[4..]);
            talk.says(Client, command, &out, &[counter]);
            assert_eq!(talk.mappings(), [], "{command}");
        }
    });
}

#[test]
fn a_split_command_is_held_too() {
    let command = "PORT 198,51,100,20,175,200\r\n";
    on_router(|datapath| {
        for at in 1..command.len() - 1 {
            let mut talk = Talk::begin(datapath, control_v4(), ISN);
            let (held, rest) = command.split_at(at);
            talk.is_held(Client, held);
            talk.completes(Client, held, rest, command, &[ActiveOpened, Unchanged]);
        }
    });
}

#[test]
fn a_control_segment_with_a_wrong_checksum_is_not_read() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        talk.passes(Client, "PASV\r\n");
        let packet = talk.segment(Server, PASSIVE_REPLY);
        let out = talk.becomes(Server, &packet, PASSIVE_REPLY);
        let at = packet.tcp_at() + 16;
        let field = |frame: &[u8]| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let by = 0x0101;
        assert!(field(&packet.bytes()) < 0xfe00 && field(&out.bytes()) < 0xfe00);
        talk.fixture(Server, "spoilt", &packet)
            .redirected(&out)
            .counting(&[PassedUntakable])
            .spoilt(|frame| {
                let wrong = field(frame) + by;
                frame[at..at + 2].copy_from_slice(&wrong.to_be_bytes());
            })
            .check(talk.datapath);
        assert_eq!(talk.mappings(), []);
        talk.says(Server, PASSIVE_REPLY, PASSIVE_REPLY_OUT, &PASSIVE);
    });
}

#[test]
fn an_announcement_is_for_its_own_client() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        talk.passes(Client, "PASV\r\n");
        talk.says(Server, PASSIVE_REPLY, PASSIVE_REPLY_OUT, &PASSIVE);
        let data = talk.ends.data(50_111, 50_000, 50_000);
        let stranger = "198.51.100.21:50111".parse().unwrap();
        Fixture::wan("from another", &data.inbound().syn().sent_by(stranger))
            .counting(&[DeniedUnannounced])
            .check(talk.datapath);
        assert_eq!(talk.session().outside, endpoint(talk.ends.outside));
        assert_eq!(talk.mappings().len(), 1);
    });
}

#[test]
fn options_and_padding_around_a_rewritten_text_stay_or_go() {
    let timestamps = [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
    on_router(|datapath| {
        for (ip_options, tcp_options) in [
            (&[][..], &timestamps[..]),
            (&[1; 4][..], &[][..]),
            (&[1; 40][..], &[1; 40][..]),
            (&[1; 8][..], &timestamps[..]),
        ] {
            let mut talk = Talk::begin(datapath, control_v4(), ISN);
            talk.passes(Client, "PASV\r\n");
            let packet = talk
                .segment(Server, PASSIVE_REPLY)
                .ip_options(ip_options)
                .tcp_options(tcp_options)
                .padding(&[0; 4]);
            // Padding is for Ethernet alone, and goes where the text is written anew.
            let out = talk.becomes(Server, &packet, PASSIVE_REPLY_OUT);
            talk.fixture(Server, "with options", &packet)
                .redirected(&out)
                .counting(&PASSIVE)
                .check(talk.datapath);
        }
    });
}

#[test]
fn a_control_segment_that_ends_here_is_not_read() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        let packet = talk.segment(Client, "PASV\r\n").ttl(1);
        let out = talk.ends.inwards(&packet);
        talk.fixture(Client, "TTL 1", &packet)
            .translated(&out)
            .counting(&[PassedTtl])
            .check(talk.datapath);
        talk.passes(Client, "NOOP\r\n");
        talk.passes(Client, "PASV\r\n");
        talk.says(Server, PASSIVE_REPLY, PASSIVE_REPLY_OUT, &PASSIVE);
    });
}

#[test]
fn a_control_segment_with_a_signature_is_not_read() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        for kind in [19, 29] {
            let mut options = vec![1, 1, kind, 18];
            options.resize(20, 7);
            let packet = talk.segment(Client, "PASV\r\n").tcp_options(&options);
            talk.arrives("signed", Client, &packet, "PASV\r\n", &[PassedUntakable]);
        }
        assert_eq!(talk.session().asked.passive, 0);
        talk.passes(Client, "PASV\r\n");
    });
}

#[test]
fn the_stack_gets_control_segments_rewritten() {
    on_router(|datapath| {
        datapath.redirect_nothing();
        let control = control_v4();
        control.publish(datapath, 0);
        let syn = control.inbound().syn().seq(9);
        Fixture::wan("SYN", &syn)
            .translated(&control.inwards(&syn))
            .counting(&[HandshakeStarted, PassedNoRoute])
            .check(datapath);
        let answer = control.outbound().flags(SYN | ACK).seq(98).ack(10);
        Fixture::egress("SYN and ACK", &answer)
            .translated(&control.outwards(&answer))
            .check(datapath);
        let command = control.inbound().seq(10).ack(99).payload("PASV\r\n");
        Fixture::wan("the end of the handshake, with PASV", &command)
            .translated(&control.inwards(&command))
            .counting(&[SessionOpened, PassedNoRoute])
            .check(datapath);
        let greeting = control.outbound().seq(99).ack(16).payload("220 Hi\n");
        Fixture::egress("greeting", &greeting)
            .translated(&control.outwards(&greeting))
            .check(datapath);
        let reply = control.outbound().seq(106).ack(16).payload(PASSIVE_REPLY);
        Fixture::lan("before the stack", &reply).check(datapath);
        let out = control.outwards(&reply.clone().payload(PASSIVE_REPLY_OUT));
        Fixture::egress("behind the stack", &reply)
            .translated(&out)
            .counting(&PASSIVE)
            .check(datapath);
    });
}

/// Bytes that servers read each in its own way become letters, however many there are; the rest of
/// a segment with too many of them is repeated by its sender.
#[test]
fn bytes_that_hide_a_command_are_made_harmless() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        talk.says(
            Client,
            "MKD a\0b\rc\r\n",
            "MKD aXb\rX\r\n",
            &[DeniedHidden, DeniedHidden],
        );
        for (command, leaves) in [
            ("MKD \0a\0b\0c\0d\r\n", "MKD XaXbX"),
            ("MKD\0ab\0\0cd\0\r\n", "MKDXabXX"),
            ("\0\0\0\0\r\n", "XXX"),
            (
                "\x16\x03\x01\0\x05\x01\0\0\x01\x03",
                "\x16\x03\x01X\x05\x01XX",
            ),
        ] {
            let talk = Talk::begin(talk.datapath, control_v4(), [1, 2]);
            let packet = talk.segment(Client, command);
            let out = talk.becomes(Client, &packet, leaves);
            talk.fixture(Client, leaves, &packet)
                .redirected(&out)
                .counting(&[DeniedHidden, DeniedHidden, DeniedHidden, SegmentCut])
                .check(talk.datapath);
        }
    });
}

/// A PASV behind a command whose answer prints names is cut off the segment, and passes when the answer
/// has ended.
#[test]
fn a_pasv_behind_names_waits_for_their_end() {
    on_router(|datapath| {
        for control in [control_v4(), control_v6()] {
            let mut talk = Talk::begin(datapath, control, ISN);
            let both = talk.segment(Client, "STAT .\r\nPASV\r\n");
            let out = talk.becomes(Client, &both, "STAT .\r\n");
            talk.fixture(Client, "both", &both)
                .redirected(&out)
                .counting(&[CommandWithheld, SegmentCut])
                .check(talk.datapath);
            talk.next[0] += 8;
            let listing = "213-Status\r\n213 x\r\n227 (10,0,0,5,31,144)\r\n213 End\r\n";
            talk.says(Server, listing, listing, &[PassedUnasked]);
            talk.passes(Client, "");
            let pasv = talk.segment(Client, "PASV\r\n");
            for _ in 0..2 {
                talk.fixture(Client, "at once", &pasv)
                    .dropped()
                    .counting(&[LineHeld])
                    .check(talk.datapath);
            }
            thread::sleep(Duration::from_millis(150));
            talk.passes(Client, "PASV\r\n");
            assert_eq!(talk.mappings(), []);
            let (reply, port) = if control.inside.is_ipv4() {
                ("227 Entering Passive Mode (10,0,0,5,195,80).\r\n", 50_000)
            } else {
                ("229 Ok (|||50000|)\r\n", 50_000)
            };
            let packet = talk.segment(Server, reply);
            talk.datapath
                .run(crate::loaded::Hook::LanIngress, &packet.bytes());
            assert_eq!(talk.mappings(), [(side::INBOUND, port, port)]);
        }
    });
}

/// RFC 959 section 3.3: the server connects to the client's end of the control connection.
#[test]
fn a_transfer_without_an_announcement_uses_the_default_port() {
    on_router(|datapath| {
        for control in [control_v4(), control_v6()] {
            let mut talk = Talk::begin(datapath, control, ISN);
            talk.says(Client, "RETR a\r\n", "RETR a\r\n", &[ActiveOpened]);
            let port = control.outside.port();
            let key = MappingKey {
                src: addr(control.inside),
                dst: addr(control.outside),
                dport: Port::new(port),
                pad: 0,
                side: side::OUTBOUND,
            };
            assert!(talk.datapath.mappings.get(&key).is_some());
            // With an announcement there is none.
            let mut talk = Talk::begin(datapath, control, ISN);
            talk.passes(Client, "EPSV\r\nRETR a\r\n");
            assert_eq!(talk.mappings(), []);
        }
    });
}
