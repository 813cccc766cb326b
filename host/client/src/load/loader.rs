//! The load itself: rows in, answers out, checkpoints on the way.

use std::io::{Read, Seek};
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use mortise_core::ids::SessionId;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::input::{Batch, Input};
use super::mapping::Mapping;
use super::{Checkpoint, Keep, LoadError, LoadOptions, OnReject, Reason};
use crate::client::Tenant;
use crate::error::{ClientError, ErrorKind};
use crate::writer::{Acknowledge, PendingBatch, WINDOW_WRITES_MAX, Writer, WriterOptions};

/// Batches read ahead of the network.
const BATCHES_READ_MAX: usize = 8;
/// Batches sent and not answered yet: as many as the window can hold, if each had one row only.
const BATCHES_SENT_MAX: usize = WINDOW_WRITES_MAX;
/// Rows answered after which a checkpoint is kept: a quarter of the window, so that it never stands still for one.
const KEEP_ROWS: u64 = WINDOW_WRITES_MAX as u64 / 4;
/// And the bytes of commands or replies, for the same reason: the window holds 16 MiB, and so does the node's.
const KEEP_BYTES: usize = 4 << 20;
/// And the time after which one is kept in any case.
const KEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// How far a load has come, for people.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    /// The rows answered, and what became of them.
    pub checkpoint: &'a Checkpoint,
    /// Bytes of the uncompressed input that were read for them.
    pub bytes: u64,
    /// Bytes of the uncompressed input as a whole.
    pub bytes_total: u64,
    /// Why nothing gets through at the moment.
    pub trouble: Option<ClientError>,
}

/// A load in the making.
pub struct Loader<'a> {
    tenant: Tenant,
    options: LoadOptions,
    checkpoint: Checkpoint,
    keep: &'a mut dyn Keep,
}

/// What the sending task hands over, in the order of the rows.
enum Sent {
    Batch(InFlight),
    /// The rows end here, with or without an error.
    End(Result<(), LoadError>),
}

/// A batch that was sent.
struct InFlight {
    first: u64,
    /// Of its commands.
    bytes: usize,
    bytes_read: u64,
    answers: PendingBatch,
}

/// What was answered since the last checkpoint was kept.
struct Unkept {
    rows: u64,
    command_bytes: usize,
    reply_bytes: usize,
    since: Instant,
}

impl Unkept {
    fn new() -> Self {
        Self { rows: 0, command_bytes: 0, reply_bytes: 0, since: Instant::now() }
    }

    fn is_much(&self) -> bool {
        self.rows >= KEEP_ROWS || self.command_bytes.max(self.reply_bytes) >= KEEP_BYTES
    }
}

impl<'a> Loader<'a> {
    /// Begins a load: opens its session, and keeps a first checkpoint before any row is sent.
    ///
    /// # Errors
    /// Those of a call, and [`LoadError::Keep`].
    pub async fn begin(
        tenant: Tenant,
        options: LoadOptions,
        keep: &'a mut dyn Keep,
    ) -> Result<Self, LoadError> {
        let session = tenant.open_session(None).await?;
        let checkpoint = Checkpoint { session: session.id.0, ..Checkpoint::default() };
        keep.keep(&checkpoint).map_err(LoadError::Keep)?;
        Ok(Self { tenant, options, checkpoint, keep })
    }

    /// Goes on from a checkpoint.
    ///
    /// # Errors
    /// [`LoadError::Rejected`], where the load stopped at a rejected row, and still should.
    pub fn resume(
        tenant: Tenant,
        options: LoadOptions,
        mut checkpoint: Checkpoint,
        keep: &'a mut dyn Keep,
    ) -> Result<Self, LoadError> {
        let stopped = checkpoint.stopped_at.take();
        if let (Some(row), OnReject::Stop) = (stopped, options.on_reject) {
            let found = checkpoint.reasons.into_iter().find(|reason| reason.row == row);
            let unknown = || Reason { row, code: "rejected".into(), message: "as told before".into() };
            return Err(LoadError::Rejected(found.unwrap_or_else(unknown)));
        }
        Ok(Self { tenant, options, checkpoint, keep })
    }

