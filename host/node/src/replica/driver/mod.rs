//! The driver: one loop over one closed set of events, around the pure replica of `mortise_core::replica`.
//!
//! ```text
//!   clients ──Writes──▶┌────────┐──Write────▶ log writer (fsync)
//!   admin ───Propose──▶│ driver │◀─Durable──────┘
//!   answers ◀──────────│  core  │──Apply────▶ apply thread (plugins) ──▶ answers
//!   outside ◀─────────▶│        │◀─Applied──────┘
//!                      └────────┘
//! ```
//! While one entry is being fsynced the next one fills: this is the group commit. The driver alone knows what is in
//! flight, and so it alone can tell a retry from a new write. What may be done when is decided by the core;
//! [`effects`] carries it out.

mod cell;
mod effects;
mod end;
mod tokens;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use mortise_core::digest::Digest;
use mortise_core::entry::{Body, COMMANDS_MAX, Command, Entry, SessionChange};
use mortise_core::group::NodeId;
use mortise_core::ids::{Epoch, LogIndex, TenantId};
use mortise_core::replica::{
    Ack, Event as CoreEvent, Freshness, Message, MonoTime, OperatorCommand, Position, Proposal, Read,
    ReadPermit, Refusal, Replica as Core, RequestId, SnapshotMeta, View, Write as CoreWrite, WriteId,
};
use mortise_core::session::SessionKey;
use mortise_core::time::LogTime;
use mortise_storage::StateId;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::admission::{Admission, Admitted};
use super::answers::{Waiter, Waiting, refuse};
use super::api::{AnswerSink, Write, WriteError};
use super::apply::{ApplyJob, SnapshotReply};
use super::fetch::Fetched;
use super::log_reader::ReadJob;
use super::machine::{EntryResult, Refused};
use super::outside::Outside;
use super::shared::{Shared, clock, uptime};
use super::upkeep::Upkeep;
use super::writer::WriterJob;
pub(crate) use cell::{DriverCell, DriverHandle};
use tokens::Asker;
pub(crate) use tokens::FateReply;

/// Most waiters of an entry that the apply thread answers. A change of threads costs more of them little, and the apply
/// thread goes on with the next entry.
const GIVEN_MAX: usize = 32;

/// Everything that can happen to the driver.
pub(crate) enum Event {
    /// A client's writes, on the stream with this number; 0: no stream.
    Writes(Vec<Write>, u64, Arc<dyn AnswerSink>),
    /// An entry other than commands; with an epoch, only while this replica leads in it.
    Propose(Option<Epoch>, Box<dyn FnOnce(&mut Numbers) -> Body + Send>, ProposalReply),
    /// Something happened outside of the replica.
    Outside(CoreEvent),
    /// A peer's message, which takes its room in memory until it is handled.
    Message(NodeId, Message, OwnedSemaphorePermit),
    /// Somebody wants to read.
    Read(Freshness, MonoTime, ReadReply),
    /// Somebody asks what became of an `ack = leader` write.
    AskFate(Position, MonoTime, FateReply),
    /// An operator's command.
    Operator(OperatorCommand, OperatorReply),
    /// Somebody wants to see the replica.
    View(oneshot::Sender<View>),
    /// The log writer made everything up to here durable.
    Durable(WriteId),
    /// An entry was applied to a state.
    Applied {
        /// The state.
        state: StateId,
        /// The entry.
        index: LogIndex,
        /// The effect digest behind it.
        digest: Digest,
        /// What became of it.
        result: EntryResult,
    },
    /// A snapshot of this state is complete, and the log that it covers can go; or it failed.
    Snapshotted(StateId, Option<SnapshotMeta>),
    /// Take a snapshot now.
    TakeSnapshot(SnapshotReply),
    /// A snapshot of the leader's is restored beside the present state; or it failed.
    Fetched(Option<Fetched>),
    /// The replica cannot go on.
    Fault(String),
    /// Finish what was accepted, then stop.
    Shutdown(oneshot::Sender<()>),
}

/// Where the result of a proposal goes: the entry's place, or why it was refused.
pub(crate) type ProposalReply = oneshot::Sender<Result<Result<Position, Refused>, WriteError>>;

