//! `cargo xtask model`: searches the configurations, larger than the test suite does where asked to.

use std::process::ExitCode;

use clap::Parser;
use mortise_core::replica::Rare;
use mortise_model::configurations;
use mortise_model::search::{Progress, Report, search};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    /// Puts the rule of this name out of force (see `Mutant` in the core), in the configuration that notices
    #[arg(long, conflicts_with_all = ["only", "bounds"])]
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
    if let Some(mutant) = &arguments.mutant {
        return put_out_of_force(mutant, usize::from(arguments.threads));
    }
    let wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    let mut broken = false;
    for bounds in all.into_iter().filter(|bounds| wanted(bounds.name)) {
        let name = bounds.name;
        let bounds = bounds.enlarged(arguments.bounds - 1);
        let report = search(bounds, usize::from(arguments.threads), |progress| tell(name, &progress));
        conclude(name, &report);
        broken |= report.violation.is_some();
    }
    if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Fails where the model does not notice.
fn put_out_of_force(rule: &str, threads: usize) -> ExitCode {
    let known = configurations::MUTANTS.iter().find(|(mutant, _)| format!("{mutant:?}") == rule);
    let Some((mutant, name, bounds)) =
        known.and_then(|(mutant, name)| Some((*mutant, *name, configurations::named(name)?)))
    else {
        let names: Vec<String> =
            configurations::MUTANTS.iter().map(|(mutant, _)| format!("{mutant:?}")).collect();
        eprintln!("no rule that a model notices is called {rule}; there are {}", names.join(", "));
        return ExitCode::FAILURE;
    };
    let report = search(bounds.mutant(mutant), threads, |progress| tell(name, &progress));
    conclude(name, &report);
    if report.violation.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
    let rare: Vec<String> = Rare::ALL
        .into_iter()
        .map(|rare| (rare, report.coverage.of(rare)))
        .filter(|(_, count)| *count > 0)
        .map(|(rare, count)| format!("{rare:?} {count}"))
        .collect();
    println!("  {}", rare.join(", "));
    if let Some(violation) = &report.violation {
        println!("{name}: BROKEN after {} actions: {}", violation.length, violation.invariant);
        println!("{}", violation.trace);
    }
}
