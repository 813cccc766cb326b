//! What operators ask of a cluster, through any of its nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::join_all;
use mortise_coordination::{
    Change, ClusterId, CoordinationError, Expected, History, Interest, Nodes, SwapOutcome, new_nonce,
    record_of,
};
use mortise_core::group::{GroupRecord, NodeId};
use mortise_core::ids::GroupId;
use mortise_core::replica::OperatorCommand;
use mortise_peer::{MemberStatus, PeerError};

use super::Node;
use super::memory::first_incarnation;
use super::tenants::Names;
use crate::groups::Directory;
use crate::replica::WriteError;

/// Why an operator's wish was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperationError {
    /// It cannot be as things are.
    #[error("{0}")]
    Refused(String),
    /// There is no such group.
    #[error("there is no group {0}: see `mortise group list`")]
    NoSuchGroup(GroupId),
    /// The group is there already.
    #[error("group {0} exists already")]
    Exists(GroupId),
    /// Another node has to be asked.
    #[error(transparent)]
    NotLeader(WriteError),
    /// etcd did not do it.
    #[error(transparent)]
    Coordination(#[from] CoordinationError),
    /// Whether it was done is not known.
    #[error("etcd's answer was lost: look with `mortise group list` whether it was done")]
    Unknown,
}

/// A group with its members as they tell.
pub(crate) struct GroupInfo {
    pub(crate) group: GroupId,
    pub(crate) record: GroupRecord,
    pub(crate) members: Vec<MemberInfo>,
}

/// A member of a group as it tells.
pub(crate) struct MemberInfo {
    pub(crate) node: NodeId,
    pub(crate) status: Result<MemberStatus, String>,
}

impl Node {
    /// This node's number.
    pub(crate) fn id(&self) -> NodeId {
        self.identity.node
    }

    /// What etcd says of nodes, groups and tenants.
    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The names of tenants.
    pub(crate) fn names(&self) -> &Arc<Names> {
        &self.names
    }

    /// Creates a group, which those it lists then start.
    pub(crate) async fn create_group(
        &self,
        group: GroupId,
        nodes: &BTreeSet<NodeId>,
        min_isr: u32,
    ) -> Result<GroupRecord, OperationError> {
        if group == GroupId(0) {
            return Err(OperationError::Refused("groups are numbered from 1".into()));
        }
        let (mut voters, mut cluster) = (Vec::new(), ClusterId(0));
        for node in nodes {
            let seen = self.coordinator.read_node(*node).await?;
            cluster = seen.cluster;
            let record = seen.record.ok_or_else(|| {
                OperationError::Refused(format!(
                    "node {node} has never been started: start it once, then create the group"
                ))
            })?;
            voters.push((*node, first_incarnation(record.storage, group)));
        }
        let majority = u32::try_from(nodes.len() / 2 + 1).unwrap_or(1);
        let min_isr = if min_isr == 0 { majority } else { min_isr };
        let record = GroupRecord::create(cluster.0, &voters, min_isr, new_nonce()?)
            .map_err(|error| OperationError::Refused(error.to_string()))?;
        match self.coordinator.swap_group(group, Expected::Absent, record.clone()).await? {
            SwapOutcome::Applied(_) => {
                self.directory.set_leader(group, record.leader);
                Ok(record)
            }
            SwapOutcome::Refused(seen) if seen.record.is_some() => Err(OperationError::Exists(group)),
            SwapOutcome::Refused(_) => {
                Err(OperationError::Refused("etcd refused to create the group: try again".into()))
            }
            SwapOutcome::Unknown => Err(OperationError::Unknown),
        }
    }

    /// All groups' records, and all nodes.
    pub(crate) fn look(&self) -> (BTreeMap<GroupId, GroupRecord>, Nodes) {
        let mut changes = self.coordinator.changes(Interest::All);
        let (mut groups, mut nodes) = (BTreeMap::new(), Nodes::new());
        while let Some(change) = changes.try_next() {
            match change {
                Change::Group(group, state) => {
                    groups.extend(record_of(&state.record).map(|record| (group, record.clone())));
                }
                Change::Nodes(all) => nodes = all.as_ref().clone(),
                _ => {}
            }
        }
        (groups, nodes)
    }

