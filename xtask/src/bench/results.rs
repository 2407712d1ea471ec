//! All that was measured, and what it is held against.

use anyhow::ensure;
use serde_json::{Map, Value, json};

use super::{
    figure::{Figure, round},
    machine::Machine,
};

/// What a number shall be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Reach {
    AtLeast(f64),
    AtMost(f64),
    /// It is of interest only.
    Nothing,
}

impl Reach {
    /// In words, and whether a number reaches it.
    pub(crate) fn judge(self, number: f64) -> (String, &'static str) {
        let verdict = |reached| if reached { "yes" } else { "**no**" };
        match self {
            Self::AtLeast(limit) => (format!("at least {limit}"), verdict(number >= limit)),
            Self::AtMost(limit) => (format!("at most {limit}"), verdict(number <= limit)),
            Self::Nothing => (String::new(), ""),
        }
    }
}

/// A ratio to be formed: its key, what it says, the two figures, what it shall be.
type Wanted = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Reach,
);

/// All ratios, in the order of the table.
const RATIOS: [Wanted; 22] = [
    (
        "xdp_to_kernel_helper_pps",
        "packets/s: XDP to nftables + kernel helper",
        "packets.xdp",
        "packets.kernel_helper",
        Reach::AtLeast(4.0),
    ),
    (
        "xdp_to_plain_pps",
        "packets/s: XDP to plain forwarding",
        "packets.xdp",
        "packets.plain",
        Reach::AtLeast(2.6),
    ),
    (
        "redirect_to_plain_pps",
        "packets/s: redirect to plain forwarding",
        "packets.redirect",
        "packets.plain",
        Reach::AtLeast(1.05),
    ),
    (
        "redirect_to_kernel_helper_pps",
        "packets/s: redirect to nftables + kernel helper",
        "packets.redirect",
        "packets.kernel_helper",
        Reach::AtLeast(1.7),
    ),
    (
        "openings_to_kernel_helper",
        "new data connections/s: redirect to nftables + kernel helper",
        "openings.redirect",
        "openings.kernel_helper",
        Reach::AtLeast(2.2),
    ),
    (
        "openings_to_plain",
        "new data connections/s: redirect to plain forwarding",
        "openings.redirect",
        "openings.plain",
        Reach::AtLeast(0.85),
    ),
    (
        "openings_shared_to_alone",
        "the same: redirect that shares its sessions with other gateways to redirect alone",
        "openings.shared",
        "openings.redirect",
        Reach::AtLeast(0.9),
    ),
    (
        "transfers_to_routed",
        "small files/s of one session, vsftpd and ftplib on one CPU: redirect to plain forwarding",
        "transfers.redirect",
        "transfers.plain",
        Reach::AtLeast(0.98),
    ),
    (
        "transfers_to_kernel_helper",
        "the same: redirect to nftables + kernel helper",
        "transfers.redirect",
        "transfers.kernel_helper",
        Reach::Nothing,
    ),
    (
        "random_1m_to_kernel",
        "packets/s of a million connections, at random: redirect to nftables NAT",
        "random_1m.redirect",
        "random_1m.kernel_helper",
        Reach::AtLeast(2.0),
    ),
    (
        "random_1m_xdp_to_kernel",
        "the same: XDP to nftables NAT",
        "random_1m.xdp",
        "random_1m.kernel_helper",
        Reach::AtLeast(4.0),
    ),
    (
        "syn_flood_to_plain",
        "SYNs/s of invented sources, refused or kept: redirect to plain forwarding",
        "syn_flood.redirect",
        "syn_flood.plain",
        Reach::AtLeast(0.8),
    ),
    (
        "rewrite_227_to_plain_packet",
        "a 227 rewritten, in plainly forwarded packets",
        "ns.rewrite_227.1k",
        "packets.plain.router_ns",
        Reach::AtMost(3.0),
    ),
    (
        "bulk_to_plain",
        "bulk throughput of 16 streams, which fill the machine: redirect to plain forwarding",
        "bulk.redirect.16.offload",
        "bulk.plain.16.offload",
        Reach::AtLeast(1.0),
    ),
    (
        "bulk_to_plain_1_stream",
        "the same of one stream, which leaves half of it idle",
        "bulk.redirect.1.offload",
        "bulk.plain.1.offload",
        Reach::Nothing,
    ),
    (
        "data_hit_1m_to_1k",
        "ns of a data packet: 1M connections to 1k, packets of one connection",
        "ns.data_hit.1m",
        "ns.data_hit.1k",
        Reach::AtMost(1.3),
    ),
    (
        "data_hit_1m_random_to_1k_random",
        "the same, every packet of another connection, at random",
        "ns.data_hit_random.1m",
        "ns.data_hit_random.1k",
        Reach::AtMost(5.0),
    ),
    (
        "xdp_to_kernel_helper_pps_counted",
        "packets/s with generator and sink: XDP to nftables + kernel helper",
        "packets.xdp.counted",
        "packets.kernel_helper.counted",
        Reach::Nothing,
    ),
    (
        "xdp_to_plain_pps_counted",
        "packets/s with generator and sink: XDP to plain forwarding",
        "packets.xdp.counted",
        "packets.plain.counted",
        Reach::Nothing,
    ),
    (
        "alone_to_plain_pps_counted",
        "generator and sink alone to plain forwarding: no router could do more",
        "packets.alone.counted",
        "packets.plain.counted",
        Reach::Nothing,
    ),
    (
        "redirect_to_plain_pps_counted",
        "packets/s with generator and sink: redirect to plain forwarding",
        "packets.redirect.counted",
        "packets.plain.counted",
        Reach::Nothing,
    ),
    (
        "redirect_to_kernel_helper_pps_counted",
        "packets/s with generator and sink: redirect to nftables + kernel helper",
        "packets.redirect.counted",
        "packets.kernel_helper.counted",
        Reach::Nothing,
    ),
];

