//! Text that its receiver may drop for its TCP timestamp does not get there, so that nobody reads another
//! text than the gateway has read (RFC 7323 section 5).

use ftp_nat_common::counter::Counter;

use crate::{
    fixture::Fixture,
    loaded::{Hook, on_router},
    packet::{ACK, Packet, SYN},
    scene::{control_v4, control_v6},
    talk::{Client, Sender, Server, Talk, timestamp_options},
};

/// The timestamp of [`Packet::syn`].
const CLIENT: u32 = 0x0102_0304;
/// The server's first one, which wraps soon.
const SERVER: u32 = u32::MAX;

fn is_dropped(talk: &Talk<'_>, name: &str, sender: Sender, packet: &Packet) {
    talk.fixture(sender, name, packet)
        .dropped()
        .counting(&[Counter::DeniedTimestamp])
        .check(talk.datapath);
}

#[test]
fn text_with_an_older_timestamp_than_the_last_is_dropped_and_its_repetition_read() {
    on_router(|datapath| {
        for control in [control_v4(), control_v6()] {
            let mut talk = Talk::begin_with_timestamps(datapath, control, SERVER);
            let mut says = |sender: Sender, text: &str, timestamps: &[(i64, bool)]| {
                let first = [CLIENT, SERVER][sender as usize];
                for (later, arrives) in timestamps {
                    let options = timestamp_options(first.wrapping_add(*later as u32));
                    let packet = talk.segment(sender, text).tcp_options(&options);
                    let name = format!("{text:?}, {later}");
                    if *arrives {
                        talk.arrives(&name, sender, &packet, text, &[]);
                    } else {
                        is_dropped(&talk, &name, sender, &packet);
                    }
                }
                let own = sender as usize;
                talk.next[own] = talk.next[own].wrapping_add(text.len() as u32);
            };
            // Older than the SYN; then the text, and its repetition whatever its timestamp.
            says(Server, "220 hi\r\n", &[(-1, false), (5, true), (3, true)]);
            says(Client, "USER a\r\n", &[(-1, false), (0, true)]);
            says(Client, "", &[(90, true)]);
            // What came last without text counts too.
            says(
                Client,
                "PASS b\r\n",
                &[(89, false), (90, true), (200, true)],
            );
            says(Client, "SYST\r\n", &[(199, false), (1 << 30, true)]);
            says(Client, "NOOP\r\n", &[(0, false), ((1 << 30) + 1, true)]);
        }
    });
}

#[test]
fn text_without_a_timestamp_or_with_two_is_dropped_where_others_had_one() {
    on_router(|datapath| {
        for control in [control_v4(), control_v6()] {
            let mut talk = Talk::begin_with_timestamps(datapath, control, SERVER);
            // A sender that has never had one behind its SYN does without.
            talk.passes(Client, "USER a\r\n");
            let later = timestamp_options(CLIENT + 5);
            let packet = talk.segment(Client, "").tcp_options(&later);
            talk.arrives("an acknowledgement", Client, &packet, "", &[]);
            let with = |options: &[u8]| talk.segment(Client, "SYST\r\n").tcp_options(options);
            let twice = [&later[2..], &later[2..], &[1, 1, 1, 1]].concat();
            for (name, packet) in [
                ("none", with(&[])),
                ("two", with(&twice)),
                ("one of a wrong length", with(&[8, 6, 1, 2, 3, 4, 1, 1])),
                ("two, without text", with(&twice).payload("")),
            ] {
                is_dropped(&talk, name, Client, &packet);
            }
            let packet = with(&[8, 10, 1, 2, 3, 9, 0, 0, 0, 0, 1, 1]);
            talk.arrives("one at another place", Client, &packet, "SYST\r\n", &[]);
        }
    });
}

#[test]
fn where_one_syn_has_no_timestamp_nobody_goes_by_those_of_the_other() {
    on_router(|datapath| {
        let mut talk = Talk::begin_silently(datapath, control_v4(), [1, 2]);
        talk.passes(Server, "220 hi\r\n");
        talk.passes(Client, "USER a\r\n");
    });
}

#[test]
fn a_syn_with_two_timestamps_is_dropped_and_the_latest_of_repeated_ones_counts() {
    on_router(|datapath| {
        let control = control_v4();
        datapath.forget_connections();
        control.publish(datapath, 0);
        let [syn, answer, ack] = control.handshake([1, 2]);
        let two = [
            &[1, 1, 1, 1][..],
            &timestamp_options(1)[2..],
            &timestamp_options(2)[2..],
        ]
        .concat();
        Fixture::wan("two", &syn.clone().tcp_options(&two))
            .dropped()
            .counting(&[Counter::DeniedTimestamp])
            .check(datapath);
        for timestamp in [100, 300] {
            let packet = syn.clone().tcp_options(&timestamp_options(timestamp));
            datapath.run(Hook::WanIngress, &packet.bytes());
        }
        let answer = answer.tcp_options(&timestamp_options(7));
        assert_eq!(answer.flags, SYN | ACK);
        datapath.run(Hook::LanIngress, &answer.bytes());
        datapath.run(Hook::WanIngress, &ack.bytes());
        let [(_, session)] = datapath.sessions.all()[..] else {
            panic!("{} sessions", datapath.sessions.len());
        };
        assert_eq!(session.commands.timestamp, 300);
        assert_eq!(session.replies.timestamp, 7);
    });
}
