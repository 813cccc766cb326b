//! What a node is told: its session, the history of etcd, groups, nodes and tenants, each as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use mortise_core::group::{BootId, GroupRecord, LeaseId, NodeId};
use mortise_core::ids::GroupId;

use crate::error::{Broken, Corrupt, SessionLoss};
use crate::moment::Moment;
use crate::record::{Addresses, NodeRecord, TenantRecord};
use crate::seen::{Revision, Seen};

/// This node's session: INIT → REFRESH (here: live) → OFFLINE → INIT.
///
/// It is a failure detector for others and authorises nothing here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// None was asked for: this is an observer.
    None,
    /// The lease and the key are being created.
    Init,
    /// It is renewed.
    Live {
        /// Its lease.
        lease: LeaseId,
        /// When it ends, unless renewed: the moment of *sending* the last answered renewal + TTL.
        deadline: Moment,
    },
    /// It was lost, or could not begin; it is tried again.
    Offline(SessionLoss),
    /// For good: a newer process has this node's name. Stop.
    Superseded(BootId),
    /// It was given up by [`close`](crate::Coordinator::close).
    Closed,
}

impl SessionState {
    /// The lease, if the session lives at this very moment, whether or not anybody noticed its end yet.
    pub fn live(&self) -> Option<LeaseId> {
        match self {
            Self::Live { lease, deadline } if Moment::now() < *deadline => Some(*lease),
            _ => None,
        }
    }
}

/// Whether etcd's history is the one that this node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum History {
    /// It is, or nothing is known yet.
    Continuous,
    /// It is not. Nothing is swapped, no session begins, and nothing of what etcd holds is told until an operator
    /// accepts it. Reads still answer, marked with cluster and revision.
    Broken(Broken),
}

/// The session of some node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    /// Which of its starts.
    pub boot: BootId,
    /// Its lease.
    pub lease: LeaseId,
    /// When its key was written last.
    pub mod_revision: Revision,
}

/// A node that wants to lead a group, should it come to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// Which node.
    pub node: NodeId,
    /// Which of its starts.
    pub boot: BootId,
    /// The lease it lives with.
    pub lease: LeaseId,
    /// When it began: this orders candidates.
    pub create_revision: Revision,
}

/// A record, or why it cannot be read.
pub type Entry<T> = Result<Seen<T>, Corrupt>;

/// The record, where there is one that can be read.
pub fn record_of<T>(entry: &Entry<T>) -> Option<&T> {
    entry.as_ref().ok()?.record.as_ref()
}

/// All that etcd says about a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupState {
    /// Its record.
    pub record: Entry<GroupRecord>,
    /// Who campaigns, in the order of creation; one start of each node, the newest.
    pub candidates: Vec<Candidate>,
    /// The live sessions of its members.
    pub sessions: BTreeMap<NodeId, Session>,
    /// The revision at which all of this was so.
    pub revision: Revision,
}

/// All that etcd says about a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeState {
    /// Its record, if there is one.
    pub record: Option<Entry<NodeRecord>>,
    /// Its session, if it lives.
    pub session: Option<Session>,
}

impl NodeState {
    /// Where it said that it is reached.
    pub fn addresses(&self) -> Option<&Addresses> {
        Some(&record_of(self.record.as_ref()?)?.addresses)
    }
}

/// Every node that has a record or a session.
pub type Nodes = BTreeMap<NodeId, NodeState>;

/// Every tenant in the directory.
pub type Tenants = BTreeMap<String, Entry<TenantRecord>>;

/// Something that changed. Always the present state as a whole: what happened in between may be left out.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// This node's session.
    Session(SessionState),
    /// The history of etcd.
    History(History),
    /// The directory of nodes.
    Nodes(Arc<Nodes>),
    /// The directory of tenants.
    Tenants(Arc<Tenants>),
    /// A group.
    Group(GroupId, Arc<GroupState>),
}
