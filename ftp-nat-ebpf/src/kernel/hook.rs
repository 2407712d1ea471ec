//! Where a program is attached, and what it may answer.

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use ftp_nat_common::abi::side;

/// TC's verdict: the packet goes on as it would without this program, to the next one.
pub const NEXT: i32 = TC_ACT_UNSPEC;
/// TC's verdict: the packet goes no further.
pub const DROP: i32 = TC_ACT_SHOT;

/// What the station is told of a packet that leaves by an interface without an Ethernet header, beside
/// the numbers of [`Hook`]: it has got one that must not leave with it.
pub const WAN_EGRESS_BARE: u32 = 3;

/// Where a program is attached.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// Coming in from outside.
    WanIngress = 0,
    /// Leaving for the outside.
    WanEgress = 1,
    /// Coming from the inside.
    LanIngress = 2,
}

impl Hook {
    /// From its number, as it is handed to global functions and between programs.
    #[inline(always)]
    pub(crate) const fn of(number: u32) -> Self {
        match number {
            0 => Self::WanIngress,
            1 | WAN_EGRESS_BARE => Self::WanEgress,
            _ => Self::LanIngress,
        }
    }

    /// Which way packets at this hook go: [`side`].
    #[inline(always)]
    pub const fn side(self) -> u32 {
        match self {
            Self::WanIngress => side::INBOUND,
            _ => side::OUTBOUND,
        }
    }
}
