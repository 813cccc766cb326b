//! What a node is in its groups, as events.
//!
//! | older texts | here | told to |
//! | --- | --- | --- |
//! | `INIT_MASTER` | [`BecameLeader`](RoleChange::BecameLeader) `{ initial: true }` | the leader, once at its start |
//! | `INIT_SLAVE` | [`BecameFollower`](RoleChange::BecameFollower) `{ initial: true }` | a member, once at its start |
//! | `CHANGE_TO_MASTER` | [`BecameLeader`](RoleChange::BecameLeader) `{ initial: false }` | the leader |
//! | `CHANGE_TO_SLAVE` | [`BecameFollower`](RoleChange::BecameFollower) `{ initial: false }` | who led before |
//! | `MASTER_CHANGE` | [`LeaderChanged`](RoleChange::LeaderChanged) | everybody but the leader |
//! | `SLAVE_ADD` | [`FollowersAdded`](RoleChange::FollowersAdded) | everybody |
//! | `SLAVE_DEL` | [`FollowersRemoved`](RoleChange::FollowersRemoved) | everybody |
//!
//! Followers are members with a live session, without the leader. A node leads only where the record names it *and its
//! present process*: only its own swap writes that. Nothing here elects anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use mortise_core::group::{BootId, Generation, GroupRecord, NodeId};
use mortise_core::ids::{Epoch, GroupId};

use crate::keys::group_name;
use crate::seen::Revision;
use crate::state::{GroupState, record_of};

/// Whose view of the roles it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Viewpoint {
    /// A node's process.
    Node(NodeId, BootId),
    /// Somebody who is no member of anything.
    Observer,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleChange {
    /// This node leads the group from this epoch on.
    BecameLeader {
        /// Whether this is the first that is known of the group: the place for work that is done once, at start.
        initial: bool,
        /// The epoch.
        epoch: Epoch,
    },
    /// This node is a member of the group and does not lead it.
    BecameFollower {
        /// Whether this is the first that is known of the group: the place for work that is done once, at start.
        initial: bool,
        /// The epoch.
        epoch: Epoch,
        /// Who leads.
        leader: Option<NodeId>,
    },
    /// Somebody else leads, or in another epoch, or nobody does any more.
    LeaderChanged {
        /// The epoch.
        epoch: Epoch,
        /// Who leads.
        leader: Option<NodeId>,
    },
    /// These follow from now on.
    FollowersAdded(BTreeSet<NodeId>),
    /// These do not follow any more.
    FollowersRemoved(BTreeSet<NodeId>),
}

/// Something that happened in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleEvent {
    /// Where.
    pub group: GroupId,
    /// etcd's revision at which it was so: events of a group come in its order.
    pub revision: Revision,
    /// What.
    pub change: RoleChange,
}

impl RoleChange {
    /// The event's name in logs and on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::BecameLeader { .. } => "became-leader",
            Self::BecameFollower { .. } => "became-follower",
            Self::LeaderChanged { .. } => "leader-changed",
            Self::FollowersAdded(_) => "followers-added",
            Self::FollowersRemoved(_) => "followers-removed",
        }
    }
}

impl fmt::Display for RoleEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group {}: {}", group_name(self.group), self.change.name())?;
        let leader = |leader: &Option<NodeId>| leader.map_or("nobody".into(), |node| format!("node {node}"));
        let first = |initial: &bool| if *initial { " at start" } else { "" };
        match &self.change {
            RoleChange::BecameLeader { initial, epoch } => write!(f, "{}, epoch {epoch}", first(initial)),
            RoleChange::BecameFollower { initial, epoch, leader: who } => {
                write!(f, "{}, epoch {epoch}, leader {}", first(initial), leader(who))
            }
            RoleChange::LeaderChanged { epoch, leader: who } => {
                write!(f, ", epoch {epoch}, leader {}", leader(who))
            }
            RoleChange::FollowersAdded(nodes) | RoleChange::FollowersRemoved(nodes) => {
                let nodes: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
                write!(f, ", nodes {}", nodes.join(" "))
            }
        }
    }
}

