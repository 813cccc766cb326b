//! The group record and the transitions it can take. Each is a pure function from a record to the next one; whether
//! it may be asked for is the replica's business.

use std::collections::{BTreeMap, BTreeSet};

use super::{BootId, Generation, Incarnation, LeaseId, NodeId, Nonce};
use crate::ids::Epoch;

/// The format level that this release writes. It rises once every replica supports the next.
pub const LEVEL: u32 = 2;
/// Most members of a group: bounds the record, and what every round of a leader costs.
pub const MEMBERS_MAX: usize = 15;

/// The epoch and generation that nobody counts up to: from any that is smaller, counting on never overflows.
const COUNT_MAX: u64 = u64::MAX / 2;

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberKind {
    /// Counts for the durability that was asked for, once it is in sync.
    Voter,
    /// Receives the log and never counts for commit. Becomes a voter when it joins the in-sync set.
    Learner,
}

/// A member of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// Its node.
    pub node: NodeId,
    /// The life of its copy that may count.
    pub incarnation: Incarnation,
    /// What it is.
    pub kind: MemberKind,
}

/// All that is agreed about a group outside its log.
///
/// Invariants, checked by [`GroupRecord::check`]: nodes in `isr` and `elr` are voters among `members`; the two sets are
/// disjoint; `elr` is empty unless `isr` has less than `min_isr` nodes; a leader is in `isr`; every member has an
/// incarnation; `1 ≤ min_isr ≤` number of members.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupRecord {
    /// Format level in force.
    pub level: u32,
    /// The leadership: counts its changes, and fences every message between members.
    pub epoch: Epoch,
    /// Histories are comparable within one generation only.
    pub generation: Generation,
    /// The coordinator with which the present history began ([`Seen::coordinator`](crate::replica::Seen::coordinator)). Where
    /// another one shows this record, it was restored, and shows the past.
    pub coordinator: u64,
    /// Who leads; `None` before the first election, and after the leader lost its copy.
    pub leader: Option<NodeId>,
    /// The leader's process.
    pub leader_boot: BootId,
    /// The leader's lease with the coordinator: lets observers tell whether the leader is alive. It authorises nothing.
    pub leader_lease: LeaseId,
    /// Least number of in-sync members that a commit needs.
    pub min_isr: u32,
    /// All members, by node.
    pub members: Vec<Member>,
    /// The in-sync set: each of them holds every committed entry, and a commit needs each of them.
    pub isr: BTreeSet<NodeId>,
    /// Eligible besides the in-sync set: they left it while it was too small to commit, so they miss nothing (KIP-966).
    pub elr: BTreeSet<NodeId>,
    /// Names this write of the record.
    pub nonce: Nonce,
}

/// Why a record cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("group record: {0}")]
pub struct RecordError(pub String);

impl GroupRecord {
    /// The record of a new group whose voters are `voters`, all of them in sync because nothing was written yet. Each is
    /// listed under the incarnation that its empty store was made with: a store that is lost before the group is used
    /// does not come back under it, so that the others need not know whether the group was used.
    pub fn create(
        coordinator: u64,
        voters: &[(NodeId, Incarnation)],
        min_isr: u32,
        nonce: Nonce,
    ) -> Result<Self, RecordError> {
        let nodes: BTreeMap<NodeId, Incarnation> = voters.iter().copied().collect();
        let member = |(node, incarnation): (&NodeId, &Incarnation)| Member {
            node: *node,
            incarnation: *incarnation,
            kind: MemberKind::Voter,
        };
        let record = Self {
            level: LEVEL,
            epoch: Epoch(0),
            generation: Generation(1),
            coordinator,
            leader: None,
            leader_boot: BootId(0),
            leader_lease: LeaseId(0),
            min_isr,
            members: nodes.iter().map(member).collect(),
            isr: nodes.into_keys().collect(),
            elr: BTreeSet::new(),
            nonce,
        };
        if record.isr.len() != voters.len() {
            return Err(RecordError("a node is listed twice".into()));
        }
        record.check()?;
        Ok(record)
    }

