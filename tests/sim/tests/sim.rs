//! Runs of the simulation that belong to every test run. `cargo xtask sim` runs more of them.

use std::sync::atomic::{AtomicU64, Ordering};

use mortise_sim::{Coverage, Run, Seldom, Tracing, run};

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
            let asked = Run::of(seed);
            let report = run(&asked);
            if let Some(violation) = report.violation {
                panic!(
                    "seed {seed} ({}) breaks {}: {}\nrepeat it with: {}",
                    report.scenario,
                    violation.rule,
                    violation.what,
                    asked.command()
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
fn what_the_world_counts_is_listed_whole() {
    let source = include_str!("../src/coverage.rs");
    let body = source.split("pub enum Seldom {").nth(1).and_then(|rest| rest.split("\n}").next());
    let variants = body.into_iter().flat_map(str::lines).filter(|line| line.ends_with(',')).count();
    assert!(variants > 20);
    assert_eq!(Seldom::ALL.len(), variants);
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
