//! PORT, EPRT and their like, from clients outside and clients of our own.

use crate::conversation::{Conversation, addr, escaped, publish, silent};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::ftp::identity::PATIENCE;
use ftp_nat_common::host::Call;
use ftp_nat_common::wire::addr::{Addr, Port};

/// The address and port of every opening.
fn openings(it: &Conversation) -> Vec<String> {
    let text = |happening: &Call| match happening {
        Call::Opened(opening, public) => {
            Some(format!("{} {} as {}", opening.addr, opening.port, public))
        }
        _ => None,
    };
    it.gate.calls.iter().filter_map(text).collect()
}

#[test]
fn an_outside_client_names_itself_and_passes_unchanged() {
    for (command, opened) in [
        (
            "PORT 198,51,100,7,195,80\r\n",
            "198.51.100.7 50000 as 50000",
        ),
        ("port 198,51,100,7,195,80\n", "198.51.100.7 50000 as 50000"),
        (
            "PORT  198, 51, 100, 7, 195, 80 \r\n",
            "198.51.100.7 50000 as 50000",
        ),
        (
            "PORT\t198,51,100,7,195,80\r\n",
            "198.51.100.7 50000 as 50000",
        ),
        (
            "  PORT 198,51,100,7,195,80\r\n",
            "198.51.100.7 50000 as 50000",
        ),
        (
            "EPRT |1|198.51.100.7|50000|\r\n",
            "198.51.100.7 50000 as 50000",
        ),
        (
            "EPRT|1|198.51.100.7|50000|\r\n",
            "198.51.100.7 50000 as 50000",
        ),
        (
            "EPRT |2|::ffff:198.51.100.7|50000|\r\n",
            "198.51.100.7 50000 as 50000",
        ),
        (
            "eprt !1!198.51.100.7!1024!\r\n",
            "198.51.100.7 1024 as 1024",
        ),
    ] {
        let mut it = Conversation::publish();
        assert_eq!(it.client(command), command);
        assert_eq!(openings(&it), [opened], "{command}");
    }
    let mut it = Conversation::publish_v6();
    let command = "EPRT |2|2001:DB8:2:0::7|50000|\r\n";
    assert_eq!(it.client(command), command);
    assert_eq!(openings(&it), ["2001:db8:2::7 50000 as 50000"]);
}

