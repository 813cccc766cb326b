//! The pipelined way to write: many writes in flight on one stream, every one of them exactly once.
//!
//! ```text
//!  callers ──▶ room (bounds) ──▶ queue ──▶ driver ──▶ messages of many writes ──▶ node
//!     ▲                                      │ ▲                                    │
//!     └──────────── answer ◀── window ◀──────┘ └──── answers, by sequence ◀─────────┘
//! ```
//! Each write gets the next sequence of the session. What was sent and not answered waits in the window; where the
//! stream breaks, the driver opens another and sends all of it again under the same sequences, and the node executes
//! only what it had not. While one message is on its way, the writes that come meanwhile gather for the next.
//!
//! Writes in flight together are concurrent: mostly they are executed in the order of their sequences, but one that
//! the node refused for overload, or that is sent again, may come after its successors. A write that must follow
//! another is to be sent when that one is answered.

mod alarm;
mod driver;
mod pending;
mod window;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mortise_core::ids::SessionId;
use mortise_core::session::WINDOW_OUTCOMES_MAX;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::client::Tenant;
use crate::connection::check_size;
use crate::error::{ClientError, ErrorKind};
use driver::Driver;
pub use pending::{Pending, PendingBatch, PendingEarly};
use window::{Waiter, Window};

/// Most writes that a window may hold. The node keeps the outcomes of twice as many: those of the window, and those
/// whose acknowledgement is still on its way to it.
pub const WINDOW_WRITES_MAX: usize = WINDOW_OUTCOMES_MAX / 2;
/// Most bytes that a window may hold: what a semaphore can count in one step.
pub const WINDOW_BYTES_MAX: usize = 1 << 30;

/// How a writer behaves.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// Writes in flight, and answered ones that are not acknowledged; one more waits. Default 8,192: at 150,000
    /// writes a second that is 55 ms. From 1 to [`WINDOW_WRITES_MAX`]; values beyond count as these.
    pub window_writes: usize,
    /// Bytes of their commands. Default 16 MiB. From 1 to [`WINDOW_BYTES_MAX`]. A larger command goes alone.
    pub window_bytes: usize,
    /// How long a write may take, waiting for room and sending again included. `None`: until it is answered.
    /// Default 30 s.
    pub timeout: Option<Duration>,
    /// The session ends when unused this long. `None`: as long as the profile allows, which is the default.
    pub session_ttl: Option<Duration>,
    /// Who tells the node which outcomes it may forget. Default: the writer.
    pub acknowledge: Acknowledge,
}

/// Who tells the node which outcomes it may forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledge {
    /// The writer, as soon as it has an answer and those to all writes before.
    WhenAnswered,
    /// The caller, with [`Writer::acknowledge`]: so that a process which comes back after a crash is told once more
    /// what became of every write whose answer it had not made durable.
    ByCaller,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            window_writes: 8_192,
            window_bytes: 16 << 20,
            timeout: Some(Duration::from_secs(30)),
            session_ttl: None,
            acknowledge: Acknowledge::WhenAnswered,
        }
    }
}

/// A pipeline of writes in one session. Cheap to clone; clones share session, stream and window. When the last one is
/// dropped, what was sent is still answered, for a few seconds.
///
/// A write's answer is `Ok` with the plugin's reply, or the error that ended it. Dropping a future does not take its
/// write back.
#[derive(Clone, Debug)]
pub struct Writer {
    tenant: Tenant,
    session: SessionId,
    timeout: Option<Duration>,
    queue: mpsc::UnboundedSender<Submission>,
    shared: Arc<Shared>,
}

/// What callers hand to the driver. The queue is bounded by `Shared`'s room, which every write takes first.
#[derive(Debug)]
enum Submission {
    One { command: Bytes, deadline: Option<Instant>, waiter: Waiter },
    Batch { commands: Vec<Bytes>, deadline: Option<Instant>, answer: oneshot::Sender<BatchAnswer> },
    Acknowledge(u64),
    Flush(oneshot::Sender<()>),
}

/// One result for each write of a batch, in order.
type BatchAnswer = Vec<Result<Bytes, ClientError>>;

/// What callers and driver share.
#[derive(Debug)]
struct Shared {
    writes: Semaphore,
    bytes: Semaphore,
    bytes_max: usize,
    writes_max: usize,
    /// Why nothing can be written any more.
    end: OnceLock<ClientError>,
    /// Why the stream broke last; `None` as soon as it works again.
    trouble: Mutex<Option<ClientError>>,
}

