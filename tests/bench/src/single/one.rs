//! One write at a time, beside what the disk alone takes.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use mortise_client::{Tenant, WriterOptions, kv};

use super::Arguments;
use super::node::Node;
use super::scrape::Metrics;
use crate::VALUE_BYTES;
use crate::disk::{Reference, Space};
use crate::report::{Report, Target};
use crate::samples::Samples;

/// Above the disk's own p50, in µs.
const TARGET_US: f64 = 250.0;
/// About what one write takes in the log: frame, entry, command.
const RECORD_BYTES: usize = 256;

/// What each kind of write took.
#[derive(Default)]
struct Taken {
    streamed: Samples,
    called: Samples,
    over_zeros: Samples,
    over_reserved: Samples,
}

pub(super) async fn measure(
    report: &mut Report,
    arguments: &Arguments,
    tenant: Tenant,
    node: &Node,
    folder: &Path,
) -> Result<()> {
    let before = Metrics::of(node.admin_address()).await?;
    // A task, as an application's writers are: on the thread of `block_on`, each answer would change threads once more.
    let taken = tokio::spawn(write(tenant, arguments.writes, folder.to_owned())).await??;
    let after = Metrics::of(node.admin_address()).await?;
    let Taken { streamed, called, over_zeros, over_reserved } = taken;
    let section = "one write at a time";
    report.samples(section, "through a writer", &streamed, "µs");
    report.target(Target::AtMost(over_zeros.p50() + TARGET_US));
    report.samples(section, "as a call outside any session", &called, "µs");
    report.samples(section, "the machine: write and fdatasync over zeros", &over_zeros, "µs");
    report.samples(section, "the machine: the same into reserved space", &over_reserved, "µs");
    report.value(section, "writer above the machine, p50", streamed.p50() - over_zeros.p50(), "µs");
    report.target(Target::AtMost(TARGET_US));
    // Means, of the writes of both kinds: what is left of a write's time is its way through threads and sockets.
    for (what, name) in
        [("log's fsync", "mortise_log_fsync_seconds"), ("applying", "mortise_apply_entry_seconds")]
    {
        let grown = |part: &str| after.grown(&before, &format!("{name}_{part}"));
        report.value(
            section,
            format!("inside the node: {what}, mean"),
            grown("sum") / grown("count") * 1e6,
            "µs",
        );
    }
    Ok(())
}

/// Writes of all kinds in turn, so that all meet the same disk.
async fn write(tenant: Tenant, writes: usize, folder: PathBuf) -> Result<Taken> {
    let writer = tenant.writer(WriterOptions::default()).await?;
    let mut written = Reference::create(&folder.join("reference-written"), Space::Written)?;
    let mut reserved = Reference::create(&folder.join("reference-reserved"), Space::Reserved)?;
    let record = vec![0x61; RECORD_BYTES];
    let (warm_up, mut taken) = (writes / 10, Taken::default());
    for write in 0..warm_up + writes {
        let put = kv::put(format!("one-{write:012}"), vec![0x61; VALUE_BYTES], 0);
        let start = Instant::now();
        writer.write(put.clone()).await?;
        let stream = start.elapsed();
        let start = Instant::now();
        tenant.write(put).await?;
        let call = start.elapsed();
        // Nothing else runs in this process meanwhile, so blocking its thread does no harm.
        let (zeros, space) = (written.write(&record)?, reserved.write(&record)?);
        if write >= warm_up {
            taken.streamed.add_us(stream, 1);
            taken.called.add_us(call, 1);
            taken.over_zeros.add_us(zeros, 1);
            taken.over_reserved.add_us(space, 1);
        }
    }
    writer.close().await?;
    Ok(taken)
}