/// Where the permit of a read goes, or why there is none.
pub(crate) type ReadReply = oneshot::Sender<Result<ReadPermit, Refusal>>;

/// Where the answer to an operator goes.
pub(crate) type OperatorReply = oneshot::Sender<Result<(), String>>;

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
    /// Nobody is left here once they went to the apply thread with the committed entry.
    Commands(Vec<Waiter>),
    Proposal(ProposalReply),
    Nobody,
}

impl Waiters {
    /// How the entry has to be acknowledged for all of them.
    fn ack(&self) -> Ack {
        match self {
            Self::Commands(waiters) if waiters.iter().any(|waiter| waiter.ack == Ack::Leader) => Ack::Leader,
            _ => Ack::Committed,
        }
    }

    /// Those whom the apply thread is to answer: the way back over the driver costs a lone write a change of threads.
    fn give(&mut self) -> Vec<Waiter> {
        match self {
            Self::Commands(waiters) if waiters.len() <= GIVEN_MAX => std::mem::take(waiters),
            _ => Vec::new(),
        }
    }
}

/// An entry that this replica proposed and has not applied yet.
struct Pending {
    entry: Arc<Entry>,
    waiters: Waiters,
}

/// See the module's documentation.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    core: Core,
    outside: Arc<dyn Outside>,
    channels: Channels,
    admission: Admission,
    upkeep: Upkeep,
    numbers: Numbers,
    /// Who waits for this replica to lead.
    started: Option<ProposalReply>,
    /// This replica leads, and has applied all that was ever acknowledged.
    serving: bool,
    last_time: LogTime,
    drafts: VecDeque<Draft>,
    /// The entry that is being proposed, until the core says whether it has a place.
    proposing: Option<(Entry, Waiters)>,
    pending: VecDeque<Pending>,
    /// The last entry that was given to the apply thread.
    given: LogIndex,
    /// Writes that go to the log writer together.
    writes: Vec<(WriteId, CoreWrite)>,
    /// The last write that was asked for, and the last one that is durable: in between, drafts gather.
    written: WriteId,
    durable: WriteId,
    requests: RequestId,
    reads: HashMap<RequestId, ReadReply>,
    askers: HashMap<RequestId, Asker>,
    operators: HashMap<RequestId, OperatorReply>,
    /// The state whose results count.
    state: StateId,
    /// The newest number given to a state.
    newest_state: StateId,
    /// A fetched snapshot, until the core says whether it is installed.
    fetched: Option<Fetched>,
    /// The install that is being written, and the state that it replaces.
    installing: Option<(WriteId, StateId)>,
    /// Nothing is appended behind a change of the profile before it is applied, for entries name their profile.
    profile_in_flight: bool,
    /// Who waits for the end, and since when.
    shutdown: Option<(oneshot::Sender<()>, Instant)>,
}

/// Where a driver hears of things, and whom it tells what to do.
pub(crate) struct Channels {
    /// What happens, for those who make it happen.
    pub(crate) inbox: Sender<Event>,
    /// The log writer.
    pub(crate) writer: Sender<WriterJob>,
    /// The apply thread.
    pub(crate) apply: Sender<ApplyJob>,
    /// Who reads the log back.
    pub(crate) reader: Sender<ReadJob>,
}

