//! `cargo xtask cluster`: a cluster on this machine, to try things on.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use mortise_cluster_kit::{LocalCluster, Setup, plugins};

/// Starts an etcd and nodes on this machine, with one group over all nodes, the shipped plugins, and a tenant of each.
#[derive(Parser)]
#[command(name = "cargo xtask cluster", bin_name = "cargo xtask cluster --")]
struct Arguments {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
    /// Where data, configurations and logs go; it is emptied first
    #[arg(long, value_name = "FOLDER", default_value = "target/cluster")]
    folder: PathBuf,
    /// Kill one node after the other with −9, again and again, and start it again a moment later
    #[arg(long)]
    kill_loop: bool,
    /// Seconds between two kills
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
    /// Chooses whom to kill
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    if arguments.folder.exists() {
        std::fs::remove_dir_all(&arguments.folder).context("empty the folder of an earlier cluster")?;
    }
    std::fs::create_dir_all(&arguments.folder).context("create the folder")?;
    let folder = arguments.folder.canonicalize().context("find the folder")?;
    let nodes = arguments.nodes.into();
    let setup = Setup { nodes, members: nodes, ..Setup::new(folder) };
    let mut cluster = LocalCluster::start(&setup)?;
    for name in ["kv", "ledger"] {
        cluster.create_watched_tenant(&plugins()?, name)?;
    }
    println!("ready: {} nodes, one group; logs and data are in {}", arguments.nodes, setup.folder.display());
    println!("  export MORTISE_ENDPOINT={}", cluster.endpoints());
    println!("  export MORTISE_ADMIN_ENDPOINT={}", cluster.admin_endpoints());
    println!("Then try, with target/debug on the PATH:");
    println!("  mortise cluster status");
    println!("  mortise kv put greeting hello");
    println!("  mortise events --cluster local --etcd {} --follow", cluster.etcd().endpoints().join(","));
    println!("Ctrl-C stops all of it.");
    if !arguments.kill_loop {
        loop {
            std::thread::park();
        }
    }
    let mut random = arguments.seed;
    loop {
        std::thread::sleep(Duration::from_secs(arguments.every));
        // Knuth's multiplier: whom it hits should only not be in turn.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = usize::try_from(random >> 33).unwrap_or(0) % setup.nodes + 1;
        println!("killing node {number} with −9");
        cluster.node(number).kill()?;
        std::thread::sleep(Duration::from_secs(arguments.every.div_ceil(2)));
        println!("starting node {number} again");
        cluster.node(number).start()?;
        let leader = cluster.wait_leader()?;
        println!("node {leader} leads");
    }
}