#[test]
fn an_outside_client_cannot_send_the_server_elsewhere() {
    for (command, heard, reason) in [
        (
            "PORT 192,0,2,1,195,80\r\n",
            "XXXX 192,0,2,1,195,80\r\n",
            Counter::DeniedBounce,
        ),
        (
            "pOrT 192,0,2,1,195,80\n",
            "XXXX 192,0,2,1,195,80\n",
            Counter::DeniedBounce,
        ),
        (
            "PORT 10,0,0,5,195,80\r\n",
            "XXXX 10,0,0,5,195,80\r\n",
            Counter::DeniedBounce,
        ),
        (
            "PORT 0,0,0,0,195,80\r\n",
            "XXXX 0,0,0,0,195,80\r\n",
            Counter::DeniedBounce,
        ),
        (
            " PORT 192,0,2,1,0,25\r\n",
            " XXXX 192,0,2,1,0,25\r\n",
            Counter::DeniedBounce,
        ),
        (
            "PORT\t192,0,2,1,0,25\r\n",
            "XXXX\t192,0,2,1,0,25\r\n",
            Counter::DeniedBounce,
        ),
        (
            "EPRT |1|192.0.2.1|50000|\r\n",
            "XXXX |1|192.0.2.1|50000|\r\n",
            Counter::DeniedBounce,
        ),
        (
            "EPRT |2|2001:db8:2::7|50000|\r\n",
            "XXXX |2|2001:db8:2::7|50000|\r\n",
            Counter::DeniedBounce,
        ),
        // Its own address, but a port of services.
        (
            "PORT 198,51,100,7,0,25\r\n",
            "XXXX 198,51,100,7,0,25\r\n",
            Counter::DeniedPort,
        ),
        (
            "EPRT |1|198.51.100.7|1023|\r\n",
            "XXXX |1|198.51.100.7|1023|\r\n",
            Counter::DeniedPort,
        ),
        // What we cannot read, the server perhaps can.
        (
            "PORT 192,0,2,1,0,25,0\r\n",
            "XXXX 192,0,2,1,0,25,0\r\n",
            Counter::DeniedUnreadable,
        ),
        (
            "PORT 448,0,2,1,0,25\r\n",
            "XXXX 448,0,2,1,0,25\r\n",
            Counter::DeniedUnreadable,
        ),
        (
            "PORT 192,0,2,1,25\r\n",
            "XXXX 192,0,2,1,25\r\n",
            Counter::DeniedUnreadable,
        ),
        (
            "PORT 192,0,2,1,0,0\r\n",
            "XXXX 192,0,2,1,0,0\r\n",
            Counter::DeniedUnreadable,
        ),
        ("PORT \r\n", "XXXX \r\n", Counter::DeniedUnreadable),
        (
            "EPRT |2|::ffff:192.0.2.1|50000|\r\n",
            "XXXX |2|::ffff:192.0.2.1|50000|\r\n",
            Counter::DeniedBounce,
        ),
    ] {
        let mut it = Conversation::publish();
        assert_eq!(it.client(command), heard);
        assert_eq!(openings(&it), [""; 0], "{command}");
        assert_eq!(
            it.gate.count_of(reason),
            1,
            "{command}: {:?}",
            it.gate.calls
        );
        // The session goes on.
        let next = "PORT 198,51,100,7,195,80\r\n";
        assert_eq!(it.client(next), next);
        assert_eq!(it.gate.openings().len(), 1);
    }
    let mut it = Conversation::publish_v6();
    for command in [
        "PORT 198,51,100,7,195,80\r\n",
        "EPRT |1|198.51.100.7|50000|\r\n",
        "EPRT |2|2001:db8:2::8|50000|\r\n",
        "EPRT |2|2001:db8:2::7|1023|\r\n",
    ] {
        assert_eq!(
            it.client(command),
            command.replace("PORT", "XXXX").replace("EPRT", "XXXX")
        );
    }
    assert_eq!(openings(&it), [""; 0]);
}

#[test]
fn a_port_too_long_to_be_read_is_refused_too() {
    let mut it = Conversation::publish();
    let command = format!("PORT {}192,0,2,1,0,25\r\n", " ".repeat(600));
    assert_eq!(it.client(&command), command.replace("PORT", "XXXX"));
    assert_eq!(it.gate.count_of(Counter::DeniedUnreadable), 1);
}

#[test]
fn what_is_no_announcement_passes() {
    for command in [
        "PORT\r\n",
        "EPRT\r\n",
        "PORTX 192,0,2,1,0,25\r\n",
        "SITE PORT 192,0,2,1,0,25\r\n",
        "MKD PORT 192,0,2,1,0,25\r\n",
        "EPSV ALL\r\n",
        "epsv all\r\n",
        "PORS 1,2,3,4,5,6\r\n",
        "\r\n",
        "\n",
        "P\r\n",
        "EPR\n",
        "CWD \u{ff}\u{f0}\r\n",
    ] {
        for mut it in [Conversation::publish(), Conversation::masquerade()] {
            let heard = it.client(command);
            assert_eq!(heard, escaped(command.as_bytes()));
            assert_eq!(openings(&it), [""; 0], "{command}");
            assert_eq!(it.session.asked.passive, 0, "{command}");
        }
    }
}

