//! What the client library costs: the CPU time of this process for a write through a writer, beside the same write on a
//! bare stream of gRPC, in turn.
//!
//! ```text
//!   messages of a batch each, as many in flight as the window holds: bare ─ batches of a writer
//!   one message of a batch at a time, or of one write:               bare ─ as many callers of a writer
//! ```
//! All of them make the same commands in the same way, and write them in a session of their own. What a bare stream leaves
//! out is all that a writer is for: sending again, deadlines, bounds, answers to each caller.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::channel::mpsc;
use mortise_client::{Tenant, Writer, WriterOptions, kv};
use mortise_proto::v1::data_client::DataClient;
use mortise_proto::v1::{StreamWrite, WriteResult, WriteStreamRequest, write_result};
use tokio::task::JoinSet;

use super::Arguments;
use super::node::Node;
use crate::VALUE_BYTES;
use crate::pipeline::key;
use crate::process::Process;
use crate::report::{Report, Target};

/// CPU time of a write above that of a bare stream, in µs.
const TARGET_US: f64 = 2.0;
/// How often each is measured.
const ROUNDS: u64 = 4;

/// What is kept in flight.
#[derive(Clone, Copy)]
struct Load {
    /// Writes in a message, or callers.
    batch: usize,
    /// Messages in flight.
    messages: usize,
    /// Different keys.
    keys: u64,
    until: Instant,
}

impl Load {
    fn puts(self, first: u64) -> impl Iterator<Item = Bytes> {
        (first..first + self.batch as u64).map(move |number| put(number, self.keys))
    }
}

fn put(number: u64, keys: u64) -> Bytes {
    kv::put(key(number, keys), vec![0x61; VALUE_BYTES], 0)
}

/// CPU time and writes, over all rounds.
#[derive(Default)]
struct Cost {
    seconds: f64,
    cpu: f64,
    writes: u64,
}

impl Cost {
    /// Takes one measurement in. The load is a task, as a program's would be.
    async fn add(&mut self, load: impl Future<Output = Result<u64>> + Send + 'static) -> Result<()> {
        let (begun, before) = (Instant::now(), Process::this().cpu()?);
        self.writes += tokio::spawn(load).await??;
        self.cpu += Process::this().cpu()?.since(before).total();
        self.seconds += begun.elapsed().as_secs_f64();
        Ok(())
    }

    fn us(&self) -> f64 {
        self.cpu / self.writes as f64 * 1e6
    }
}

/// What is measured with one load, over all rounds.
#[derive(Default)]
struct Costs {
    bare: Cost,
    writer: Cost,
}

/// Measures every way to keep a node busy.
pub(super) async fn measure(
    report: &mut Report,
    arguments: &Arguments,
    tenant: &Tenant,
    node: &Node,
) -> Result<()> {
    let time = Duration::from_millis(arguments.seconds * 1000 / ROUNDS);
    let batch = arguments.batch.max(1);
    let shapes = [(batch, (arguments.window / batch).max(1)), (batch, 1), (1, 1)];
    let options = WriterOptions { window_writes: arguments.window, ..WriterOptions::default() };
    let writer = tenant.writer(options).await?;
    let mut costs: [Costs; 3] = Default::default();
    for _ in 0..ROUNDS {
        for ((batch, messages), costs) in shapes.into_iter().zip(&mut costs) {
            let keys = arguments.keys.max(1);
            let load = || Load { batch, messages, keys, until: Instant::now() + time };
            costs.bare.add(bare(node.endpoint(), tenant.clone(), load())).await?;
            match messages {
                1 => costs.writer.add(callers(writer.clone(), load())).await?,
                _ => costs.writer.add(batches(writer.clone(), load())).await?,
            }
        }
    }
    writer.close().await?;
    for ((batch, messages), costs) in shapes.into_iter().zip(&costs) {
        tell(report, batch, messages, costs);
    }
    Ok(())
}

fn tell(report: &mut Report, batch: usize, messages: usize, Costs { bare, writer }: &Costs) {
    let section = format!("CPU time of the client, {messages} × {batch} writes in flight");
    let through = match messages {
        1 => format!("a writer with {batch} callers"),
        _ => "batches of a writer".to_owned(),
    };
    for (name, cost) in [("a bare stream", bare), (through.as_str(), writer)] {
        let rate = cost.writes as f64 / cost.seconds;
        report.value(&section, format!("{name}, {rate:.0} writes/s"), cost.us(), "µs/write");
    }
    report.value(&section, "difference", writer.us() - bare.us(), "µs/write");
    // Of a write alone, most is the turns of threads and sockets that wait for it.
    if batch > 1 {
        report.target(Target::AtMost(TARGET_US));
    }
}

/// A stream as gRPC has it, and the least that a session needs.
async fn bare(endpoint: String, tenant: Tenant, load: Load) -> Result<u64> {
    let session = tenant.open_session(None).await?.id;
    let mut client = DataClient::connect(endpoint).await?;
    let (mut sender, messages) = mpsc::channel(load.messages);
    let mut answers = client.write_stream(messages).await?.into_inner();
    // How many answers each message lacks, the oldest first. All before it are answered.
    let mut open = VecDeque::new();
    let (mut sent, mut answered) = (0, 0);
    loop {
        while open.len() < load.messages && Instant::now() < load.until {
            let numbered = (sent + 1..).zip(load.puts(sent + 1));
            let write = |(sequence, command)| StreamWrite { sequence, command, ..StreamWrite::default() };
            let writes: Vec<_> = numbered.map(write).collect();
            sent += writes.len() as u64;
            open.push_back(writes.len());
            let tenant = tenant.name().to_owned();
            sender.try_send(WriteStreamRequest {
                tenant,
                session: session.0,
                answered_up_to: answered,
                writes,
            })?;
        }
        if open.is_empty() {
            tenant.close_session(session).await?;
            return Ok(sent);
        }
        let response = answers.message().await?.context("the node ended the stream")?;
        for WriteResult { sequence, result } in response.results {
            ensure!(
                matches!(result, Some(write_result::Result::Reply(_))),
                "a write was refused: {result:?}"
            );
            let message = (sequence - answered - 1) as usize / load.batch;
            *open.get_mut(message).context("an answer to no write")? -= 1;
        }
        while open.front() == Some(&0) {
            open.pop_front();
            answered += load.batch as u64;
        }
    }
}

/// The same through a writer, by one task.
async fn batches(writer: Writer, load: Load) -> Result<u64> {
    let mut open = VecDeque::new();
    let (mut sent, mut answered) = (0, 0);
    loop {
        while open.len() < load.messages && Instant::now() < load.until {
            open.push_back(writer.send_batch(load.puts(sent + 1).collect()).await?);
            sent += load.batch as u64;
        }
        let Some(pending) = open.pop_front() else { return Ok(answered) };
        for result in pending.await? {
            result?;
            answered += 1;
        }
    }
}

/// The same by as many callers as a message has writes, each of whom awaits one write at a time.
async fn callers(writer: Writer, load: Load) -> Result<u64> {
    let mut tasks = JoinSet::new();
    for caller in 0..load.batch as u64 {
        let writer = writer.clone();
        tasks.spawn(async move {
            let mut written = 0;
            while Instant::now() < load.until {
                writer.write(put(caller + written * load.batch as u64, load.keys)).await?;
                written += 1;
            }
            anyhow::Ok(written)
        });
    }
    let mut written = 0;
    while let Some(task) = tasks.join_next().await {
        written += task??;
    }
    Ok(written)
}
