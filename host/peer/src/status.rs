//! What nodes tell about themselves, for `cluster status`.

use std::time::Duration;

use mortise_core::digest::Digest;
use mortise_core::group::{Generation, Incarnation, NodeId};
use mortise_core::ids::{Epoch, LogIndex};
use mortise_core::replica::{Position, RoleKind};

use crate::link::LinkState;

/// How a member of a group is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Which node.
    pub node: NodeId,
    /// What it is.
    pub role: RoleKind,
    /// It leads, and its epoch-start entry is applied.
    pub serving: bool,
    /// The leadership it follows.
    pub epoch: Epoch,
    /// The history it belongs to.
    pub generation: Generation,
    /// The life of its copy.
    pub incarnation: Incarnation,
    /// The log's last entry.
    pub last: Position,
    /// The log is durable up to here.
    pub durable: LogIndex,
    /// Known to be committed.
    pub commit: LogIndex,
    /// Applied.
    pub applied: LogIndex,
    /// Its effect digest, and the index where it was taken.
    pub digest: Option<(LogIndex, Digest)>,
    /// It swaps nothing until an operator accepts the coordinator.
    pub frozen: bool,
    /// It neither leads nor serves since this index.
    pub quarantined: Option<LogIndex>,
    /// The in-sync set as this member sees it.
    pub isr: Vec<NodeId>,
    /// Its links to its peers.
    pub links: Vec<LinkStatus>,
}

/// How a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// To whom.
    pub peer: NodeId,
    /// Where it is dialled, as host:port.
    pub address: String,
    /// Its state.
    pub state: LinkState,
    /// For how long it has been in this state.
    pub since: Duration,
    /// Of the newest answered ping.
    pub round_trip: Option<Duration>,
    /// How often it was dialled again after it broke or could not be made.
    pub redials: u64,
    /// Why it last broke or could not be made; empty: never.
    pub last_error: String,
}