impl Driver {
    /// A driver of `core`, with states up to `newest_state` in the database. `started` learns when it leads, and has
    /// applied its first entry.
    pub(crate) fn new(
        shared: Arc<Shared>,
        core: Core,
        outside: Arc<dyn Outside>,
        channels: Channels,
        newest_state: StateId,
        started: Option<ProposalReply>,
    ) -> Self {
        let applied = shared.tables().applied;
        Self {
            admission: Admission::new(shared.clone()),
            upkeep: Upkeep::new(shared.clone()),
            numbers: Numbers { last_tenant: applied.last_tenant },
            started,
            serving: false,
            last_time: applied.time,
            drafts: VecDeque::new(),
            proposing: None,
            pending: VecDeque::new(),
            given: applied.index,
            writes: Vec::new(),
            written: WriteId(0),
            durable: WriteId(0),
            requests: RequestId(0),
            reads: HashMap::new(),
            askers: HashMap::new(),
            operators: HashMap::new(),
            state: shared.state(),
            newest_state,
            fetched: None,
            installing: None,
            profile_in_flight: false,
            shutdown: None,
            shared,
            core,
            outside,
            channels,
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Writes(writes, stream, sink) => self.writes(writes, stream, &sink),
            Event::Propose(epoch, make, reply) => self.propose(epoch, make, reply),
            Event::Outside(event) => {
                if matches!(event, CoreEvent::LogDropped { .. }) {
                    self.upkeep.log_dropped();
                }
                self.step(event);
            }
            Event::Message(from, message, _room) => self.step(CoreEvent::Message { from, message }),
            Event::Read(freshness, deadline, reply) => {
                let id = self.next_request();
                self.reads.insert(id, reply);
                self.step(CoreEvent::Read(Read { id, freshness, deadline }));
            }
            Event::AskFate(token, deadline, reply) => self.ask_fate(token, deadline, Asker::Call(reply)),
            Event::Operator(command, reply) => {
                let id = self.next_request();
                self.operators.insert(id, reply);
                self.step(CoreEvent::Operator { id, command });
            }
            // Whoever asked may be gone.
            Event::View(reply) => drop(reply.send(self.core.view())),
            Event::Durable(write) => self.on_durable(write),
            Event::Applied { state, index, digest, result } => self.applied(state, index, digest, result),
            Event::Snapshotted(state, meta) => self.snapshotted(state, meta),
            Event::TakeSnapshot(reply) => self.take_snapshot(Some(reply)),
            Event::Fetched(fetched) => self.fetched(fetched),
            Event::Fault(reason) => self.shared.set_fault(&reason),
            Event::Shutdown(done) => {
                self.shared.stop();
                self.shutdown = Some((done, Instant::now()));
            }
        }
    }