#[test]
fn our_own_client_announces_the_public_address() {
    for (command, heard, opened) in [
        (
            "PORT 192,168,1,7,195,80\r\n",
            "PORT 203,0,113,10,195,80\r\n",
            "192.168.1.7 50000 as 50000",
        ),
        (
            "PORT 192,168,1,7,195,81\r\n",
            "PORT 203,0,113,10,4,1\r\n",
            "192.168.1.7 50001 as 1025",
        ),
        (
            "port 192, 168, 1, 7, 195, 80\n",
            "port 203,0,113,10,195,80\n",
            "192.168.1.7 50000 as 50000",
        ),
        (
            "EPRT |1|192.168.1.7|50000|\r\n",
            "EPRT |1|203.0.113.10|50000|\r\n",
            "192.168.1.7 50000 as 50000",
        ),
        (
            "EPRT|1|192.168.1.7|50000|\r\n",
            "EPRT|1|203.0.113.10|50000|\r\n",
            "192.168.1.7 50000 as 50000",
        ),
        (
            "EPRT |2|::ffff:192.168.1.7|50000|\r\n",
            "EPRT |1|203.0.113.10|50000|\r\n",
            "192.168.1.7 50000 as 50000",
        ),
        // What it names leads to it: the gateway's own address.
        (
            "PORT 203,0,113,10,195,80\r\n",
            "PORT 203,0,113,10,195,80\r\n",
            "192.168.1.7 50000 as 50000",
        ),
        (
            "EPRT |1|203.0.113.10|50001|\r\n",
            "EPRT |1|203.0.113.10|1025|\r\n",
            "192.168.1.7 50001 as 1025",
        ),
        (
            "EPRT $1$192.168.1.7$50001$\r\n",
            "EPRT $1$203.0.113.10$1025$\r\n",
            "192.168.1.7 50001 as 1025",
        ),
    ] {
        for end in ["", "NOOP\r\n"] {
            let mut it = Conversation::masquerade();
            it.gate.taken.insert(50_001, 1025);
            assert_eq!(
                it.client(format!("{command}{end}")),
                format!("{heard}{end}")
            );
            assert_eq!(openings(&it), [opened], "{command}");
            let growth = heard.len() as i32 - command.len() as i32;
            assert_eq!(it.session.commands.edits.growth, growth);
        }
    }
    let mut it = Conversation::masquerade_v6();
    assert_eq!(
        it.client("EPRT |2|fd00::7|50000|\r\n"),
        "EPRT |2|2001:db8::10|50000|\r\n"
    );
    assert_eq!(openings(&it), ["fd00::7 50000 as 50000"]);
}

#[test]
fn the_longest_address_fits() {
    let mut it = Conversation::masquerade_v6();
    let long = "2001:1db8:ffff:ffff:ffff:ffff:ffff:ffff";
    it.session.advertise = addr(long);
    assert_eq!(
        it.client("EPRT |2|fd00::7|65535|\r\n"),
        format!("EPRT |2|{long}|65535|\r\n")
    );
    let mut it = Conversation::publish_v6();
    it.session.advertise = addr(long);
    assert_eq!(
        it.ask("EPSV", "229 Ok (|2|::1|65535|)\r\n"),
        format!("229 Ok (|2|{long}|65535|)\r\n")
    );
}

#[test]
fn our_own_client_announces_only_itself() {
    for command in [
        "PORT 192,168,1,8,195,80\r\n",
        "PORT 198,51,100,5,0,22\r\n",
        "EPRT |1|192.168.1.8|50000|\r\n",
        "PORT 192,168,1,7,0,22\r\n",
    ] {
        let mut it = Conversation::masquerade();
        let heard = it.client(command);
        assert_eq!(
            heard,
            command.replace("PORT", "XXXX").replace("EPRT", "XXXX")
        );
        assert_eq!(openings(&it), [""; 0], "{command}");
    }
    // What cannot be read is the server's to answer.
    let mut it = Conversation::masquerade();
    for command in ["PORT 1,2,3\r\n", "EPRT |3|x|5|\r\n"] {
        assert_eq!(it.client(command), command);
    }
    assert_eq!(it.gate.count_of(Counter::PassedNoAddress), 2);
}

/// A session behind the kernel's own NAT whose client was not seen.
fn of_an_unknown_client() -> Conversation {
    let mut it = Conversation::masquerade();
    it.session.inside.addr = Addr::default();
    it
}

