//! Transfers by server: how many, how they ended, and their bytes. Never by name.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use super::family::{Family, Kind};
use crate::model::transfer::{Action, Outcome, Transfer};

/// Servers that are told apart; the rest count as one.
const SERVERS: usize = 256;
/// That one's name.
const OTHERS: &str = "others";
/// Servers that are not behind this gateway.
const OUTSIDE: &str = "outside";

/// What was counted of a server and an action.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    outcomes: [u64; Outcome::ALL.len()],
    bytes: u64,
}

/// The transfers that this daemon has told.
#[derive(Debug, Default)]
pub struct Transfers(Mutex<BTreeMap<String, [Counts; Action::TRANSFERS.len()]>>);

impl Transfers {
    /// Counts one.
    pub fn note(&self, transfer: &Transfer) {
        let is_it = |action: &Action| *action == transfer.action;
        let Some(action) = Action::TRANSFERS.iter().position(is_it) else {
            return;
        };
        let server = match transfer.server {
            Some(server) => server.to_string(),
            None => OUTSIDE.to_owned(),
        };
        let mut servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = servers.contains_key(&server) || servers.len() < SERVERS;
        let server = if is_known { server } else { OTHERS.to_owned() };
        let counts = &mut servers.entry(server).or_default()[action];
        let outcome = Outcome::of(transfer.code);
        for (of, count) in Outcome::ALL.iter().zip(&mut counts.outcomes) {
            *count += u64::from(*of == outcome);
        }
        counts.bytes += transfer.bytes.unwrap_or(0);
    }

    pub(super) fn families(&self) -> Vec<Family> {
        let mut transfers = Family::new(
            "transfers_total",
            Kind::Counter,
            "Transfers that this daemon has told, by server, what was done, and how it ended",
        );
        let mut bytes = Family::new(
            "transfer_bytes_total",
            Kind::Counter,
            "Bytes of files and listings in those transfers, without headers and repetitions",
        );
        let mut servers = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        // Told from the start, so that the families are there.
        servers.entry(OUTSIDE.to_owned()).or_default();
        for (server, actions) in &servers {
            for (action, counts) in Action::TRANSFERS.iter().zip(actions) {
                let labels = [("server", server.as_str()), ("action", action.name())];
                if server != OUTSIDE && counts.outcomes.iter().sum::<u64>() == 0 {
                    continue;
                }
                for (outcome, count) in Outcome::ALL.iter().zip(counts.outcomes) {
                    let [server, action] = labels;
                    transfers.add(&[server, action, ("outcome", outcome.name())], count as f64);
                }
                bytes.add(&labels, counts.bytes as f64);
            }
        }
        vec![transfers, bytes]
    }
}