    /// Why etcd cannot be observed at the moment.
    pub(crate) fn etcd_problem(&self) -> Option<String> {
        match self.coordinator.history() {
            History::Broken(broken) => Some(broken.to_string()),
            History::Continuous => self.coordinator.problem().map(|error| error.to_string()),
        }
    }

    /// A group with its members as they tell, all asked at once.
    pub(crate) async fn ask_members(&self, group: GroupId, record: GroupRecord) -> GroupInfo {
        let nodes: Vec<NodeId> = record.members.iter().map(|member| member.node).collect();
        let members = join_all(nodes.into_iter().map(|node| async move {
            let status = if node == self.id() {
                self.member_status(group).await.map_err(|error| error.to_string())
            } else {
                self.peers.status(node, group).await.map_err(|error: PeerError| error.to_string())
            };
            MemberInfo { node, status }
        }));
        GroupInfo { group, record, members: members.await }
    }

    /// Has this node's replica of the group carry a command out.
    pub(crate) async fn operate(
        &self,
        group: GroupId,
        command: OperatorCommand,
        needs_leader: bool,
    ) -> Result<(), OperationError> {
        let Some(replica) = self.groups.get(group) else {
            return Err(OperationError::NotLeader(self.leader_elsewhere(group).await?));
        };
        if needs_leader && !replica.leads() {
            return Err(OperationError::NotLeader(replica.not_leader()));
        }
        tracing::warn!(%group, ?command, "an operator's command");
        let done = replica.operate(command).await.map_err(OperationError::Refused);
        tracing::warn!(%group, result = ?done, "the operator's command has ended");
        done
    }

    /// Why this node does nothing for a group that it has no replica of.
    pub(crate) fn led_elsewhere(&self, group: GroupId) -> WriteError {
        let leader = self.directory.leader(group).flatten();
        // One that this node is about to be is none yet.
        let leader = leader.filter(|leader| *leader != self.id());
        WriteError::NotLeader { group, leader: leader.map(|leader| self.directory.node(leader)) }
    }

    /// The same, of a group that there may not be.
    ///
    /// # Errors
    /// There is no such group, or etcd does not say so.
    pub(crate) async fn leader_elsewhere(&self, group: GroupId) -> Result<WriteError, OperationError> {
        if self.directory.leader(group).is_none() {
            // It may be so new that nobody told this node of it.
            let seen = self.coordinator.read_group(group).await?;
            let record = seen.record.ok_or(OperationError::NoSuchGroup(group))?;
            self.directory.set_leader(group, record.leader);
        }
        Ok(self.led_elsewhere(group))
    }

    /// Accepts etcd as it is, for this node; and, where a group is named, has this node's replica build a new history on the
    /// newest record that any member remembers.
    pub(crate) async fn accept_etcd(
        &self,
        group: Option<GroupId>,
        gone: Vec<NodeId>,
    ) -> Result<(), OperationError> {
        if let History::Broken(broken) = self.coordinator.history() {
            self.coordinator.accept(broken.seen_cluster)?;
        }
        let Some(group) = group else { return Ok(()) };
        let replica = self.groups.get(group).ok_or(OperationError::NoSuchGroup(group))?;
        let view = replica.view().await;
        let record = view.and_then(|view| view.record).ok_or_else(|| {
            OperationError::Refused("this node remembers no record of the group: ask another member".into())
        })?;
        let others = record.members.iter().map(|member| member.node);
        let others = others.filter(|node| *node != self.id() && !gone.contains(node));
        let heard = join_all(others.map(|node| self.peers.memory(node, group))).await;
        // Whom nobody heard is named in the replica's own refusal.
        let heard = heard.into_iter().filter_map(Result::ok).collect();
        self.operate(group, OperatorCommand::AcceptCoordinator { heard, gone }, false).await
    }
}
