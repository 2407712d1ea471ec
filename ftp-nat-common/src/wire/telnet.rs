//! Telnet's bytes (RFC 854), which may stand in a client's lines (RFC 959 section 4.1.3).

use core::ops::RangeInclusive;

/// Interpret as command: what follows is one of the others.
pub const IAC: u8 = 255;
/// All commands, from "end of subnegotiation" to IAC.
pub const COMMANDS: RangeInclusive<u8> = 240..=IAC;
/// The signals, from "end of subnegotiation" to "go ahead".
pub const SIGNALS: RangeInclusive<u8> = 240..=249;
/// WILL, WONT, DO and DONT: an option follows.
pub const OPTION_COMMANDS: RangeInclusive<u8> = 251..=254;
/// No operation.
pub const NOP: u8 = 241;
/// The option "timing mark" (RFC 860).
pub const TIMING_MARK: u8 = 6;
