//! What can happen to a replica. The set is closed: a driver translates whatever its node experiences into these.

use bytes::Bytes;

use super::effect::{Effect, Refusal, WriteId};
use super::message::{LogEntry, Message, Position, StreamId};
use super::snapshot::SnapshotMeta;
use crate::digest::Digest;
use crate::group::{GroupRecord, Incarnation, LeaseId, NodeId, Nonce};
use crate::ids::{Epoch, LogIndex};

/// A number that the driver gives to a request of a client or an operator, and finds again in the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Time passed. Wanted about every 10 ms; later only means later decisions.
    Tick,
    /// A client wants an entry appended. Answered by [`super::Effect::Proposed`].
    Propose(Proposal),
    /// A client wants to read. Answered by [`super::Effect::Read`].
    Read(Read),
    /// A client asks what became of an `ack = leader` write. Answered by [`super::Effect::Fate`], perhaps later.
    AskFate {
        /// Comes back in the answer.
        id: RequestId,
        /// What the client was given.
        token: Position,
        /// When the client stops waiting: what is pending then is answered with [`super::Refusal::TimedOut`].
        deadline: MonoTime,
    },
    /// An operator's wish. Answered by [`super::Effect::Operator`].
    Operator {
        /// Comes back in the answer.
        id: RequestId,
        /// What is wanted.
        command: OperatorCommand,
    },
    /// A stream that was asked for by [`super::Effect::OpenStream`] is open: messages may be sent on it.
    StreamOpened {
        /// To whom.
        peer: NodeId,
        /// Which.
        stream: StreamId,
    },
    /// A stream broke, or could not be opened.
    StreamClosed {
        /// To whom.
        peer: NodeId,
        /// Which.
        stream: StreamId,
    },
    /// A message arrived. Nothing in it is believed before it is checked.
    Message {
        /// The peer it came from, as the transport authenticated it.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// The log writer made everything up to this write durable.
    Durable(WriteId),
    /// Entries that [`super::Effect::ReadLog`] asked for; may be fewer than asked for, and none if they are gone.
    LogRead {
        /// For whom.
        peer: NodeId,
        /// On which stream.
        stream: StreamId,
        /// The entries, in order and without gaps.
        entries: Vec<LogEntry>,
    },
    /// The log's entries before `first` were dropped.
    LogDropped {
        /// The first entry that is left.
        first: LogIndex,
    },
    /// The state machine applied the entry at `index`. Wanted for every entry, so that replicas can be compared.
    Applied {
        /// The last applied entry.
        index: LogIndex,
        /// The effect digest at that index: a chain, so that equal digests mean equal histories.
        digest: Digest,
    },
    /// A snapshot of this replica's state is ready to be sent.
    SnapshotTaken(SnapshotMeta),
    /// The snapshot that [`super::Effect::FetchSnapshot`] asked for is here, whole and verified; not yet installed.
    SnapshotFetched(SnapshotMeta),
    /// It could not be fetched.
    SnapshotFailed,
    /// An answer to [`super::CoordinatorRequest::Read`].
    RecordRead {
        /// The request's number.
        request: u64,
        /// What the coordinator has; `None` where it did not answer in time.
        seen: Option<Seen>,
    },
    /// The coordinator's watch shows the record. May come late, twice or not at all.
    RecordChanged(Seen),
    /// An answer to [`super::CoordinatorRequest::Swap`].
    Swapped {
        /// The swap, by the nonce of its record.
        nonce: Nonce,
        /// What became of it.
        outcome: SwapOutcome,
    },
    /// The group's candidates with live sessions, first come first.
    Candidates(Vec<NodeId>),
    /// This node's session with the coordinator.
    Session(SessionState),
    /// The log or the state cannot be trusted any more: an fsync failed, a file is damaged. The replica stops.
    Fault(String),
}

/// An entry to append.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proposal {
    /// Comes back in the answers.
    pub id: RequestId,
    /// The encoded entry ([`crate::entry::Entry::encode`]).
    pub payload: Bytes,
    /// When the client wants its acknowledgement.
    pub ack: Ack,
}

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ack {
    /// Once it is committed and applied. The default.
    #[default]
    Committed,
    /// Once it is durable on the leader: may be lost with it. The client gets a token to ask with.
    Leader,
}

