//! The coordinator: one record, changed by compare-and-swap. A swap that was sent may be applied as long as the record
//! it expects is current, however late; one that can never be applied any more is forgotten.

use std::sync::Arc;

use mortise_core::group::{BootId, GroupRecord, NodeId, Nonce};
use mortise_core::replica::Seen;

/// A swap on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Swap {
    /// Who asked.
    pub node: NodeId,
    /// Its process, which may be gone meanwhile.
    pub boot: BootId,
    /// The new record.
    pub record: Arc<GroupRecord>,
    /// The asker was told that nobody knows what became of it.
    pub unknown: bool,
}

/// The coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Coordinator {
    /// Its cluster id: another one after a restore.
    pub identity: u64,
    /// Revision of the record, and of everything.
    pub revision: u64,
    /// The group's record.
    pub record: Arc<GroupRecord>,
    /// Swaps that expect the current record, each asker's last, by node.
    pub swaps: Vec<Swap>,
    /// Where a model restores backups: the records of the past, with their revisions.
    pub past: Vec<(u64, Arc<GroupRecord>)>,
}

impl Coordinator {
    /// A coordinator with a group's first record.
    pub fn new(record: GroupRecord) -> Self {
        Self { identity: 1, revision: 1, record: Arc::new(record), swaps: Vec::new(), past: Vec::new() }
    }

    /// What a linearizable read shows.
    pub fn seen(&self) -> Seen {
        Seen {
            coordinator: self.identity,
            revision: self.revision,
            mod_revision: self.revision,
            record: Some((*self.record).clone()),
        }
    }

    /// A swap arrives. Asked for again, it is the same swap.
    pub fn ask(&mut self, node: NodeId, boot: BootId, expected: Option<(u64, Nonce)>, record: GroupRecord) {
        let known = self.swaps.iter().any(|swap| swap.record.nonce == record.nonce);
        let is_meant =
            record.coordinator == self.identity && expected == Some((self.revision, self.record.nonce));
        if is_meant && !known {
            self.swaps.push(Swap { node, boot, record: Arc::new(record), unknown: false });
            self.swaps.sort_by_key(|swap| (swap.node, swap.boot, swap.record.nonce));
        }
    }

    /// Applies the swap at `place`; what else expected the old record never will be.
    pub fn apply(&mut self, place: usize, keep_past: bool) -> Option<Swap> {
        if place >= self.swaps.len() {
            return None;
        }
        let swap = self.swaps.swap_remove(place);
        self.swaps.clear();
        let old = std::mem::replace(&mut self.record, Arc::clone(&swap.record));
        if keep_past {
            self.past.push((self.revision, old));
        }
        self.revision += 1;
        Some(swap)
    }

    /// An operator restores a backup, under a new cluster id.
    pub fn restore(&mut self, place: usize) {
        if let Some((revision, record)) = self.past.get(place).cloned() {
            self.past.clear();
            self.swaps.clear();
            self.identity += 1;
            self.revision = revision;
            self.record = record;
        }
    }
}
