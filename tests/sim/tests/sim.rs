//! Runs of the simulation that belong to every test run. `cargo xtask sim` runs more of them.

use std::sync::atomic::{AtomicU64, Ordering};

use mortise_sim::{Coverage, Run, Tracing, run};

/// Seeds of an ordinary test run.
const SEEDS: u64 = 500;

/// Runs seeds on two threads and adds up what they met.
fn run_all(seeds: u64) -> Coverage {
    let next = AtomicU64::new(0);
    let work = || {
        let mut coverage = Coverage::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return coverage;
            }
            let report = run(&Run::of(seed));
            if let Some(violation) = report.violation {
                panic!(
                    "seed {seed} ({}) breaks {}: {}\nrepeat it with: cargo xtask sim --start {seed} --seeds 1 --trace",
                    report.scenario, violation.rule, violation.what
                );
            }
            coverage.add(&report.coverage);
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(work);
        let mut coverage = work();
        match other.join() {
            Ok(others) => coverage.add(&others),
            Err(panic) => std::panic::resume_unwind(panic),
        }
        coverage
    })
}

#[test]
fn no_seed_breaks_a_rule_and_everything_rare_happens() {
    let coverage = run_all(SEEDS);
    println!("{coverage}");
    let missing = coverage.missing();
    assert!(missing.is_empty(), "never happened in {SEEDS} seeds: {missing:?}");
}

#[test]
fn a_seed_gives_the_same_history_every_time() {
    for seed in 0..20 {
        let digest = || {
            let report = run(&Run { tracing: Tracing::Digest, ..Run::of(seed) });
            (report.digest, report.steps, report.coverage)
        };
        assert_eq!(digest(), digest(), "seed {seed}");
    }
    let other = |seed| run(&Run { tracing: Tracing::Digest, ..Run::of(seed) }).digest;
    assert_ne!(other(0), other(1));
}
