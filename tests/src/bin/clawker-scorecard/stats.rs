//! Samples and what is said of them. Quantiles are nearest-rank: always a value that was seen.

use serde_json::{Value, json};

/// How many samples are printed at most; of more, so many order statistics.
const PRINTED: usize = 200;

/// Values of one kind, sorted.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest value that at least this share of the samples doesn't exceed; NaN without samples.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        let last = self.0.len().saturating_sub(1);
        self.0
            .get(rank.saturating_sub(1).min(last))
            .copied()
            .unwrap_or(f64::NAN)
    }

    pub fn p50(&self) -> f64 {
        self.quantile(0.5)
    }

    pub fn p99(&self) -> f64 {
        self.quantile(0.99)
    }

    /// `n 120, min 0.2, p50 0.3, p99 0.9, max 1.2`
    pub fn spread(&self) -> String {
        format!(
            "n {}, min {}, p50 {}, p99 {}, max {}",
            self.len(),
            short(self.quantile(0.0)),
            short(self.p50()),
            short(self.p99()),
            short(self.quantile(1.0))
        )
    }

    /// All of them, sorted, or evenly spaced ranks with the first and the last.
    pub fn printed(&self) -> Value {
        let n = self.0.len();
        let rounded = |value: &f64| json!((value * 10_000.0).round() / 10_000.0);
        if n <= PRINTED {
            return self.0.iter().map(rounded).collect();
        }
        (0..PRINTED)
            .map(|at| rounded(&self.0[at * (n - 1) / (PRINTED - 1)]))
            .collect()
    }
}

/// Three digits that count.
pub fn short(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let samples = Samples::of((1..=200).rev().map(f64::from).collect());
        assert_eq!((samples.quantile(0.0), samples.p50()), (1.0, 100.0));
        assert_eq!((samples.p99(), samples.quantile(1.0)), (198.0, 200.0));
        assert_eq!(Samples::of(vec![7.0]).p99(), 7.0);
        assert!(Samples::default().p50().is_nan());
    }

    #[test]
    fn many_samples_are_thinned_to_their_order_statistics() {
        let printed = Samples::of((0..100_000).map(f64::from).collect()).printed();
        let printed = printed.as_array().expect("a list");
        assert_eq!(printed.len(), PRINTED);
        assert_eq!(
            (printed[0].as_f64(), printed[PRINTED - 1].as_f64()),
            (Some(0.0), Some(99_999.0))
        );
    }
}
