//! What a replica wants done. A driver carries the effects of a step out in their order, before the next step.
//!
//! **Ordering duties.** [`Effect::Write`]s form one queue: carry them out in order, each completely before the next,
//! and report [`super::Event::Durable`] only after an fsync that covers them. Everything else may be done at once: what
//! must not be said before a write is durable is held back by the replica itself until that report.

use super::event::RequestId;
use super::message::{LogEntry, Message, Position, StreamId};
use super::snapshot::SnapshotMeta;
use super::stored::HardState;
use crate::group::{Generation, GroupRecord, NodeId, Nonce};
use crate::ids::{Epoch, LogIndex};

/// Counts the writes of one process. Starts with 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Write to the log's folder, after all earlier writes. Then fsync, then report [`super::Event::Durable`].
    Write(WriteId, Write),
    /// Send a message. It may be lost.
    Send {
        /// To whom.
        to: NodeId,
        /// On the stream that the message's fence names, in order; or beside all streams where it names none.
        message: Message,
    },
    /// Open a stream to a peer. Report [`super::Event::StreamOpened`] or [`super::Event::StreamClosed`].
    OpenStream {
        /// To whom.
        peer: NodeId,
        /// Its number.
        stream: StreamId,
    },
    /// Give up a stream; nothing needs to be reported.
    CloseStream {
        /// To whom.
        peer: NodeId,
        /// Its number.
        stream: StreamId,
    },
    /// Read entries back from the log, from `first` on, for a follower. Report [`super::Event::LogRead`].
    ReadLog {
        /// For whom.
        peer: NodeId,
        /// On which stream.
        stream: StreamId,
        /// The first entry wanted.
        first: LogIndex,
        /// The last entry wanted.
        last: LogIndex,
        /// Stop after this many bytes of payload, but give at least one entry.
        bytes_max: usize,
    },
    /// Apply the entries up to here. They are committed, and durable on this replica. Report [`super::Event::Applied`].
    Apply {
        /// The last entry to apply.
        up_to: LogIndex,
    },
    /// Answer a proposal: it has its place in the log, which does not mean that it will stay there.
    Proposed {
        /// The proposal.
        id: RequestId,
        /// Its place, or why it has none.
        result: Result<Position, Refusal>,
    },
    /// An `ack = leader` proposal is durable here: acknowledge it with its position as token.
    Acknowledge {
        /// The proposal.
        id: RequestId,
        /// Its place.
        token: Position,
    },
    /// What became of a token's write.
    Fate {
        /// The question.
        id: RequestId,
        /// The answer.
        result: Result<Fate, Refusal>,
    },
    /// A read may be executed, on the state as applied now or later.
    Read {
        /// The read.
        id: RequestId,
        /// Its condition, or why it may not.
        result: Result<ReadPermit, Refusal>,
    },
    /// Ask the coordinator.
    Coordinate(CoordinatorRequest),
    /// Fetch the snapshot from the leader, verify it and keep it beside the present state. Report
    /// [`super::Event::SnapshotFetched`] or [`super::Event::SnapshotFailed`].
    FetchSnapshot {
        /// Who has it.
        from: NodeId,
        /// What it holds.
        meta: SnapshotMeta,
    },
    /// A follower needs a snapshot and there is none that the log goes on from: take one. Report
    /// [`super::Event::SnapshotTaken`].
    TakeSnapshot,
    /// Answer an operator.
    Operator {
        /// The command.
        id: RequestId,
        /// Whether it is done, or why not.
        result: Result<(), String>,
    },
    /// For people, metrics, and whoever waits for a role. Needs no answer.
    Notice(Notice),
}

/// A write to the log's folder.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Write {
    /// Replace the replica's small state.
    Save(HardState),
    /// Append to the log.
    Append(Vec<LogEntry>),
    /// Drop every entry after this one. Has to be durable before the next append overwrites anything.
    Truncate {
        /// The last entry that stays.
        after: LogIndex,
    },
    /// Publish the fetched snapshot as the state. What was applied before it is gone; apply nothing until this is
    /// durable, and report nothing that was applied before.
    Install {
        /// What it holds.
        meta: SnapshotMeta,
        /// What becomes of the log.
        log: LogAtInstall,
    },
}

/// What becomes of the log when a snapshot is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogAtInstall {
    /// It holds the snapshot's last entry, and all its entries stay: they may be acknowledged.
    Stays,
    /// It begins anew after the snapshot; the old files go.
    BeginsAnew,
    /// It begins anew after the snapshot; the old files are kept aside, because a new generation gave them up.
    IsKeptAside,
}

