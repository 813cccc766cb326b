//! One client, many writes in flight.

use std::time::{Duration, Instant};

use anyhow::Result;
use mortise_client::{Tenant, WriterOptions};

use super::Arguments;
use super::node::Node;
use super::scrape::Metrics;
use crate::VALUE_BYTES;
use crate::pipeline::Pipeline;
use crate::process::{Cpu, Machine, Process};
use crate::report::{Report, Target};
use crate::samples::Samples;

/// Acknowledged writes a second.
const TARGET: f64 = 100_000.0;
/// Load before anything is measured.
const WARM_UP: Duration = Duration::from_secs(2);
/// Threads that used less are not listed, in µs a write.
const LISTED_US: f64 = 0.005;

/// Everything that is counted, at one moment.
struct Moment {
    time: Instant,
    acknowledged: u64,
    node: Cpu,
    client: Cpu,
    threads: std::collections::BTreeMap<String, Cpu>,
    machine: Machine,
    metrics: Metrics,
}

impl Moment {
    async fn now(node: &Node, pipeline: &Pipeline) -> Result<Self> {
        let metrics = Metrics::of(node.admin_address()).await?;
        Ok(Self {
            time: Instant::now(),
            acknowledged: pipeline.acknowledged(),
            node: node.process().cpu()?,
            client: Process::this().cpu()?,
            threads: node.process().threads()?,
            machine: Machine::now()?,
            metrics,
        })
    }
}

/// Loads the node for some seconds.
pub(super) async fn measure(
    report: &mut Report,
    arguments: &Arguments,
    tenant: Tenant,
    node: &Node,
) -> Result<()> {
    let options = WriterOptions { window_writes: arguments.window, ..WriterOptions::default() };
    let pipeline = Pipeline::start(tenant.writer(options).await?, arguments.batch, arguments.keys);
    tokio::time::sleep(WARM_UP).await;
    let first = Moment::now(node, &pipeline).await?;
    pipeline.measure(true);
    tokio::time::sleep(Duration::from_secs(arguments.seconds)).await;
    pipeline.measure(false);
    let last = Moment::now(node, &pipeline).await?;
    let latencies = pipeline.stop().await?;
    tell(report, arguments, &first, &last, &latencies);
    Ok(())
}

fn tell(report: &mut Report, arguments: &Arguments, first: &Moment, last: &Moment, latencies: &Samples) {
    let writes = (last.acknowledged - first.acknowledged) as f64;
    let seconds = last.time.duration_since(first.time).as_secs_f64();
    let section = format!(
        "one client, {} writes of {VALUE_BYTES} bytes in flight, {} at a time, {seconds:.1} s",
        arguments.window, arguments.batch
    );
    let grown = |name: &str| last.metrics.grown(&first.metrics, name);
    report.value(&section, "acknowledged", writes / seconds, "writes/s");
    report.target(Target::AtLeast(TARGET));
    report.samples(&section, "latency", latencies, "ms");
    let fsyncs = grown("mortise_log_fsync_seconds_count");
    report.value(&section, "writes per fsync", writes / fsyncs, "writes");
    report.value(&section, "fsyncs", fsyncs / seconds, "fsyncs/s");
    report.value(&section, "an fsync, mean", grown("mortise_log_fsync_seconds_sum") / fsyncs * 1e3, "ms");
    report.value(&section, "log written", grown("mortise_log_written_bytes_total") / writes, "bytes/write");
    let entries = grown("mortise_apply_entry_seconds_count");
    report.value(&section, "writes per log entry", writes / entries, "writes");
    let applying = grown("mortise_apply_entry_seconds_sum") / writes * 1e6;
    report.value(&section, "applying, wall time", applying, "µs/write");
    let messages = grown("mortise_grpc_stream_messages_total");
    report.value(&section, "writes per gRPC message", writes / messages, "writes");

    let section = "CPU time, 1 write of that load";
    let mut tell = |what: &str, cpu: Cpu| {
        let per_write = cpu.total() / writes * 1e6;
        if per_write >= LISTED_US {
            let kernel = cpu.system / cpu.total().max(f64::MIN_POSITIVE) * 100.0;
            report.value(section, format!("{what} ({kernel:.0} % in the kernel)"), per_write, "µs/write");
        }
    };
    tell("client", last.client.since(first.client));
    tell("node", last.node.since(first.node));
    let mut threads: Vec<(&String, Cpu)> = last
        .threads
        .iter()
        .map(|(name, cpu)| (name, cpu.since(first.threads.get(name).copied().unwrap_or_default())))
        .collect();
    threads.sort_by(|one, two| two.1.total().total_cmp(&one.1.total()));
    for (name, cpu) in threads {
        tell(&format!("  of it thread {name}"), cpu);
    }
    let ours = last.node.since(first.node).total() + last.client.since(first.client).total();
    report.value(section, "cores busy, node and client", ours / seconds, "cores");
    // Where these are not next to nothing, the numbers above are too low.
    let others = (last.machine.busy - first.machine.busy - ours).max(0.0);
    report.value(section, "cores busy with other programs and the kernel itself", others / seconds, "cores");
    let stolen = last.machine.stolen - first.machine.stolen;
    report.value(section, "cores that the machine below gave to others", stolen / seconds, "cores");
}
