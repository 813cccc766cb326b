//! How long to wait before trying again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The first wait: about a local fsync or two.
const DELAY_MIN: Duration = Duration::from_millis(10);
/// The longest wait: short beside the second that a group takes to elect another leader, which a client must not sleep
/// through; long enough not to load a node that is down.
const DELAY_MAX: Duration = Duration::from_millis(400);

/// Waits that double, each shortened by up to half at random, so that clients cut off together do not come back
/// together.
#[derive(Debug)]
pub(crate) struct Backoff {
    delay: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { delay: DELAY_MIN }
    }

    /// How long to wait now; the next wait is longer.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.same();
        self.delay = (self.delay * 2).min(DELAY_MAX);
        wait
    }

    /// How long to wait now; the next wait is no longer.
    pub(crate) fn same(&self) -> Duration {
        self.delay.mul_f64(0.5 + 0.5 * random())
    }

    /// It worked.
    pub(crate) fn reset(&mut self) {
        self.delay = DELAY_MIN;
    }
}

/// From 0 to 1. Every `RandomState` has new keys, which the standard library draws from the system's random numbers.
pub(crate) fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_start_again() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..20).map(|_| backoff.next()).collect();
        assert!(waits.iter().all(|wait| *wait >= DELAY_MIN / 2 && *wait <= DELAY_MAX));
        assert!(waits[19] >= DELAY_MAX / 2);
        backoff.reset();
        assert!(backoff.next() <= DELAY_MIN);
    }
}
