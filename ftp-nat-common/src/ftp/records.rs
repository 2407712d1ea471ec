//! TLS records of an encrypted control connection (RFC 8446 section 5.1): what the gateway can tell of
//! a conversation that it cannot read.
//!
//! The types and lengths of records are not encrypted. So it is seen that the client has asked
//! something and that the server has answered since, and nothing else. Each such answer permits the
//! client one data connection to the server's passive range ([`Gate::permit`](crate::gate::Gate::permit)):
//! it may be the reply to PASV or EPSV. What a server sends by itself permits nothing: session tickets
//! of TLS 1.3, a transfer's final reply, alerts.
//!
//! Each direction's packets write their own half of the session, as everywhere.

use crate::abi::{Session, asked_flag, begin, direction_mut, role, session_flag};
use crate::ftp::tls::PlainText;
use crate::wire::seq::distance;

/// Notes the records that have begun in a new segment, as `judge` has counted them. Whether the server
/// has answered its client with them, and so permits a data connection.
#[inline(always)]
pub fn note(session: &mut Session, is_replies: bool, judge: &PlainText) -> bool {
    let changes = session.answered.encrypted;
    // With implicit TLS both ends began with a handshake: that is how it was known.
    let is_implicit = session.answered.begin == begin::OPEN;
    let direction = direction_mut(session, is_replies as u8);
    if judge.has_handshake() || is_implicit {
        direction.spoke_tls = changes;
    }
    let data = u32::from(judge.data_records());
    if data == 0 || direction.spoke_tls != changes {
        return false;
    }
    if is_replies {
        note_answers(session, data) && has_range(session)
    } else {
        note_questions(session, data);
        false
    }
}

/// The client has sent records of application data. Where the server sent some before, the client's
/// first asks for nothing: it ends the handshake of TLS 1.3, or is the first command after the
/// greeting of a server with implicit TLS.
#[inline(always)]
fn note_questions(session: &mut Session, count: u32) {
    let server_began = session.answered.records != 0;
    let asked = &mut session.asked;
    asked.records = asked.records.wrapping_add(count);
    if asked.flags & asked_flag::BEGAN_TLS == 0 {
        asked.flags |= asked_flag::BEGAN_TLS;
        if server_began {
            asked.records = asked.records.wrapping_sub(1);
        }
    }
}

/// The server has sent records of application data: each answers the oldest of the client's that has
/// no answer. False: there is none.
#[inline(always)]
fn note_answers(session: &mut Session, count: u32) -> bool {
    let asked = session.asked.records;
    let answered = &mut session.answered;
    answered.records = answered.records.wrapping_add(count);
    let open = distance(asked, answered.answers);
    if open <= 0 {
        return false;
    }
    answered.answers = answered.answers.wrapping_add(count.min(open as u32));
    true
}