/// Compares a group's states, and says what happened in between.
///
/// Invariant: what was told, added up, is the newest state that was believed; nothing is told twice.
#[derive(Debug)]
pub struct Roles {
    viewpoint: Viewpoint,
    groups: BTreeMap<GroupId, Role>,
}

/// A group as it was told last.
#[derive(Clone, Debug)]
struct Role {
    generation: Generation,
    epoch: Epoch,
    leader: Option<NodeId>,
    leader_boot: BootId,
    is_member: bool,
    leads: bool,
    followers: BTreeSet<NodeId>,
}

impl Roles {
    /// Nothing was told yet.
    pub fn new(viewpoint: Viewpoint) -> Self {
        Self { viewpoint, groups: BTreeMap::new() }
    }

    /// What happened in the group until it was as in `state`. A record that is missing, unreadable, or older than one
    /// that was told, is not believed: then nothing happened.
    pub fn observe(&mut self, group: GroupId, state: &Arc<GroupState>) -> Vec<RoleEvent> {
        let record = record_of(&state.record);
        let before = self.groups.get(&group);
        let is_older = |record: &&GroupRecord| {
            before.is_some_and(|old| (record.generation, record.epoch) < (old.generation, old.epoch))
        };
        let Some(record) = record.filter(|record| !is_older(record)) else {
            if before.is_some() {
                tracing::warn!(
                    "the record of group {} is gone, unreadable or old: left out",
                    group_name(group)
                );
            }
            return Vec::new();
        };
        let after = self.role(record, state);
        let changes = changes(before, &after);
        self.groups.insert(group, after);
        let event = |change| RoleEvent { group, revision: state.revision, change };
        changes.into_iter().map(event).collect()
    }

    fn role(&self, record: &GroupRecord, state: &GroupState) -> Role {
        let (leads, is_member) = match self.viewpoint {
            Viewpoint::Observer => (false, false),
            Viewpoint::Node(node, boot) => {
                (record.leader == Some(node) && record.leader_boot == boot, record.member(node).is_some())
            }
        };
        let lives = |node: &NodeId| state.sessions.contains_key(node) && record.leader != Some(*node);
        Role {
            generation: record.generation,
            epoch: record.epoch,
            leader: record.leader,
            leader_boot: record.leader_boot,
            is_member,
            leads,
            followers: record.members.iter().map(|member| member.node).filter(lives).collect(),
        }
    }
}

/// What happened between two states of a group: first this node's role, then the leader, then the followers.
fn changes(before: Option<&Role>, after: &Role) -> Vec<RoleChange> {
    let mut changes = Vec::new();
    let initial = before.is_none();
    let (epoch, leader) = (after.epoch, after.leader);
    let same_leader = before
        .is_some_and(|old| (old.epoch, old.leader, old.leader_boot) == (epoch, leader, after.leader_boot));
    let (led, was_member) = before.map_or((false, false), |old| (old.leads, old.is_member));
    if after.leads {
        if !same_leader {
            changes.push(RoleChange::BecameLeader { initial, epoch });
        }
    } else if after.is_member && (led || !was_member) {
        changes.push(RoleChange::BecameFollower { initial, epoch, leader });
    }
    let told_by_role = initial && after.is_member;
    if !after.leads && !same_leader && !told_by_role {
        changes.push(RoleChange::LeaderChanged { epoch, leader });
    }
    let none = BTreeSet::new();
    let old = before.map_or(&none, |old| &old.followers);
    let removed: BTreeSet<NodeId> = old.difference(&after.followers).copied().collect();
    let added: BTreeSet<NodeId> = after.followers.difference(old).copied().collect();
    if !removed.is_empty() {
        changes.push(RoleChange::FollowersRemoved(removed));
    }
    if !added.is_empty() {
        changes.push(RoleChange::FollowersAdded(added));
    }
    changes
}

#[cfg(test)]
mod tests;
