//! Registers as a node, campaigns for an empty group, and prints what happens to it.
//!
//! Two terminals and a kill show it all (an etcd must run):
//!
//! ```text
//! role_watcher --node 1        role_watcher --node 2        kill -9 either; start it again
//! ```
//! The group holds no data, so whoever stands first among the candidates may lead it. Where there is data, only a
//! replica that holds every committed entry may, and that is the replica's business, not the coordinator's.

mod campaign;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Parser;
use mortise_coordination::{
    Addresses, Change, Config, Coordination, Coordinator, Etcd, EtcdConfig, Expected, History, Interest,
    NodeRecord, RoleEvents, SessionState, SwapOutcome, Told, Viewpoint, new_nonce,
};
use mortise_core::group::{BootId, NodeId};
use mortise_core::ids::GroupId;

/// Other processes may start under the same name at the same time; each finds its own boot number.
const REGISTRATIONS_MAX: usize = 10;

/// Registers with etcd, campaigns for an empty group, and prints its role events
#[derive(Parser)]
#[command(name = "role_watcher")]
struct Arguments {
    /// This node's number
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    node: u64,
    /// The numbers of all members; the first watcher creates the group
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    members: Vec<u64>,
    /// The group
    #[arg(long, default_value_t = 1)]
    group: u64,
    /// The cluster's name
    #[arg(long, default_value = "demo")]
    cluster: String,
    /// URLs of etcd's members
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:2379")]
    etcd: Vec<String>,
    /// Time to live of the session, in seconds
    #[arg(long, default_value_t = 5)]
    ttl: u32,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "error".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();

    let node = NodeId(arguments.node);
    let group = GroupId(arguments.group);
    let config = Config { ttl_seconds: arguments.ttl, ..Config::new(arguments.cluster.clone()) };
    let etcd = Etcd::new(EtcdConfig::new(arguments.etcd.clone()))?;
    let coordinator: Arc<dyn Coordinator> = Arc::new(Coordination::start(config, None, etcd)?);
    coordinator.ready().await.context("reach etcd")?;

    let boot = register(&*coordinator, node).await?;
    coordinator.open_session(node, boot)?;
    coordinator.campaign(group);
    let members = arguments.members.iter().map(|node| NodeId(*node)).collect();
    tokio::spawn(campaign::run(coordinator.clone(), campaign::Me { node, boot, group, members }));

    let changes = coordinator.changes(Interest::Group(group));
    watch(RoleEvents::new(changes, Viewpoint::Node(node, boot)), node, boot).await
}

/// Prints what happens until a newer process takes this one's name.
async fn watch(mut events: RoleEvents, node: NodeId, boot: BootId) -> Result<ExitCode> {
    let mut live = None;
    println!("node {node}, boot {boot}");
    loop {
        match events.next().await {
            Told::Role(event) => println!("{event} (revision {})", event.revision),
            Told::Other(Change::Session(SessionState::Superseded(by))) => {
                println!("session: superseded by boot {by}: this process stops");
                return Ok(ExitCode::from(3));
            }
            // A renewal is no news.
            Told::Other(Change::Session(SessionState::Live { lease, .. })) if live == Some(lease) => {}
            Told::Other(Change::Session(session)) => {
                live = session.live();
                println!("session: {session}");
            }
            Told::Other(Change::History(History::Broken(broken))) => println!("frozen: {broken}"),
            Told::Other(_) => {}
        }
    }
}

/// Counts this start of the node.
async fn register(coordinator: &dyn Coordinator, node: NodeId) -> Result<BootId> {
    for _ in 0..REGISTRATIONS_MAX {
        let seen = coordinator.read_node(node).await?;
        let boot = BootId(seen.record.as_ref().map_or(0, |record| record.boot.0) + 1);
        // A watcher has no data folder, hence no id of one, and nothing to count in it.
        let addresses = Addresses::default();
        let next = NodeRecord { storage: 0, boot, count: 0, addresses, nonce: new_nonce()? };
        let expected = seen.record.map_or(Expected::Absent, |record| Expected::Present {
            mod_revision: seen.mod_revision,
            nonce: record.nonce,
        });
        if let SwapOutcome::Applied(_) = coordinator.swap_node(node, expected, next).await? {
            return Ok(boot);
        }
    }
    bail!("node {node} could not be registered: who else starts it?")
}
