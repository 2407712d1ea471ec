//! What Prometheus is told: the datapath's counters, what is alive, and what the daemon has done.

mod cluster;
mod daemon;
mod datapath;
mod family;
pub mod http;
mod pools;
mod process;
mod source;
mod text;
mod transfers;

pub use self::{
    daemon::{Checks, Losses, Reloads, Repairs, Sweeps, Totals, names_of_daemon},
    datapath::{SessionStates, families, session_states},
    family::Family,
    source::Source,
    text::text,
    transfers::Transfers,
};
