//! The invariants of `protocol.md`, each a function with its rule. What a step can break is checked after that step:
//! nothing else has changed since the step before.
//!
//! | where | which |
//! | --- | --- |
//! | `leadership.rs` | I1, I5, I7, I11, I16 |
//! | `log.rs` | I2, I3, I4, I6, I8, I10, I12 |
//! | `crate::oracle` | I9, I13, I14, LOST |
//! | `crate::settle` | I15 |

mod leadership;
mod log;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasherDefault;

use mortise_core::group::{BootId, Generation, GroupRecord, Incarnation, NodeId};
use mortise_core::ids::{Epoch, LogIndex};
use mortise_core::replica::{LogEntry, Position};

use crate::trace::Fingerprint;
use crate::world::{Checked, World};

/// What the invariants remember of the world.
#[derive(Debug)]
pub(crate) struct Observed {
    /// The newest record that counts. A restored coordinator does not take it back.
    pub(crate) record: GroupRecord,
    /// The coordinator was restored or wiped, and no operator has accepted that yet: the generation that it went back to.
    pub(crate) contradicted: Option<Generation>,
    /// Something became durable, or was lost.
    pub(crate) disk_changed: bool,
    /// Who led each epoch.
    leaders: BTreeMap<Epoch, (NodeId, BootId)>,
    /// Every entry that was ever appended, and what stood before it.
    entries: HashMap<Position, (Position, LogEntry), BuildHasherDefault<Fingerprint>>,
    /// Every incarnation under which a copy was ever to count.
    lives: BTreeSet<Incarnation>,
    /// Members whose copy was lost and is not in sync again.
    lost: BTreeSet<NodeId>,
    /// `min_isr` was raised above what the sets hold, or the sets begin anew with one member.
    raised: bool,
    /// Since this generation acknowledged entries are given up: histories of earlier ones are not compared.
    cut: Generation,
    /// What each node's disk promised.
    durable: BTreeMap<NodeId, (Epoch, Generation)>,
}

impl Observed {
    pub(crate) fn new(record: GroupRecord) -> Self {
        Self {
            lives: record.members.iter().map(|member| member.incarnation).collect(),
            lost: BTreeSet::new(),
            record,
            contradicted: None,
            disk_changed: false,
            leaders: BTreeMap::new(),
            entries: HashMap::default(),
            raised: false,
            cut: Generation(0),
            durable: BTreeMap::new(),
        }
    }

    /// A node's copy is lost.
    pub(crate) fn lose(&mut self, id: NodeId) {
        self.lost.insert(id);
        self.durable.remove(&id);
        self.disk_changed = true;
    }
}

impl World {
    /// What the replica's step made known: it may have committed something.
    pub(crate) fn observe_step(&mut self, id: NodeId) -> Checked {
        self.committed_entries_never_change(id)?;
        self.committed_means_durable(id)
    }

    /// All invariants that a step of this replica can break.
    pub(crate) fn check_invariants(&mut self, id: NodeId) -> Checked {
        self.one_leader_an_epoch(id)?;
        self.maximal_isr_covers_the_record(id)?;
        self.promises_never_go_back(id)?;
        self.nothing_is_served_early(id)?;
        if std::mem::take(&mut self.observed.disk_changed) {
            self.eligible_members_hold_what_is_committed()?;
            self.enough_copies_are_eligible()?;
        }
        Ok(())
    }

    /// Whether a replica is still in a history that an operator has given up. What it says is true of that history: a
    /// leader that was cut off may hear late that a write of it is everywhere, and tell so.
    pub(crate) fn is_given_up(&self, id: NodeId) -> bool {
        self.node(id).process.as_ref().is_some_and(|process| process.view.generation < self.observed.cut)
    }

    /// Where a replica's log, or the snapshot before it, has the entry at `index`.
    fn position(&self, id: NodeId, index: LogIndex) -> Option<Position> {
        let log = &self.node(id).disk.written;
        let within = index <= log.last().index && index.0 > 0;
        within.then(|| Position { epoch: log.epochs.epoch_at(index), index })
    }
}
