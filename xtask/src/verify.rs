//! `cargo xtask test`: the whole verification, step by step, and what each step took.

use crate::run::{run, say};
use crate::{build, lint, readme, setup};
use anyhow::Result;
use clap::ValueEnum;
use mortise_artifacts::toolchain;
use std::time::Instant;

/// The steps, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// Install what is missing
    Setup,
    /// Format, clippy, cargo-deny
    Lint,
    /// Compile the plugins to components
    Plugins,
    /// Every test of the workspace
    Tests,
    /// The commands in README.md
    Readme,
}

impl Step {
    fn run(self) -> Result<()> {
        match self {
            Self::Setup => setup::ensure(setup::ALL),
            Self::Lint => lint::lint(),
            Self::Plugins => build::plugins(),
            Self::Tests => tests(),
            Self::Readme => readme::check(),
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_string()).unwrap_or_default()
    }
}

/// Runs all steps, or `only` that one. Stops at the first that fails: what follows would only repeat it.
pub(crate) fn verify(only: Option<Step>) -> Result<()> {
    let mut summary = Vec::new();
    let mut outcome = Ok(());
    for step in Step::value_variants() {
        if only.is_some_and(|only| only != *step) {
            continue;
        }
        if outcome.is_err() {
            summary.push(format!("{:<8} not run", step.name()));
            continue;
        }
        let begun = Instant::now();
        outcome = step.run();
        let word = if outcome.is_ok() { "passed" } else { "FAILED" };
        summary.push(format!("{:<8} {word} {:>7.1} s", step.name(), begun.elapsed().as_secs_f64()));
    }
    for line in summary {
        say(&line);
    }
    outcome
}

fn tests() -> Result<()> {
    setup::ensure(setup::ALL)?;
    // The end-to-end tests start the binary; built here, the user sees how it goes.
    build::host()?;
    say("running every test of the workspace");
    run(toolchain::host_cargo().args(["test", "--workspace"]))
}