    /// Whether the record's invariants hold: a record comes from outside, and its writer may be another release.
    pub fn check(&self) -> Result<(), RecordError> {
        let fail = |why: String| Err(RecordError(why));
        if self.level != LEVEL {
            return fail(format!("format level {} is not known here ({LEVEL} is)", self.level));
        }
        if self.members.is_empty() || self.members.len() > MEMBERS_MAX {
            return fail(format!("{} members, not 1 to {MEMBERS_MAX}", self.members.len()));
        }
        if !self.members.is_sorted_by(|a, b| a.node < b.node) || self.members[0].node == NodeId(0) {
            return fail("members are not in the order of their nodes, from 1 on".into());
        }
        if self.epoch.0.max(self.generation.0) > COUNT_MAX {
            return fail("an epoch or generation that nobody has counted up to".into());
        }
        if self.min_isr == 0 || self.min_isr as usize > self.members.len() {
            return fail(format!("min_isr {} with {} members", self.min_isr, self.members.len()));
        }
        if self.members.iter().any(|member| member.incarnation == Incarnation(0)) {
            return fail("a member without an incarnation".into());
        }
        let is_voter = |node: &NodeId| self.member(*node).is_some_and(|m| m.kind == MemberKind::Voter);
        if !self.isr.iter().chain(&self.elr).all(is_voter) {
            return fail("isr or elr names a node that is no voter".into());
        }
        if !self.isr.is_disjoint(&self.elr) {
            return fail("isr and elr overlap".into());
        }
        if !self.elr.is_empty() && self.isr.len() >= self.min_isr as usize {
            return fail("elr is kept beside an isr of at least min_isr".into());
        }
        match self.leader {
            Some(leader) if !self.isr.contains(&leader) => fail("the leader is not in isr".into()),
            _ => Ok(()),
        }
    }

