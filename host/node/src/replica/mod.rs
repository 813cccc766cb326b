//! One replica of one group: it owns a data folder, and leads by itself.
//!
//! Four threads: the *driver* (admission, batching), the *log writer* (append, fsync), the *apply thread*
//! (plugins, state, answers) and the *janitor* (deletes what dropped tenants left). [`Replica`] is the handle to them.

mod admin;
mod admission;
mod answers;
mod api;
mod apply;
mod driver;
mod fate;
mod fetch;
mod import;
mod install;
mod janitor;
mod kept;
mod log_reader;
mod machine;
mod open;
mod options;
mod outside;
mod plan;
mod plugin_log;
mod query;
mod records;
mod shared;
mod snapshot;
mod staged;
mod tables;
mod upkeep;
mod verify;
mod watch;
mod writer;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SendError, Sender};

use bytes::Bytes;
use mortise_core::digest::Digest;
use mortise_core::ids::{Epoch, GroupId, LogIndex, TenantId};
use mortise_core::profile::Profile;
use mortise_core::replica::{Ack, Freshness, OperatorCommand, View};
use mortise_runtime::Runtime;
use mortise_storage::disk::{Disk, DiskFile};
use mortise_storage::snapshot::open_snapshot_file;
use tokio::sync::oneshot;

pub use self::admin::COMPONENT_BYTES_MAX;
pub(crate) use self::admin::blocking;
pub use self::api::{
    AdminError, Answer, AnswerSink, Leader, PluginInfo, QueryError, ReplicaStatus, SnapshotTaken, TenantInfo,
    Told, Write, WriteError, WriteFate, Written,
};
pub(crate) use self::fetch::Incoming;
pub use self::kept::Kept;
pub use self::machine::Fault;
pub use self::open::StartError;
pub(crate) use self::open::{Member, Times};
pub use self::options::ReplicaOptions;
pub(crate) use self::outside::{Inbox, Outside};
pub(crate) use self::shared::clock;
pub use self::snapshot::SnapshotError;
pub use self::tables::TablesError;
pub use self::verify::{TenantReport, VerifyReport, verify};
pub use self::watch::{Watch, WatchBatch, WatchError, WatchFrom, WatchRequest};

use self::apply::ApplyJob;
use self::driver::Event;
use self::query::Queries;
use self::shared::Shared;
use self::snapshot::snapshot_name;
use crate::metrics::Metrics;

/// A running replica. Cheap to clone; the last one to go does not stop it: [`Replica::shutdown`] does.
#[derive(Clone)]
pub struct Replica {
    shared: Arc<Shared>,
    events: Sender<Event>,
    apply: Sender<ApplyJob>,
    queries: Arc<Queries>,
    threads: Arc<open::Threads>,
}

impl Replica {
    /// Opens the data folder, recovers, and returns when the replica serves. Blocks for as long as recovery takes.
    ///
    /// # Errors
    /// The folder is in use, damaged or not ours; a plugin does not load; the log cannot be applied. Nothing is
    /// deleted in any case.
    pub fn start(
        options: ReplicaOptions,
        runtime: Runtime,
        metrics: Arc<Metrics>,
    ) -> Result<Replica, StartError> {
        open::start(options, None, runtime, metrics, None)
    }

    /// The same, with log and snapshots on a disk of the caller's: for tests with disks that fail.
    ///
    /// # Errors
    /// As [`Replica::start`].
    pub fn start_on(
        options: ReplicaOptions,
        disk: Arc<dyn Disk>,
        runtime: Runtime,
        metrics: Arc<Metrics>,
    ) -> Result<Replica, StartError> {
        open::start(options, Some(disk), runtime, metrics, None)
    }

    /// Opens the data folder as that of a member of a group, recovers, and returns; whether it leads shows later.
    ///
    /// # Errors
    /// As [`Replica::start`].
    pub(crate) fn join(
        options: ReplicaOptions,
        runtime: Runtime,
        metrics: Arc<Metrics>,
        member: Member,
    ) -> Result<Replica, StartError> {
        open::start(options, None, runtime, metrics, Some(member))
    }

    /// Takes writes in. Never blocks: refusals come as answers. `stream` is a number unique to the caller's stream,
    /// larger than that of every older stream; 0: no stream. A session's writes are taken only from the newest
    /// stream that named it.
    pub fn submit(&self, writes: Vec<Write>, stream: u64, sink: Arc<dyn AnswerSink>) {
        if writes.is_empty() {
            return;
        }
        let max = self.shared.options.command_bytes_max;
        let bytes = writes.iter().map(|write| write.payload.len()).sum();
        if let Some(large) = writes.iter().map(|write| write.payload.len()).find(|bytes| *bytes > max) {
            let error = WriteError::TooLarge { what: "a command", bytes: large, max };
            return answers::refuse(&writes, &sink, &error);
        }
        if let Err(full) = self.shared.in_flight.reserve(writes.len(), bytes, &self.shared.options) {
            return answers::refuse(&writes, &sink, &WriteError::Overloaded(full));
        }
        if let Err(SendError(Event::Writes(writes, _, sink))) =
            self.events.send(Event::Writes(writes, stream, sink))
        {
            self.shared.in_flight.release(writes.len(), bytes);
            answers::refuse(&writes, &sink, &self.gone());
        }
    }