impl Writer {
    /// Goes on in a session, with writes from `from_sequence` on (at least 1): a new writer counts them from there,
    /// whether or not an earlier one had sent them, and the node executes only those that it had not. It says
    /// [`ErrorKind::AlreadyAnswered`] to those whose outcome was acknowledged.
    pub fn resume(tenant: &Tenant, session: SessionId, from_sequence: u64, options: WriterOptions) -> Self {
        let writes_max = options.window_writes.clamp(1, WINDOW_WRITES_MAX);
        let bytes_max = options.window_bytes.clamp(1, WINDOW_BYTES_MAX);
        let shared = Arc::new(Shared {
            writes: Semaphore::new(writes_max),
            bytes: Semaphore::new(bytes_max),
            bytes_max,
            writes_max,
            end: OnceLock::new(),
            trouble: Mutex::new(None),
        });
        let (queue, submissions) = mpsc::unbounded_channel();
        let window = Window::new(from_sequence.max(1), bytes_max, options.acknowledge);
        let driver = Driver::new(tenant.clone(), session, submissions, window, shared.clone());
        tokio::spawn(driver.run());
        Self { tenant: tenant.clone(), session, timeout: options.timeout, queue, shared }
    }

    /// The session, to resume it elsewhere.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Writes, and waits for the answer.
    ///
    /// # Errors
    /// What the node or its plugin answers. [`ErrorKind::DeadlineExceeded`] says whether it may have taken effect;
    /// it surely does not later. [`ErrorKind::SessionExpired`] and [`ErrorKind::Superseded`] end the writer.
    pub async fn write(&self, command: impl Into<Bytes>) -> Result<Bytes, ClientError> {
        self.send(command).await?.await
    }

    /// Waits for room in the window, sends, and returns the answer's future, so that the next write can follow at
    /// once. Sequences are given out in the order of these calls, where one task makes them.
    ///
    /// # Errors
    /// Nothing was sent: [`ErrorKind::DeadlineExceeded`] where there is no room within the timeout,
    /// [`ErrorKind::TooLarge`] where no node takes such a command, or why the writer has ended.
    pub async fn send(&self, command: impl Into<Bytes>) -> Result<Pending, ClientError> {
        let command = command.into();
        let deadline = self.deadline();
        self.room(1, command.len(), command.len(), deadline).await?;
        let (answer, receiver) = oneshot::channel();
        self.submit(Submission::One { command, deadline, waiter: Waiter::One(answer) })?;
        Ok(Pending::new(receiver, self.shared.clone()))
    }

    /// [`Writer::send`], but the leader acknowledges as soon as it alone has the write on disk, with a token, and the
    /// outcome follows. Where the leader goes before the other members have the write, its outcome is
    /// [`ErrorKind::Lost`]: the writer does not send it again, since the caller may have acted on it. Neither
    /// the token nor the outcome comes at a deadline: then [`Tenant::ask_fate`] tells what became of it.
    ///
    /// # Errors
    /// As [`Writer::send`].
    pub async fn send_early(&self, command: impl Into<Bytes>) -> Result<PendingEarly, ClientError> {
        let command = command.into();
        let deadline = self.deadline();
        self.room(1, command.len(), command.len(), deadline).await?;
        let (token, tokens) = oneshot::channel();
        let (answer, receiver) = oneshot::channel();
        self.submit(Submission::One { command, deadline, waiter: Waiter::Early(token, answer) })?;
        Ok(PendingEarly::new(tokens, Pending::new(receiver, self.shared.clone())))
    }

    /// [`Writer::send`] for many writes at a fraction of the cost each. They have sequences in a row.
    ///
    /// # Errors
    /// As [`Writer::send`]; [`ErrorKind::Invalid`] where the batch does not fit into the window.
    pub async fn send_batch(&self, commands: Vec<Bytes>) -> Result<PendingBatch, ClientError> {
        let bytes: usize = commands.iter().map(Bytes::len).sum();
        let alone = commands.len() == 1;
        if commands.len() > self.shared.writes_max || (bytes > self.shared.bytes_max && !alone) {
            let (writes_max, bytes_max) = (self.shared.writes_max, self.shared.bytes_max);
            let message = format!(
                "a batch of {} writes and {bytes} bytes does not fit into the window of {writes_max} and {bytes_max}",
                commands.len()
            );
            return Err(ClientError::new(ErrorKind::Invalid, message));
        }
        let deadline = self.deadline();
        let largest = commands.iter().map(Bytes::len).max().unwrap_or(0);
        self.room(commands.len(), bytes, largest, deadline).await?;
        let (answer, receiver) = oneshot::channel();
        self.submit(Submission::Batch { commands, deadline, answer })?;
        Ok(PendingBatch::new(receiver, self.shared.clone()))
    }

