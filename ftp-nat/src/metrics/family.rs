//! Metrics of one name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What kind of number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It comes and goes.
    Gauge,
}

/// A number and what tells it from the others of its family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Label names and values.
    pub labels: BTreeMap<String, String>,
    /// The number.
    pub value: f64,
}

/// Numbers of one name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Family {
    /// The name.
    pub name: String,
    /// What kind of numbers.
    pub kind: Kind,
    /// What they mean.
    pub help: String,
    /// The numbers.
    pub samples: Vec<Sample>,
}

impl Family {
    pub(super) fn new(name: &str, kind: Kind, help: &str) -> Self {
        Self {
            name: format!("ftp_nat_{name}"),
            kind,
            help: help.to_owned(),
            samples: Vec::new(),
        }
    }

    pub(super) fn with(mut self, labels: &[(&str, &str)], value: f64) -> Self {
        self.add(labels, value);
        self
    }

    pub(super) fn add(&mut self, labels: &[(&str, &str)], value: f64) {
        let labels = labels
            .iter()
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        self.samples.push(Sample { labels, value });
    }
}
