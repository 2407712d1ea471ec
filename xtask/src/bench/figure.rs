//! Numbers with their unit and all runs that they come from.

use serde_json::{Value, json};

/// One thing measured several times.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// Its key in the JSON, dotted: `packets.redirect`.
    pub(crate) key: String,
    /// Its unit.
    pub(crate) unit: &'static str,
    /// Every run's value, in the order of the runs.
    pub(crate) runs: Vec<f64>,
}

impl Figure {
    /// A figure without runs yet.
    pub(crate) fn new(key: impl Into<String>, unit: &'static str) -> Self {
        Self {
            key: key.into(),
            unit,
            runs: Vec::new(),
        }
    }

    /// A figure of these runs.
    pub(crate) fn of(key: impl Into<String>, unit: &'static str, runs: Vec<f64>) -> Self {
        Self {
            runs,
            ..Self::new(key, unit)
        }
    }

    /// The value in the middle.
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[n / 2],
            n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
        }
    }

    /// The least value.
    pub(crate) fn least(&self) -> f64 {
        self.runs.iter().copied().fold(f64::NAN, f64::min)
    }

    /// The greatest value.
    pub(crate) fn most(&self) -> f64 {
        self.runs.iter().copied().fold(f64::NAN, f64::max)
    }

    /// Half the distance between least and greatest, in percent of the median.
    pub(crate) fn spread(&self) -> f64 {
        match self.median() {
            0.0 => 0.0,
            median => (self.most() - self.least()) / 2.0 / median.abs() * 100.0,
        }
    }

    /// How many times another figure it is, turn by turn: what disturbed a turn disturbed both.
    pub(crate) fn to(&self, other: &Self) -> Self {
        let turns = self.runs.iter().zip(&other.runs).map(|(a, b)| a / b);
        Self::of(
            format!("{} / {}", self.key, other.key),
            "times",
            turns.collect(),
        )
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.runs.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// For the JSON.
    pub(crate) fn json(&self) -> Value {
        json!({
            "unit": self.unit,
            "median": round(self.median()),
            "min": round(self.least()),
            "max": round(self.most()),
            "spread_percent": round(self.spread()),
            "runs": self.runs.len(),
            "values": self.runs.iter().copied().map(round).collect::<Vec<_>>(),
        })
    }
}

/// Four significant digits, or all before the point: the rest is noise.
pub(crate) fn round(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = (3 - value.abs().log10().floor() as i32).max(0);
    let factor = 10_f64.powi(digits);
    (value * factor).round() / factor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_and_the_spread_about_it() {
        let figure = Figure::of("f", "ns", vec![90.0, 100.0, 120.0]);
        assert_eq!(figure.median(), 100.0);
        assert_eq!(figure.spread(), 15.0);
        assert_eq!(Figure::of("f", "ns", vec![1.0, 2.0]).median(), 1.5);
    }

    #[test]
    fn a_ratio_is_taken_turn_by_turn() {
        let of = Figure::of("a", "ns", vec![2.0, 200.0, 3.0]);
        let to = Figure::of("b", "ns", vec![1.0, 100.0, 1.0]);
        assert_eq!(of.to(&to).median(), 2.0);
    }

    #[test]
    fn four_digits_remain() {
        for (value, rounded) in [
            (123_456.7, 123_457.0),
            (1.234_56, 1.235),
            (0.001_234_56, 0.001_235),
        ] {
            assert_eq!(round(value), rounded);
        }
    }
}
