//! The coordinator in memory: one record, leases, candidates. Linearizable; everything that can go wrong happens on the
//! way to it and back, or is done to it as a whole.

use std::collections::BTreeMap;

use mortise_core::group::{GroupRecord, LeaseId, NodeId, Nonce};
use mortise_core::replica::{Seen, SwapOutcome};

/// What a node asks for.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Read,
    Swap {
        expected: Option<(u64, Nonce)>,
        record: Box<GroupRecord>,
    },
    /// A lease for the node's session.
    Grant,
    KeepAlive(LeaseId),
    /// To be listed among the candidates as long as the lease lives, or no longer.
    Candidacy(Option<LeaseId>),
}

/// What it answers.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Seen(Seen),
    Swapped(SwapOutcome),
    Granted(LeaseId),
    /// Whether the lease is alive.
    Alive(LeaseId, bool),
    Done,
}

#[derive(Debug)]
struct Lease {
    node: NodeId,
    until: u64,
}

/// What a backup holds.
#[derive(Clone, Debug)]
pub(crate) struct CoordinatorBackup {
    revision: u64,
    record: Option<(u64, GroupRecord)>,
}

#[derive(Debug)]
pub(crate) struct Coordinator {
    /// Its identity: another one after a restore.
    pub(crate) id: u64,
    pub(crate) up: bool,
    revision: u64,
    record: Option<(u64, GroupRecord)>,
    leases: BTreeMap<LeaseId, Lease>,
    candidates: Vec<(NodeId, LeaseId)>,
    /// A lease lives so long after its last renewal, in microseconds.
    pub(crate) ttl: u64,
    leases_given: u64,
    pub(crate) backup: Option<CoordinatorBackup>,
}

impl Coordinator {
    pub(crate) fn new(record: GroupRecord, ttl: u64) -> Self {
        Self {
            id: 1,
            up: true,
            revision: 1,
            record: Some((1, record)),
            leases: BTreeMap::new(),
            candidates: Vec::new(),
            ttl,
            leases_given: 0,
            backup: None,
        }
    }

    pub(crate) fn record(&self) -> Option<&GroupRecord> {
        self.record.as_ref().map(|(_, record)| record)
    }

    pub(crate) fn seen(&self) -> Seen {
        Seen {
            coordinator: self.id,
            revision: self.revision,
            mod_revision: self.record.as_ref().map_or(0, |(revision, _)| *revision),
            record: self.record().cloned(),
        }
    }

    pub(crate) fn candidates(&self) -> Vec<NodeId> {
        self.candidates.iter().map(|(node, _)| *node).collect()
    }

    /// Carries out a call of `node`.
    pub(crate) fn call(&mut self, now: u64, node: NodeId, call: &Call) -> Reply {
        match call {
            Call::Read => Reply::Seen(self.seen()),
            Call::Swap { expected, record } => Reply::Swapped(self.swap(*expected, record)),
            Call::Grant => {
                self.leases_given += 1;
                self.revision += 1;
                let lease = LeaseId(self.id * 1_000_000 + self.leases_given);
                self.leases.insert(lease, Lease { node, until: now + self.ttl });
                Reply::Granted(lease)
            }
            Call::KeepAlive(lease) => {
                let until = now + self.ttl;
                let alive = self.leases.get_mut(lease).map(|lease| lease.until = until).is_some();
                Reply::Alive(*lease, alive)
            }
            Call::Candidacy(lease) => {
                self.candidates.retain(|(candidate, _)| *candidate != node);
                if let Some(lease) = lease.filter(|lease| self.leases.contains_key(lease)) {
                    self.revision += 1;
                    self.candidates.push((node, lease));
                }
                Reply::Done
            }
        }
    }

    fn swap(&mut self, expected: Option<(u64, Nonce)>, record: &GroupRecord) -> SwapOutcome {
        let current = self.record.as_ref().map(|(revision, record)| (*revision, record.nonce));
        if current != expected || record.coordinator != self.id {
            return SwapOutcome::Refused(self.seen());
        }
        self.revision += 1;
        self.record = Some((self.revision, record.clone()));
        SwapOutcome::Applied(self.seen())
    }

    /// Ends the leases that nobody renewed. Returns whether the candidates changed.
    pub(crate) fn expire(&mut self, now: u64) -> bool {
        self.leases.retain(|_, lease| lease.until > now);
        self.settle_candidates()
    }

    /// Ends the leases of some nodes, as an administrator or a fault would.
    pub(crate) fn revoke(&mut self, of: impl Fn(NodeId) -> bool) -> bool {
        self.leases.retain(|_, lease| !of(lease.node));
        self.settle_candidates()
    }

    fn settle_candidates(&mut self) -> bool {
        let before = self.candidates.len();
        self.candidates.retain(|(_, lease)| self.leases.contains_key(lease));
        let changed = self.candidates.len() != before;
        self.revision += u64::from(changed);
        changed
    }

    pub(crate) fn make_backup(&mut self) {
        self.backup = Some(CoordinatorBackup { revision: self.revision, record: self.record.clone() });
    }

    /// A backup takes the place of everything, under another identity, as operators are told to do it; without one,
    /// nothing is left.
    pub(crate) fn restore(&mut self, backup: Option<CoordinatorBackup>) {
        self.id += 1;
        self.leases.clear();
        self.candidates.clear();
        let backup = backup.unwrap_or(CoordinatorBackup { revision: 1, record: None });
        (self.revision, self.record) = (backup.revision, backup.record);
    }
}