/// A read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Read {
    /// Comes back in the answer.
    pub id: RequestId,
    /// How fresh.
    pub freshness: Freshness,
    /// When the client stops waiting.
    pub deadline: MonoTime,
}

/// How fresh a read has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Freshness {
    /// Sees every write that was acknowledged before the read began. No clock is involved. Leader only.
    Linearizable,
    /// The same as long as no two clocks differ in speed by more than the lease's margin. Leader only.
    Lease,
    /// Sees every write that was acknowledged longer than this before the read began, in microseconds. Any replica.
    Bounded(u64),
    /// Sees the write that was acknowledged with this position. Any replica.
    AtLeast(Position),
}

/// An operator's wish.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OperatorCommand {
    /// Hand the leadership to this in-sync member.
    Transfer(NodeId),
    /// Make this node a learner; it joins the in-sync set once it has caught up.
    Add(NodeId),
    /// This node leaves the group.
    Remove(NodeId),
    /// Commits need this many in-sync members.
    SetMinIsr(u32),
    /// All other members that hold committed entries are gone for good: lead with what this node has.
    UncleanStart,
    /// The coordinator was wiped or restored: build on what the members remember.
    AcceptCoordinator {
        /// What each member that was heard remembers, this node's own memory not included.
        heard: Vec<Memory>,
        /// The members the operator declares gone for good.
        gone: Vec<NodeId>,
    },
}

/// What a member remembers of its group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Memory {
    /// Whose memory.
    pub node: NodeId,
    /// The highest epoch it has promised or asked for ([`HardState::highest_epoch`](super::HardState::highest_epoch)).
    pub epoch: Epoch,
    /// The newest record it has seen.
    pub seen: Option<Seen>,
    /// How far its log reaches; `None` where the copy was lost, damaged or restored and has no new incarnation yet.
    pub reach: Option<Reach>,
    /// It does not believe the coordinator, until an operator has decided.
    pub frozen: bool,
}

/// How far the log of a copy reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reach {
    /// The life of the copy: who is listed under another one holds nothing that counts.
    pub incarnation: Incarnation,
    /// The last entry that is durable. Of a leader, which may commit more at any moment, the end of its epoch: the
    /// greatest index that there is.
    pub last: Position,
}

/// Microseconds on a clock of this machine that never goes back and goes on while the machine sleeps
/// (`CLOCK_BOOTTIME`). Comparable on one machine since one start only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonoTime(pub u64);

impl MonoTime {
    /// The end of time.
    pub const MAX: Self = Self(u64::MAX);

    /// So many microseconds later.
    #[must_use]
    pub fn after(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// Microseconds from `earlier` to here; 0 where `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A group's record as the coordinator gave it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    /// The coordinator's own identity (etcd's cluster id): another one means other data, whatever the revisions say.
    pub coordinator: u64,
    /// The coordinator's revision when it answered.
    pub revision: u64,
    /// The revision that last changed the record; 0 where there is none.
    pub mod_revision: u64,
    /// The record; `None` where there is none.
    pub record: Option<GroupRecord>,
}

/// What became of a swap.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SwapOutcome {
    /// It was applied; this is the record now.
    Applied(Seen),
    /// It was refused; this is the record now.
    Refused(Seen),
    /// No answer: it may have been applied, may be applied later, or never.
    Unknown,
}

/// A node's session with the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionState {
    /// The lease is alive.
    Live(LeaseId),
    /// It is lost, or there was none yet. No candidacy and no swaps; a leader goes on.
    Offline,
}

impl Event {
    /// What a replica that has stopped answers to it, where somebody waits for an answer.
    pub(super) fn refusal(self) -> Option<Effect> {
        let refusal = Refusal::OutOfService;
        match self {
            Event::Propose(proposal) => Some(Effect::Proposed { id: proposal.id, result: Err(refusal) }),
            Event::Read(read) => Some(Effect::Read { id: read.id, result: Err(refusal) }),
            Event::AskFate { id, .. } => Some(Effect::Fate { id, result: Err(refusal) }),
            Event::Operator { id, .. } => {
                let why = "this replica has stopped, because its data could not be trusted: see its log"
                    .to_string();
                Some(Effect::Operator { id, result: Err(why) })
            }
            _ => None,
        }
    }
}
