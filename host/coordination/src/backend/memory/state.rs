//! The keys, revisions, leases and history of [`Memory`](super::Memory).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use mortise_core::group::LeaseId;

use crate::backend::{
    Answer, BackendError, Committed, Condition, Grant, KeyValue, Operation, Range, Transaction, WatchEvent,
};
use crate::moment::Moment;
use crate::seen::{ClusterId, Revision};

/// Changes kept for watches; older ones are compacted. A watch reads them as they come, so this is never reached but
/// by a process that hangs.
const HISTORY_MAX: usize = 100_000;

/// What a backup of etcd holds.
#[derive(Clone, Debug)]
pub struct Backup {
    keys: BTreeMap<Vec<u8>, KeyValue>,
    revision: u64,
}

struct Lease {
    ttl: Duration,
    expires: Moment,
    keys: BTreeSet<Vec<u8>>,
}

pub(super) struct State {
    cluster: ClusterId,
    revision: u64,
    compacted: u64,
    keys: BTreeMap<Vec<u8>, KeyValue>,
    history: VecDeque<WatchEvent>,
    leases: BTreeMap<u64, Lease>,
    leases_granted: u64,
    /// Counts restarts: a watch does not survive one.
    life: u64,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            cluster: ClusterId(1),
            // As etcd, which begins with 1.
            revision: 1,
            compacted: 0,
            keys: BTreeMap::new(),
            history: VecDeque::new(),
            leases: BTreeMap::new(),
            leases_granted: 0,
            life: 0,
        }
    }

    pub(super) fn answer<T>(&self, value: T) -> Answer<T> {
        Answer { cluster: self.cluster, revision: Revision(self.revision), value }
    }

    pub(super) fn life(&self) -> u64 {
        self.life
    }

    pub(super) fn next_revision(&self) -> Revision {
        Revision(self.revision + 1)
    }

    pub(super) fn read(&self, range: &Range) -> Vec<KeyValue> {
        match range {
            Range::Key(key) => self.keys.get(key.as_bytes()).cloned().into_iter().collect(),
            Range::Prefix(prefix) => {
                let from = self.keys.range(prefix.as_bytes().to_vec()..).map(|(_, at)| at);
                from.take_while(|at| at.key.starts_with(prefix.as_bytes())).cloned().collect()
            }
        }
    }

    pub(super) fn commit(&mut self, transaction: Transaction) -> Result<Committed, BackendError> {
        if !transaction.conditions.iter().all(|condition| self.holds(condition)) {
            let otherwise = transaction.otherwise;
            return Ok(Committed::Refused(otherwise.and_then(|key| self.keys.get(key.as_bytes()).cloned())));
        }
        for operation in &transaction.operations {
            if let Operation::Put(_, _, Some(lease)) = operation
                && !self.leases.contains_key(&lease.0)
            {
                return Err(BackendError::LeaseGone);
            }
        }
        // As in etcd, deleting what is not there is no change.
        let changes = |operation: &Operation| match operation {
            Operation::Put(..) => true,
            Operation::Delete(key) => self.keys.contains_key(key.as_bytes()),
        };
        if transaction.operations.iter().any(changes) {
            self.revision += 1;
        }
        for operation in transaction.operations {
            match operation {
                Operation::Put(key, value, lease) => self.put(key.as_bytes(), &value, lease),
                Operation::Delete(key) => self.remove(key.as_bytes()),
            }
        }
        Ok(Committed::Applied)
    }

    fn holds(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Absent(key) => !self.keys.contains_key(key.as_bytes()),
            Condition::Is(key, revision, value) => self
                .keys
                .get(key.as_bytes())
                .is_some_and(|at| at.mod_revision == *revision && at.value == *value),
        }
    }

    pub(super) fn put_raw(&mut self, key: &[u8], value: &[u8]) {
        self.revision += 1;
        self.put(key, value, None);
    }

    pub(super) fn delete_raw(&mut self, key: &[u8]) {
        if self.keys.contains_key(key) {
            self.revision += 1;
            self.remove(key);
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8], lease: Option<LeaseId>) {
        let revision = Revision(self.revision);
        let before = self.keys.get(key);
        let create_revision = before.map_or(revision, |at| at.create_revision);
        self.detach(key);
        if let Some(lease) = lease.and_then(|lease| self.leases.get_mut(&lease.0)) {
            lease.keys.insert(key.to_vec());
        }
        let at = KeyValue {
            key: key.to_vec(),
            value: value.to_vec(),
            create_revision,
            mod_revision: revision,
            lease,
        };
        self.keys.insert(key.to_vec(), at.clone());
        self.remember(WatchEvent { at, deleted: false });
    }

    fn remove(&mut self, key: &[u8]) {
        self.detach(key);
        if let Some(at) = self.keys.remove(key) {
            let at = KeyValue { value: Vec::new(), mod_revision: Revision(self.revision), lease: None, ..at };
            self.remember(WatchEvent { at, deleted: true });
        }
    }

    fn detach(&mut self, key: &[u8]) {
        let lease = self.keys.get(key).and_then(|at| at.lease);
        if let Some(lease) = lease.and_then(|lease| self.leases.get_mut(&lease.0)) {
            lease.keys.remove(key);
        }
    }

    fn remember(&mut self, event: WatchEvent) {
        self.history.push_back(event);
        if self.history.len() > HISTORY_MAX
            && let Some(oldest) = self.history.pop_front()
        {
            self.compacted = oldest.at.mod_revision.0;
        }
    }

    pub(super) fn events(&self, prefix: &str, from: Revision) -> Result<Vec<WatchEvent>, BackendError> {
        if from.0 <= self.compacted {
            return Err(BackendError::Compacted(Revision(self.compacted)));
        }
        let begin = self.history.partition_point(|event| event.at.mod_revision < from);
        let events = self.history.range(begin..).filter(|event| event.at.key.starts_with(prefix.as_bytes()));
        Ok(events.cloned().collect())
    }

    pub(super) fn compact(&mut self) {
        self.compacted = self.revision;
        self.history.clear();
    }

    pub(super) fn grant(&mut self, ttl: Duration) -> Grant {
        self.leases_granted += 1;
        let lease = Lease { ttl, expires: Moment::now().after(ttl), keys: BTreeSet::new() };
        self.leases.insert(self.leases_granted, lease);
        Grant { lease: LeaseId(self.leases_granted), ttl }
    }

    pub(super) fn renew(&mut self, lease: LeaseId) -> Result<Duration, BackendError> {
        let lease = self.leases.get_mut(&lease.0).ok_or(BackendError::LeaseGone)?;
        lease.expires = Moment::now().after(lease.ttl);
        Ok(lease.ttl)
    }

    pub(super) fn revoke(&mut self, lease: LeaseId) -> Result<(), BackendError> {
        let lease = self.leases.remove(&lease.0).ok_or(BackendError::LeaseGone)?;
        if !lease.keys.is_empty() {
            self.revision += 1;
        }
        lease.keys.iter().for_each(|key| self.remove(key));
        Ok(())
    }

    pub(super) fn expired(&self) -> Vec<LeaseId> {
        let now = Moment::now();
        self.leases.iter().filter(|(_, lease)| lease.expires <= now).map(|(id, _)| LeaseId(*id)).collect()
    }

    /// Ends the lease unless it was renewed meanwhile.
    pub(super) fn expire(&mut self, lease: LeaseId) {
        if self.leases.get(&lease.0).is_some_and(|lease| lease.expires <= Moment::now()) {
            // It is there, so this cannot fail.
            let _ = self.revoke(lease);
        }
    }

    pub(super) fn backup(&self) -> Backup {
        Backup { keys: self.keys.clone(), revision: self.revision }
    }

    pub(super) fn restore(&mut self, backup: Option<Backup>, same_id: bool) {
        let (keys, revision) = backup.map_or_else(|| (BTreeMap::new(), 1), |b| (b.keys, b.revision));
        let fresh = Self::new();
        let cluster = if same_id { self.cluster } else { ClusterId(self.cluster.0 + 1) };
        let (life, leases_granted) = (self.life + 1, self.leases_granted);
        // A restored etcd does not know how long its leases still live; here their keys stay, as they do there.
        *self = Self { cluster, revision, keys, life, leases_granted, ..fresh };
        self.compacted = self.revision;
    }
}
