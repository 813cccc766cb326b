//! How long writes stand still: when the leader is killed, when a follower is, when the leadership is handed over; how much
//! slower they are while a follower comes back, also where it has a processor of its own: see `apart`; and how long it
//! takes with a large state until a wiped follower is in sync, and a restarted one serves: see `heavy`.
//!
//! Three `mortise serve` processes and an etcd on this machine; clients write one key after the other, without a pause,
//! through one writer of the client library. What is measured is what they see.

mod apart;
mod heavy;

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mortise_client::cluster::ClusterClient;
use mortise_client::kv::Kv;
use mortise_client::{Client, Options, WriterOptions, parse_endpoints};
use mortise_cluster_kit::{LocalCluster, Setup};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::report::{Report, Target};
use crate::samples::Samples;
use crate::{Common, cluster_of_release};

/// How long writes go well before and after each fault.
const CALM: Duration = Duration::from_millis(1500);
/// How often it is asked whether a follower is in sync.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// By how much the p99 of writes may rise while a follower comes back.
const RETURN: f64 = 2.0;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
    /// How often each fault is brought about
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1000))]
    times: u64,
    /// How many callers write, each its next when the last is acknowledged
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    callers: u16,
    /// Megabytes of state of which a wiped follower is brought in sync, and with which a node is started again; 0: neither.
    /// Takes about twenty times as much disk
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(0..=100_000))]
    state_mb: u64,
    /// How many entries that node has to apply
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    entries: u64,
}

/// Clients that write without a pause, and note when each write began and was acknowledged.
struct Load {
    writes: Arc<Mutex<Noted>>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Noted {
    /// Begin and acknowledgement of each write.
    writes: Vec<(Instant, Instant)>,
    errors: Vec<String>,
}

impl Load {
    async fn start(cluster: &LocalCluster, callers: u16) -> Result<Self> {
        let options = Options { endpoints: parse_endpoints(&cluster.endpoints())?, ..Options::default() };
        let tenant = Client::connect(&options).await?.tenant("kv");
        let writer = tenant.writer(WriterOptions::default()).await?;
        let writes = Arc::new(Mutex::new(Noted::default()));
        let tasks = (0..callers).map(|caller| {
            let (kv, writes) = (Kv::with_writer(tenant.clone(), writer.clone()), writes.clone());
            tokio::spawn(async move {
                for number in 0u64.. {
                    let begun = Instant::now();
                    let done = kv.put(format!("{caller}-{}", number % 1000), number.to_le_bytes(), 0).await;
                    let mut noted = writes.lock().unwrap_or_else(PoisonError::into_inner);
                    match done {
                        Ok(_) => noted.writes.push((begun, Instant::now())),
                        Err(error) => return noted.errors.push(error.to_string()),
                    }
                }
            })
        });
        let tasks = tasks.collect();
        Ok(Self { writes, tasks })
    }

    /// From `since` to the first acknowledgement of a write that began later; `None`: there is none yet.
    fn first_after(&self, since: Instant) -> Option<Duration> {
        let noted = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let after = noted.writes.iter().filter(|(begun, _)| *begun >= since);
        after.map(|(_, acknowledged)| acknowledged.duration_since(since)).min()
    }

    /// The longest time without any acknowledgement since then.
    fn longest_gap(&self, since: Instant) -> Duration {
        let noted = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut times: Vec<Instant> =
            noted.writes.iter().map(|(_, acknowledged)| *acknowledged).filter(|at| *at >= since).collect();
        times.sort();
        let gaps = times.windows(2).map(|pair| pair[1].duration_since(pair[0]));
        let first = times.first().map(|first| first.duration_since(since));
        gaps.chain(first).max().unwrap_or_else(|| since.elapsed())
    }

    /// The time that 99 of 100 writes took at most which began then, in milliseconds.
    fn p99(&self, then: Range<Instant>) -> f64 {
        let noted = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut took = Samples::default();
        let began_then = noted.writes.iter().filter(|(begun, _)| then.contains(begun));
        began_then.for_each(|(begun, done)| took.add(done.duration_since(*begun).as_secs_f64() * 1e3));
        took.p99()
    }

    /// How many writes were acknowledged so far.
    fn acknowledged(&self) -> usize {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner).writes.len()
    }

    async fn stop(self) -> Result<()> {
        self.tasks.iter().for_each(JoinHandle::abort);
        let noted = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(noted.errors.is_empty(), "an error reached a caller: {}", noted.errors.join("; "));
        Ok(())
    }
}

