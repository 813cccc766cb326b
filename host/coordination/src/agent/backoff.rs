//! How long to wait before the next attempt.

use std::time::Duration;

/// The first wait is at most this long.
const FIRST: Duration = Duration::from_millis(50);
/// No wait is longer: a coordinator that came back is found within this time.
const LONGEST: Duration = Duration::from_secs(2);

/// Doubles the wait with each failure, and draws a part of it, so that nodes do not come back all at once.
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST }
    }

    /// After a success.
    pub(super) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// How long to wait after a failure: between half and the whole of the step.
    pub(super) fn step(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(LONGEST);
        // Without random numbers all wait the same time, which is worse but not wrong.
        let part = getrandom::u32().unwrap_or(u32::MAX);
        step.mul_f64(0.5 + 0.5 * f64::from(part) / f64::from(u32::MAX))
    }

    /// Waits.
    pub(super) async fn wait(&mut self) {
        tokio::time::sleep(self.step()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_bound_and_begin_again() {
        let mut backoff = Backoff::new();
        let steps: Vec<Duration> = (0..12).map(|_| backoff.step()).collect();
        assert!(steps[0] >= FIRST / 2 && steps[0] <= FIRST);
        assert!(steps[11] >= LONGEST / 2 && steps[11] <= LONGEST);
        backoff.reset();
        assert!(backoff.step() <= FIRST);
    }
}
