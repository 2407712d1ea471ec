//! The datapath's programs.

use aya::programs::TcAttachType;

/// The datapath's programs, by where they are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Program {
    /// What comes in from outside.
    WanIngress,
    /// What leaves for the outside.
    WanEgress,
    /// What comes from the inside.
    LanIngress,
    /// Data from outside, before the stack has it.
    WanXdp,
    /// Data from the inside, before the stack has it.
    LanXdp,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::WanIngress,
        Self::WanEgress,
        Self::LanIngress,
        Self::WanXdp,
        Self::LanXdp,
    ];

    /// Its name in the eBPF object.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WanIngress => "wan_ingress",
            Self::WanEgress => "wan_egress",
            Self::LanIngress => "lan_ingress",
            Self::WanXdp => "wan_xdp",
            Self::LanXdp => "lan_xdp",
        }
    }

    /// Whether it is XDP's: a shortcut, without which everything works.
    pub const fn is_xdp(self) -> bool {
        matches!(self, Self::WanXdp | Self::LanXdp)
    }

    /// Whether it is for the inside.
    pub const fn is_inside(self) -> bool {
        matches!(self, Self::LanIngress | Self::LanXdp)
    }

    /// The program of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|program| program.name() == name)
    }

    pub(super) const fn direction(self) -> TcAttachType {
        match self {
            Self::WanEgress => TcAttachType::Egress,
            Self::WanIngress | Self::LanIngress | Self::WanXdp | Self::LanXdp => {
                TcAttachType::Ingress
            }
        }
    }
}
