//! Control connections that go over to TLS, and back.

use ftp_nat_common::{
    abi::event,
    counter::Counter::{
        EditEqual, PassedEncrypted, PassiveOpened, Rewrote227, SessionCleared, SessionEncrypted,
    },
};

use crate::{
    fixture::Fixture,
    loaded::on_router,
    scene::{control_v4, control_v6},
    talk::{Client, Server, Talk},
};

const ISN: [u32; 2] = [1, 2];

/// A handshake's first record, and one of data that looks like text in part.
const HELLO: &str = "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03";
const RECORD: &str = "\x17\x03\x03\x00\x1c227 (10,0,0,5,195,80)\r\nPASV\r\n";

#[test]
fn what_is_encrypted_is_left_alone() {
    on_router(|datapath| {
        for control in [control_v4(), control_v6()] {
            let mut talk = Talk::begin(datapath, control, ISN);
            talk.passes(Client, "AUTH TLS\r\n");
            talk.says(
                Server,
                "234 go on\r\n",
                "234 go on\r\n",
                &[SessionEncrypted],
            );
            assert_eq!(talk.datapath.events()[0].what, event::ENCRYPTED);
            for text in [HELLO, RECORD] {
                talk.says(Client, text, text, &[PassedEncrypted]);
                talk.says(Server, text, text, &[PassedEncrypted]);
            }
            talk.passes(Client, "");
            assert_eq!(talk.mappings(), []);
        }
    });
}

#[test]
fn a_refusal_of_auth_changes_nothing() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        talk.passes(Client, "AUTH TLS\r\n");
        talk.passes(Server, "502 no\r\n");
        talk.passes(Client, "PASV\r\n");
        let out = "227 Entering Passive  (198,51,100,1,195,80).\r\n";
        talk.says(
            Server,
            "227 Entering Passive Mode (10,0,0,5,195,80).\r\n",
            out,
            &[PassiveOpened, Rewrote227, EditEqual],
        );
    });
}

#[test]
fn a_handshake_without_auth_is_encryption_too() {
    on_router(|datapath| {
        let mut talk = Talk::begin_silently(datapath, control_v4(), ISN);
        talk.passes(Client, HELLO);
        talk.says(Server, HELLO, HELLO, &[SessionEncrypted]);
        talk.says(Client, RECORD, RECORD, &[PassedEncrypted]);
        talk.says(Server, RECORD, RECORD, &[PassedEncrypted]);
    });
}

#[test]
fn clear_text_is_read_again() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        talk.passes(Client, "AUTH TLS\r\n");
        talk.says(
            Server,
            "234 go on\r\n",
            "234 go on\r\n",
            &[SessionEncrypted],
        );
        talk.says(Client, HELLO, HELLO, &[PassedEncrypted]);
        talk.says(Server, RECORD, RECORD, &[PassedEncrypted]);
        talk.says(Client, "PASV\r\n", "PASV\r\n", &[SessionCleared]);
        let out = "227 Entering Passive  (198,51,100,1,195,80).\r\n";
        talk.says(
            Server,
            "227 Entering Passive Mode (10,0,0,5,195,80).\r\n",
            out,
            &[PassiveOpened, Rewrote227, EditEqual],
        );
    });
}

/// Clear command channel: the closing alert and the first clear text may come in one segment.
#[test]
fn clear_text_may_stand_behind_a_record() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        talk.passes(Client, "AUTH TLS\r\n");
        talk.says(
            Server,
            "234 go on\r\n",
            "234 go on\r\n",
            &[SessionEncrypted],
        );
        let alert = "\x15\x03\x03\x00\x02\x01\x00";
        let command = format!("{alert}PASV\r\n");
        talk.says(Client, &command, &command, &[SessionCleared]);
        let reply = format!("{alert}227 Entering Passive Mode (10,0,0,5,195,80).\r\n");
        let out = format!("{alert}227 Entering Passive  (198,51,100,1,195,80).\r\n");
        talk.says(
            Server,
            &reply,
            &out,
            &[PassiveOpened, Rewrote227, EditEqual],
        );
    });
}

#[test]
fn an_encrypted_super_packet_passes_whole() {
    on_router(|datapath| {
        let mut talk = Talk::begin_silently(datapath, control_v4(), ISN);
        talk.passes(Client, HELLO);
        talk.says(Server, HELLO, HELLO, &[SessionEncrypted]);
        let packet = talk.segment(Server, [0x17; 3000]);
        let out = talk.becomes(Server, &packet, [0x17; 3000]);
        Fixture::lan("3000 bytes", &packet)
            .gso(1400)
            .redirected(&out)
            .counting(&[PassedEncrypted])
            .check(talk.datapath);
    });
}
