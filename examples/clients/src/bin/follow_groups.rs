//! Follows the groups of a cluster through etcd, and calls any live leader at random: what a program does that manages its
//! connections itself. Groups that are created, handed over or lost show without a restart.

use std::time::Duration;

use clap::Parser;
use mortise_client::discovery::{Discovery, DiscoveryOptions, GroupEvent};

/// Prints what happens to the groups of a cluster
#[derive(Parser)]
struct Arguments {
    /// URLs of etcd's members
    #[arg(
        long,
        env = "MORTISE_ETCD_ENDPOINTS",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:2379"
    )]
    etcd: Vec<String>,
    /// The cluster's name
    #[arg(long, env = "MORTISE_CLUSTER", default_value = "mortise")]
    cluster: String,
    /// How long to follow, in seconds
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { etcd, cluster, seconds } = Arguments::parse();
    let discovery = Discovery::start(&DiscoveryOptions::new(cluster, etcd)).await?;
    let mut events = discovery.events();
    let show = async {
        while let Some(event) = events.next().await {
            match event {
                GroupEvent::Added(group) | GroupEvent::Changed(group) => {
                    let leader = group.leader.map_or("nobody".into(), |node| node.addresses.data);
                    println!("group {}: epoch {}, leader {leader}", group.id, group.epoch);
                }
                GroupEvent::Removed(group) => println!("group {group}: gone"),
            }
            if let Some(leader) = discovery.any_leader() {
                println!("  some live leader: {}", leader.addresses.data);
            }
        }
    };
    // Only the time ends it.
    let _ = tokio::time::timeout(Duration::from_secs(seconds), show).await;
    Ok(())
}
