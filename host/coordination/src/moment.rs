//! Moments on a clock that goes on while the machine is suspended, as leases do.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Longest single sleep. Timers stand still while the machine is suspended, so a wait is cut into pieces of this
/// length: a deadline that passed meanwhile is noticed this late at most.
const SLICE: Duration = Duration::from_millis(500);

/// A moment of this machine's boot clock (`CLOCK_BOOTTIME`). Means nothing on another machine, or after a reboot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// The present.
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::Boottime);
        // The kernel gives no negative numbers for this clock.
        let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
        Self(Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0)))
    }

    /// The moment `time` later.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }

    /// The time from now until this moment; zero once it has come.
    pub fn remaining(self) -> Duration {
        self.0.saturating_sub(Self::now().0)
    }

    /// The time from `earlier` until this moment; zero if it was not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// Waits until this moment has come.
    pub async fn reached(self) {
        loop {
            match self.remaining() {
                Duration::ZERO => return,
                remaining => tokio::time::sleep(remaining.min(SLICE)).await,
            }
        }
    }
}
