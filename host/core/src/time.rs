//! Log time: the only clock that a plugin's writes see. A leader stamps every entry with the larger of the
//! previous entry's time and its own clock, so log time never goes back, whatever clocks do.

/// Milliseconds since 1970-01-01 UTC, as recorded in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogTime(pub u64);

impl LogTime {
    /// The time of the next entry, given this entry's and the leader's clock.
    #[must_use]
    pub fn next(self, clock: LogTime) -> LogTime {
        self.max(clock)
    }

    /// Milliseconds from `earlier` to here; 0 where `earlier` is later.
    pub fn since(self, earlier: LogTime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_time_stands_still_while_the_clock_is_behind() {
        let time = LogTime(1000).next(LogTime(400));
        assert_eq!(time, LogTime(1000));
        assert_eq!(time.next(LogTime(1001)), LogTime(1001));
    }
}
