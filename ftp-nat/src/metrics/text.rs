//! Prometheus' text format.

use anyhow::Context as _;
use prometheus::{
    TextEncoder,
    proto::{Counter as ProtoCounter, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};

use super::family::{Family, Kind};

/// The families in Prometheus' text format.
///
/// # Errors
///
/// When the encoder finds a family without a number.
pub fn text(families: &[Family]) -> anyhow::Result<String> {
    let families: Vec<_> = families.iter().map(encoded).collect();
    TextEncoder::new()
        .encode_to_string(&families)
        .context("cannot write the metrics")
}

fn encoded(family: &Family) -> MetricFamily {
    let mut encoded = MetricFamily::default();
    encoded.set_name(family.name.clone());
    encoded.set_help(family.help.clone());
    encoded.set_field_type(match family.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
    });
    let metrics = family.samples.iter().map(|sample| {
        let labels = sample.labels.iter().map(|(name, value)| {
            let mut label = LabelPair::default();
            label.set_name(name.clone());
            label.set_value(value.clone());
            label
        });
        let mut metric = Metric::from_label(labels.collect());
        match family.kind {
            Kind::Counter => {
                let mut counter = ProtoCounter::default();
                counter.set_value(sample.value);
                metric.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(sample.value);
                metric.set_gauge(gauge);
            }
        }
        metric
    });
    encoded.set_metric(metrics.collect());
    encoded
}