/// A request to the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CoordinatorRequest {
    /// Read the group's record, linearizably. Answered by [`super::Event::RecordRead`].
    Read {
        /// Comes back in the answer.
        request: u64,
    },
    /// Replace the record if it is still the expected one. Answered by [`super::Event::Swapped`].
    Swap {
        /// Revision and nonce of the expected record; `None`: there must be none.
        expected: Option<(u64, Nonce)>,
        /// The new record. Its nonce names the swap, its coordinator the only one that may carry it out.
        record: GroupRecord,
    },
    /// Be listed among the group's candidates, or no longer.
    Candidacy(bool),
}

/// Why something was not done. None of these has taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Only the leader can do this.
    NotLeader {
        /// Who that may be.
        leader: Option<NodeId>,
    },
    /// This node leads, but may not serve yet, or hands the leadership over: try again soon.
    NotReady,
    /// Too much is in flight: try again later.
    Overloaded,
    /// The deadline passed.
    TimedOut,
    /// The position asked for is not part of the history any more.
    Lost,
    /// This replica is quarantined, or has stopped.
    OutOfService,
    /// The request cannot be: a payload that is no entry.
    Malformed,
}

/// What became of a write that only the leader had acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It is committed and stays.
    Committed,
    /// It went with a leader, and will never be.
    Lost,
}

/// A read may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadPermit {
    /// At least this much is applied.
    pub index: LogIndex,
    /// The answer may be given until this moment; read the clock *after* reading the state. Else ask again.
    pub valid_until: super::event::MonoTime,
}

/// Something that people and metrics want to know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Notice {
    /// This replica leads, and serves from now on.
    Leads {
        /// Its epoch.
        epoch: Epoch,
    },
    /// This replica does not lead any more. Proposals without an answer are unknown.
    StepsDown {
        /// The epoch in which it led.
        epoch: Epoch,
    },
    /// A newer record is known.
    Record(GroupRecord),
    /// The coordinator contradicts what it said: no swaps until an operator accepts it.
    Frozen(String),
    /// The operator accepted the coordinator.
    Unfrozen {
        /// The history from now on.
        generation: Generation,
    },
    /// This replica's state differs from the group's: it neither leads nor serves until it is rebuilt.
    Quarantined {
        /// Where it was first seen.
        index: LogIndex,
    },
    /// It was rebuilt.
    Released,
    /// A message or an answer was refused, and why. Count it.
    Dropped(&'static str),
    /// A rare thing happened. Count it.
    Happened(Rare),
    /// The replica stopped for good, and why. No effect follows any more.
    Halted(String),
}

/// Rare things, counted so that tests can prove that they were met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rare {
    /// A swap without an answer turned out to have been applied.
    UnknownSwapApplied,
    /// A swap without an answer turned out not to have been applied.
    UnknownSwapRefused,
    /// A node of the elr, not of the isr, was elected.
    ElectedFromElr,
    /// A follower truncated its log.
    Truncated,
    /// Matching took more than one round.
    MatchedOverEpochs,
    /// The leader went on in its epoch after an outage of its session.
    Readopted,
    /// A leadership was handed over as asked.
    Transferred,
    /// A snapshot was installed.
    SnapshotInstalled,
    /// A fetched snapshot was not needed any more.
    SnapshotDropped,
    /// A snapshot finished under a later epoch than it began in.
    SnapshotOverEpochs,
    /// An operator started a group uncleanly.
    UncleanStart,
    /// An operator accepted a wiped or restored coordinator.
    CoordinatorAccepted,
    /// A token was found lost.
    TokenLost,
    /// The copy goes on under a new incarnation.
    NewIncarnation,
    /// An append did not fit, and the stream was matched anew.
    Rematched,
}

impl Rare {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::UnknownSwapApplied,
        Self::UnknownSwapRefused,
        Self::ElectedFromElr,
        Self::Truncated,
        Self::MatchedOverEpochs,
        Self::Readopted,
        Self::Transferred,
        Self::SnapshotInstalled,
        Self::SnapshotDropped,
        Self::SnapshotOverEpochs,
        Self::UncleanStart,
        Self::CoordinatorAccepted,
        Self::TokenLost,
        Self::NewIncarnation,
        Self::Rematched,
    ];
}
