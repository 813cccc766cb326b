//! Format, clippy, and the dependencies' licences, sources and advisories.

use crate::run::{run, run_within, say};
use crate::setup::{self, Need};
use anyhow::{Context, Result};
use mortise_artifacts::{toolchain, tools, workspace_root};
use std::process::Command;
use std::time::Duration;

/// The longest that fetching the advisories may take; about 5 s where they are in reach.
const FETCH_WITHIN: Duration = Duration::from_secs(60);

/// `cargo xtask lint`.
pub(crate) fn lint() -> Result<()> {
    setup::ensure(&[Need::Protoc, Need::CargoDeny])?;
    say("checking the format");
    run(toolchain::host_cargo().args(["fmt", "--all", "--check"]))
        .context("`cargo fmt` repairs the format")?;
    say("running clippy; a warning is an error");
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    run(toolchain::host_cargo().args(clippy))?;
    dependencies()
}

fn dependencies() -> Result<()> {
    say("checking bans, licences and sources of the dependencies (deny.toml says what is allowed)");
    run(deny()?.args(["check", "--hide-inclusion-graph", "bans", "licenses", "sources"]))?;
    if let Err(error) = run_within(deny()?.args(["fetch", "db"]), FETCH_WITHIN) {
        say(&format!("advisories NOT checked: their database is out of reach ({error:#})"));
        return Ok(());
    }
    say("checking advisories: their database was fetched just now");
    run(deny()?.args(["check", "--hide-inclusion-graph", "advisories"]))
}

fn deny() -> Result<Command> {
    let mut command = Command::new(tools::find("cargo-deny").context("find cargo-deny")?);
    command.current_dir(workspace_root()).args(["--all-features", "--log-level", "error"]);
    Ok(command)
}
