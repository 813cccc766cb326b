//! How long to wait before the next attempt.

use std::time::Duration;

/// Doubles the wait with each failure, and draws a part of it, so that nodes do not come back all at once.
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, next: min }
    }

    /// After a success.
    pub(crate) fn reset(&mut self) {
        self.next = self.min;
    }

    /// How long to wait after a failure: between half and the whole of the step.
    fn step(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.max);
        // Without random numbers all wait the same time, which is worse but not wrong.
        let part = getrandom::u32().unwrap_or(u32::MAX);
        step.mul_f64(0.5 + 0.5 * f64::from(part) / f64::from(u32::MAX))
    }

    /// Waits.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.step()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_bound_and_begin_again() {
        let (min, max) = (Duration::from_millis(50), Duration::from_secs(2));
        let mut backoff = Backoff::new(min, max);
        let steps: Vec<Duration> = (0..12).map(|_| backoff.step()).collect();
        assert!(steps[0] >= min / 2 && steps[0] <= min);
        assert!(steps[1] >= min && steps[1] <= 2 * min);
        assert!(steps[11] >= max / 2 && steps[11] <= max);
        backoff.reset();
        assert!(backoff.step() <= min);
    }
}
