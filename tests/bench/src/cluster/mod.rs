//! The same durable puts against three nodes of ours and against a three-member etcd, on this machine, in turn.
//!
//! ```text
//!   writer  callers, each of whom awaits one write at a time, share one writer of the client library
//!   unary   the same callers, a gRPC call each write
//!   etcd    the same callers, a put of etcd-client each, over one client
//! ```
//! A round measures each of them at one number of callers, so that what else happens on the machine meets all. etcd is spoken
//! to at its leader, which is the fastest way. All data lies on one disk, and everybody calls fsync.

mod load;

use std::time::Duration;

use anyhow::{Context, Result};
use mortise_client::kv::Kv;
use mortise_client::{Client, Options, Tenant, WriterOptions, parse_endpoints};
use mortise_cluster_kit::LocalCluster;
use mortise_etcd_kit::{Release, Setup as EtcdSetup, TestEtcd};
use tokio::runtime::Runtime;

use crate::pipeline::Pipeline;
use crate::process::Process;
use crate::report::{Report, Target};
use crate::{Common, VALUE_BYTES, cluster_of_release};
use load::{Measured, Server};

/// Before anything is measured.
const WARM_UP: Duration = Duration::from_secs(2);
/// Threads below this are not listed, in µs a write.
const LISTED_US: f64 = 0.2;
/// Of the writer alone, with its window full.
const WINDOW: usize = 8192;
/// Commands that are handed to it at once.
const BATCH: usize = 256;
/// Callers of the targets below.
const MANY: usize = 256;
/// Ratios of throughput to etcd's, at [`MANY`] callers.
const WRITER_RATIO: f64 = 5.0;
const UNARY_RATIO: f64 = 1.3;
/// Ratio of one caller's median latency to etcd's.
const ONE_RATIO: f64 = 0.5;
/// Writes a second with a full window.
const PIPELINED: f64 = 120_000.0;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
    /// How many callers write at once
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256,1000")]
    callers: Vec<usize>,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How often each is measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,
    /// Different keys that are written
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
}

/// Measures.
pub(crate) fn run(arguments: &Arguments) -> Result<Report> {
    let folder = arguments.common.scratch()?;
    let cluster = LocalCluster::start(&cluster_of_release(folder.path())?)?;
    cluster.create_tenant(&arguments.common.plugins(), "kv")?;
    let etcd = TestEtcd::start(EtcdSetup::new(Release::V3_5, 3))?;
    Runtime::new()?.block_on(measure(arguments, &cluster, &etcd))
}

async fn measure(arguments: &Arguments, cluster: &LocalCluster, etcd: &TestEtcd) -> Result<Report> {
    let options = Options { endpoints: parse_endpoints(&cluster.endpoints())?, ..Options::default() };
    let tenant = Client::connect(&options).await?.tenant("kv");
    let writer = tenant.writer(WriterOptions::default()).await?;
    let leader = etcd.endpoints().into_iter().nth(etcd.leader()?.0).context("etcd's leader")?;
    let client = etcd_client::Client::connect([leader], None).await?;
    let nodes: Vec<Process> =
        cluster.nodes().iter().filter_map(|node| node.process()).map(Process::new).collect();
    let members: Vec<Process> = etcd.processes().into_iter().map(Process::new).collect();
    let servers = [
        ("writer", Server::Ours(Kv::with_writer(tenant.clone(), writer)), &nodes),
        ("unary", Server::Ours(Kv::new(tenant.clone())), &nodes),
        ("etcd", Server::Etcd(client.kv_client()), &members),
    ];
    let time = Duration::from_secs(arguments.seconds);
    for (_, server, processes) in &servers {
        load::measure(server, MANY, WARM_UP, arguments.keys, processes).await?;
    }
    let mut report = Report::default();
    for callers in &arguments.callers {
        let mut sums = [Measured::default(), Measured::default(), Measured::default()];
        for round in 1..=arguments.rounds {
            println!("{callers} callers, round {round} of {}", arguments.rounds);
            for ((_, server, processes), sum) in servers.iter().zip(&mut sums) {
                sum.add(load::measure(server, *callers, time, arguments.keys, processes).await?);
            }
        }
        tell(&mut report, *callers, &sums);
    }
    pipelined(&mut report, arguments, &tenant).await?;
    Ok(report)
}

fn tell(report: &mut Report, callers: usize, [writer, unary, etcd]: &[Measured; 3]) {
    let section = format!("{callers} callers, puts of {VALUE_BYTES} bytes, three replicas");
    for (name, measured) in [("writer", writer), ("unary", unary), ("etcd", etcd)] {
        report.value(&section, format!("{name}: throughput"), measured.rate(), "writes/s");
        report.samples(&section, format!("{name}: latency"), &measured.latencies, "µs");
        report.value(&section, format!("{name}: CPU of the servers"), measured.server_us(), "µs/write");
        report.value(&section, format!("{name}: CPU of the client"), measured.client_us(), "µs/write");
    }
    for (name, measured) in [("writer", writer), ("unary", unary), ("etcd", etcd)] {
        let section = format!("{callers} callers, {name}: CPU of the servers by thread");
        for (thread, us, kernel) in measured.stages().into_iter().filter(|(_, us, _)| *us >= LISTED_US) {
            let what = format!("{thread} ({:.0} % in the kernel)", kernel * 100.0);
            report.value(&section, what, us, "µs/write");
        }
    }
    let section = format!("{callers} callers, ratios to etcd");
    report.value(&section, "writer: throughput", writer.rate() / etcd.rate(), "×");
    if callers == MANY {
        report.target(Target::AtLeast(WRITER_RATIO));
    }
    report.value(&section, "unary: throughput", unary.rate() / etcd.rate(), "×");
    if callers == MANY {
        report.target(Target::AtLeast(UNARY_RATIO));
    }
    report.value(&section, "writer: median latency", writer.latencies.p50() / etcd.latencies.p50(), "×");
    if callers == 1 {
        report.target(Target::AtMost(ONE_RATIO));
    }
}

/// The writer alone: there is nothing like it to compare with.
async fn pipelined(report: &mut Report, arguments: &Arguments, tenant: &Tenant) -> Result<()> {
    let options = WriterOptions { window_writes: WINDOW, ..WriterOptions::default() };
    let pipeline = Pipeline::start(tenant.writer(options).await?, BATCH, arguments.keys);
    tokio::time::sleep(WARM_UP).await;
    let (before, begun) = (pipeline.acknowledged(), std::time::Instant::now());
    pipeline.measure(true);
    tokio::time::sleep(Duration::from_secs(arguments.seconds * arguments.rounds)).await;
    pipeline.measure(false);
    let (writes, time) = (pipeline.acknowledged() - before, begun.elapsed());
    let latencies = pipeline.stop().await?;
    let section = format!("one client, {WINDOW} writes in flight, three replicas");
    report.value(&section, "acknowledged", writes as f64 / time.as_secs_f64(), "writes/s");
    report.target(Target::AtLeast(PIPELINED));
    report.samples(&section, "latency", &latencies, "ms");
    Ok(())
}
