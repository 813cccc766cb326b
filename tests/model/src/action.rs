//! What can happen next.

use std::fmt;

use mortise_core::group::NodeId;
use mortise_core::replica::{Ack, Position};

use crate::network::Channel;

/// Something happens. Whatever follows of itself and is of no interest (see [`crate::world`]) happens with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A message arrives.
    Deliver {
        /// On which channel.
        channel: Channel,
        /// Which of its messages.
        place: usize,
    },
    /// A disk makes everything written durable.
    Sync(NodeId),
    /// A node sees the record as it is now: by its watch, or by the answer to its swap.
    Learn(NodeId),
    /// The coordinator applies a swap. Nobody is told.
    Swap {
        /// Who asked for it.
        node: NodeId,
        /// Which of the swaps on their way.
        place: usize,
    },
    /// A node is told that its swap is unknown, and reads the record.
    Unknown(NodeId),
    /// A node that does not lead finds that the leader was silent for too long.
    Elect(NodeId),
    /// A leader looks after its group: who is too slow, who has caught up, what is wished for.
    Tend(NodeId),
    /// A leader's clock moves on.
    Wait(NodeId),
    /// A leader finds a stream broken and opens a new one.
    Reconnect {
        /// The leader.
        leader: NodeId,
        /// The other end.
        peer: NodeId,
    },
    /// A stream breaks; what is on its way to the follower is lost.
    Break {
        /// The leader.
        leader: NodeId,
        /// The other end.
        peer: NodeId,
    },
    /// A client writes.
    Propose {
        /// At whom.
        node: NodeId,
        /// When it wants its acknowledgement.
        ack: Ack,
    },
    /// A client asks what became of a write that only the leader had acknowledged.
    Ask {
        /// At whom.
        node: NodeId,
        /// Its token.
        token: Position,
    },
    /// A client reads, linearizably.
    Read(NodeId),
    /// A process dies, its unsynced writes are lost, the next process starts.
    Crash(NodeId),
    /// A process dies, and its disk is empty when the next one starts.
    Wipe(NodeId),
    /// An operator wants the leadership handed over.
    Transfer {
        /// By whom.
        leader: NodeId,
        /// To whom.
        target: NodeId,
    },
    /// An operator changes `min_isr`.
    SetMinIsr {
        /// At whom.
        leader: NodeId,
        /// What it shall be.
        min_isr: u32,
    },
    /// A node's session is lost, and made anew under another lease.
    Relet(NodeId),
    /// An operator restores an old backup of the coordinator, under a new cluster id.
    Restore {
        /// Which of the records of the past.
        place: usize,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deliver { channel, .. } => write!(f, "{} hears {}", channel.to, channel.from),
            Self::Sync(node) => write!(f, "{node} syncs its disk"),
            Self::Learn(node) => write!(f, "{node} sees the record"),
            Self::Swap { node, .. } => write!(f, "the swap of {node} is applied"),
            Self::Unknown(node) => write!(f, "{node} is told that its swap is unknown"),
            Self::Elect(node) => write!(f, "{node} asks to be elected"),
            Self::Tend(node) => write!(f, "{node} looks after its group"),
            Self::Wait(node) => write!(f, "{node} finds that time has passed"),
            Self::Reconnect { leader, peer } => write!(f, "{leader} opens a new stream to {peer}"),
            Self::Break { leader, peer } => write!(f, "the stream of {leader} to {peer} breaks"),
            Self::Propose { node, ack } => write!(f, "a client writes at {node}, ack = {ack:?}"),
            Self::Ask { node, token } => write!(f, "a client asks {node} about token {}", shown(*token)),
            Self::Read(node) => write!(f, "a client reads at {node}"),
            Self::Crash(node) => write!(f, "{node} crashes and restarts"),
            Self::Wipe(node) => write!(f, "{node} loses its disk and restarts"),
            Self::Transfer { leader, target } => write!(f, "{leader} shall hand over to {target}"),
            Self::SetMinIsr { leader, min_isr } => write!(f, "{leader} shall set min_isr to {min_isr}"),
            Self::Relet(node) => write!(f, "{node} has a new session"),
            Self::Restore { place } => write!(f, "backup {place} of the coordinator is restored"),
        }
    }
}

/// A position as epoch.index.
pub fn shown(at: Position) -> String {
    format!("{}.{}", at.epoch, at.index)
}