#[test]
fn an_unknown_client_announces_itself_once_it_is_identified() {
    let mut it = of_an_unknown_client();
    it.gate.inside = Some(addr("192.168.1.7"));
    assert_eq!(
        it.client("PORT 192,168,1,8,195,80\r\n"),
        "XXXX 192,168,1,8,195,80\r\n"
    );
    assert_eq!(it.gate.count_of(Counter::DeniedBounce), 1);
    assert_eq!(
        it.client("PORT 192,168,1,7,195,80\r\n"),
        "PORT 203,0,113,10,195,80\r\n"
    );
    assert_eq!(it.session.inside.addr, addr("192.168.1.7"));
    assert_eq!(openings(&it).len(), 1);
}

/// No address: the client stays unknown.
const NOBODY: Addr = Addr([0; 4]);

#[test]
fn an_announcement_waits_for_a_client_that_is_being_looked_up() {
    for (command, heard) in [
        (
            "PORT 192,168,1,7,195,80\r\n",
            "PORT 203,0,113,10,195,80\r\n",
        ),
        (
            "EPRT |1|192.168.1.7|50000|\n",
            "EPRT |1|203.0.113.10|50000|\n",
        ),
    ] {
        let mut it = of_an_unknown_client();
        it.gate.inside = Some(NOBODY);
        assert_eq!(it.client(command), "");
        assert_eq!(openings(&it), [""; 0]);
        it.gate.inside = Some(addr("192.168.1.7"));
        it.now += 200;
        assert_eq!(it.client(""), heard);
        assert_eq!(openings(&it).len(), 1);
    }
}

#[test]
fn a_client_that_stays_unknown_opens_nothing_not_even_at_the_gateways_own_address() {
    for command in [
        "PORT 192,168,1,7,195,80\r\n",
        "PORT 203,0,113,10,195,80\r\n",
        "EPRT |1|192.168.1.7|50000|\r\n",
    ] {
        let mut it = of_an_unknown_client();
        it.gate.inside = Some(NOBODY);
        let spoilt = format!("XXXX{}", &command[4..]);
        assert_eq!(it.client(command), "", "{command}");
        it.now += PATIENCE;
        assert_eq!(it.client(""), spoilt);
        // It was waited for once.
        assert_eq!(it.client(command), spoilt);
        assert_eq!(openings(&it), [""; 0], "{command}");
        assert_eq!(it.gate.count_of(Counter::DeniedUnknownClient), 2);
    }
    let mut it = of_an_unknown_client();
    it.gate.inside = Some(NOBODY);
    assert_eq!(it.client("LIST\r\n"), "LIST\r\n");
    assert_eq!(openings(&it), [""; 0]);
}

#[test]
fn a_gate_that_refuses_makes_the_command_fail() {
    let mut it = Conversation::masquerade();
    it.gate.refusal = Some(Counter::DeniedNoPort);
    assert_eq!(
        it.client("PORT 192,168,1,7,195,80\r\n"),
        "XXXX 192,168,1,7,195,80\r\n"
    );
    assert_eq!(it.gate.count_of(Counter::DeniedNoPort), 1);
}

#[test]
fn several_commands_in_one_segment_are_all_read() {
    let mut it = Conversation::masquerade();
    let one = "PORT 192,168,1,7,195,80\r\nRETR a\r\n";
    let heard = "PORT 203,0,113,10,195,80\r\nRETR a\r\n";
    assert_eq!(it.client(one.repeat(7)), heard.repeat(7));
    assert_eq!(it.gate.openings().len(), 7);
    // The server's numbers still fit.
    assert_eq!(it.client("NOOP\r\n"), "NOOP\r\n");
}

#[test]
fn telnet_commands_stand_in_front_of_a_command() {
    let mut it = Conversation::publish();
    let heard = it.client(b"\xff\xf4\xff\xf2ABOR\r\n\xff\xf4\xff\xf2PASV\r\n");
    assert_eq!(
        heard,
        "\\xff\\xf4\\xff\\xf2ABOR\r\n\\xff\\xf4\\xff\\xf2PASV\r\n"
    );
    it.server("226 Aborted\r\n227 (10,0,0,5,195,80)\r\n");
    assert_eq!(it.gate.openings(), [(50_000, 50_000)]);
}

