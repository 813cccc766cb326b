//! What members of a group say to each other. Leader to follower and back; followers do not talk among themselves.

use bytes::Bytes;

use super::snapshot::SnapshotMeta;
use crate::digest::Digest;
use crate::group::{BootId, Generation, Incarnation};
use crate::ids::{Epoch, GroupId, LogIndex};

/// A stream of messages between a leader and a follower, numbered by the leader's process. 0: outside any stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// A place in the log. Two logs that have the same position hold the same entries up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The epoch of the entry there; 0 before the first entry.
    pub epoch: Epoch,
    /// Its index; 0 before the first entry.
    pub index: LogIndex,
}

/// An entry as it lies in the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogEntry {
    /// Where.
    pub at: Position,
    /// The encoded entry ([`crate::entry::Entry::encode`]).
    pub payload: Bytes,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// Who speaks to whom, and in which life of each.
    pub fence: Fence,
    /// What is said.
    pub body: Body,
}

/// Says exactly which leadership, which copies and which stream a message belongs to. A message of the past fails
/// at least one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fence {
    /// The Mortise cluster.
    pub cluster: u64,
    /// The group.
    pub group: GroupId,
    /// The history.
    pub generation: Generation,
    /// The leadership, also in a follower's answer.
    pub epoch: Epoch,
    /// The leader's process, also in a follower's answer.
    pub boot: BootId,
    /// The speaker's copy.
    pub from: Incarnation,
    /// The listener's copy.
    pub to: Incarnation,
    /// The stream it was sent on, or 0.
    pub stream: StreamId,
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// Leader, on a new stream: where does your log end?
    Open,
    /// Follower: my log ends here. Sent on `Open`, after every truncation, and where an append does not fit.
    Last {
        /// The end.
        last: Position,
        /// A new generation contradicts what I have applied: only a snapshot brings me back.
        reinstall: bool,
    },
    /// Leader: the largest epoch I have that is not above yours, and where it ends in my log. Truncate to that.
    Match {
        /// What the follower said: the end of its log. The answer counts for that end only.
        last: Position,
        /// The end of that epoch.
        end: Position,
    },
    /// Leader: append these.
    Append {
        /// What stands before the first of them.
        previous: Position,
        /// The entries; none: only `commit` is told, and an acknowledgement wanted.
        entries: Vec<LogEntry>,
        /// Everything up to here is committed.
        commit: LogIndex,
    },
    /// Follower: everything up to here is durable, and the same as yours.
    Durable {
        /// Up to here.
        index: LogIndex,
        /// My effect digest where I have applied.
        applied: Option<(LogIndex, Digest)>,
        /// My state differs from the group's: I wait for a snapshot to replace it, no older than this, where my log
        /// begins.
        rebuild: Option<LogIndex>,
    },
    /// Leader: what you miss is no longer in my log. Fetch this snapshot.
    Snapshot {
        /// What it holds.
        meta: SnapshotMeta,
        /// Install it although you are not behind: your state differs from the group's.
        replace: bool,
    },
    /// Leader, outside any stream: I lead. Asks for an answer, which confirms reads and grants a lease.
    Beacon {
        /// Counts beacons of this leadership.
        round: u64,
        /// Everything up to here is committed.
        commit: LogIndex,
    },
    /// Follower: I know no higher epoch.
    BeaconAnswer {
        /// The beacon's round.
        round: u64,
        /// Whether I also promise not to be elected for the time of a lease.
        lease: bool,
    },
    /// Follower: tell me a commit index that is true now, for a read of mine.
    AskCommit {
        /// Counts the follower's questions.
        question: u64,
    },
    /// Leader: confirmed after the question arrived.
    TellCommit {
        /// The question.
        question: u64,
        /// Everything up to here is committed.
        commit: LogIndex,
    },
    /// Leader: you have all I have, and I take nothing more. Have yourself elected.
    Campaign,
    /// Leader: your state differs from the majority's at this index. You are quarantined.
    Diverged {
        /// The first index at which it was seen.
        index: LogIndex,
    },
    /// Follower: I do not follow you, because I promised this epoch.
    Refused {
        /// The epoch.
        promised: Epoch,
    },
}

impl Body {
    /// Whether leaders say this; else followers do.
    pub fn is_of_leader(&self) -> bool {
        match self {
            Self::Open
            | Self::Match { .. }
            | Self::Append { .. }
            | Self::Snapshot { .. }
            | Self::Beacon { .. }
            | Self::TellCommit { .. }
            | Self::Campaign
            | Self::Diverged { .. } => true,
            Self::Last { .. }
            | Self::Durable { .. }
            | Self::BeaconAnswer { .. }
            | Self::AskCommit { .. }
            | Self::Refused { .. } => false,
        }
    }
}