/// What a packet may cost: the key in the JSON's `ns`, what it is, and how much.
const NANOSECONDS: [(&str, &str, Reach); 11] = [
    ("not_ip", "not IP", Reach::Nothing),
    ("udp", "UDP", Reach::AtMost(5.0)),
    ("tcp_not_ours", "TCP that is not ours", Reach::AtMost(12.0)),
    (
        "control_no_news",
        "control segment without news",
        Reach::Nothing,
    ),
    ("control_untold", "RETR that is not told", Reach::Nothing),
    ("control_told", "RETR that is told", Reach::Nothing),
    ("rewrite_227", "227 rewritten", Reach::AtMost(2000.0)),
    (
        "data_hit",
        "data packet, inbound, port preserved",
        Reach::AtMost(100.0),
    ),
    ("data_hit_outbound", "data packet, outbound", Reach::Nothing),
    ("xdp_data_hit", "XDP: data packet, inbound", Reach::Nothing),
    (
        "xdp_tcp_not_ours",
        "XDP: TCP that is not ours",
        Reach::Nothing,
    ),
];

/// A line of a table of what was aimed at.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Its key in the JSON.
    pub(crate) key: &'static str,
    /// What it says.
    pub(crate) what: &'static str,
    /// The number of every run.
    pub(crate) figure: Figure,
    /// What it shall be.
    pub(crate) reach: Reach,
}

/// The results of one run.
pub(crate) struct Results {
    /// Everything as it was measured.
    pub(crate) figures: Vec<Figure>,
    /// Ratios.
    pub(crate) ratios: Vec<Line>,
    /// Nanoseconds a packet.
    pub(crate) nanoseconds: Vec<Line>,
    /// Where.
    pub(crate) machine: Machine,
    /// Whether it was only a try, whose numbers mean nothing.
    pub(crate) smoke: bool,
}

impl Results {
    /// From what was measured on this machine.
    pub(crate) fn new(figures: Vec<Figure>, smoke: bool) -> Self {
        let find = |key: &str| figures.iter().find(|figure| figure.key == key);
        let ratios = RATIOS
            .iter()
            .filter_map(|(key, what, of, to, reach)| {
                Some(Line {
                    key,
                    what,
                    figure: find(of)?.to(find(to)?),
                    reach: *reach,
                })
            })
            .collect();
        let nanoseconds = NANOSECONDS
            .iter()
            .filter_map(|(key, what, reach)| {
                Some(Line {
                    key,
                    what,
                    figure: find(&format!("ns.{key}.1k"))?.clone(),
                    reach: *reach,
                })
            })
            .collect();
        Self {
            ratios,
            nanoseconds,
            machine: Machine::this(),
            smoke,
            figures,
        }
    }

    /// Sees that every figure has runs, and all of them numbers.
    ///
    /// # Errors
    ///
    /// Which one has not.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        for figure in &self.figures {
            ensure!(
                !figure.runs.is_empty() && figure.runs.iter().all(|run| run.is_finite()),
                "{} was not measured: {:?}",
                figure.key,
                figure.runs
            );
        }
        Ok(())
    }

    /// A figure by its key.
    pub(crate) fn find(&self, key: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.key == key)
    }

    /// Everything: `ratios` and `ns` are medians, `figures` has every run of everything.
    pub(crate) fn json(&self) -> Value {
        let medians = |lines: &[Line]| -> Value {
            lines
                .iter()
                .map(|line| (line.key.to_owned(), json!(round(line.figure.median()))))
                .collect::<Map<_, _>>()
                .into()
        };
        let mut figures: Map<String, Value> = self
            .figures
            .iter()
            .map(|figure| (figure.key.clone(), figure.json()))
            .collect();
        for line in &self.ratios {
            figures.insert(format!("ratios.{}", line.key), line.figure.json());
        }
        json!({
            "smoke": self.smoke,
            "ratios": medians(&self.ratios),
            "ns": medians(&self.nanoseconds),
            "figures": figures,
            "machine": self.machine.json(),
        })
    }
}
