//! The driver: one loop over one closed set of events.
//!
//! ```text
//!   clients ──Writes──▶┌────────┐──Append──▶ log writer (fsync)
//!   admin ───Propose──▶│ driver │◀─Flushed──────┘
//!   answers ◀──────────│        │──Apply────▶ apply thread (plugins)
//!                      └────────┘◀─Applied──────┘
//! ```
//! While one entry is being fsynced the next one fills: this is the group commit. The driver alone knows what is in
//! flight, and so it alone can tell a retry from a new write.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use mortise_core::entry::{Body, COMMANDS_MAX, Command, Entry, SessionChange};
use mortise_core::ids::{Epoch, LogIndex, TenantId};
use mortise_core::session::SessionKey;
use mortise_core::time::LogTime;
use mortise_storage::log::LogRecord;
use tokio::sync::oneshot;

use super::admission::{Admission, Waiter};
use super::api::{AnswerSink, Write, WriteError};
use super::apply::ApplyJob;
use super::machine::{EntryResult, Refused};
use super::shared::{Shared, clock};
use super::upkeep::Upkeep;
use super::writer::WriterJob;

/// Events handled before the driver looks whether it can close an entry: bounds how long a busy channel can keep an
/// idle log waiting.
const EVENTS_PER_TURN: usize = 256;
/// How often the driver looks at its clocks when nothing happens.
const TICK: Duration = Duration::from_millis(100);

/// Everything that can happen to the driver.
pub(crate) enum Event {
    /// A client's writes, on the stream with this number; 0: no stream.
    Writes(Vec<Write>, u64, Arc<dyn AnswerSink>),
    /// An entry other than commands.
    Propose(Box<dyn FnOnce(&mut Numbers) -> Body + Send>, ProposalReply),
    /// The log is durable up to here.
    Flushed(LogIndex),
    /// An entry was applied.
    Applied(LogIndex, EntryResult),
    /// A snapshot is complete, and the log that it covers can go; or it failed.
    Snapshotted(Option<LogIndex>),
    /// The replica cannot go on.
    Fault(String),
    /// Finish what was accepted, then stop.
    Shutdown(oneshot::Sender<()>),
}

/// Where the result of a proposal goes: the entry's index, or why it was refused.
pub(crate) type ProposalReply = oneshot::Sender<Result<Result<LogIndex, Refused>, WriteError>>;

/// The numbers that a leader gives out.
pub(crate) struct Numbers {
    /// The largest tenant id given.
    pub last_tenant: u64,
}

/// An entry that is not in the log yet.
struct Draft {
    body: Body,
    bytes: usize,
    waiters: Waiters,
}

/// Who waits for an entry.
enum Waiters {
    Commands(Vec<Waiter>),
    Proposal(ProposalReply),
    Nobody,
}

/// An entry in the log that is not applied yet.
struct Pending {
    entry: Arc<Entry>,
    waiters: Waiters,
    committed: bool,
}

/// See the module's documentation.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    events: Receiver<Event>,
    writer: Sender<WriterJob>,
    apply: Sender<ApplyJob>,
    admission: Admission,
    upkeep: Upkeep,
    numbers: Numbers,
    epoch: Epoch,
    last_index: LogIndex,
    last_time: LogTime,
    drafts: VecDeque<Draft>,
    pending: VecDeque<Pending>,
    /// Whether the log writer has work; while it has, drafts gather.
    writing: bool,
    /// Nothing is appended behind a change of the profile before it is applied, for entries name their profile.
    profile_in_flight: bool,
    shutdown: Option<oneshot::Sender<()>>,
}

impl Driver {
    /// A driver that leads from `epoch` on, behind the entries already applied.
    pub(crate) fn new(
        shared: Arc<Shared>,
        events: Receiver<Event>,
        writer: Sender<WriterJob>,
        apply: Sender<ApplyJob>,
        epoch: Epoch,
    ) -> Self {
        let applied = shared.tables().applied;
        Self {
            admission: Admission::new(shared.clone()),
            upkeep: Upkeep::new(shared.clone()),
            numbers: Numbers { last_tenant: applied.last_tenant },
            epoch,
            last_index: applied.index,
            last_time: applied.time,
            drafts: VecDeque::new(),
            pending: VecDeque::new(),
            writing: false,
            profile_in_flight: false,
            shutdown: None,
            shared,
            events,
            writer,
            apply,
        }
    }

