//! The same cluster with a large state: a follower that was wiped comes back in sync while writes go on, and a node
//! starts again that has much to apply.
//!
//! **How entries come to be unapplied.** A process that is killed leaves its state in the system's cache, so that the next one
//! finds all of it applied; only a power cut takes away what the state database has not fsynced. What that leaves behind is
//! made by hand: the state's folder of a stopped node is copied, the node goes on and applies the entries, is killed −9, and the
//! older folder takes the place of its state, beside the newer log.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mortise_client::kv::{Kv, put};
use mortise_client::{
    Client, Freshness, Options, Position, Tenant, WriterOptions, parse_endpoints, writer::PendingBatch,
};
use mortise_cluster_kit::{LocalCluster, copy_folder};
use tokio::runtime::Runtime;

use super::{Arguments, Load};
use crate::report::{Report, Target};

/// Bytes of a value of the large state.
const VALUE_BYTES: u64 = 1024;
const MB: u64 = 1_000_000;
/// Commands that are handed to the writer at once, and how many of such batches are in flight.
const BATCH: usize = 64;
const BATCHES: usize = 16;
/// Times beyond this are no figure but a failure. Builds without optimisation take their time.
const PATIENCE: Duration = Duration::from_secs(3600);
const LOOK_EVERY: Duration = Duration::from_millis(10);
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Megabytes a second, at least.
const CATCH_UP: f64 = 50.0;
/// Seconds, at most.
const RESTART: f64 = 10.0;

/// Bytes of a log segment, for a state of so many megabytes: a log is dropped by whole segments, and a wiped follower has to
/// get a snapshot instead of all of the log. The default of a node from 1,024 MB on.
pub(super) fn segment_bytes(state_mb: u64) -> u64 {
    (state_mb << 20 >> 4).clamp(1 << 20, 64 << 20)
}

/// Measures both.
pub(super) fn run(
    cluster: &mut LocalCluster,
    runtime: &Runtime,
    report: &mut Report,
    arguments: &Arguments,
) -> Result<()> {
    let Arguments { callers, state_mb, entries, .. } = *arguments;
    let tenant = runtime.block_on(tenant(&cluster.endpoints()))?;
    runtime.block_on(fill(&tenant, state_mb))?;
    let section = format!("three nodes on this machine, a state of {state_mb} MB");
    let load = runtime.block_on(Load::start(cluster, callers))?;
    let (took, acknowledged) = catch_up(cluster, &load)?;
    runtime.block_on(load.stop())?;
    let rate = state_mb as f64 / took.as_secs_f64();
    report.value(&section, "wiped follower, until it is in sync, while callers write", rate, "MB/s");
    report.target(Target::AtLeast(CATCH_UP));
    report.value(&section, "the same, as time", took.as_secs_f64(), "s");
    report.value(&section, "writes acknowledged meanwhile", acknowledged as f64, "writes");
    let (took, unapplied) = restart(cluster, runtime, &tenant, (callers, entries))?;
    report.value(&section, "restart, until it shows the newest write", took.as_secs_f64(), "s");
    report.target(Target::AtMost(RESTART));
    report.value(&section, "entries that it had to apply", unapplied as f64, "entries");
    Ok(())
}

async fn tenant(endpoints: &str) -> Result<Tenant> {
    let options = Options { endpoints: parse_endpoints(endpoints)?, ..Options::default() };
    Ok(Client::connect(&options).await?.tenant("kv"))
}

/// Puts values that do not compress.
async fn fill(tenant: &Tenant, state_mb: u64) -> Result<()> {
    let writer = tenant.writer(WriterOptions::default()).await?;
    let keys = state_mb * MB / VALUE_BYTES;
    let mut progress = Progress::new("fill the state");
    let mut in_flight = VecDeque::<PendingBatch>::new();
    let numbers: Vec<u64> = (0..keys).collect();
    for (done, batch) in numbers.chunks(BATCH).enumerate() {
        let puts = batch.iter().map(|number| put(format!("state-{number:09}"), value(*number), 0)).collect();
        in_flight.push_back(writer.send_batch(puts).await?);
        if in_flight.len() >= BATCHES {
            settle(in_flight.pop_front()).await?;
        }
        progress.tell((done * BATCH) as u64, keys);
    }
    while !in_flight.is_empty() {
        settle(in_flight.pop_front()).await?;
    }
    Ok(writer.close().await?)
}

async fn settle(batch: Option<PendingBatch>) -> Result<()> {
    let Some(batch) = batch else { return Ok(()) };
    for reply in batch.await? {
        reply?;
    }
    Ok(())
}

/// Bytes that follow from the number: a splitmix64 sequence.
fn value(number: u64) -> Vec<u8> {
    let words = (1..=VALUE_BYTES / 8).map(|word| {
        let mut mixed = (number * VALUE_BYTES + word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).to_le_bytes()
    });
    words.flatten().collect()
}

