//! Prometheus' text format.

use anyhow::Context as _;
use prometheus::{
    TextEncoder,
    proto::{Counter as ProtoCounter, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};

use super::family::{Family, Kind};

/// The families in Prometheus' text format. One that has no number yet is left out: of another gateway, say,
/// that was not heard of.
///
/// # Errors
///
/// When the encoder refuses a family.
pub fn text(families: &[Family]) -> anyhow::Result<String> {
    let with_numbers = families.iter().filter(|it| !it.samples.is_empty());
    let families: Vec<_> = with_numbers.map(encoded).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_without_a_number_is_left_out() {
        let empty = Family::new("cluster_lag_seconds", Kind::Gauge, "Of gateways");
        let full = Family::new("cluster_ready", Kind::Gauge, "Whether").with(&[], 1.0);
        let shown = text(&[empty, full]).unwrap();
        assert!(shown.contains("ftp_nat_cluster_ready 1"), "{shown}");
        assert!(!shown.contains("lag"), "{shown}");
    }
}
