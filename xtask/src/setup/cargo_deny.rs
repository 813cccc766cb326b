//! cargo-deny, compiled from its sources into target/tools.

use crate::run::{output, run, say};
use anyhow::Result;
use mortise_artifacts::{toolchain, tools};
use std::process::Command;

/// The series whose settings deny.toml is written for.
const VERSION: &str = "~0.20";

pub(super) fn found() -> Option<String> {
    let program = tools::find("cargo-deny")?;
    let version = output(Command::new(&program).arg("--version")).ok()?;
    Some(format!("{} at {}", version.trim(), program.display()))
}

pub(super) fn install() -> Result<()> {
    say("compiling cargo-deny into target/tools: about 4 minutes on two cores, once");
    let mut cargo = toolchain::host_cargo();
    cargo.args(["install", "cargo-deny", "--locked", "--quiet", "--version", VERSION, "--root"]);
    run(cargo.arg(tools::folder()))
}
