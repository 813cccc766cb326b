//! What can go wrong, and who must act.

use mortise_core::group::{BootId, LeaseId, RecordError};

use crate::seen::{ClusterId, Revision};

/// A value under our prefix that is not ours, is damaged, or was written by a newer release. It is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} at revision {mod_revision}: {why}")]
pub struct Corrupt {
    /// Its key.
    pub key: String,
    /// The revision of its last change.
    pub mod_revision: Revision,
    /// What is wrong with it.
    pub why: String,
}

/// Why the present etcd cannot be the continuation of what this node saw.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "etcd was wiped, restored or exchanged: cluster {seen_cluster} at revision {seen_revision}, where cluster \
     {known_cluster} was at revision {known_revision} already; frozen until an operator accepts it"
)]
pub struct Broken {
    /// The cluster that answered before.
    pub known_cluster: ClusterId,
    /// The highest revision it answered with.
    pub known_revision: Revision,
    /// The cluster that answers now.
    pub seen_cluster: ClusterId,
    /// And its revision.
    pub seen_revision: Revision,
}

/// Why a request to the coordinator has no result. None of them leaves a swap in doubt: that is
/// [`SwapOutcome::Unknown`](crate::SwapOutcome::Unknown).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoordinationError {
    /// The configuration cannot be.
    #[error("coordination: {0}")]
    Config(String),
    /// Nobody answered in time; trying again may help.
    #[error("etcd at {endpoint} is unavailable: {why}")]
    Unavailable {
        /// The endpoint that was tried last.
        endpoint: String,
        /// What it said, or that it said nothing.
        why: String,
    },
    /// User, password or certificate are not accepted: an operator must act.
    #[error("etcd at {endpoint} does not let us in: {why}")]
    Denied {
        /// The endpoint that refused.
        endpoint: String,
        /// What it said.
        why: String,
    },
    /// What lies under the key is not what should: an operator must look.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// etcd's history is not the one that was known: an operator must accept it.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The record to be written breaks its own rules.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// This node has no live session, so it asks for no swap.
    #[error("no swap without a live session")]
    NoSession,
}

/// How a session ended, or why it could not begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionLoss {
    /// No renewal was answered for a whole TTL.
    #[error("no renewal of lease {:x} was answered in time", .0.0)]
    Expired(LeaseId),
    /// etcd does not know the lease any more: it was revoked, or etcd lost it.
    #[error("etcd does not know lease {:x}", .0.0)]
    LeaseGone(LeaseId),
    /// The session's key was deleted or taken over.
    #[error("the session's key is gone")]
    KeyGone,
    /// It could not begin.
    #[error("{0}")]
    NotBegun(CoordinationError),
    /// A newer process runs under this node's name: this one must stop.
    #[error("a newer process (boot {0}) runs under this node's name")]
    Superseded(BootId),
}