    fn writes(&mut self, writes: Vec<Write>, stream: u64, sink: &Arc<dyn AnswerSink>) {
        if !self.serving {
            let bytes = writes.iter().map(|write| write.payload.len()).sum();
            self.shared.in_flight.release(writes.len(), bytes);
            return refuse(&writes, sink, &self.shared.not_leader());
        }
        let Admitted { commands, tokens } = self.admission.admit(writes, stream, sink);
        for (command, waiter) in commands {
            self.draft_command(command, waiter);
        }
        for (token, waiter) in tokens {
            self.ask_for_write(token, waiter);
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

    fn propose(
        &mut self,
        epoch: Option<Epoch>,
        make: Box<dyn FnOnce(&mut Numbers) -> Body + Send>,
        reply: ProposalReply,
    ) {
        if self.shared.stopping.load(Ordering::Acquire) {
            // A caller that went away needs no answer.
            let _ = reply.send(Err(WriteError::ShuttingDown));
            return;
        }
        if !self.serving || epoch.is_some_and(|epoch| self.shared.leading() != Some(epoch)) {
            // As above.
            let _ = reply.send(Err(self.shared.not_leader()));
            return;
        }
        let body = make(&mut self.numbers);
        self.drafts.push_back(Draft { body, bytes: 0, waiters: Waiters::Proposal(reply) });
    }

    /// Proposes everything that waits, where the log writer is idle.
    fn append(&mut self) {
        if self.durable < self.written || self.profile_in_flight || !self.serving {
            return;
        }
        let profile = self.shared.tables().profile.version;
        while let Some(draft) = self.drafts.pop_front() {
            self.last_time = self.last_time.next(clock());
            let (epoch, index, time) = (Epoch(0), LogIndex(0), self.last_time);
            let entry = Entry { epoch, index, time, profile, body: draft.body };
            let payload = entry.encode();
            self.profile_in_flight = matches!(entry.body, Body::Profile(_));
            let ack = draft.waiters.ack();
            self.proposing = Some((entry, draft.waiters));
            let proposal = Proposal { id: self.next_request(), payload, ack };
            let effects = self.core.step(uptime(), CoreEvent::Propose(proposal));
            self.carry_out(effects);
            if self.profile_in_flight {
                break;
            }
        }
        self.send_writes();
    }

    /// The core's answer to the entry that is being proposed.
    fn proposed(&mut self, result: Result<Position, Refusal>) {
        let Some((mut entry, waiters)) = self.proposing.take() else { return };
        match result {
            Ok(at) => {
                (entry.epoch, entry.index) = (at.epoch, at.index);
                self.pending.push_back(Pending { entry: Arc::new(entry), waiters });
            }
            Err(refusal) => {
                self.profile_in_flight = false;
                let error = self.refused(refusal);
                self.fail(&entry.body, waiters, &error);
            }
        }
    }

    /// Everything up to this write is durable.
    fn on_durable(&mut self, write: WriteId) {
        self.durable = self.durable.max(write);
        self.installed(write);
        self.step(CoreEvent::Durable(write));
        // The next entry starts its way to the disk before anything else is looked at.
        self.append();
    }

    fn applied(&mut self, state: StateId, index: LogIndex, digest: Digest, result: EntryResult) {
        if state != self.state {
            // Of a state that a snapshot has replaced since.
            return;
        }
        if let Some(pending) = self.pending.pop_front_if(|pending| pending.entry.index == index) {
            if matches!(pending.entry.body, Body::Profile(_)) {
                self.profile_in_flight = false;
            }
            let position = Position { epoch: pending.entry.epoch, index };
            match (pending.waiters, result, &pending.entry.body) {
                (Waiters::Commands(waiters), EntryResult::Commands(results), Body::Commands(commands)) => {
                    Waiting::new(&self.shared, waiters).answer(position, &results);
                    self.admission.answer(position, commands, results);
                }
                (Waiters::Proposal(reply), EntryResult::Other(done), _) => {
                    // A caller that went away needs no answer.
                    let _ = reply.send(Ok(done.map(|()| position)));
                }
                (Waiters::Nobody, _, body) => self.upkeep.done(body),
                _ => self.shared.set_fault(&format!("entry {index} has a result of another kind")),
            }
        }
        self.step(CoreEvent::Applied { index, digest });
    }

    fn snapshotted(&mut self, state: StateId, meta: Option<SnapshotMeta>) {
        // One of a state that a snapshot has replaced since is of no use either.
        let Some(meta) = meta.filter(|_| state == self.state) else { return self.upkeep.snapshot_failed() };
        let index = meta.last.index;
        self.step(CoreEvent::SnapshotTaken(meta));
        // The writer is gone only when the replica stops.
        let _ = self.channels.writer.send(WriterJob::DropBelow(index.next()));
    }

    pub(super) fn take_snapshot(&mut self, reply: Option<SnapshotReply>) {
        let generation = self.core.view().generation;
        // The apply thread is gone only when the replica stops.
        let _ = self.channels.apply.send(ApplyJob::Snapshot(generation, reply));
    }

    fn next_request(&mut self) -> RequestId {
        self.requests = RequestId(self.requests.0 + 1);
        self.requests
    }

    fn wait(&self) -> Duration {
        let tick = self.outside.tick();
        let due = self.upkeep.first_due().filter(|_| self.serving);
        let due = due.map_or(tick, |due| Duration::from_millis(due.since(clock())));
        due.clamp(Duration::from_millis(1), tick)
    }

    fn tick(&mut self) {
        self.step(CoreEvent::Tick);
        let now = Instant::now();
        if self.shutdown.is_some() {
            return;
        }
        self.upkeep.check_disk(now);
        if self.serving {
            let time = self.last_time.next(clock());
            for body in self.upkeep.due(now, time) {
                self.drafts.push_back(Draft { body, bytes: 0, waiters: Waiters::Nobody });
            }
        }
        if self.upkeep.wants_snapshot() {
            self.take_snapshot(None);
        }
        let progress = self.core.progress();
        self.shared.positions.last.store(progress.last.index.0, Ordering::Relaxed);
        self.shared.positions.commit.fetch_max(progress.commit.0, Ordering::Relaxed);
        self.shared.positions.isr_members.store(self.core.isr_members() as u64, Ordering::Relaxed);
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
