//! What a replica has in any role: its log, its small state, how far it committed and applied, and the means to speak.

use std::collections::VecDeque;

use super::coordination::Coordination;
use super::effect::{Effect, Notice, Rare, Write, WriteId};
use super::event::{MonoTime, Seen};
use super::log::Log;
use super::message::{Body, Fence, LogEntry, Message, Position, StreamId};
use super::mutants::Mutant;
use super::options::Options;
use super::reads::Waiting;
use super::snapshot::{Fetch, SnapshotMeta};
use super::stored::{HardState, Promise, Stored};
use crate::digest::Digest;
use crate::entry::Stamp;
use crate::group::{BootId, Generation, GroupRecord, Incarnation, NodeId};
use crate::ids::LogIndex;

/// Own effect digests kept to compare other members' with: as many as a follower may lag and still be compared.
const DIGESTS_KEPT: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) now: MonoTime,
    pub(super) booted: MonoTime,
    /// See [`Stored::intact`]; set once a lost copy has its new incarnation.
    pub(super) intact: bool,
    pub(super) hard: HardState,
    pub(super) log: Log,
    pub(super) commit: LogIndex,
    /// The last entry that was given to the state machine.
    applying: LogIndex,
    pub(super) applied: LogIndex,
    digests: VecDeque<(LogIndex, Digest)>,
    pub(super) coordination: Coordination,
    pub(super) snapshot: Option<SnapshotMeta>,
    pub(super) fetch: Option<Fetch>,
    pub(super) installing: Option<(WriteId, SnapshotMeta)>,
    pub(super) waiting: Waiting,
    /// Until then this replica must not be elected: it granted a lease.
    pub(super) lease_granted_until: MonoTime,
    written: WriteId,
    durable: WriteId,
    /// The last save.
    pub(super) saved: WriteId,
    /// Messages that speak of a promise which is not durable yet, and a swap whose epoch is not.
    pub(super) held: VecDeque<(WriteId, Effect)>,
    pub(super) streams: StreamId,
    /// A stream that was opened to this replica before it knew the record that allows it.
    early: Option<(NodeId, Fence)>,
    pub(super) halted: Option<String>,
    pub(super) effects: Vec<Effect>,
}

impl Shared {
    pub(super) fn new(options: Options, stored: Stored, now: MonoTime) -> Self {
        let log = Log::new(&stored, options.tail_bytes_max);
        let waiting = Waiting::new(options.waiting_max);
        let asked_before = stored.hard.asked > stored.hard.promised.epoch;
        Self {
            now,
            booted: now,
            intact: stored.intact,
            hard: stored.hard,
            commit: stored.applied,
            applying: stored.applied,
            applied: stored.applied,
            digests: VecDeque::from([(stored.applied, stored.digest)]),
            coordination: Coordination::new(asked_before),
            snapshot: stored.snapshot,
            fetch: None,
            installing: None,
            waiting,
            lease_granted_until: MonoTime(0),
            written: WriteId(0),
            durable: WriteId(0),
            saved: WriteId(0),
            held: VecDeque::new(),
            streams: StreamId(0),
            early: None,
            halted: None,
            effects: Vec::new(),
            log,
            options,
        }
    }

    /// Whether a rule is put out of force.
    #[cfg(feature = "mutants")]
    pub(super) fn breaks(&self, rule: Mutant) -> bool {
        self.options.mutant == Some(rule)
    }

    /// Whether a rule is put out of force: never.
    #[cfg(not(feature = "mutants"))]
    pub(super) fn breaks(&self, _rule: Mutant) -> bool {
        false
    }

    pub(super) fn me(&self) -> NodeId {
        self.options.node
    }

    pub(super) fn record(&self) -> Option<&GroupRecord> {
        self.hard.seen.as_ref()?.record.as_ref()
    }

    /// Whether this copy has the incarnation that the record lists: else it must not accept, vote or count.
    pub(super) fn is_established(&self) -> bool {
        let listed = self.record().and_then(|record| record.member(self.me()));
        self.intact && listed.is_some_and(|member| member.incarnation == self.hard.incarnation)
    }

    pub(super) fn notice(&mut self, notice: Notice) {
        self.effects.push(Effect::Notice(notice));
    }

    pub(super) fn happened(&mut self, rare: Rare) {
        self.notice(Notice::Happened(rare));
    }

    pub(super) fn dropped(&mut self, why: &'static str) {
        self.notice(Notice::Dropped(why));
    }

    /// Stops for good: going on could lose or contradict what was acknowledged.
    pub(super) fn halt(&mut self, why: String) {
        self.halted.get_or_insert(why);
    }

    // --- Writing.

    pub(super) fn write(&mut self, write: Write) -> WriteId {
        self.written = WriteId(self.written.0 + 1);
        self.effects.push(Effect::Write(self.written, write));
        self.written
    }

    pub(super) fn save(&mut self) -> WriteId {
        self.saved = self.write(Write::Save(self.hard.clone()));
        self.saved
    }

    pub(super) fn append(&mut self, entries: Vec<LogEntry>, stamp: Stamp) {
        let write = WriteId(self.written.0 + 1);
        self.log.append(write, &entries, stamp);
        self.write(Write::Append(entries));
    }

    pub(super) fn truncate(&mut self, after: LogIndex) {
        self.log.truncate(after);
        self.write(Write::Truncate { after });
        self.happened(Rare::Truncated);
    }