    /// Writes many commands, and waits for all answers: one for each, in order. A batch too large for the window
    /// goes in parts.
    ///
    /// # Errors
    /// As [`Writer::send`], where a part was not sent; the parts before it were.
    pub async fn write_batch(
        &self,
        commands: Vec<Bytes>,
    ) -> Result<Vec<Result<Bytes, ClientError>>, ClientError> {
        let mut results = Vec::with_capacity(commands.len());
        let mut sent = Vec::new();
        for part in self.parts(commands) {
            sent.push(self.send_batch(part).await?);
        }
        for part in sent {
            results.extend(part.await?);
        }
        Ok(results)
    }

    /// With [`Acknowledge::ByCaller`]: the answers up to this sequence are kept elsewhere, so the node may forget
    /// them, and their room in the window is free. Else it does nothing.
    pub fn acknowledge(&self, up_to: u64) {
        // The driver is gone only when the writer has ended, and then nothing is left to acknowledge.
        let _ = self.queue.send(Submission::Acknowledge(up_to));
    }

    /// Why nothing gets through at the moment; `None`: it does, as far as is known.
    pub fn trouble(&self) -> Option<ClientError> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until everything sent is answered.
    pub async fn flush(&self) {
        let (sender, receiver) = oneshot::channel();
        if self.queue.send(Submission::Flush(sender)).is_ok() {
            // An error means that the writer has ended, and so has everything sent.
            let _ = receiver.await;
        }
    }

    /// Waits until everything sent is answered, and ends the session: other writers that use it are told that it
    /// expired.
    ///
    /// # Errors
    /// Those of a call: then the session lives on until it is unused for its TTL.
    pub async fn close(self) -> Result<(), ClientError> {
        self.flush().await;
        self.tenant.close_session(self.session).await
    }

    fn deadline(&self) -> Option<Instant> {
        self.timeout.map(|timeout| Instant::now() + timeout)
    }

    /// Takes room for writes of so many bytes together, the largest of which has `largest`.
    async fn room(
        &self,
        writes: usize,
        bytes: usize,
        largest: usize,
        deadline: Option<Instant>,
    ) -> Result<(), ClientError> {
        check_size(largest)?;
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(late("its deadline has passed"));
        }
        take(&self.shared, &self.shared.writes, writes, deadline).await?;
        let taken = take(&self.shared, &self.shared.bytes, bytes.min(self.shared.bytes_max), deadline).await;
        if taken.is_err() {
            self.shared.writes.add_permits(writes);
        }
        taken
    }

    fn submit(&self, submission: Submission) -> Result<(), ClientError> {
        self.queue.send(submission).map_err(|_| self.shared.end())
    }

    /// Commands in parts of at most half the window, so that the second part can fill while the first is under way.
    fn parts(&self, commands: Vec<Bytes>) -> Vec<Vec<Bytes>> {
        let (writes_max, bytes_max) = (self.shared.writes_max.div_ceil(2), self.shared.bytes_max.div_ceil(2));
        let mut parts = Vec::new();
        let (mut part, mut bytes) = (Vec::new(), 0);
        for command in commands {
            let full = part.len() >= writes_max || bytes + command.len() > bytes_max;
            if full && !part.is_empty() {
                parts.push(std::mem::take(&mut part));
                bytes = 0;
            }
            bytes += command.len();
            part.push(command);
        }
        parts.push(part);
        parts
    }
}

async fn take(
    shared: &Shared,
    room: &Semaphore,
    count: usize,
    deadline: Option<Instant>,
) -> Result<(), ClientError> {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    if let Ok(permit) = room.try_acquire_many(count) {
        permit.forget();
        return Ok(());
    }
    let acquired = match deadline {
        None => room.acquire_many(count).await,
        Some(deadline) => {
            timeout_at(deadline, room.acquire_many(count)).await.map_err(|_| no_room(shared))?
        }
    };
    acquired.map_err(|_| shared.end())?.forget();
    Ok(())
}

fn no_room(shared: &Shared) -> ClientError {
    let trouble = shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
    late(&trouble.map_or_else(|| "the window is full".to_owned(), |error| error.to_string()))
}

/// The error of a write that was not sent.
fn late(why: &str) -> ClientError {
    ClientError::new(ErrorKind::DeadlineExceeded, format!("the write was not sent in time: {why}"))
        .retryable()
}

impl Shared {
    /// Why the writer ended.
    fn end(&self) -> ClientError {
        let closed = || ClientError::new(ErrorKind::Closed, "the writer was closed");
        self.end.get().cloned().unwrap_or_else(closed)
    }

    fn set_trouble(&self, trouble: Option<ClientError>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}
