//! How far a figure could go at most: what is left if all that ftp-nat does itself cost nothing, but
//! for its calls into the kernel's hash tables.
//!
//! All numbers are of the same run.

use super::results::{Line, Results};

/// What an opening needs at least: an entry for what is announced and two for the connection, put in
/// and taken out again, ...
const ENTRIES: f64 = 3.0;
/// ... and lookups: one for each packet, the session for PASV and 227, and for the SYN what was
/// announced.
const LOOKUPS: f64 = PACKETS + 3.0;
/// PASV, 227, SYN, SYN+ACK, ACK, the data with the server's FIN, the client's FIN and the last ACK.
const PACKETS: f64 = 8.0;

/// A figure and its bound.
pub(crate) struct Floor<'r> {
    /// The figure, as it was measured.
    pub(crate) line: &'r Line,
    /// What it could be at best.
    pub(crate) best: f64,
    /// What the bound is made of.
    pub(crate) why: &'static str,
}

/// The bounds that can be told from what was measured.
pub(crate) fn floors(results: &Results) -> Vec<Floor<'_>> {
    let median = |key: &str| results.find(key).map(super::figure::Figure::median);
    let nanoseconds = |key: &str| median(key).map(|a_second| 1e9 / a_second);
    let table = |call: &str| median(&format!("table.preallocated.{call}"));
    // What a lookup takes longer if nothing of it is in a cache.
    let cold = || Some(table("lookup.1m")? - table("lookup.1k")?);
    let spared = || {
        let of = |router: &str| median(&format!("packets.{router}.router_ns"));
        Some(of("plain")? - of("redirect")?)
    };
    let opening = || {
        let calls = ENTRIES * (table("insert")? + table("delete")?) + LOOKUPS * table("lookup.1k")?;
        Some(nanoseconds("openings.plain")? - PACKETS * spared()? + calls)
    };
    let at_random = |router: &str| Some(median(&format!("packets.{router}.router_ns"))? + cold()?);
    let bounds: [(&str, Option<f64>, &str); 6] = [
        (
            "openings_to_plain",
            (|| Some(nanoseconds("openings.plain")? / opening()?))(),
            "the time of plain forwarding, less what redirect spares for each packet, and the calls",
        ),
        (
            "openings_to_kernel_helper",
            (|| Some(nanoseconds("openings.kernel_helper")? / opening()?))(),
            "the same",
        ),
        (
            "random_1m_to_kernel",
            (|| Some(nanoseconds("random_1m.kernel_helper")? / at_random("redirect")?))(),
            "what a packet takes of the router that finds all in the caches, and one cold lookup",
        ),
        (
            "random_1m_xdp_to_kernel",
            (|| Some(nanoseconds("random_1m.kernel_helper")? / at_random("xdp")?))(),
            "the same",
        ),
        (
            "data_hit_1m_random_to_1k_random",
            (|| {
                let hot = median("ns.data_hit_random.1k")?;
                Some((hot + cold()?) / hot)
            })(),
            "the program that finds all in the caches, and one cold lookup",
        ),
        (
            "rewrite_227_to_plain_packet",
            (|| {
                let calls = table("insert")? + 2.0 * table("lookup.1k")?;
                Some(calls / median("packets.plain.router_ns")?)
            })(),
            "an entry put in, the flow and the session found",
        ),
    ];
    bounds
        .into_iter()
        .filter_map(|(key, best, why)| {
            Some(Floor {
                line: results.ratios.iter().find(|line| line.key == key)?,
                best: best?,
                why,
            })
        })
        .collect()
}