    /// Loads all rows that are not answered yet, and ends the session. `progress` is called a few times a second.
    ///
    /// # Errors
    /// See [`LoadError`]. Before it returns one, a last checkpoint is kept.
    pub async fn run<R: Read + Seek + Send + 'static>(
        mut self,
        input: Input<R>,
        mapping: Mapping,
        mut progress: impl FnMut(&Progress<'_>),
    ) -> Result<Checkpoint, LoadError> {
        let writer = Writer::resume(
            &self.tenant,
            SessionId(self.checkpoint.session),
            self.checkpoint.answered + 1,
            // A load waits for as long as its patience says, and never gives up a single row: that would leave a
            // hole in the rows that are answered.
            WriterOptions {
                window_writes: WINDOW_WRITES_MAX,
                timeout: None,
                acknowledge: Acknowledge::ByCaller,
                ..WriterOptions::default()
            },
        );
        let bytes_total = input.bytes();
        let skip = self.checkpoint.answered;
        let (read, batches) = mpsc::channel(BATCHES_READ_MAX);
        let reader = tokio::task::spawn_blocking(move || {
            let take = |batch| match read.blocking_send(Ok(batch)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            };
            if let Err(error) = input.read(mapping, skip, take) {
                // Where nobody listens, the load has ended for another reason.
                let _ = read.blocking_send(Err(error));
            }
        });
        let (sender, sent) = mpsc::channel(BATCHES_SENT_MAX);
        let sending = tokio::spawn(send(writer.clone(), batches, sender));
        let result = self.collect(&writer, sent, bytes_total, &mut progress).await;
        sending.abort();
        // It ends by itself now that nobody takes its batches.
        drop(reader);
        let kept = self.keep_now(&writer);
        result.and(kept)?;
        if let Err(error) = writer.close().await {
            tracing::debug!(%error, "the load's session stays until it expires");
        }
        Ok(self.checkpoint)
    }