    /// One write, to its outcome.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn write(&self, write: Write) -> Result<Written, WriteError> {
        match self.write_acknowledged(Write { ack: Ack::Committed, ..write }).await {
            Told::Outcome(outcome) => outcome,
            Told::Token(_) => Err(self.gone()),
        }
    }

    /// One write, to its acknowledgement: its token with `ack = leader`, else its outcome.
    pub async fn write_acknowledged(&self, write: Write) -> Told {
        let (sender, receiver) = oneshot::channel();
        self.submit(vec![write], 0, Arc::new(OneAnswer(std::sync::Mutex::new(Some(sender)))));
        receiver.await.unwrap_or_else(|_| Told::Outcome(Err(self.gone())))
    }

    /// One read, of applied state that is as fresh as asked for. The index says how far the log had been applied.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn query(
        &self,
        tenant: TenantId,
        principal: Option<String>,
        request: Bytes,
        freshness: Freshness,
    ) -> Result<(Bytes, LogIndex), QueryError> {
        self.queries.query(tenant, principal, request, freshness).await
    }

    /// Begins to tell a tenant's commands as they are applied.
    ///
    /// # Errors
    /// See [`WatchError`].
    pub async fn watch(&self, request: WatchRequest) -> Result<Watch, WatchError> {
        Watch::start(&self.queries, request).await
    }

    /// The group that this is a replica of.
    pub fn group(&self) -> GroupId {
        self.shared.group
    }

    /// Whether it leads, and serves.
    pub fn leads(&self) -> bool {
        self.leading().is_some()
    }

    /// The epoch in which it leads, and serves.
    pub(crate) fn leading(&self) -> Option<Epoch> {
        self.shared.leading()
    }

    /// Why this replica does not do what only a leader does.
    pub(crate) fn not_leader(&self) -> WriteError {
        self.shared.not_leader()
    }

    /// Its effect digest, and the entry behind which it was taken.
    pub(crate) fn digest(&self) -> (LogIndex, Digest) {
        let applied = self.shared.tables().applied;
        (applied.index, applied.digest)
    }

    /// The replica as its core sees itself; `None` once it has stopped.
    pub async fn view(&self) -> Option<View> {
        let (sender, receiver) = oneshot::channel();
        self.events.send(Event::View(sender)).ok()?;
        receiver.await.ok()
    }

    /// Carries out an operator's command.
    ///
    /// # Errors
    /// Why it was not, in words for the operator.
    pub async fn operate(&self, command: OperatorCommand) -> Result<(), String> {
        let (sender, receiver) = oneshot::channel();
        let gone = |_| self.gone().to_string();
        self.events.send(Event::Operator(command, sender)).map_err(|_| self.gone().to_string())?;
        receiver.await.map_err(gone)?
    }

    /// The id of the tenant with this name.
    pub fn tenant(&self, name: &str) -> Option<TenantId> {
        self.shared.tables().names.get(name).copied()
    }

    /// The profile in force.
    pub fn profile(&self) -> Profile {
        self.shared.tables().profile.as_ref().clone()
    }

    /// Why the replica stopped, as soon as it did.
    pub fn fault(&self) -> tokio::sync::watch::Receiver<Option<String>> {
        self.shared.fault.subscribe()
    }

    /// How it is. Blocks: it asks for the sizes of files and of free space.
    pub fn status(&self) -> ReplicaStatus {
        let positions = &self.shared.positions;
        let tables = self.shared.tables();
        let (writes, bytes) = self.shared.in_flight.now();
        ReplicaStatus {
            leads: self.leads(),
            isr_members: positions.isr_members.load(Ordering::Relaxed),
            writes_in_flight: writes as u64,
            write_bytes_in_flight: bytes as u64,
            epoch: positions.epoch.load(Ordering::Relaxed),
            last_index: positions.last.load(Ordering::Relaxed),
            commit_index: positions.commit.load(Ordering::Relaxed),
            applied_index: tables.applied.index.0,
            log_first_index: positions.log_first.load(Ordering::Relaxed),
            log_bytes: positions.log_bytes.load(Ordering::Relaxed),
            state_disk_bytes: self.shared.db.disk_bytes().unwrap_or_default(),
            free_disk_bytes: self.shared.free_bytes(),
            snapshot_index: positions.snapshot.load(Ordering::Relaxed),
            tenants: tables.tenants.len() as u64,
            plugins: tables.plugins.len() as u64,
            sessions: tables.sessions.len() as u64,
            log_time_ms: tables.applied.time.0,
            writes_refused: self.shared.refusal().as_ref().map(ToString::to_string),
            fault: self.shared.fault.borrow().clone(),
        }
    }

    /// Takes nothing more in, answers what was accepted, and stops the threads. The data folder is closed as soon as
    /// the last handle is gone.
    pub async fn shutdown(self) {
        let (sender, receiver) = oneshot::channel();
        if self.events.send(Event::Shutdown(sender)).is_ok() {
            // A driver that is gone has stopped already.
            let _ = receiver.await;
        }
        let threads = self.threads.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || threads.join()).await {
            tracing::error!(%error, "stop the replica's threads");
        }
    }

    /// The error of a request that finds no driver.
    fn gone(&self) -> WriteError {
        self.shared.fault.borrow().clone().map_or(WriteError::ShuttingDown, WriteError::Stopped)
    }
}

/// The file of the replica's snapshot whose last entry is at `index`.
pub(crate) fn open_snapshot(
    replica: &Replica,
    index: LogIndex,
) -> Result<Arc<dyn DiskFile>, mortise_storage::SnapshotError> {
    open_snapshot_file(replica.shared.disk.as_ref(), &snapshot_name(index))
}

/// The sink of a single write: takes the first thing that is told of it.
struct OneAnswer(std::sync::Mutex<Option<oneshot::Sender<Told>>>);

impl AnswerSink for OneAnswer {
    fn answers(&self, answers: Vec<Answer>) {
        for answer in answers {
            if let Some(sender) = shared::lock(&self.0).take() {
                // A caller that went away needs no answer.
                let _ = sender.send(answer.told);
            }
        }
    }
}
