//! A replica seen from outside, for status, metrics and tests.

use std::collections::BTreeSet;

use super::event::{Memory, Reach};
use super::message::{LogEntry, Position};
use super::stored::Promise;
use super::{Replica, Role};
use crate::group::{Generation, GroupRecord, Incarnation, NodeId};
use crate::ids::LogIndex;

/// What a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoleKind {
    /// It follows, or waits to be elected.
    Follower,
    /// It leads.
    Leader,
    /// It has stopped for good.
    Halted,
}

/// A replica seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// What it is.
    pub role: RoleKind,
    /// It leads, and its epoch-start entry is applied.
    pub serving: bool,
    /// The leadership it follows.
    pub promised: Promise,
    /// The life of its copy.
    pub incarnation: Incarnation,
    /// The history it belongs to.
    pub generation: Generation,
    /// What stands before the log's first entry.
    pub base: Position,
    /// The log's last entry.
    pub last: Position,
    /// The log is durable up to here.
    pub durable: LogIndex,
    /// Known to be committed.
    pub commit: LogIndex,
    /// Applied.
    pub applied: LogIndex,
    /// A leader's epoch-start entry.
    pub epoch_start: Option<LogIndex>,
    /// The members whose acknowledgement a leader's commit needs.
    pub maximal_isr: BTreeSet<(NodeId, Incarnation)>,
    /// The members that may be elected besides.
    pub maximal_elr: BTreeSet<(NodeId, Incarnation)>,
    /// The newest record that was seen.
    pub record: Option<GroupRecord>,
    /// What it would answer an operator who accepts the coordinator.
    pub memory: Memory,
    /// No swaps until an operator accepts the coordinator.
    pub frozen: bool,
    /// Neither leads nor serves, since this index.
    pub quarantined: Option<LogIndex>,
    /// Its copy is the one that the record lists, with all it ever made durable.
    pub established: bool,
}

/// How far a replica is in its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The log's last entry.
    pub last: Position,
    /// The log is durable up to here.
    pub durable: LogIndex,
    /// Known to be committed.
    pub commit: LogIndex,
    /// Applied.
    pub applied: LogIndex,
}

impl Replica {
    /// The node it is on.
    pub fn node(&self) -> NodeId {
        self.shared.me()
    }

    /// Whose leadership it follows, its own included.
    pub fn leader(&self) -> Option<NodeId> {
        self.shared.hard.promised.leader
    }

    /// How many members the in-sync set has, by the newest record that was seen; 0: none was.
    pub fn isr_members(&self) -> usize {
        self.shared.record().map_or(0, |record| record.isr.len())
    }

    /// How far it is: cheap, unlike [`view`](Self::view).
    pub fn progress(&self) -> Progress {
        let shared = &self.shared;
        let (last, durable) = (shared.log.last(), shared.log.durable());
        Progress { last, durable, commit: shared.commit, applied: shared.applied }
    }

    /// The entry at `index`, where it is among the newest ones, which are kept in memory: what need not be read back to
    /// be applied. None where an entry that is to be applied before it is not: who takes what this gives, until it is
    /// applied, thus holds no more than [`Options::tail_bytes_max`](super::Options::tail_bytes_max) and one entry.
    pub fn to_apply(&self, index: LogIndex) -> Option<&LogEntry> {
        let log = &self.shared.log;
        log.in_memory(self.shared.applied.next())?;
        log.in_memory(index)
    }

    /// What it remembers of the group, and how far its log reaches.
    pub(super) fn memory(&self) -> Memory {
        let shared = &self.shared;
        let log = &shared.log;
        let last = match &self.role {
            Role::Leader(_) | Role::Elected(..) => {
                Position { epoch: shared.hard.promised.epoch, index: LogIndex(u64::MAX) }
            }
            // What it installs holds more than what it gives up, and will be durable soon.
            Role::Follower(_) | Role::Halted if shared.is_installing() => log.last(),
            Role::Follower(_) | Role::Halted => log.position(log.durable()),
        };
        let reach = Reach { incarnation: shared.hard.incarnation, last };
        Memory {
            node: shared.me(),
            epoch: shared.hard.highest_epoch(),
            seen: shared.hard.seen.clone(),
            reach: shared.intact.then_some(reach),
            frozen: shared.hard.frozen,
        }
    }

    /// The replica seen from outside.
    pub fn view(&self) -> View {
        let shared = &self.shared;
        let (role, serving, epoch_start) = match &self.role {
            Role::Follower(_) | Role::Elected(..) => (RoleKind::Follower, false, None),
            Role::Leader(leader) => (RoleKind::Leader, leader.is_serving(), Some(leader.start())),
            Role::Halted => (RoleKind::Halted, false, None),
        };
        View {
            role,
            serving,
            promised: shared.hard.promised,
            incarnation: shared.hard.incarnation,
            generation: shared.hard.generation,
            base: shared.log.base(),
            last: shared.log.last(),
            durable: shared.log.durable(),
            commit: shared.commit,
            applied: shared.applied,
            epoch_start,
            maximal_isr: shared.maximal_isr().collect(),
            maximal_elr: shared.maximal_elr().collect(),
            record: shared.record().cloned(),
            memory: self.memory(),
            frozen: shared.hard.frozen,
            quarantined: shared.hard.quarantined,
            established: shared.is_established(),
        }
    }
}
