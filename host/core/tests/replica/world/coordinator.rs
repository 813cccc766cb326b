//! A coordinator in memory: one record changed by compare-and-swap, leases, candidates, and the ways in which an answer
//! can fail to come.

use std::collections::{BTreeMap, VecDeque};

use mortise_core::group::{GroupRecord, LeaseId, NodeId, Nonce};
use mortise_core::replica::{Seen, SwapOutcome};

/// What becomes of swaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SwapMode {
    /// They are carried out, and answered.
    #[default]
    Answered,
    /// They are carried out, and the answer is lost.
    Lost,
    /// They wait to be carried out, while the asker is told that nothing is known.
    Late,
    /// They are never carried out, and the asker is told that nothing is known.
    Dropped,
}

/// A swap that may still be carried out.
#[derive(Clone, Debug)]
struct Request {
    expected: Option<(u64, Nonce)>,
    record: GroupRecord,
}

#[derive(Clone, Debug)]
pub(crate) struct Coordinator {
    pub(crate) id: u64,
    revision: u64,
    mod_revision: u64,
    pub(crate) record: Option<GroupRecord>,
    pub(crate) mode: SwapMode,
    late: VecDeque<Request>,
    leases: BTreeMap<NodeId, LeaseId>,
    last_lease: LeaseId,
    candidates: Vec<NodeId>,
    backup: Option<(u64, u64, Option<GroupRecord>)>,
}

impl Coordinator {
    pub(crate) fn new(record: GroupRecord) -> Self {
        Self {
            id: 1,
            revision: 1,
            mod_revision: 1,
            record: Some(record),
            mode: SwapMode::default(),
            late: VecDeque::new(),
            leases: BTreeMap::new(),
            last_lease: LeaseId(0),
            candidates: Vec::new(),
            backup: None,
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        Seen {
            coordinator: self.id,
            revision: self.revision,
            mod_revision: self.mod_revision,
            record: self.record.clone(),
        }
    }

    // --- Swaps.

    /// A swap is asked for: what the asker is told, and what people read.
    pub(crate) fn swap(
        &mut self,
        expected: Option<(u64, Nonce)>,
        record: GroupRecord,
    ) -> (SwapOutcome, &'static str) {
        match self.mode {
            SwapMode::Answered if record.coordinator != self.id => {
                (SwapOutcome::Refused(self.seen()), "refused, it was meant for another coordinator")
            }
            SwapMode::Answered => match self.carry_out(expected, record) {
                true => (SwapOutcome::Applied(self.seen()), "applied"),
                false => (SwapOutcome::Refused(self.seen()), "refused, another came first"),
            },
            SwapMode::Lost => match self.carry_out(expected, record) {
                true => (SwapOutcome::Unknown, "applied, the answer is lost"),
                false => (SwapOutcome::Unknown, "refused, the answer is lost"),
            },
            SwapMode::Late => {
                self.late.push_back(Request { expected, record });
                (SwapOutcome::Unknown, "no answer, it may be applied later")
            }
            SwapMode::Dropped => (SwapOutcome::Unknown, "no answer, the request is lost"),
        }
    }

    /// The late swaps arrive. Returns what becomes of each.
    pub(crate) fn carry_out_late(&mut self) -> Vec<&'static str> {
        let late = std::mem::take(&mut self.late);
        let outcomes = late.into_iter().map(|request| self.carry_out(request.expected, request.record));
        outcomes
            .map(|applied| {
                if applied { "a late swap is applied" } else { "a late swap is refused, another came first" }
            })
            .collect()
    }

    fn carry_out(&mut self, expected: Option<(u64, Nonce)>, record: GroupRecord) -> bool {
        let current = self.record.as_ref().map(|record| (self.mod_revision, record.nonce));
        if current != expected || record.coordinator != self.id {
            return false;
        }
        record.check().expect("a record that holds its invariants");
        self.replace(Some(record));
        true
    }

    fn replace(&mut self, record: Option<GroupRecord>) {
        self.revision += 1;
        self.mod_revision = if record.is_some() { self.revision } else { 0 };
        self.record = record;
    }

    // --- What operators do to it.

    pub(crate) fn back_up(&mut self) {
        self.backup = Some((self.revision, self.mod_revision, self.record.clone()));
    }

    /// Goes on from the backup, as another cluster or as the same.
    pub(crate) fn restore(&mut self, id: u64) {
        let (revision, mod_revision, record) = self.backup.clone().expect("a backup");
        (self.revision, self.mod_revision, self.record) = (revision, mod_revision, record);
        self.id = id;
    }

    /// Begins anew with nothing.
    pub(crate) fn wipe(&mut self) {
        self.id += 1;
        (self.revision, self.mod_revision, self.record) = (1, 0, None);
    }

    // --- Sessions.

    pub(crate) fn open_session(&mut self, node: NodeId) -> LeaseId {
        self.last_lease = LeaseId(self.last_lease.0 + 1);
        self.close_session(node);
        self.leases.insert(node, self.last_lease);
        self.last_lease
    }

    /// Whether there was one.
    pub(crate) fn close_session(&mut self, node: NodeId) -> bool {
        self.candidates.retain(|candidate| *candidate != node);
        self.leases.remove(&node).is_some()
    }

    /// A node campaigns, or does so no longer.
    pub(crate) fn candidacy(&mut self, node: NodeId, wanted: bool) {
        self.candidates.retain(|candidate| *candidate != node);
        if wanted && self.leases.contains_key(&node) {
            self.candidates.push(node);
        }
    }

    pub(crate) fn candidates(&self) -> Vec<NodeId> {
        self.candidates.clone()
    }
}