/// Whether both ends of a session speak TLS now, by their own records, and its server has a passive
/// range that this gateway opens.
#[inline(always)]
pub const fn has_range(session: &Session) -> bool {
    let changes = session.answered.encrypted;
    session.role == role::PUBLISH
        && session.flags & session_flag::LOCAL == 0
        && session.passive_first != 0
        && changes != 0
        && session.commands.spoke_tls == changes
        && session.replies.spoke_tls == changes
        && session.commands.cleared != changes
        && session.replies.cleared != changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{Answered, Asked};
    use crate::ftp::tls;
    use bytemuck::Zeroable;

    /// A session of a server with a passive range that went over to TLS by AUTH.
    fn session() -> Session {
        Session {
            role: role::PUBLISH,
            passive_first: 50_000,
            passive_last: 50_999,
            answered: Answered {
                begin: begin::FTP,
                encrypted: 1,
                ..Answered::default()
            },
            asked: Asked::default(),
            ..Session::zeroed()
        }
    }

    /// A record of this type and length.
    fn record(kind: u8, len: u16) -> Vec<u8> {
        let [high, low] = len.to_be_bytes();
        let mut bytes = std::vec![kind, 3, 3, high, low];
        bytes.resize(usize::from(len) + 5, 0xaa);
        bytes
    }

    /// A segment comes in one direction; whether it permits a connection.
    fn hear(session: &mut Session, is_replies: bool, seq: &mut u32, bytes: &[u8]) -> bool {
        let direction = direction_mut(session, u8::from(is_replies));
        assert!(tls::pass_unread(direction, *seq, bytes.len() as u32));
        let mut judge = PlainText::resume(direction);
        let _ = bytes.iter().all(|byte| judge.feed(*byte));
        judge.keep(direction);
        *seq = seq.wrapping_add(bytes.len() as u32);
        note(session, is_replies, &judge)
    }

    struct Talk {
        session: Session,
        client: u32,
        server: u32,
    }

    impl Talk {
        fn new() -> Self {
            // Near the numbers' end.
            let seq = u32::MAX - 100;
            let mut session = session();
            (session.commands.seen, session.replies.seen) = (seq, seq);
            Self {
                session,
                client: seq,
                server: seq,
            }
        }

        fn client(&mut self, bytes: &[u8]) {
            hear(&mut self.session, false, &mut self.client, bytes);
        }

        /// How many of the client's records these ones of the server answer.
        fn server(&mut self, bytes: &[u8]) -> u32 {
            let before = self.session.answered.answers;
            let permits = hear(&mut self.session, true, &mut self.server, bytes);
            let answers = self.session.answered.answers - before;
            assert_eq!(permits, answers != 0 && has_range(&self.session));
            answers
        }

        fn handshake_of_1_2(&mut self) {
            self.client(&record(0x16, 200));
            assert_eq!(self.server(&record(0x16, 3000)), 0);
            self.client(&[record(0x16, 70), record(0x14, 1), record(0x16, 40)].concat());
            assert_eq!(
                self.server(&[record(0x14, 1), record(0x16, 40)].concat()),
                0
            );
        }
    }

    #[test]
    fn each_answer_counts_once() {
        let mut talk = Talk::new();
        talk.handshake_of_1_2();
        assert!(has_range(&talk.session));
        // USER and PASS.
        for _ in 0..2 {
            talk.client(&record(0x17, 30));
            assert_eq!(talk.server(&record(0x17, 50)), 1);
        }
        // RETR: one answer begins the transfer and another one ends it, which nobody asked for.
        talk.client(&record(0x17, 30));
        assert_eq!(talk.server(&record(0x17, 50)), 1);
        assert_eq!(talk.server(&record(0x17, 50)), 0);
        // Two commands at once, and three replies in one segment.
        talk.client(&[record(0x17, 30), record(0x17, 31)].concat());
        let replies = [record(0x17, 50), record(0x17, 51), record(0x17, 52)].concat();
        assert_eq!(talk.server(&replies), 2);
    }

    #[test]
    fn the_handshake_and_tickets_of_1_3_are_no_answers() {
        let mut talk = Talk::new();
        talk.client(&record(0x16, 200));
        let flight = [
            record(0x16, 90),
            record(0x14, 1),
            record(0x17, 900),
            record(0x17, 50),
        ];
        assert_eq!(talk.server(&flight.concat()), 0);
        // The client's last message of the handshake, then two tickets.
        talk.client(&[record(0x14, 1), record(0x17, 53)].concat());
        assert_eq!(
            talk.server(&[record(0x17, 250), record(0x17, 250)].concat()),
            0
        );
        talk.client(&record(0x17, 30));
        assert_eq!(talk.server(&record(0x17, 50)), 1);
    }

    #[test]
    fn alerts_and_text_are_no_answers() {
        let mut talk = Talk::new();
        talk.handshake_of_1_2();
        talk.client(&record(0x17, 30));
        assert_eq!(talk.server(&record(0x15, 2)), 0);
        assert_eq!(talk.server(b"227 ok (10,0,0,5,195,80)\r\n"), 0);
        // A later record is found again.
        assert_eq!(talk.server(&record(0x17, 50)), 1);
    }

    #[test]
    fn an_end_that_never_spoke_tls_opens_nothing() {
        // The client's own records do not matter while the server's are none.
        let mut talk = Talk::new();
        talk.client(&record(0x16, 200));
        talk.client(&record(0x17, 30));
        assert_eq!(talk.server(b"500 what?\r\n"), 0);
        assert_eq!(talk.server(&record(0x15, 2)), 0);
        assert_eq!(
            talk.server(&record(0x17, 50)),
            0,
            "no handshake came before it"
        );
        assert!(!has_range(&talk.session));
        let mut talk = Talk::new();
        talk.client(&record(0x17, 30));
        assert_eq!(talk.server(&record(0x16, 100)), 0);
        assert!(!has_range(&talk.session));
    }

    #[test]
    fn records_over_several_segments_and_behind_a_gap_are_followed() {
        let mut talk = Talk::new();
        talk.handshake_of_1_2();
        talk.client(&record(0x17, 30));
        let long = record(0x17, 3000);
        assert_eq!(talk.server(&long[..1400]), 1);
        assert_eq!(talk.server(&long[1400..2800]), 0);
        talk.client(&record(0x17, 30));
        let rest = [&long[2800..], &record(0x17, 50)].concat();
        assert_eq!(talk.server(&rest), 1);
        // A segment that never came this way.
        talk.server = talk.server.wrapping_add(70);
        talk.client = talk.client.wrapping_add(70);
        talk.client(&record(0x17, 30));
        assert_eq!(talk.server(&record(0x17, 50)), 1);
    }

    #[test]
    fn a_second_change_to_tls_begins_anew() {
        let mut talk = Talk::new();
        talk.handshake_of_1_2();
        // Clear text again, and then another AUTH.
        talk.session.commands.cleared = 1;
        assert!(!has_range(&talk.session));
        talk.session.replies.cleared = 1;
        talk.session.answered.encrypted = 2;
        assert!(!has_range(&talk.session));
        talk.handshake_of_1_2();
        assert!(has_range(&talk.session));
    }

    #[test]
    fn implicit_tls_needs_no_second_handshake() {
        let mut talk = Talk::new();
        talk.session.answered.begin = begin::OPEN;
        // The rest of the server's handshake, whose start was read as text.
        talk.server(&[0x5a; 900]);
        talk.client(&[record(0x14, 1), record(0x16, 40)].concat());
        assert_eq!(
            talk.server(&[record(0x14, 1), record(0x16, 40)].concat()),
            0
        );
        assert!(has_range(&talk.session));
        // The greeting, and then an answer to each command but the first.
        assert_eq!(talk.server(&record(0x17, 50)), 0);
        talk.client(&record(0x17, 30));
        assert_eq!(talk.server(&record(0x17, 50)), 0);
        talk.client(&record(0x17, 30));
        assert_eq!(talk.server(&record(0x17, 50)), 1);
    }
}
