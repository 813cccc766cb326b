//! Log time.

use mortise_core::time::LogTime;
use proptest::prelude::*;

use crate::generate::{fixed, number};

proptest! {
    #![proptest_config(fixed(300))]

    #[test]
    fn log_time_never_goes_back_and_never_stays_behind_the_clock(last in number(), clock in number()) {
        let next = LogTime(last).next(LogTime(clock));
        prop_assert!(next >= LogTime(last) && next >= LogTime(clock));
        prop_assert!(next == LogTime(last) || next == LogTime(clock));
    }
}

#[test]
fn nothing_has_passed_since_a_later_time() {
    assert_eq!(LogTime(5).since(LogTime(3)), 2);
    assert_eq!(LogTime(3).since(LogTime(5)), 0);
    assert_eq!(LogTime(u64::MAX).since(LogTime(0)), u64::MAX);
}