/// Servers take telnet's commands out or leave them in, and eat one byte behind WILL, WONT, DO and
/// DONT or do not: no PORT comes to be by that.
#[test]
fn telnet_commands_hide_no_verb() {
    for (command, heard) in [
        (
            &b"\xff\xfb\x06PORT 192,0,2,1,195,80\r\n"[..],
            "\\xff\\xfb\x06XXXX 192,0,2,1,195,80\r\n",
        ),
        (
            b"\xff\xfdAPORT 192,0,2,1,195,80\r\n",
            "\\xff\\xfd\x06XXXX 192,0,2,1,195,80\r\n",
        ),
        (
            b"\xffAPORT 192,0,2,1,195,80\r\n",
            "\\xff\\xf1XXXX 192,0,2,1,195,80\r\n",
        ),
        (
            b"P\xff\xf1ORT 192,0,2,1,195,80\r\n",
            "PX\\xf1ORT 192,0,2,1,195,80\r\n",
        ),
        (
            b"POR\xff\xfeTT 192,0,2,1,195,80\r\n",
            "PORX\\xfeTT 192,0,2,1,195,80\r\n",
        ),
        (
            b"PORT \xff\xf1192,0,2,1,195,80\r\n",
            "XXXX \\xff\\xf1192,0,2,1,195,80\r\n",
        ),
        // A name that begins with that letter of Latin-1.
        (b"CWD \xff\xff\r\n", "CWD \\xff\\xff\r\n"),
    ] {
        let mut it = Conversation::publish();
        assert_eq!(it.client(command), heard);
        assert_eq!(openings(&it), [""; 0]);
        // However it is cut.
        for cut in 1..command.len() {
            let mut it = Conversation::publish();
            let (first, rest) = command.split_at(cut);
            let first_seq = it.session.commands.seen;
            let mut out = std::collections::BTreeMap::new();
            for (at, payload) in [(0, first), (cut, rest)] {
                let segment = ftp_nat_common::host::Segment {
                    seq: first_seq.wrapping_add(at as u32),
                    payload: payload.to_vec(),
                    fin: false,
                    ..ftp_nat_common::host::Segment::default()
                };
                if let Some(sent) = it.pass(false, &segment) {
                    let bytes = sent.payload.into_iter().enumerate();
                    out.extend(bytes.map(|(at, byte)| (sent.seq.wrapping_add(at as u32), byte)));
                }
            }
            let bytes: Vec<u8> = out.into_values().collect();
            assert_eq!(escaped(&bytes), heard, "cut at {cut}");
        }
    }
}

/// What stands in front of an address, or how it is written, may make the server read another one.
#[test]
fn an_outside_clients_address_is_all_that_its_command_says() {
    for command in [
        "PORT 10,0,0,9,0,22,x 198,51,100,7,200,1\r\n",
        "PORT x198,51,100,7,200,1\r\n",
        "EPRT !1!10.0.0.9!22|1|198.51.100.7|50000|\r\n",
        "EPRT |1|198.051.100.7|50000|\r\n",
        "EPRT |1|198.51.100.07|50000|\r\n",
        "PORT\x0b10,0,0,9,0,22\r\n",
        "PORT\r10,0,0,9,0,22\r\n",
    ] {
        let mut it = Conversation::publish();
        // What stands behind a bare carriage return is replaced, too.
        let heard = format!("XXXX{}", &command[4..]).replace("\r1", "\rX");
        assert_eq!(it.client(command), heard);
        assert_eq!(openings(&it), [""; 0]);
        assert_eq!(
            it.gate.count_of(Counter::DeniedUnreadable) + it.gate.count_of(Counter::DeniedBounce),
            1
        );
    }
}