/// Until every member is in sync, as the node there tells over one connection: a process for every look would take so
/// much of the processors that the writes become slower by it.
async fn wait_in_sync(admin_url: &str) -> Result<()> {
    let options = Options { admin_endpoints: parse_endpoints(admin_url)?, ..Options::default() };
    let client = ClusterClient::connect(&options).await?;
    let begun = Instant::now();
    while client.list_groups().await?.iter().any(|group| group.isr.len() < group.members.len()) {
        ensure!(begun.elapsed() < mortise_cluster_kit::PATIENCE, "a follower does not come in sync");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Starts a killed follower, and gives the p99 of writes, in milliseconds, from then until it is in sync.
fn p99_of_return(
    cluster: &mut LocalCluster,
    runtime: &Runtime,
    load: &Load,
    killed: usize,
    leading: usize,
) -> Result<f64> {
    let since = Instant::now();
    cluster.node(killed).start()?;
    runtime.block_on(wait_in_sync(&cluster.node(leading).admin_url()))?;
    Ok(load.p99(since..Instant::now()))
}

fn setup(folder: &Path, arguments: &Arguments) -> Result<Setup> {
    let settings = format!("[storage]\nlog_segment_bytes = {}\n", heavy::segment_bytes(arguments.state_mb));
    Ok(Setup { settings, ..cluster_of_release(folder)? })
}

/// Measures.
pub(crate) fn run(arguments: &Arguments) -> Result<Report> {
    let folder = arguments.common.scratch()?;
    let mut cluster = LocalCluster::start(&setup(folder.path(), arguments)?)?;
    cluster.create_tenant(&arguments.common.plugins(), "kv")?;
    let runtime = Runtime::new()?;
    let load = runtime.block_on(Load::start(&cluster, arguments.callers))?;
    let [mut leader, mut follower, mut calm, mut returning, mut disturbance, mut transfer] =
        std::array::from_fn(|_| Samples::default());
    for time in 1..=arguments.times {
        eprintln!("round {time} of {}", arguments.times);
        let killed = cluster.wait_leader()?;
        std::thread::sleep(CALM);
        let since = Instant::now();
        cluster.node(killed).kill()?;
        let first = wait(|| load.first_after(since))?;
        leader.add(first.as_secs_f64() * 1e3);
        cluster.node(killed).start()?;
        cluster.wait_in_sync_while_written()?;

        let leading = cluster.wait_leader()?;
        let killed = leading % 3 + 1;
        std::thread::sleep(CALM);
        let since = Instant::now();
        cluster.node(killed).kill()?;
        std::thread::sleep(CALM);
        follower.add(load.longest_gap(since).as_secs_f64() * 1e3);
        let before = load.p99(since - CALM..since);
        let after = p99_of_return(&mut cluster, &runtime, &load, killed, leading)?;
        calm.add(before);
        returning.add(after);
        disturbance.add(after / before);

        let target = (cluster.wait_leader()? % 3 + 1).to_string();
        std::thread::sleep(CALM);
        let since = Instant::now();
        cluster.ok(&["cluster", "transfer", "1", &target])?;
        std::thread::sleep(CALM);
        transfer.add(load.longest_gap(since).as_secs_f64() * 1e3);
    }
    runtime.block_on(load.stop())?;
    let mut report = Report::default();
    let section = format!("three nodes on this machine, {} callers", arguments.callers);
    let section = section.as_str();
    report.samples(section, "leader killed −9, to the first acknowledged write", &leader, "ms");
    report.target(Target::AtMost(1500.0));
    report.samples(section, "follower killed −9: longest time without an acknowledgement", &follower, "ms");
    report.target(Target::AtMost(1000.0));
    report.samples(section, "p99 of writes before it was killed", &calm, "ms");
    report.samples(section, "p99 of writes from its start until it is in sync", &returning, "ms");
    report.samples(section, "the second by the first", &disturbance, "×");
    report.target(Target::AtMost(RETURN));
    report.samples(section, "planned transfer: longest time without an acknowledgement", &transfer, "ms");
    report.target(Target::AtMost(100.0));
    if arguments.state_mb > 0 {
        heavy::run(&mut cluster, &runtime, &mut report, arguments)?;
    }
    drop(cluster);
    apart::run(arguments.common.scratch()?.path(), &mut report, arguments)?;
    Ok(report)
}

fn wait<T>(look: impl Fn() -> Option<T>) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        ensure!(begun.elapsed() < mortise_cluster_kit::PATIENCE, "no write was acknowledged any more");
        std::thread::sleep(Duration::from_millis(1));
    }
}
