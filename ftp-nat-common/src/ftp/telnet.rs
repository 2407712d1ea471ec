//! Telnet's commands in front of a client's lines (RFC 854, RFC 959 section 4.1.3).
//!
//! Clients send IAC IP, IAC DM in front of ABOR. Some servers take telnet's commands out, some
//! leave them in, and some take out too little of them; so they may read a PORT where the gateway
//! saw none. An outside client's lines are made such that all of these read the same:
//!
//! - an IAC within a verb becomes a letter that makes the verb unknown;
//! - an option behind WILL, WONT, DO and DONT stays, unless it is a letter, which might begin a
//!   verb, or a byte that may not be in a line: then it becomes the option "timing mark";
//! - "subnegotiation", which hides what follows, and anything else that is no signal becomes NOP.

use super::parser::Inspection;
use crate::{
    abi::direction_flag::{AFTER_IAC, AFTER_OPTION},
    wire::telnet::{IAC, NOP, OPTION_COMMANDS, SIGNALS, TIMING_MARK},
};

impl Inspection {
    /// Whether byte `at` of an outside client's line must be replaced, because of telnet, by
    /// [`Inspection::instead`].
    #[inline(always)]
    pub(super) fn hides_verb(&mut self, byte: u8, at: u16) -> bool {
        if at > 0 {
            let before = (self.head >> 64_u32.wrapping_sub((at as u32 & 7).wrapping_mul(8))) as u8;
            self.instead = b'X';
            return byte == IAC && before.is_ascii_alphanumeric();
        }
        let state = self.kept & (AFTER_IAC | AFTER_OPTION);
        self.kept &= !(AFTER_IAC | AFTER_OPTION);
        if state == AFTER_IAC {
            if byte >= *OPTION_COMMANDS.start() && byte <= *OPTION_COMMANDS.end() {
                self.kept |= AFTER_OPTION;
                return false;
            }
            self.instead = NOP;
            return byte != IAC && (byte < *SIGNALS.start() || byte > *SIGNALS.end());
        }
        if state == AFTER_OPTION {
            self.instead = TIMING_MARK;
            return byte.is_ascii_alphabetic() || matches!(byte, IAC | 0 | b'\r');
        }
        if byte == IAC {
            self.kept |= AFTER_IAC;
        }
        false
    }
}