/// RFC 1639: who has it has PORT and PASV, too.
#[test]
fn long_addresses_are_refused() {
    for command in [
        "LPRT 4,4,192,0,2,1,2,0,25\r\n",
        "LPRT 4,4,198,51,100,7,2,195,80\r\n",
        "lprt 6,16,32,1,13,184,0,2,0,0,0,0,0,0,0,0,0,7,2,195,80\r\n",
        "LPSV\r\n",
        "LPSV \r\n",
    ] {
        let mut it = Conversation::publish();
        assert_eq!(it.client(command), format!("XXXX{}", &command[4..]));
        assert_eq!(it.gate.count_of(Counter::DeniedUnreadable), 1);
        assert_eq!(openings(&it), [""; 0]);
    }
    // A client of our own may ask for long passive mode: that needs nothing here.
    let mut it = Conversation::masquerade();
    assert_eq!(it.client("LPSV\r\n"), "LPSV\r\n");
    let heard = it.client("LPRT 4,4,192,168,1,7,2,195,80\r\n");
    assert_eq!(heard, "XXXX 4,4,192,168,1,7,2,195,80\r\n");
}

/// A PORT with such bytes in it is refused as soon as one is seen: its start is held no longer, however
/// its segments are cut and repeated.
#[test]
fn an_announcement_with_hidden_bytes_is_refused_at_once() {
    let said = "PORT 198,51,100,7,195\rP2ORT 10,0,0,9,0,22\n";
    let heard = "XXXX 198,51,100,7,195\rX2ORT 10,0,0,9,0,22\n";
    for first in 1..said.len() {
        for again in [0, first / 2] {
            let mut it = Conversation::publish();
            let seq = it.session.commands.seen;
            let mut out = std::collections::BTreeMap::new();
            for (from, to) in [(0, first), (again, first), (again, said.len())] {
                it.now += 300;
                let segment = ftp_nat_common::host::Segment {
                    seq: seq.wrapping_add(from as u32),
                    payload: said[from..to].into(),
                    ..ftp_nat_common::host::Segment::default()
                };
                if let Some(sent) = it.pass(false, &segment) {
                    for (at, byte) in sent.payload.into_iter().enumerate() {
                        let before = out.insert(sent.seq.wrapping_add(at as u32), byte);
                        assert!(
                            before.is_none_or(|before| before == byte),
                            "{first} {again}"
                        );
                    }
                }
            }
            let out: Vec<u8> = out.into_values().collect();
            assert_eq!(escaped(&out), heard, "{first} {again}");
            assert_eq!(openings(&it), [""; 0]);
        }
    }
    // However many there are in one line.
    let mut it = Conversation::publish();
    let heard = it.client("EPRT |9|\r\nEPRT |\x03\0\0\0\0\0\0\x003|\r\n");
    assert_eq!(heard, "XXXX |9|\r\nXXXX |\x03XXXXXXX3|\r\n");
}

