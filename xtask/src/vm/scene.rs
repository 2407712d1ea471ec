//! What is run in a machine: which tests of which test program.

use std::time::Duration;

use clap::ValueEnum;

use super::kernel::Choice;

/// A scene as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Scene {
    /// Every program loads, at what cost, and attaches
    Load,
    /// Packet in, packet out: every fixture of the datapath
    Packets,
    /// PASV, EPSV, PORT and EPRT by IPv4 and IPv6 with every client, servers and clients behind it
    Modes,
    /// The gateway's life: redirect, stack and XDP, kill -9, unload, who may enter
    Gateway,
    /// Clients behind the gateway in active mode
    Masquerade,
    /// VLANs, bonds, network cards with XDP, a flowtable beside us, frames of many sizes
    Networks,
    /// Packets lost, overtaken, doubled and late
    Impaired,
    /// On a kernel that lacks what ftp-nat needs, `run` and `doctor` name it: only with `--kernel 5.10`
    Lacking,
    /// WireGuard and PPPoE as WAN and as LAN: with programs that the others do not need, so only when it is named
    Tunnels,
}

impl Scene {
    /// Those that are run unless some are named.
    pub(crate) fn usual() -> Vec<Self> {
        let all = Self::value_variants().iter().copied();
        all.filter(|scene| !matches!(scene, Self::Tunnels | Self::Lacking))
            .collect()
    }

    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether it needs the daemon and real servers.
    pub(crate) const fn needs_lab(self) -> bool {
        !matches!(self, Self::Load | Self::Packets)
    }

    /// The test program, as Cargo calls it.
    pub(crate) const fn program(self) -> &'static str {
        match self {
            Self::Load => "kernel",
            Self::Packets => "datapath",
            Self::Modes => "matrix",
            Self::Gateway => "gateway",
            Self::Masquerade => "masquerade",
            Self::Networks | Self::Tunnels => "networks",
            Self::Impaired => "impaired",
            Self::Lacking => "lacking",
        }
    }

    /// Which of its tests: parts of their names. All when there are none.
    pub(crate) const fn tests(self) -> &'static [&'static str] {
        match self {
            // The other servers show no more of a kernel.
            Self::Modes => &["vsftpd"],
            Self::Tunnels => &["wireguard", "pppoe"],
            _ => &[],
        }
    }

    /// The test program's options.
    pub(crate) const fn options(self, kernel: Choice) -> &'static [&'static str] {
        match self {
            // Half a million segments, which an emulated machine takes minutes for.
            Self::Packets => &["--skip", "differential"],
            Self::Networks => &[
                "--include-ignored",
                "--skip",
                "wireguard",
                "--skip",
                "pppoe",
            ],
            Self::Tunnels | Self::Impaired | Self::Lacking => &["--ignored"],
            // TCX came with Linux 6.6. Before 6.3 no veth can be known to send XDP's frames: there
            // network cards show XDP.
            Self::Gateway if kernel.is_6_1() => &[
                "--skip",
                "what_tcx_attached",
                "--skip",
                "data_goes_by_xdp",
                "--skip",
                "what_cannot_be_sent_by_xdp",
            ],
            Self::Load | Self::Modes | Self::Gateway | Self::Masquerade => &[],
        }
    }

    /// How long it may take in a machine, on a host that is at other work too.
    pub(crate) const fn limit(self) -> Duration {
        match self {
            Self::Load => Duration::from_secs(400),
            Self::Gateway | Self::Networks | Self::Impaired => Duration::from_secs(1500),
            _ => Duration::from_secs(600),
        }
    }
}
