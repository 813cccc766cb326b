//! `mortise serve`, but with one rule of the protocol out of force.

use std::path::PathBuf;

use anyhow::bail;
use clap::{Parser, ValueEnum};
use mortise_core::replica::Mutant;
use mortise_node::config::Config;
use mortise_node::server::Server;

/// Serves a node that loses what it acknowledged, or reads what is old. For tests only.
#[derive(Parser)]
struct Arguments {
    /// The configuration, in TOML
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// What is broken
    #[arg(long)]
    rule: Rule,
}

/// The rules that a history of clients can show to be broken.
#[derive(Clone, Copy, ValueEnum)]
enum Rule {
    /// A write is acknowledged before followers have it
    CommitAlone,
    /// A read is answered without asking whether the leader still leads
    ReadUnconfirmed,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut config = Config::load(&arguments.config)?;
    config.mutant = Some(match arguments.rule {
        Rule::CommitAlone => Mutant::CommitAlone,
        Rule::ReadUnconfirmed => Mutant::ReadUnconfirmed,
    });
    mortise_node::logging::init(&config.logging)?;
    let running = Server::start(config).await?;
    println!(
        "ready: {:?} is broken",
        arguments.rule.to_possible_value().map(|rule| rule.get_name().to_owned())
    );
    bail!("the node stopped: {}", running.wait().await)
}