    /// Runs until shut down or stopped by a fault. `started` learns when the epoch's first entry is applied, before
    /// which nothing is served.
    pub(crate) fn run(mut self, started: ProposalReply) {
        self.drafts.push_back(Draft {
            body: Body::EpochStart,
            bytes: 0,
            waiters: Waiters::Proposal(started),
        });
        self.append();
        while self.shared.fault.borrow().is_none() {
            match self.events.recv_timeout(self.wait()) {
                Ok(event) => self.handle(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            for _ in 0..EVENTS_PER_TURN {
                let Ok(event) = self.events.try_recv() else { break };
                self.handle(event);
            }
            self.tick();
            self.append();
            if self.shutdown.is_some() && self.pending.is_empty() && self.drafts.is_empty() {
                break;
            }
        }
        self.end();
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Writes(writes, stream, sink) => self.writes(writes, stream, &sink),
            Event::Propose(make, reply) => self.propose(make, reply),
            Event::Flushed(index) => self.flushed(index),
            Event::Applied(index, result) => self.applied(index, result),
            Event::Snapshotted(index) => self.snapshotted(index),
            Event::Fault(reason) => self.shared.set_fault(&reason),
            Event::Shutdown(done) => {
                self.shared.stopping.store(true, Ordering::Release);
                self.shutdown = Some(done);
            }
        }
    }

    fn writes(&mut self, writes: Vec<Write>, stream: u64, sink: &Arc<dyn AnswerSink>) {
        for (command, waiter) in self.admission.admit(writes, stream, sink) {
            self.draft_command(command, waiter);
        }
    }

    fn draft_command(&mut self, command: Command, waiter: Waiter) {
        let size = command.size();
        if let Some(Draft { body: Body::Commands(commands), bytes, waiters: Waiters::Commands(waiters) }) =
            self.drafts.back_mut()
            && commands.len() < COMMANDS_MAX
            && *bytes + size <= self.shared.options.entry_bytes_max
        {
            commands.push(command);
            waiters.push(waiter);
            *bytes += size;
            return;
        }
        self.drafts.push_back(Draft {
            body: Body::Commands(vec![command]),
            bytes: size,
            waiters: Waiters::Commands(vec![waiter]),
        });
    }

    fn propose(&mut self, make: Box<dyn FnOnce(&mut Numbers) -> Body + Send>, reply: ProposalReply) {
        if self.shared.stopping.load(Ordering::Acquire) {
            // A caller that went away needs no answer.
            let _ = reply.send(Err(WriteError::ShuttingDown));
            return;
        }
        let body = make(&mut self.numbers);
        self.drafts.push_back(Draft { body, bytes: 0, waiters: Waiters::Proposal(reply) });
    }

    /// Gives the log writer everything that waits, where it is idle.
    fn append(&mut self) {
        if self.writing || self.profile_in_flight || self.drafts.is_empty() {
            return;
        }
        let profile = self.shared.tables().profile.version;
        let mut records = Vec::with_capacity(self.drafts.len());
        while let Some(draft) = self.drafts.pop_front() {
            self.last_index = self.last_index.next();
            self.last_time = self.last_time.next(clock());
            let (epoch, index, time) = (self.epoch, self.last_index, self.last_time);
            let entry = Entry { epoch, index, time, profile, body: draft.body };
            records.push(LogRecord { epoch, index, payload: entry.encode() });
            self.profile_in_flight = matches!(entry.body, Body::Profile(_));
            self.pending.push_back(Pending {
                entry: Arc::new(entry),
                waiters: draft.waiters,
                committed: false,
            });
            if self.profile_in_flight {
                break;
            }
        }
        self.shared.positions.last.store(self.last_index.0, Ordering::Relaxed);
        self.writing = true;
        if self.writer.send(WriterJob::Append(records)).is_err() {
            self.shared.set_fault("the log writer is gone");
        }
    }

    /// Alone in its group, a replica commits what it has fsynced.
    fn flushed(&mut self, index: LogIndex) {
        self.writing = false;
        self.shared.positions.commit.store(index.0, Ordering::Release);
        for pending in self.pending.iter_mut().filter(|pending| !pending.committed) {
            if pending.entry.index > index {
                break;
            }
            pending.committed = true;
            if self.apply.send(ApplyJob::Entry(pending.entry.clone())).is_err() {
                self.shared.set_fault("the apply thread is gone");
            }
        }
        // The next entry starts its way to the disk before anything else is looked at.
        self.append();
    }

    fn applied(&mut self, index: LogIndex, result: EntryResult) {
        let Some(pending) = self.pending.pop_front() else {
            return self.shared.set_fault(&format!("entry {index} was applied, but was not in flight"));
        };
        if matches!(pending.entry.body, Body::Profile(_)) {
            self.profile_in_flight = false;
        }
        match (pending.waiters, result, &pending.entry.body) {
            (Waiters::Commands(waiters), EntryResult::Commands(results), Body::Commands(commands)) => {
                self.admission.answer(index, commands, waiters, results);
            }
            (Waiters::Proposal(reply), EntryResult::Other(done), _) => {
                // A caller that went away needs no answer.
                let _ = reply.send(Ok(done.map(|()| index)));
            }
            (Waiters::Nobody, _, body) => self.upkeep.done(body),
            _ => self.shared.set_fault(&format!("entry {index} has a result of another kind")),
        }
    }

    fn snapshotted(&mut self, index: Option<LogIndex>) {
        self.upkeep.snapshotted(index.is_some());
        if let Some(index) = index {
            // The writer is gone only when the replica stops.
            let _ = self.writer.send(WriterJob::DropBelow(index.next()));
        }
    }

    fn wait(&self) -> Duration {
        let due = self.upkeep.first_due().map_or(TICK, |due| Duration::from_millis(due.since(clock())));
        due.clamp(Duration::from_millis(1), TICK)
    }

    fn tick(&mut self) {
        let now = Instant::now();
        let time = self.last_time.next(clock());
        if self.shutdown.is_some() {
            return;
        }
        for body in self.upkeep.due(now, time) {
            self.drafts.push_back(Draft { body, bytes: 0, waiters: Waiters::Nobody });
        }
        if self.upkeep.wants_snapshot() {
            // The apply thread is gone only when the replica stops.
            let _ = self.apply.send(ApplyJob::Snapshot(None));
        }
        let (writes, bytes) = self.shared.in_flight.now();
        let applied = self.shared.positions.applied.load(Ordering::Relaxed);
        let commit = self.shared.positions.commit.load(Ordering::Relaxed);
        self.shared.metrics.queue(writes, bytes);
        self.shared.metrics.positions(self.last_index.0, commit, applied);
    }

    /// Stops the threads and tells everybody who still waits.
    fn end(mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        let _ = self.writer.send(WriterJob::Stop);
        let _ = self.apply.send(ApplyJob::Stop);
        let fault = self.shared.fault.borrow().clone();
        let error = fault.map_or(WriteError::ShuttingDown, WriteError::Stopped);
        let waiting = self.pending.drain(..).map(|pending| pending.waiters);
        let waiting: Vec<_> = waiting.chain(self.drafts.drain(..).map(|draft| draft.waiters)).collect();
        for waiters in waiting {
            match waiters {
                Waiters::Commands(waiters) => self.admission.fail(waiters, &error),
                Waiters::Proposal(reply) => drop(reply.send(Err(error.clone()))),
                Waiters::Nobody => {}
            }
        }
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::Writes(writes, _, sink) => self.admission.refuse(&writes, &sink, &error),
                Event::Propose(_, reply) => drop(reply.send(Err(error.clone()))),
                Event::Shutdown(done) => drop(done.send(())),
                _ => {}
            }
        }
        if let Some(done) = self.shutdown.take() {
            let _ = done.send(());
        }
    }
}

/// Sessions to end, as an entry.
pub(crate) fn expire_sessions(sessions: Vec<SessionKey>) -> Body {
    Body::Session(SessionChange::Expire { sessions })
}

/// A tenant whose time has come, as an entry.
pub(crate) fn expire_tenant(tenant: TenantId) -> Body {
    Body::Expire { tenant }
}