/// Bytes that servers read each in its own way reach them as plain letters.
#[test]
fn bytes_that_hide_a_command_are_made_harmless() {
    let long = "A".repeat(300);
    for (command, heard) in [
        (
            "MKD c\x00213 x\x00227 (10,0,0,5,31,144)\r\n",
            "MKD cX213 xX227 (10,0,0,5,31,144)\r\n",
        ),
        ("PO\rRT 192,0,2,1,0,25\r\n", "PO\rXT 192,0,2,1,0,25\r\n"),
        (
            "NOOP\rPORT 192,0,2,1,0,25\r\n",
            "NOOP\rXORT 192,0,2,1,0,25\r\n",
        ),
        (
            "NOOP\0PORT 192,0,2,1,0,25\r\n",
            "NOOPXPORT 192,0,2,1,0,25\r\n",
        ),
        ("\0PORT 192,0,2,1,0,25\r\n", "XPORT 192,0,2,1,0,25\r\n"),
        ("\rPORT 192,0,2,1,0,25\r\n", "\rXORT 192,0,2,1,0,25\r\n"),
        ("NOOP\r\r\n", "NOOP\r\r\n"),
        ("MKD name of a file\r\n", "MKD name of a file\r\n"),
        (
            &format!("NOOP {long}PORT 192,0,2,1,0,25\r\n"),
            &format!("NOOP {long}PORT 192,0,2X1,0,25\r\n"),
        ),
        (
            &format!("NOOP {long}lprt 4,4,192,0,2,1,2,0,25\r\n"),
            &format!("NOOP {long}lprt 4,4,192X0,2,1,2,0,25\r\n"),
        ),
        (
            &format!("NOOP {long}EPRT |1|192.0.2.1|25|\r\n"),
            &format!("NOOP {long}EPRT |1|192.0.2.1X25|\r\n"),
        ),
        (
            &format!("MKD {long}/REPORT 2024, 12.pdf\r\n"),
            &format!("MKD {long}/REPORT 2024, 12.pdf\r\n"),
        ),
    ] {
        let mut it = Conversation::publish();
        assert_eq!(it.client(command), heard);
        assert_eq!(openings(&it), [""; 0]);
        let changed = command
            .bytes()
            .zip(heard.bytes())
            .filter(|(one, other)| one != other);
        assert_eq!(
            it.gate.count_of(Counter::DeniedHidden),
            changed.count(),
            "{heard}"
        );
        // However it is cut.
        for cut in 1..command.len() {
            let mut it = Conversation::publish();
            let first = it.session.commands.seen;
            let mut out = std::collections::BTreeMap::new();
            for (at, payload) in [(0, &command[..cut]), (cut, &command[cut..])] {
                let segment = ftp_nat_common::host::Segment {
                    seq: first.wrapping_add(at as u32),
                    payload: payload.into(),
                    fin: false,
                    ..ftp_nat_common::host::Segment::default()
                };
                if let Some(sent) = it.pass(false, &segment) {
                    let bytes = sent.payload.into_iter().enumerate();
                    out.extend(bytes.map(|(at, byte)| (sent.seq.wrapping_add(at as u32), byte)));
                }
            }
            let bytes: Vec<u8> = out.into_values().collect();
            assert_eq!(escaped(&bytes), heard, "cut at {cut}");
        }
    }
    // A client of our own may say what it likes.
    let mut it = Conversation::masquerade();
    let command = "MKD a\0b\rc\r\n";
    assert_eq!(it.client(command), command);
}

/// RFC 959 section 3.3: the server connects to the client's end of the control connection.
#[test]
fn a_transfer_without_an_announcement_uses_the_default_port() {
    for command in [
        "LIST", "list -l", "NLST", "MLSD", "RETR a", "STOR a", "STOU", "APPE a",
    ] {
        let mut it = Conversation::publish();
        it.client(format!("{command}\r\n"));
        assert_eq!(openings(&it), ["198.51.100.7 40000 as 40000"], "{command}");
        // Behind the kernel's NAT its port may be another one.
        let mut it = Conversation::masquerade();
        it.session.public.port = Port::new(1234);
        it.client(format!("{command}\r\n"));
        assert_eq!(openings(&it), ["192.168.1.7 40000 as 1234"], "{command}");
    }
    for before in [
        "PASV\r\n",
        "EPSV\r\n",
        "PORT 198,51,100,7,195,80\r\n",
        "EPRT |1|198.51.100.7|50000|\r\n",
    ] {
        let mut it = Conversation::publish();
        it.client(before);
        let opened = openings(&it);
        it.client("RETR a\r\n");
        assert_eq!(openings(&it), opened, "{before}");
    }
    for command in ["NOOP", "SIZE a", "CWD LIST", "RETRX a", "REST 0"] {
        let mut it = Conversation::publish();
        it.client(format!("{command}\r\n"));
        assert_eq!(openings(&it), [""; 0], "{command}");
    }
    // A client that nobody saw, one of a port of the system, and a connection that is not FTP's.
    let mut it = Conversation::masquerade();
    it.session.inside.addr = Addr::default();
    it.client("LIST\r\n");
    assert_eq!(openings(&it), [""; 0]);
    let mut it = Conversation::publish();
    it.session.outside.port = Port::new(1023);
    it.client("LIST\r\n");
    assert_eq!(openings(&it), [""; 0]);
    let mut it = Conversation::new(silent(publish([1, 2])));
    it.server("220 Hi\r\n");
    it.client("GET / HTTP/1.1\r\nLIST\r\n");
    assert_eq!(openings(&it), [""; 0]);
}
