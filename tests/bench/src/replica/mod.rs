//! The replica core alone: a leader and two followers, stepped in this process on one thread.

mod group;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;

use self::group::{Group, payload};
use crate::memory::own_bytes;
use crate::report::{Report, Target};

/// Commands a second that the core has to reach with full entries.
const COMMANDS_PER_SECOND: f64 = 1_000_000.0;
/// Memory may grow so much between the first tenth of a measurement and its end. What is kept for followers and for
/// comparing digests is bounded and full by then.
const GROWTH_BYTES_MAX: f64 = 8.0 * 1024.0 * 1024.0;

/// `mortise-bench core`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Seconds that each measurement takes
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Entries that are proposed before the others hear of them
    #[arg(long, default_value_t = 64)]
    entries: usize,
    /// Also writes the numbers to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// Runs all of them.
pub(crate) fn run(arguments: &Arguments) -> Result<Report> {
    let mut report = Report::default();
    for commands in [256, 1] {
        measure(&mut report, arguments, commands)?;
    }
    Ok(report)
}

fn measure(report: &mut Report, arguments: &Arguments, commands: usize) -> Result<()> {
    let payload = payload(commands);
    let mut group = Group::start()?;
    let duration = Duration::from_secs(arguments.seconds);
    let warm = Instant::now();
    while warm.elapsed() < duration / 10 {
        group.write(arguments.entries, &payload)?;
    }
    let (entries, steps, memory) = (group.committed(), group.steps(), own_bytes()?);
    let begin = Instant::now();
    while begin.elapsed() < duration {
        group.write(arguments.entries, &payload)?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let entries = (group.committed() - entries) as f64;
    let steps = (group.steps() - steps) as f64;
    let grown = own_bytes()? as f64 - memory as f64;
    let section = format!("core: 1 leader, 2 followers, entries of {commands} commands");
    report.value(&section, "committed", entries * commands as f64 / seconds, "commands/s");
    if commands > 1 {
        report.target(Target::AtLeast(COMMANDS_PER_SECOND));
    }
    report.value(&section, "one entry, on all three", seconds / entries * 1e9, "ns");
    report.value(&section, "one step", seconds / steps * 1e9, "ns");
    report.value(&section, "memory grown", grown / 1024.0 / 1024.0, "MiB");
    report.target(Target::AtMost(GROWTH_BYTES_MAX / 1024.0 / 1024.0));
    Ok(())
}
