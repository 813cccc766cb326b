//! `cargo xtask model`: searches the configurations, larger than the test suite does where asked to.

use std::process::ExitCode;

use clap::Parser;
use mortise_model::configurations;
use mortise_model::coverage::RARE;
use mortise_model::search::{Progress, Report, search};

/// Searches small groups of real replicas exhaustively for broken invariants
#[derive(Parser)]
#[command(name = "cargo xtask model", bin_name = "cargo xtask model")]
struct Arguments {
    /// How large: 1 is what the test suite searches, each number more lets everything happen once more
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=20))]
    bounds: u8,
    /// Only this configuration; may be given several times
    #[arg(long)]
    only: Vec<String>,
    /// Puts one rule of the core out of force, in the configuration that notices
    #[arg(long)]
    mutant: Option<String>,
    /// Threads of a search; more than one is faster, and no longer finds the shortest trace first
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    threads: u8,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let all = configurations::all();
    if let Some(name) = arguments.only.iter().find(|name| !all.iter().any(|bounds| bounds.name == **name)) {
        let names: Vec<&str> = all.iter().map(|bounds| bounds.name).collect();
        eprintln!("no configuration is called {name}; there are {}", names.join(", "));
        return ExitCode::FAILURE;
    }
    if let Some(wanted) = &arguments.mutant {
        for (mutant, name) in configurations::MUTANTS {
            if *wanted == format!("{mutant:?}") || wanted == "all" {
                let bounds = configurations::named(arguments.only.first().map_or(name, |s| s.as_str())).unwrap().mutant(*mutant);
                let report = search(bounds, 1, |_| {});
                println!("MUTANT {mutant:?}");
                conclude(name, &report);
            }
        }
        return ExitCode::SUCCESS;
    }
    let wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    let mut broken = false;
    for bounds in all.into_iter().filter(|bounds| wanted(bounds.name)) {
        let name = bounds.name;
        let bounds = bounds.enlarged(arguments.bounds - 1);
        let report = search(bounds, usize::from(arguments.threads), |progress| tell(name, &progress));
        conclude(name, &report);
        broken |= !report.violations.is_empty();
    }
    if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn tell(name: &str, progress: &Progress) {
    let rate = progress.states as f64 / progress.time.as_secs_f64();
    eprintln!(
        "{name}: {} states, {} steps, depth {}, {rate:.0} states/s",
        progress.states, progress.steps, progress.depth
    );
}

fn conclude(name: &str, report: &Report) {
    let rate = report.states as f64 / report.time.as_secs_f64();
    println!(
        "{name}: {} states, {} steps, depth {}, {:.1} s, {rate:.0} states/s",
        report.states,
        report.steps,
        report.depth,
        report.time.as_secs_f64()
    );
    let rare: Vec<String> = RARE
        .into_iter()
        .map(|rare| (rare, report.coverage.of(rare)))
        .filter(|(_, count)| *count > 0)
        .map(|(rare, count)| format!("{rare:?} {count}"))
        .collect();
    println!("  {}", rare.join(", "));
    for violation in &report.violations {
        println!("{name}: BROKEN after {} actions: {}", violation.length, violation.invariant);
    }
    if let Some(violation) = report.violations.first() {
        println!("{}", violation.trace);
    }
}
