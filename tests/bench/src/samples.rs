//! Measured values and their quantiles.

use std::time::Duration;

/// Values of one unit.
#[derive(Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Adds a time in microseconds, divided by `share`.
    pub(crate) fn add_us(&mut self, took: Duration, share: usize) {
        self.add(took.as_secs_f64() * 1e6 / share.max(1) as f64);
    }

    /// Takes in those of another measurement.
    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn p50(&self) -> f64 {
        self.quantile(0.50)
    }

    pub(crate) fn p99(&self) -> f64 {
        self.quantile(0.99)
    }

    /// The value that this part of all values does not exceed; not a number where there are none.
    fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = (sorted.len() as f64 * part).ceil() as usize;
        sorted.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let mut samples = Samples::default();
        (1..=200).rev().for_each(|value| samples.add(f64::from(value)));
        assert_eq!((samples.p50(), samples.p99()), (100.0, 198.0));
        assert!(Samples::default().p50().is_nan());
    }
}
