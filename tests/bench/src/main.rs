//! Benchmarks. `cargo xtask bench micro|core|single|coordination|failover|cluster` builds what they need and runs them.
//!
//! ```text
//!   micro  ─▶ parts in this process: apply through the plugin and natively, log, state store
//!   core   ─▶ the replica core: a leader and two followers stepped on one thread
//!   single ─▶ a `mortise` process on a real folder, loaded from this one; CPU by thread from /proc
//!   coordination ─▶ a node with many groups in this process, on an etcd of its own
//!   failover ─▶ three `mortise` processes and an etcd, killed and handed over under load
//!   cluster  ─▶ three `mortise` processes beside three etcds, the same puts to both in turn
//! ```
//! All print a table; targets stand beside the numbers. A missed target is said, but is no failure: a benchmark
//! fails only where something does not work.

mod cluster;
mod coordination;
mod disk;
mod failover;
mod memory;
mod micro;
mod pipeline;
mod process;
mod replica;
mod report;
mod samples;
mod single;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use mortise_cluster_kit::Setup;
use tempfile::TempDir;

use report::Report;

/// The allocator of the product, whose parts are measured here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of every value that is written.
pub(crate) const VALUE_BYTES: usize = 128;

/// Measures Mortise
#[derive(Parser)]
#[command(name = "mortise-bench", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Parts of the node: `apply` of a kv put through the plugin and natively, log, state store
    Micro(micro::Arguments),
    /// The replica core alone: a leader and two followers in memory
    Core(replica::Arguments),
    /// One node under load: many writes in flight, one at a time, memory at rest, and what the client costs beside a bare stream
    Single(single::Arguments),
    /// A node with many groups on a real etcd: start-up, how soon a change is told, memory and processor at rest
    Coordination(coordination::Arguments),
    /// Three nodes and an etcd: how long writes stand still when one is killed, or hands its leadership over
    Failover(failover::Arguments),
    /// Three nodes and three etcds: the same durable puts to both, in turn, as ratios
    Cluster(cluster::Arguments),
}

/// What both take.
#[derive(Args)]
pub(crate) struct Common {
    /// Where the plugins' components are; default: target/plugins of the workspace
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
    /// A folder on the disk to measure, made where missing; default: a temporary one below target
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Also writes the numbers to a file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Common {
    pub(crate) fn plugins(&self) -> PathBuf {
        self.plugins.clone().unwrap_or_else(|| mortise_artifacts::workspace_root().join("target/plugins"))
    }

    /// The bytes of the compiled `kv`.
    pub(crate) fn kv(&self) -> Result<Vec<u8>> {
        let path = self.plugins().join("kv.wasm");
        std::fs::read(&path)
            .with_context(|| format!("read {} (cargo xtask plugins makes it)", path.display()))
    }

    /// A new folder to measure in, removed at the end.
    pub(crate) fn scratch(&self) -> Result<TempDir> {
        let parent = self.data.clone().unwrap_or_else(|| mortise_artifacts::workspace_root().join("target"));
        let made = std::fs::create_dir_all(&parent).and_then(|()| temporary(&parent));
        made.with_context(|| format!("make a folder in {}", parent.display()))
    }

    fn finish(&self, report: &Report) -> Result<()> {
        finish(report, self.json.as_deref())
    }
}

fn finish(report: &Report, json: Option<&Path>) -> Result<()> {
    report.print();
    match json {
        Some(path) => report.save(path).with_context(|| format!("write {}", path.display())),
        None => Ok(()),
    }
}

/// Three nodes of the binary beside this one, which is a release build.
pub(crate) fn cluster_of_release(folder: &Path) -> Result<Setup> {
    let binary = std::env::current_exe()?.with_file_name("mortise");
    anyhow::ensure!(binary.exists(), "there is no {}: cargo xtask build makes it", binary.display());
    Ok(Setup { binary: Some(binary), ..Setup::new(folder) })
}

fn temporary(parent: &Path) -> std::io::Result<TempDir> {
    tempfile::Builder::new().prefix("bench-").tempdir_in(parent)
}

fn main() -> Result<()> {
    match Arguments::parse().what {
        What::Micro(arguments) => arguments.common.finish(&micro::run(&arguments)?),
        What::Core(arguments) => finish(&replica::run(&arguments)?, arguments.json.as_deref()),
        What::Single(arguments) => arguments.common.finish(&single::run(&arguments)?),
        What::Failover(arguments) => arguments.common.finish(&failover::run(&arguments)?),
        What::Cluster(arguments) => arguments.common.finish(&cluster::run(&arguments)?),
        What::Coordination(arguments) => finish(&coordination::run(&arguments)?, arguments.json.as_deref()),
    }
}
