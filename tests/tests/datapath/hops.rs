//! No control segment leaves with more time to live than the text before it had: what the gateway has read,
//! and what its receiver may not have got, is not followed by another text with the same numbers.

use ftp_nat_common::counter::Counter::{HopsLimited, PassedOutOfWindow};

use crate::{
    loaded::on_router,
    scene::{control_v4, control_v6},
    talk::{Client, Sender, Server, Talk},
};

/// `sender` sends a segment with `ttl`, which leaves as one with `leaves` does.
fn limited(talk: &Talk<'_>, sender: Sender, text: &str, seq: i64, ttl: u8, leaves: u8) {
    let own = talk.next[sender as usize];
    let packet = talk
        .segment(sender, text)
        .seq(own.wrapping_add(seq as u32))
        .ttl(ttl);
    let out = talk.becomes(sender, &packet.clone().ttl(leaves), text);
    let is_limited = if leaves == ttl {
        &[][..]
    } else {
        &[HopsLimited]
    };
    let is_outside = if seq.abs() > 1 << 20 {
        &[PassedOutOfWindow][..]
    } else {
        &[]
    };
    let name = format!("{text:?} at {seq}, {ttl} hops");
    talk.fixture(sender, &name, &packet)
        .redirected(&out)
        .counting(is_limited)
        .counting(is_outside)
        .check(talk.datapath);
}

#[test]
fn a_segment_gets_no_further_than_the_text_before_it() {
    on_router(|datapath| {
        for control in [control_v4(), control_v6()] {
            for sender in [Client, Server] {
                let mut talk = Talk::begin(datapath, control, [1000, 2000]);
                let text = if sender == Client {
                    "NOOP\r\n"
                } else {
                    "200 k\r\n"
                };
                let says = |talk: &mut Talk<'_>, ttl, leaves| {
                    limited(talk, sender, text, 0, ttl, leaves);
                    talk.next[sender as usize] += text.len() as u32;
                };
                says(&mut talk, 64, 64);
                // An acknowledgement is no text, whatever it has.
                limited(&talk, sender, "", 0, 2, 2);
                limited(&talk, sender, "", 0, 255, 255);
                // A path that got longer; it does not get shorter again for this connection.
                says(&mut talk, 62, 62);
                says(&mut talk, 64, 62);
                says(&mut talk, 9, 9);
                // The text that comes next, a repetition, and one that TCP would not believe.
                let length = text.len() as i64;
                says(&mut talk, 255, 9);
                limited(&talk, sender, text, -length, 64, 9);
                limited(&talk, sender, text, 1 << 30, 64, 9);
                limited(&talk, sender, text, -(1 << 30), 64, 9);
                // What is not believed sets no bound.
                limited(&talk, sender, text, 1 << 30, 5, 5);
                says(&mut talk, 64, 9);
                // The other end's segments have their own.
                let other = if sender == Client { Server } else { Client };
                limited(&talk, other, "", 0, 64, 64);
            }
        }
    });
}