/// From the start of a wiped follower until it is in the in-sync set, and the writes acknowledged until then.
fn catch_up(cluster: &mut LocalCluster, load: &Load) -> Result<(Duration, usize)> {
    eprintln!("wipe a follower");
    let leader = cluster.wait_leader()?;
    let follower = leader % 3 + 1;
    // What it then gets is a snapshot, and the log behind it.
    let begun = Instant::now();
    while let Err(error) = cluster.ok_at(leader, &["--timeout", "3600", "snapshot"]) {
        // A state that grows has itself one taken now and then.
        let is_taken = error.to_string().contains("is being taken already");
        ensure!(is_taken && begun.elapsed() < PATIENCE, "take a snapshot: {error}");
        std::thread::sleep(LOOK_EVERY);
    }
    cluster.node(follower).kill()?;
    wait_gauge(cluster, leader, "isr_members", "the follower is out", |members| members == 2)?;
    cluster.node(follower).wipe()?;
    let (since, before) = (Instant::now(), load.acknowledged());
    cluster.node(follower).start()?;
    wait_gauge(cluster, leader, "isr_members", "the follower is in sync", |members| members == 3)?;
    let (took, acknowledged) = (since.elapsed(), load.acknowledged() - before);
    let installed = cluster.node(follower).metric("replica_rare_total{what=\"SnapshotInstalled\"}")?;
    ensure!(installed >= 1.0, "the wiped follower got its state without a snapshot");
    ensure!(acknowledged > 0, "nothing was written meanwhile");
    Ok((took, acknowledged))
}

/// From the start of a node that is so many entries behind its own log until it shows the newest write, and how many they were.
fn restart(
    cluster: &mut LocalCluster,
    runtime: &Runtime,
    tenant: &Tenant,
    (callers, entries): (u16, u64),
) -> Result<(Duration, u64)> {
    let node = cluster.wait_leader()? % 3 + 1;
    eprintln!("copy the state of a follower, and write {entries} entries behind it");
    let copied = gauge(cluster, node, "applied_index")?;
    cluster.node(node).stop()?;
    let state = cluster.node(node).data().join("groups/0001/state");
    let older = state.with_file_name("state.older");
    copy_folder(&state, &older)?;
    cluster.node(node).start()?;
    let load = runtime.block_on(Load::start(cluster, callers))?;
    let mut progress = Progress::new("write entries");
    wait_gauge(cluster, node, "applied_index", "entries", |applied| {
        progress.tell(applied.saturating_sub(copied), entries);
        applied >= copied + entries
    })?;
    runtime.block_on(load.stop())?;
    let newest = runtime.block_on(tenant.write(put("newest", "1", 0)))?.position;
    wait_gauge(cluster, node, "applied_index", "the newest write", |applied| applied >= newest.index.0)?;
    cluster.node(node).kill()?;
    replace(&state, &older)?;
    eprintln!("start it again");
    let since = Instant::now();
    cluster.node(node).start()?;
    let at = cluster.nodes()[node - 1].data_url();
    runtime.block_on(wait_shown(&at, newest))?;
    let took = since.elapsed();
    // Else it made its state of a snapshot, and had less to apply.
    ensure!(gauge(cluster, node, "log_first_index")? <= copied + 1, "the log no longer reaches back so far");
    Ok((took, newest.index.0 - copied))
}

fn replace(folder: &Path, by: &Path) -> Result<()> {
    std::fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    std::fs::rename(by, folder).with_context(|| format!("put the older copy at {}", folder.display()))
}

/// Waits until the node at `url` shows the write with this position.
async fn wait_shown(url: &str, newest: Position) -> Result<()> {
    let options = Options { endpoints: parse_endpoints(url)?, ..Options::default() };
    let tenant = Client::lazy(&options)?.tenant("kv");
    let kv = Kv::new(tenant).reading(Freshness::AtLeast(newest));
    let begun = Instant::now();
    loop {
        match kv.get("newest").await {
            Ok(found) => {
                ensure!(found.is_some(), "the write that was acknowledged is not there");
                return Ok(());
            }
            Err(error) => ensure!(begun.elapsed() < PATIENCE, "the node does not serve: {error}"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A number of a node's replica of the group.
fn gauge(cluster: &mut LocalCluster, node: usize, name: &str) -> Result<u64> {
    Ok(cluster.node(node).metric(&format!("group_{name}{{group=\"1\"}}"))? as u64)
}

fn wait_gauge(
    cluster: &mut LocalCluster,
    node: usize,
    name: &str,
    what: &str,
    mut reached: impl FnMut(u64) -> bool,
) -> Result<()> {
    let begun = Instant::now();
    while !reached(gauge(cluster, node, name)?) {
        ensure!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Says now and then how far it is.
struct Progress {
    what: &'static str,
    told: Instant,
}

impl Progress {
    fn new(what: &'static str) -> Self {
        Self { what, told: Instant::now() }
    }

    fn tell(&mut self, done: u64, all: u64) {
        if self.told.elapsed() >= PROGRESS_EVERY {
            self.told = Instant::now();
            eprintln!("{}: {done} of {all}", self.what);
        }
    }
}
