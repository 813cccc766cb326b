//! A timer that is set seldom.

use std::pin::Pin;

use tokio::time::{Instant, Sleep, sleep_until};

/// Rings at a moment that moves all the time, mostly away: it is set anew only where it must ring earlier, or has rung.
/// Setting a timer takes locks, which would cost a pipeline more than the rest of a turn. So it may ring too early, and
/// whoever hears it looks at the clock.
#[derive(Debug)]
pub(super) struct Alarm {
    sleep: Pin<Box<Sleep>>,
    /// It has rung since it was set.
    rung: bool,
}

impl Alarm {
    pub(super) fn new() -> Self {
        Self { sleep: Box::pin(sleep_until(Instant::now())), rung: true }
    }

    /// Waits until `at`, or not quite so long; `None`: for ever. Cancellation changes nothing.
    pub(super) async fn ring(&mut self, at: Option<Instant>) {
        let Some(at) = at else { return std::future::pending().await };
        if self.rung || at < self.sleep.deadline() {
            self.sleep.as_mut().reset(at);
            self.rung = false;
        }
        self.sleep.as_mut().await;
        self.rung = true;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn it_rings_in_time_early_where_it_was_set_earlier_and_never_late() {
        let (mut alarm, begun) = (Alarm::new(), Instant::now());
        alarm.ring(Some(begun + 3 * SECOND)).await;
        assert_eq!(begun.elapsed(), 3 * SECOND);
        // Given up, and moved away: it rings when it was set to first, and then in time.
        let waited = tokio::time::timeout(SECOND, alarm.ring(Some(begun + 6 * SECOND))).await;
        assert!(waited.is_err());
        alarm.ring(Some(begun + 9 * SECOND)).await;
        assert_eq!(begun.elapsed(), 6 * SECOND);
        alarm.ring(Some(begun + 9 * SECOND)).await;
        assert_eq!(begun.elapsed(), 9 * SECOND);
        // Moved closer.
        assert!(tokio::time::timeout(SECOND, alarm.ring(Some(begun + 30 * SECOND))).await.is_err());
        alarm.ring(Some(begun + 11 * SECOND)).await;
        assert_eq!(begun.elapsed(), 11 * SECOND);
        assert!(tokio::time::timeout(SECOND, alarm.ring(None)).await.is_err());
    }
}
