//! Runs seeds of the simulation until one breaks a rule. `cargo xtask sim --help` says how.

use std::process::ExitCode;

use clap::Parser;
use mortise_sim::{Report, Run, SCENARIOS, Scenario, Tracing};

mod search;

/// Simulates replica groups on machines, networks and a coordinator that fail, seed after seed.
///
/// A seed that breaks a rule ends it with the command that repeats it, and an exit code that is not 0.
#[derive(Parser)]
#[command(name = "cargo xtask sim", bin_name = "cargo xtask sim")]
struct Arguments {
    /// How many seeds
    #[arg(long, value_name = "N", default_value_t = 1000)]
    seeds: u64,
    /// The first seed
    #[arg(long, value_name = "S", default_value_t = 0)]
    start: u64,
    /// One mixture of faults instead of one by the seed
    #[arg(long, value_parser = named)]
    scenario: Option<Scenario>,
    /// Print every event and effect (of a single seed)
    #[arg(long)]
    trace: bool,
    /// Go on after a failing seed, and print all of them
    #[arg(long)]
    keep_going: bool,
    /// Print how often rare things happened
    #[arg(long)]
    coverage: bool,
}

fn named(name: &str) -> Result<Scenario, String> {
    let names = || SCENARIOS.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(", ");
    Scenario::named(name).ok_or_else(|| format!("there are {}", names()))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.trace {
        return one(&arguments);
    }
    let found = search::search(&arguments);
    if found { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn run_of(arguments: &Arguments, seed: u64) -> Run {
    let tracing = if arguments.trace { Tracing::Print } else { Tracing::Off };
    Run { scenario: arguments.scenario, tracing, ..Run::of(seed) }
}

/// Runs the first seed only, with its trace.
fn one(arguments: &Arguments) -> ExitCode {
    let report = mortise_sim::run(&run_of(arguments, arguments.start));
    match report.violation {
        Some(ref violation) => {
            println!("{}: {}", violation.rule, violation.what);
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

fn describe(report: &Report) -> String {
    let violation = report.violation.as_ref();
    violation.map_or("nothing".into(), |violation| format!("{}: {}", violation.rule, violation.what))
}
