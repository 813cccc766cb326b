//! The same cluster, where the follower that comes back has a processor of its own, as it has where every node is a machine.
//! Beside the figure for shared processors this tells what the group does for the follower from what its start takes of the
//! processors.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use mortise_cluster_kit::LocalCluster;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::runtime::Runtime;

use super::{Arguments, CALM, Load, RETURN, p99_of_return, setup};
use crate::report::{Report, Target};
use crate::samples::Samples;

/// The node that comes back. It leads at most until it is killed for the first time.
const RETURNING: usize = 3;

/// Measures, where there are two processors.
pub(super) fn run(folder: &Path, report: &mut Report, arguments: &Arguments) -> Result<()> {
    let all = sched_getaffinity(None).context("which processors may be used")?;
    let Some((others, own)) = split(&all) else {
        eprintln!("one processor: a follower with one of its own is left out");
        return Ok(());
    };
    // What is started now, threads and processes, stays there.
    sched_setaffinity(None, &others)?;
    let measured = measure(folder, (&others, &own), arguments);
    sched_setaffinity(None, &all)?;
    let [calm, returning, disturbance] = measured?;
    let section = format!("three nodes, one on a processor of its own, {} callers", arguments.callers);
    let section = section.as_str();
    report.samples(section, "p99 of writes before it was killed", &calm, "ms");
    report.samples(section, "p99 of writes from its start until it is in sync", &returning, "ms");
    report.samples(section, "the second by the first", &disturbance, "×");
    report.target(Target::AtMost(RETURN));
    Ok(())
}

/// All processors but the last one, and that.
fn split(all: &CpuSet) -> Option<(CpuSet, CpuSet)> {
    let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| all.is_set(*cpu))?;
    let (mut others, mut own) = (*all, CpuSet::new());
    others.unset(last);
    own.set(last);
    (others.count() > 0).then_some((others, own))
}

fn measure(folder: &Path, (others, own): (&CpuSet, &CpuSet), arguments: &Arguments) -> Result<[Samples; 3]> {
    let mut cluster = LocalCluster::start(&setup(folder, arguments)?)?;
    cluster.create_tenant(&arguments.common.plugins(), "kv")?;
    let runtime = Runtime::new()?;
    let load = runtime.block_on(Load::start(&cluster, arguments.callers))?;
    let mut samples: [Samples; 3] = Default::default();
    let [calm, returning, disturbance] = &mut samples;
    // The first time only takes it to its own processor.
    for time in 0..=arguments.times {
        eprintln!("a processor of its own: round {time} of {}", arguments.times);
        std::thread::sleep(CALM);
        let since = Instant::now();
        cluster.node(RETURNING).kill()?;
        std::thread::sleep(CALM);
        let leading = cluster.wait_leader()?;
        let before = load.p99(since - CALM..since);
        sched_setaffinity(None, own)?;
        let after = p99_of_return(&mut cluster, &runtime, &load, RETURNING, leading)?;
        sched_setaffinity(None, others)?;
        if time > 0 {
            calm.add(before);
            returning.add(after);
            disturbance.add(after / before);
        }
    }
    runtime.block_on(load.stop())?;
    Ok(samples)
}