    /// The member on `node`.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.node == node)
    }

    /// Whether `node` may be elected: it holds every committed entry.
    pub fn is_eligible(&self, node: NodeId) -> bool {
        self.isr.contains(&node) || self.elr.contains(&node)
    }

    /// Whether the in-sync set is large enough to commit.
    pub fn can_commit(&self) -> bool {
        self.isr.len() >= self.min_isr as usize
    }

    /// `node` leads from `epoch` on; its predecessor leaves the in-sync set.
    #[must_use]
    pub fn elect(&self, node: NodeId, epoch: Epoch, boot: BootId, lease: LeaseId, nonce: Nonce) -> Self {
        let mut next = self.clone();
        next.leave(self.leader.filter(|old| *old != node));
        next.isr.insert(node);
        next.settle_elr();
        next.lead(node, epoch, boot, lease, nonce);
        next
    }

    /// `node` leads from `epoch` on, asked to by its predecessor, which stays in sync.
    #[must_use]
    pub fn transfer(&self, node: NodeId, epoch: Epoch, boot: BootId, lease: LeaseId, nonce: Nonce) -> Self {
        let mut next = self.clone();
        next.lead(node, epoch, boot, lease, nonce);
        next
    }

    /// The leader goes on in its epoch under a new lease.
    #[must_use]
    pub fn readopt(&self, lease: LeaseId, nonce: Nonce) -> Self {
        Self { leader_lease: lease, nonce, ..self.clone() }
    }

    /// `gone` leave the in-sync set.
    #[must_use]
    pub fn shrink(&self, gone: &BTreeSet<NodeId>, nonce: Nonce) -> Self {
        let mut next = Self { nonce, ..self.clone() };
        next.leave(gone.iter().copied());
        next.settle_elr();
        next
    }

    /// `joined` are in sync, and voters from now on.
    #[must_use]
    pub fn expand(&self, joined: &BTreeSet<NodeId>, nonce: Nonce) -> Self {
        let mut next = Self { nonce, ..self.clone() };
        for member in next.members.iter_mut().filter(|member| joined.contains(&member.node)) {
            member.kind = MemberKind::Voter;
            next.isr.insert(member.node);
            next.elr.remove(&member.node);
        }
        next.settle_elr();
        next
    }

    /// `node` joins as a learner, under an incarnation that no copy has: it asks for its own.
    pub fn add(&self, node: NodeId, nonce: Nonce) -> Result<Self, RecordError> {
        if self.member(node).is_some() {
            return Err(RecordError(format!("node {node} is a member already")));
        }
        let mut next = Self { nonce, ..self.clone() };
        next.members.push(Member {
            node,
            incarnation: Incarnation::begun_by(nonce),
            kind: MemberKind::Learner,
        });
        next.members.sort();
        next.check()?;
        Ok(next)
    }

    /// `node` is no member any more. Refused for the leader, and where too few would be left to commit.
    pub fn remove(&self, node: NodeId, nonce: Nonce) -> Result<Self, RecordError> {
        if self.leader == Some(node) {
            return Err(RecordError(format!("node {node} leads: transfer the leadership first")));
        }
        if self.member(node).is_none() {
            return Err(RecordError(format!("node {node} is no member")));
        }
        let mut next = Self { nonce, ..self.clone() };
        next.members.retain(|member| member.node != node);
        next.isr.remove(&node);
        next.elr.remove(&node);
        if !next.can_commit() {
            return Err(RecordError(format!(
                "without node {node} the in-sync set has {} of at least {} nodes",
                next.isr.len(),
                next.min_isr
            )));
        }
        next.check()?;
        Ok(next)
    }

    /// Commits need `min_isr` in-sync members.
    pub fn with_min_isr(&self, min_isr: u32, nonce: Nonce) -> Result<Self, RecordError> {
        let mut next = Self { min_isr, nonce, ..self.clone() };
        next.settle_elr();
        next.check()?;
        Ok(next)
    }

    /// The copy on `node` is not what it was: it leaves both sets and goes on under a new incarnation.
    /// If it led, nobody does: its process is gone, or it could not have lost its copy.
    #[must_use]
    pub fn new_incarnation(&self, node: NodeId, nonce: Nonce) -> Self {
        let mut next = Self { nonce, ..self.clone() };
        for member in next.members.iter_mut().filter(|member| member.node == node) {
            member.incarnation = Incarnation::begun_by(nonce);
        }
        next.isr.remove(&node);
        next.elr.remove(&node);
        next.leader = next.leader.filter(|leader| *leader != node);
        next
    }

    /// Everybody else who held committed entries is gone for good: `node` goes on alone, with what it has.
    #[must_use]
    pub fn unclean_start(
        &self,
        node: NodeId,
        epoch: Epoch,
        boot: BootId,
        lease: LeaseId,
        nonce: Nonce,
    ) -> Self {
        Self { min_isr: 1, ..self.begin_anew(node, epoch, boot, lease, nonce) }
    }

    /// `node` begins a new history with what it has. Whether the others have that, too, has to be seen.
    #[must_use]
    pub fn begin_anew(&self, node: NodeId, epoch: Epoch, boot: BootId, lease: LeaseId, nonce: Nonce) -> Self {
        let mut next = self.clone();
        next.generation = Generation(self.generation.0.saturating_add(1));
        next.isr = BTreeSet::from([node]);
        next.elr.clear();
        for member in next.members.iter_mut().filter(|member| member.node == node) {
            member.kind = MemberKind::Voter;
        }
        next.lead(node, epoch, boot, lease, nonce);
        next
    }

    fn lead(&mut self, node: NodeId, epoch: Epoch, boot: BootId, lease: LeaseId, nonce: Nonce) {
        self.epoch = epoch;
        self.leader = Some(node);
        self.leader_boot = boot;
        self.leader_lease = lease;
        self.nonce = nonce;
    }

    /// Members that leave the in-sync set stay eligible as long as it is too small to commit: see `settle_elr`.
    fn leave(&mut self, gone: impl IntoIterator<Item = NodeId>) {
        for node in gone {
            if self.isr.remove(&node) {
                self.elr.insert(node);
            }
        }
    }

    fn settle_elr(&mut self) {
        if self.can_commit() {
            self.elr.clear();
        } else {
            self.elr = self.elr.difference(&self.isr).copied().collect();
        }
    }
}