    /// Takes the answers, in the order of the rows.
    async fn collect(
        &mut self,
        writer: &Writer,
        mut sent: mpsc::Receiver<Sent>,
        bytes_total: u64,
        progress: &mut impl FnMut(&Progress<'_>),
    ) -> Result<(), LoadError> {
        let mut tick = interval(PROGRESS_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unkept = Unkept::new();
        let (mut bytes, mut heard) = (0, Instant::now());
        let mut stopped = None;
        let mut waiting: Option<InFlight> = None;
        loop {
            tokio::select! {
                biased;
                answers = answers_of(&mut waiting) => {
                    heard = Instant::now();
                    let Some(batch) = waiting.take() else { continue };
                    bytes = batch.bytes_read;
                    unkept.command_bytes += batch.bytes;
                    for (row, answer) in (batch.first..).zip(answers?) {
                        unkept.rows += 1;
                        unkept.reply_bytes += answer.as_ref().map_or(0, Bytes::len);
                        if let Some(reason) = self.count(row, answer)? && self.stops_at(&reason, &stopped) {
                            // No more is sent; what was sent is answered before the load ends.
                            stopped = Some(LoadError::Rejected(reason));
                            sent.close();
                        }
                    }
                    if unkept.is_much() {
                        self.keep_now(writer)?;
                        unkept = Unkept::new();
                    }
                }
                next = sent.recv(), if waiting.is_none() => match next {
                    Some(Sent::Batch(batch)) => waiting = Some(batch),
                    Some(Sent::End(Err(error))) => return Err(stopped.unwrap_or(error)),
                    Some(Sent::End(Ok(()))) | None => return stopped.map_or(Ok(()), Err),
                },
                _ = tick.tick() => {
                    let trouble = writer.trouble();
                    if waiting.is_none() && trouble.is_none() {
                        // It is the input that is slow.
                        heard = Instant::now();
                    }
                    self.patience(heard, trouble.as_ref())?;
                    progress(&Progress { checkpoint: &self.checkpoint, bytes, bytes_total, trouble });
                    if unkept.rows > 0 && unkept.since.elapsed() >= KEEP_INTERVAL {
                        self.keep_now(writer)?;
                        unkept = Unkept::new();
                    }
                }
            }
        }
    }

    /// Whether this rejection is the one to stop at.
    fn stops_at(&mut self, reason: &Reason, stopped: &Option<LoadError>) -> bool {
        let stops = self.options.on_reject == OnReject::Stop && stopped.is_none();
        if stops {
            self.checkpoint.stopped_at = Some(reason.row);
        }
        stops
    }

    fn patience(&self, heard: Instant, trouble: Option<&ClientError>) -> Result<(), LoadError> {
        if heard.elapsed() < self.options.patience {
            return Ok(());
        }
        let (row, seconds) = (self.checkpoint.answered + 1, self.options.patience.as_secs());
        Err(LoadError::Stalled { row, seconds, last: trouble.cloned() })
    }

    /// Counts an answer; returns the reason, if the plugin refused the row.
    fn count(&mut self, row: u64, answer: Result<Bytes, ClientError>) -> Result<Option<Reason>, LoadError> {
        let checkpoint = &mut self.checkpoint;
        let reason = match answer {
            Ok(_) => {
                checkpoint.applied += 1;
                None
            }
            Err(error) if error.is_outcome() => {
                checkpoint.rejected += 1;
                let (code, message) = match error.rejection() {
                    Some(rejection) => (rejection.code.clone(), rejection.message.clone()),
                    None => ("plugin_failed".to_owned(), error.message().to_owned()),
                };
                let reason = Reason { row, code, message };
                if checkpoint.reasons.len() < self.options.reasons_max.max(1) {
                    checkpoint.reasons.push(reason.clone());
                }
                Some(reason)
            }
            Err(error) => match error.kind() {
                ErrorKind::AlreadyAnswered => {
                    checkpoint.forgotten += 1;
                    None
                }
                ErrorKind::SessionExpired => return Err(LoadError::SessionExpired { row }),
                _ => return Err(LoadError::Refused { row, error }),
            },
        };
        checkpoint.answered = row;
        Ok(reason)
    }

    /// Keeps the checkpoint, and lets the node forget what it covers: in this order.
    fn keep_now(&mut self, writer: &Writer) -> Result<(), LoadError> {
        self.keep.keep(&self.checkpoint).map_err(LoadError::Keep)?;
        writer.acknowledge(self.checkpoint.answered);
        Ok(())
    }
}

/// The answers to the batch that is waited for; never, where there is none.
async fn answers_of(waiting: &mut Option<InFlight>) -> Result<Vec<Result<Bytes, ClientError>>, ClientError> {
    match waiting {
        Some(batch) => (&mut batch.answers).await,
        None => std::future::pending().await,
    }
}

/// Sends batches as fast as the window takes them.
async fn send(
    writer: Writer,
    mut batches: mpsc::Receiver<Result<Batch, LoadError>>,
    sent: mpsc::Sender<Sent>,
) {
    while let Some(batch) = batches.recv().await {
        let next = match batch {
            Ok(Batch { first, commands, bytes_read }) => {
                let bytes = commands.iter().map(Bytes::len).sum();
                match writer.send_batch(commands).await {
                    Ok(answers) => Sent::Batch(InFlight { first, bytes, bytes_read, answers }),
                    Err(error) => Sent::End(Err(error.into())),
                }
            }
            Err(error) => Sent::End(Err(error)),
        };
        let over = matches!(next, Sent::End(_));
        if sent.send(next).await.is_err() || over {
            return;
        }
    }
    let _ = sent.send(Sent::End(Ok(()))).await;
}
