//! TCP's header (RFC 9293 section 3.1).

/// Bits of the header's flags byte.
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;
}

/// Offsets of fields in the header, in bytes.
pub mod offset {
    /// Sequence number.
    pub const SEQ: u32 = 4;
    /// Acknowledgement number.
    pub const ACK: u32 = 8;
    /// Data offset and flags, a 16-bit word.
    pub const OFFSET_FLAGS: u32 = 12;
    /// Checksum.
    pub const CHECKSUM: u32 = 16;
    /// Urgent pointer.
    pub const URGENT: u32 = 18;
    /// Options; the length of a header without any.
    pub const OPTIONS: u32 = 20;
}
