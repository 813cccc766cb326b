//! One client that keeps a window of writes full.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Result, ensure};
use bytes::Bytes;
use mortise_client::writer::PendingBatch;
use mortise_client::{Writer, kv};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::VALUE_BYTES;
use crate::samples::Samples;

/// What the tasks of the load share.
#[derive(Default)]
struct Progress {
    acknowledged: AtomicU64,
    measuring: AtomicBool,
    stop: AtomicBool,
}

/// The load, from its beginning to [`Pipeline::stop`].
pub(crate) struct Pipeline {
    progress: Arc<Progress>,
    sender: JoinHandle<Result<()>>,
    receiver: JoinHandle<Result<Samples>>,
}

impl Pipeline {
    /// Puts of [`VALUE_BYTES`], `batch` at a time, to that many different `keys`; as many in flight as the writer's
    /// window holds.
    pub(crate) fn start(writer: Writer, batch: usize, keys: u64) -> Self {
        let progress = Arc::new(Progress::default());
        let (sent, to_await) = mpsc::unbounded_channel();
        let sender = tokio::spawn(send(writer, batch.max(1), keys.max(1), progress.clone(), sent));
        let receiver = tokio::spawn(receive(to_await, progress.clone()));
        Self { progress, sender, receiver }
    }

    /// Writes that were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.progress.acknowledged.load(Ordering::Relaxed)
    }

    /// Whether latencies are noted from now on.
    pub(crate) fn measure(&self, measuring: bool) {
        self.progress.measuring.store(measuring, Ordering::Relaxed);
    }

    /// Ends it. Milliseconds from a batch's sending to its last answer: that is what each of its writes is said to have
    /// taken.
    pub(crate) async fn stop(self) -> Result<Samples> {
        self.progress.stop.store(true, Ordering::Relaxed);
        self.sender.await??;
        self.receiver.await?
    }
}

/// Sends batches as fast as the window lets it.
async fn send(
    writer: Writer,
    batch: usize,
    keys: u64,
    progress: Arc<Progress>,
    sent: mpsc::UnboundedSender<(Instant, usize, PendingBatch)>,
) -> Result<()> {
    let mut number = 0u64;
    while !progress.stop.load(Ordering::Relaxed) {
        let commands: Vec<Bytes> = (0..batch)
            .map(|_| {
                number += 1;
                kv::put(key(number, keys), vec![0x61; VALUE_BYTES], 0)
            })
            .collect();
        let pending = writer.send_batch(commands).await?;
        if sent.send((Instant::now(), batch, pending)).is_err() {
            break;
        }
    }
    writer.flush().await;
    Ok(())
}

/// Waits for the answers, in the order of sending.
async fn receive(
    mut sent: mpsc::UnboundedReceiver<(Instant, usize, PendingBatch)>,
    progress: Arc<Progress>,
) -> Result<Samples> {
    let mut latencies = Samples::default();
    while let Some((start, writes, pending)) = sent.recv().await {
        let results = pending.await?;
        let took = start.elapsed();
        let refused = results.into_iter().find_map(Result::err);
        ensure!(refused.is_none(), "a write was refused: {refused:?}");
        progress.acknowledged.fetch_add(writes as u64, Ordering::Relaxed);
        if progress.measuring.load(Ordering::Relaxed) {
            latencies.add(took.as_secs_f64() * 1e3);
        }
    }
    Ok(latencies)
}

/// The key of a write, one of `keys`: neighbours in time are far apart in the key space.
pub(crate) fn key(number: u64, keys: u64) -> Vec<u8> {
    (number % keys).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes().to_vec()
}
