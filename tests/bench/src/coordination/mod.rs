//! Coordination: one node with many groups, on a real etcd of one member.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mortise_coordination::{
    Change, Changes, Config, Coordination, Coordinator, Etcd, EtcdConfig, Expected, Interest, Moment,
    SwapOutcome, new_nonce,
};
use mortise_core::group::{BootId, GroupRecord, Incarnation, LeaseId, NodeId};
use mortise_core::ids::{Epoch, GroupId};
use mortise_etcd_kit::{Release, Setup, TestEtcd};

use crate::memory::own_bytes;
use crate::report::{Report, Target};
use crate::samples::Samples;

/// Nothing that is waited for takes longer.
const WITHIN: Duration = Duration::from_secs(60);
/// How long an idle node is looked at.
const IDLE: Duration = Duration::from_secs(20);
/// Swaps under way at once while the groups are created.
const CREATED_AT_ONCE: u64 = 50;

/// What it takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Groups on the node
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    groups: u64,
    /// Changes that are timed
    #[arg(long, default_value_t = 500)]
    changes: u64,
    /// Use etcd 3.4 instead of 3.5
    #[arg(long)]
    older: bool,
    /// Also writes the numbers to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<std::path::PathBuf>,
}

/// Measures.
pub(crate) fn run(arguments: &Arguments) -> Result<Report> {
    let release = if arguments.older { Release::V3_4 } else { Release::V3_5 };
    let etcd = TestEtcd::start(Setup::new(release, 1))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut report = Report::default();
    let section = format!("coordination: one node, {} groups, {release:?}", arguments.groups);
    runtime.block_on(measure(arguments, &etcd, &section, &mut report))?;
    Ok(report)
}

fn start(etcd: &TestEtcd) -> Result<Arc<dyn Coordinator>> {
    let backend = Etcd::new(EtcdConfig::new(etcd.endpoints()))?;
    Ok(Arc::new(Coordination::start(Config::new("bench"), None, backend)?))
}

async fn measure(arguments: &Arguments, etcd: &TestEtcd, section: &str, report: &mut Report) -> Result<()> {
    let writer = start(etcd)?;
    create(&writer, arguments.groups).await?;

    let memory_before = own_bytes()?;
    let begun = Instant::now();
    let node = start(etcd)?;
    node.open_session(NodeId(1), BootId(1))?;
    (1..=arguments.groups).for_each(|group| node.campaign(GroupId(group)));
    let mut changes = node.changes(Interest::All);
    let mut ready = std::collections::BTreeSet::new();
    while ready.len() < arguments.groups as usize || node.session().live().is_none() {
        if let Change::Group(group, state) = next(&mut changes).await?
            && !state.candidates.is_empty()
        {
            ready.insert(group);
        }
    }
    report.value(
        section,
        "start until every group is known and campaigned for",
        begun.elapsed().as_secs_f64(),
        "s",
    );
    report.target(Target::AtMost(3.0));
    let leases = etcd.ctl(&["lease", "list"])?.lines().filter(|line| !line.starts_with("found")).count();
    report.value(section, "leases", leases as f64, "");
    report.target(Target::AtMost(1.0));

    let samples = timed_changes(arguments, &writer, &mut changes).await?;
    report.samples(section, "a record's change, from sending the swap to the node", &samples, "ms");
    report.target(Target::AtMost(50.0));

    drop((writer, changes));
    let (cpu, begun) = (cpu_seconds()?, Instant::now());
    tokio::time::sleep(IDLE).await;
    let share = (cpu_seconds()? - cpu) / begun.elapsed().as_secs_f64() * 100.0;
    report.value(section, "idle: processor time, of one processor", share, "%");
    let grown = own_bytes()?.saturating_sub(memory_before);
    report.value(section, "memory of the node's coordination", grown as f64 / 1024.0 / 1024.0, "MiB");
    ensure!(node.session().live().is_some(), "the session was lost while idle");
    node.close().await;
    Ok(())
}

async fn next(changes: &mut Changes) -> Result<Change> {
    tokio::time::timeout(WITHIN, changes.next()).await.context("wait for a change")
}

async fn create(writer: &Arc<dyn Coordinator>, groups: u64) -> Result<()> {
    let members = [1, 2, 3].map(|node| (NodeId(node), Incarnation(node)));
    for first in (1..=groups).step_by(CREATED_AT_ONCE as usize) {
        let some = (first..=groups.min(first + CREATED_AT_ONCE - 1)).map(|group| async move {
            let record = GroupRecord::create(1, &members, 2, new_nonce()?)?;
            match writer.swap_group(GroupId(group), Expected::Absent, record).await? {
                SwapOutcome::Applied(_) => Ok(()),
                other => bail!("create group {group}: {other:?}"),
            }
        });
        futures::future::try_join_all(some).await?;
    }
    Ok(())
}

async fn timed_changes(
    arguments: &Arguments,
    writer: &Arc<dyn Coordinator>,
    changes: &mut Changes,
) -> Result<Samples> {
    while changes.try_next().is_some() {}
    let mut samples = Samples::default();
    for number in 0..arguments.changes {
        let group = GroupId(number % arguments.groups + 1);
        let seen = writer.read_group(group).await?;
        let record = seen.record.context("a group that was created")?;
        let expected = Expected::Present { mod_revision: seen.mod_revision, nonce: record.nonce };
        let epoch = Epoch(record.epoch.0 + 1);
        let next_record = record.transfer(NodeId(2), epoch, BootId(1), LeaseId(1), new_nonce()?);
        let sent = Moment::now();
        let swap = writer.swap_group(group, expected, next_record);
        let told = async {
            loop {
                if let Change::Group(at, state) = next(changes).await?
                    && at == group
                    && state
                        .record
                        .as_ref()
                        .is_ok_and(|s| s.record.as_ref().is_some_and(|r| r.epoch == epoch))
                {
                    return Ok::<_, anyhow::Error>(Moment::now().since(sent));
                }
            }
        };
        let (outcome, took) = tokio::join!(swap, told);
        ensure!(matches!(outcome?, SwapOutcome::Applied(_)), "a swap that nobody disputes was not applied");
        samples.add(took?.as_secs_f64() * 1e3);
    }
    Ok(samples)
}

/// Processor time of this process.
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("read /proc/self/stat")?;
    // After the name, which may hold anything: state is the first field, user and system time are 12 and 13.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    let all = ticks(11).zip(ticks(12)).context("parse /proc/self/stat")?;
    Ok((all.0 + all.1) / rustix::param::clock_ticks_per_second() as f64)
}
