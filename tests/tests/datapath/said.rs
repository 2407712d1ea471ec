//! What the daemon is told of commands and replies.

use ftp_nat_common::{
    abi::{event, kind, setting},
    counter::Counter,
    ftp::{command::named, said::MOST},
    wire::tcp::flag,
};

use crate::{
    loaded::{Datapath, Hook, on_router},
    packet::{ACK, FIN, RST},
    scene::{control_v4, control_v6},
    talk::{Client, Server, Talk},
};

const ISN: [u32; 2] = [100, 200];

/// Runs a test where commands and replies are told.
fn where_told(test: impl FnOnce(&mut Datapath) + Send) {
    let set = |datapath: &mut Datapath, flags| {
        let mut settings = datapath.settings();
        settings.flags = flags;
        datapath.set(settings);
    };
    on_router(|datapath| {
        set(datapath, setting::TELLS_COMMANDS);
        test(datapath);
        set(datapath, 0);
    });
}

#[test]
fn commands_and_their_replies_are_told() {
    where_told(|datapath| {
        for ends in [control_v4(), control_v6()] {
            let mut talk = Talk::begin(datapath, ends, ISN);
            let (number, _) = talk.datapath.sessions.all()[0];
            talk.passes(Client, "USER bob\r\nPASS secret\r\nTYPE I\r\n");
            talk.passes(Server, "331 Who?\r\n230 In\r\n200 I\r\n");
            talk.passes(Client, "DELE a");
            talk.passes(Client, "nd \u{e4}\r\n");
            talk.passes(Server, "250-Do\r\n");
            talk.passes(Server, "250 ne\r\n");
            let said = talk.datapath.said();
            assert!(
                said.iter()
                    .all(|(said, _)| said.session == number && said.time != 0)
            );
            let said: Vec<_> = said
                .iter()
                .map(|(said, line)| (said.what, said.number, said.name, said.code, &**line))
                .collect();
            let of = |verb: &[u8]| named(verb);
            assert_eq!(
                said,
                [
                    (event::COMMAND, 1, of(b"USER"), 0, &b"USER bob\r"[..]),
                    (event::COMMAND, 2, of(b"PASS"), 0, b""),
                    (event::REPLY, 1, 0, 331, b""),
                    (event::REPLY, 2, 0, 230, b""),
                    (
                        event::COMMAND,
                        4,
                        of(b"DELE"),
                        0,
                        "DELE and \u{e4}\r".as_bytes()
                    ),
                    (event::REPLY, 4, 0, 250, b""),
                ]
            );
        }
    });
}

#[test]
fn nothing_is_told_where_it_is_off() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        talk.passes(Client, "DELE a");
        talk.passes(Client, "nd b\r\n");
        talk.passes(Server, "250 Done\r\n");
        assert_eq!(talk.datapath.said(), []);
        assert_eq!(talk.datapath.lines.len(), 0);
    });
}

#[test]
fn a_client_that_says_too_much_is_told_in_part() {
    where_told(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        let before = talk.datapath.counts();
        let commands = "DELE a\r\n".repeat(100);
        // All within one window of 64 ms, or two.
        for _ in 0..8 {
            let segment = talk.segment(Client, &commands);
            talk.datapath.run(Hook::WanIngress, &segment.bytes());
            talk.next[0] = talk.next[0].wrapping_add(commands.len() as u32);
        }
        let told = talk.datapath.said().len();
        assert!(
            (MOST as usize..=2 * MOST as usize).contains(&told),
            "{told}"
        );
        let counted = talk.datapath.counted_since(&before);
        let untold = counted
            .iter()
            .find(|(it, _)| *it == Counter::CommandsUntold);
        assert_eq!(untold.unwrap().1.packets as usize, 800 - told);
    });
}

#[test]
fn events_have_half_of_the_ring_for_themselves() {
    where_told(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        let before = talk.datapath.counts();
        let name = "n".repeat(500);
        let command = format!("DELE {name}\r\nDELE {name}\r\n");
        let start = std::time::Instant::now();
        let untold = |talk: &Talk<'_>| {
            let counted = talk.datapath.counted_since(&before);
            counted.iter().any(|(it, _)| *it == Counter::CommandsUntold)
        };
        while !untold(&talk) || start.elapsed().as_secs() < 1 {
            let segment = talk.segment(Client, &command);
            talk.datapath.run(Hook::WanIngress, &segment.bytes());
            talk.next[0] = talk.next[0].wrapping_add(command.len() as u32);
            // Nothing is read that no window is open for.
            let ack = talk.segment(Server, "").flags(ACK);
            talk.datapath.run(Hook::LanIngress, &ack.bytes());
            assert!(start.elapsed().as_secs() < 20);
        }
        // More bytes were said than the ring has, and there is still room for events.
        let before = talk.datapath.counts();
        for _ in 0..1000 {
            let data = talk.ends.data(50_111, 50_000, 50_000);
            data.announce_passive(talk.datapath);
            talk.datapath
                .run(Hook::WanIngress, &data.inbound().syn().bytes());
        }
        let counted = talk.datapath.counted_since(&before);
        assert!(
            !counted.iter().any(|(it, _)| *it == Counter::EventsLost),
            "{counted:?}"
        );
    });
}

#[test]
fn a_data_connection_notes_where_its_streams_begin_and_end() {
    on_router(|datapath| {
        for control in [control_v4(), control_v6()] {
            datapath.forget_connections();
            let data = control.data(50_111, 50_000, 50_000);
            data.announce_passive(datapath);
            let inbound = |seq: u32, ack: u32, flags| data.inbound().seq(seq).ack(ack).flags(flags);
            let outbound =
                |seq: u32, ack: u32, flags| data.outbound().seq(seq).ack(ack).flags(flags);
            datapath.run(Hook::WanIngress, &data.inbound().syn().seq(1000).bytes());
            datapath.run(
                Hook::LanIngress,
                &outbound(5000, 1001, flag::SYN | ACK).bytes(),
            );
            datapath.run(Hook::WanIngress, &inbound(1001, 5001, ACK).bytes());
            datapath.run(
                Hook::LanIngress,
                &outbound(5001, 1001, ACK).payload("abc").bytes(),
            );
            datapath.run(
                Hook::LanIngress,
                &outbound(5004, 1001, FIN | ACK).payload("de").bytes(),
            );
            datapath.run(Hook::WanIngress, &inbound(1001, 5007, ACK).bytes());
            // A reset that acknowledges nothing leaves what was acknowledged.
            datapath.run(Hook::WanIngress, &inbound(1001, 0, RST).bytes());
            let (there, back) = data.flows(datapath).unwrap();
            assert_eq!(
                (there.kind, there.start, there.acked),
                (kind::PASSIVE, 1001, 5007)
            );
            assert_eq!((back.start, back.end), (5001, 5006));
            assert_ne!(there.tcp_flags & RST, 0);
        }
    });
}