    /// Everything saved so far is durable.
    pub(super) fn is_saved(&self) -> bool {
        self.durable >= self.saved || self.breaks(Mutant::AnswerBeforePromise)
    }

    pub(super) fn is_durable(&self, write: WriteId) -> bool {
        self.durable >= write
    }

    pub(super) fn on_durable(&mut self, write: WriteId) {
        if write > self.written {
            return self.dropped("a write that was never asked for");
        }
        self.durable = self.durable.max(write);
        self.log.flushed(self.durable);
        while let Some((_, effect)) = self.held.pop_front_if(|(after, _)| *after <= self.durable) {
            self.effects.push(effect);
        }
        if let Some((_, meta)) = self.installing.take_if(|(install, _)| *install <= self.durable) {
            self.applied = meta.last.index;
            self.applying = meta.last.index;
            self.digests = VecDeque::from([(meta.last.index, meta.digest)]);
            self.snapshot = Some(meta);
        }
    }

    // --- Speaking.

    /// The fence of a message to `to` in the promised leadership.
    pub(super) fn fence(&self, to: Incarnation, stream: StreamId) -> Fence {
        Fence {
            cluster: self.options.cluster,
            group: self.options.group,
            generation: self.record().map_or(Generation(0), |record| record.generation),
            epoch: self.hard.promised.epoch,
            boot: self.hard.promised.boot,
            from: self.hard.incarnation,
            to,
            stream,
        }
    }

    pub(super) fn send(&mut self, to: NodeId, fence: Fence, body: Body) {
        self.effects.push(Effect::Send { to, message: Message { fence, body } });
    }

    /// Sends once everything saved so far is durable: the message speaks for a promise.
    pub(super) fn send_when_saved(&mut self, to: NodeId, fence: Fence, body: Body) {
        if self.is_saved() {
            return self.send(to, fence, body);
        }
        let message = Message { fence, body };
        // More than a few are only held while the disk hangs; the peer asks again.
        if self.held.len() < self.options.waiting_max {
            self.held.push_back((self.saved, Effect::Send { to, message }));
        }
    }

    /// A leader may be heard before the record that names it is read. What it opened need not be opened again.
    pub(super) fn keep_early(&mut self, from: NodeId, fence: Fence, body: &Body) {
        if *body == Body::Open {
            self.early = Some((from, fence));
        }
    }

    /// The stream that was opened too early: it may be right by now.
    pub(super) fn take_early(&mut self) -> Option<(NodeId, Message)> {
        self.early.take().map(|(from, fence)| (from, Message { fence, body: Body::Open }))
    }

    // --- Committing and applying.

    /// Everything up to `index` is committed; it has to be in the log.
    pub(super) fn advance_commit(&mut self, index: LogIndex) {
        self.commit = self.commit.max(index.min(self.log.last().index));
    }

    /// Gives what is committed, and durable here, to the state machine.
    pub(super) fn apply(&mut self) {
        let up_to = self.commit.min(self.log.durable());
        // A state that differs from the group's is left as it is until it is rebuilt, or an operator decides.
        let stopped = self.installing.is_some() || !self.intact || self.hard.quarantined.is_some();
        if up_to > self.applying && !stopped {
            self.applying = up_to;
            self.effects.push(Effect::Apply { up_to });
        }
    }

    pub(super) fn on_applied(&mut self, index: LogIndex, digest: Digest) {
        if index <= self.applied || index > self.applying || self.installing.is_some() {
            return self.dropped("an entry applied out of turn");
        }
        self.applied = index;
        self.digests.push_back((index, digest));
        if self.digests.len() > DIGESTS_KEPT {
            self.digests.pop_front();
        }
    }

    /// The effect digest at `index`, where it is known.
    pub(super) fn digest_at(&self, index: LogIndex) -> Option<Digest> {
        let row = self.digests.binary_search_by_key(&index, |(applied, _)| *applied).ok()?;
        self.digests.get(row).map(|(_, digest)| *digest)
    }

    pub(super) fn newest_digest(&self) -> Option<(LogIndex, Digest)> {
        self.digests.back().copied()
    }
}

impl Promise {
    /// The promise that comes with having read a record.
    pub(super) fn of(record: &GroupRecord) -> Self {
        Self { epoch: record.epoch, leader: record.leader, boot: record.leader_boot }
    }

    /// Whether it is to the leadership of `node` in its process `boot`.
    pub(super) fn is_to(&self, node: NodeId, boot: BootId) -> bool {
        self.leader == Some(node) && self.boot == boot
    }
}

impl Seen {
    /// What a swap has to expect to replace this.
    pub(super) fn expectation(&self) -> Option<(u64, crate::group::Nonce)> {
        self.record.as_ref().map(|record| (self.mod_revision, record.nonce))
    }

    /// Whether the record is of the past: its history began with a coordinator that this one was restored from.
    pub(super) fn is_restored(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.coordinator != self.coordinator)
    }
}

/// No log is longer than this, at a million entries a second for a hundred thousand years: counting on never overflows.
const INDEX_MAX: LogIndex = LogIndex(u64::MAX / 4);

/// Whether a log can reach `at`.
pub(super) fn is_possible(at: Position) -> bool {
    (at.epoch.0 == 0) == (at.index.0 == 0) && at.index <= INDEX_MAX
}
