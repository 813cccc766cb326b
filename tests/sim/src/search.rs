//! Many seeds on all processors, with a line that says how far it is.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mortise_sim::Coverage;

use crate::{Arguments, describe, run_of};

/// How often the progress line is printed.
const PROGRESS: Duration = Duration::from_secs(2);

/// What all threads add to.
#[derive(Default)]
struct Sum {
    coverage: Coverage,
    runs: u64,
    steps: u64,
    simulated: u64,
    answered: (u64, u64),
    failed: u64,
}

/// Runs the seeds. Returns whether one of them failed.
pub(crate) fn search(arguments: &Arguments) -> bool {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, stop) = (AtomicU64::new(arguments.start), AtomicBool::new(false));
    let end = arguments.start.saturating_add(arguments.seeds);
    let sum = Mutex::new(Sum::default());
    let begun = Instant::now();
    let printed = Mutex::new(begun);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    one(arguments, seed, &sum, &stop);
                    progress(arguments, &sum, &printed, begun);
                }
            });
        }
    });
    let sum = sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    say(&sum, begun);
    if arguments.coverage {
        println!("{}", sum.coverage);
        println!("never happened: {}", sum.coverage.missing().join(", "));
    }
    sum.failed > 0
}

fn one(arguments: &Arguments, seed: u64, sum: &Mutex<Sum>, stop: &AtomicBool) {
    let run = run_of(arguments, seed);
    let report = mortise_sim::run(&run);
    let mut sum = sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    sum.coverage.add(&report.coverage);
    sum.runs += 1;
    sum.steps += report.steps;
    sum.simulated += report.simulated;
    sum.answered.0 += report.answered.0;
    sum.answered.1 += report.answered.1;
    if report.violation.is_some() {
        sum.failed += 1;
        let (what, scenario) = (describe(&report), report.scenario);
        println!("seed {seed}: {what} ({scenario})\n  repeat it with: {}", run.command());
        if !arguments.keep_going {
            stop.store(true, Ordering::Relaxed);
        }
    }
}

fn progress(arguments: &Arguments, sum: &Mutex<Sum>, printed: &Mutex<Instant>, begun: Instant) {
    let mut printed = printed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if printed.elapsed() < PROGRESS {
        return;
    }
    *printed = Instant::now();
    let sum = sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    eprint!("{} of {} seeds, {} failed, ", sum.runs, arguments.seeds, sum.failed);
    eprintln!("{:.0} seeds/s", sum.runs as f64 / begun.elapsed().as_secs_f64());
}

fn say(sum: &Sum, begun: Instant) {
    let (writes, reads) = sum.answered;
    println!(
        "{} seeds in {:.1} s: {} failed; {} steps, {:.0} simulated seconds, {writes} writes acknowledged, {reads} reads checked",
        sum.runs,
        begun.elapsed().as_secs_f64(),
        sum.failed,
        sum.steps,
        sum.simulated as f64 / 1e6,
    );
}
