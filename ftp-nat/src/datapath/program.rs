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
    /// What comes in from outside without an Ethernet header.
    WanIngressL3,
    /// What leaves for the outside without one.
    WanEgressL3,
    /// What comes from the inside without one.
    LanIngressL3,
    /// Data from outside, before the stack has it.
    WanXdp,
    /// Data from the inside, before the stack has it.
    LanXdp,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::WanIngress,
        Self::WanEgress,
        Self::LanIngress,
        Self::WanIngressL3,
        Self::WanEgressL3,
        Self::LanIngressL3,
        Self::WanXdp,
        Self::LanXdp,
    ];

    /// Its name in the eBPF object.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WanIngress => "wan_ingress",
            Self::WanEgress => "wan_egress",
            Self::LanIngress => "lan_ingress",
            Self::WanIngressL3 => "wan_ingress_l3",
            Self::WanEgressL3 => "wan_egress_l3",
            Self::LanIngressL3 => "lan_ingress_l3",
            Self::WanXdp => "wan_xdp",
            Self::LanXdp => "lan_xdp",
        }
    }

    /// Those of TC for an outside interface, whose packets have an Ethernet header or not.
    pub const fn outside(ethernet: bool) -> [Self; 2] {
        if ethernet {
            [Self::WanIngress, Self::WanEgress]
        } else {
            [Self::WanIngressL3, Self::WanEgressL3]
        }
    }

    /// That of TC for an inside interface.
    pub const fn inside(ethernet: bool) -> Self {
        if ethernet {
            Self::LanIngress
        } else {
            Self::LanIngressL3
        }
    }

    /// Whether it is XDP's: a shortcut, without which everything works.
    pub const fn is_xdp(self) -> bool {
        matches!(self, Self::WanXdp | Self::LanXdp)
    }

    /// Whether it is for the inside.
    pub const fn is_inside(self) -> bool {
        matches!(self, Self::LanIngress | Self::LanIngressL3 | Self::LanXdp)
    }

    /// The program of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|program| program.name() == name)
    }

    pub(super) const fn direction(self) -> TcAttachType {
        match self {
            Self::WanEgress | Self::WanEgressL3 => TcAttachType::Egress,
            _ => TcAttachType::Ingress,
        }
    }
}
