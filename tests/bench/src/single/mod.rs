//! A node under load: `mortise dev` as a process of its own, and this process as its one client.

mod load;
mod node;
mod one;
mod overhead;
mod scrape;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use mortise_client::{AdminClient, Client};

use crate::Common;
use crate::report::{Report, Target};
use node::Node;

/// Tenants of the node whose memory is measured.
const TENANTS: usize = 5;
/// MB (10^6 bytes).
const RSS_TARGET_MB: f64 = 100.0;
/// The tenant that is written to.
const TENANT: &str = "bench";
/// How long a node is left alone before its memory is read.
const REST: Duration = Duration::from_secs(2);

/// `mortise-bench single`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
    /// The node's binary; default: `mortise` beside this one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Seconds of load that are measured
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Writes in flight
    #[arg(long, default_value_t = 8192)]
    window: usize,
    /// Writes that the client hands to its writer at once
    #[arg(long, default_value_t = 256)]
    batch: usize,
    /// Different keys that are written
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Threads of the client
    #[arg(long, default_value_t = 1)]
    client_threads: usize,
    /// Writes of the measurement of one write at a time
    #[arg(long, default_value_t = 2000)]
    writes: usize,
}

/// Runs all measurements, on one data folder.
pub(crate) fn run(arguments: &Arguments) -> Result<Report> {
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(arguments.client_threads.max(1))
        .enable_all()
        .build()?;
    let mut report = Report::default();
    let folder = arguments.common.scratch()?;
    let node = Node::start(arguments, folder.path())?;
    tokio.block_on(prepare(&node, arguments))?;
    // Memory is that of a node as it starts; the one that compiled the plugins is stopped.
    node.stop()?;
    let node = Node::start(arguments, folder.path())?;
    tokio.block_on(memory(&mut report, &node))?;
    let client = tokio.block_on(Client::connect(&node.options()))?;
    let tenant = client.tenant(TENANT);
    tokio.block_on(one::measure(&mut report, arguments, tenant.clone(), &node, folder.path()))?;
    tokio.block_on(overhead::measure(&mut report, arguments, &tenant, &node))?;
    tokio.block_on(load::measure(&mut report, arguments, tenant, &node))?;
    report.value("memory of the node (RSS)", "after the load", megabytes(node.process().rss_bytes()?), "MB");
    node.stop()?;
    Ok(report)
}

/// Tenants, as many as the memory is measured with; the first one is for the load.
async fn prepare(node: &Node, arguments: &Arguments) -> Result<()> {
    let admin = AdminClient::connect(&node.options()).await?;
    if !admin.list_plugins().await?.iter().any(|plugin| plugin.name == "kv") {
        admin.upload_plugin(arguments.common.kv()?.into()).await?;
    }
    admin.create_tenant(TENANT, "kv", false).await?;
    for number in admin.list_tenants().await?.len()..TENANTS {
        admin.create_tenant(&format!("idle-{number}"), "kv", false).await?;
    }
    Ok(())
}

async fn memory(report: &mut Report, node: &Node) -> Result<()> {
    let section = "memory of the node (RSS)";
    let admin = AdminClient::connect(&node.options()).await?;
    let client = Client::connect(&node.options()).await?;
    let tenants = admin.list_tenants().await?;
    tokio::time::sleep(REST).await;
    let idle = megabytes(node.process().rss_bytes()?);
    report.value(section, format!("idle, {} tenants, just started", tenants.len()), idle, "MB");
    report.target(Target::AtMost(RSS_TARGET_MB));
    for tenant in tenants.iter().filter(|tenant| tenant.plugin == "kv") {
        let tenant = client.tenant(tenant.name.as_str());
        tenant.write(mortise_client::kv::put("warm", "x", 0)).await?;
    }
    tokio::time::sleep(REST).await;
    let used = megabytes(node.process().rss_bytes()?);
    report.value(section, "idle again, every kv tenant was written to once", used, "MB");
    report.target(Target::AtMost(RSS_TARGET_MB));
    Ok(())
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
