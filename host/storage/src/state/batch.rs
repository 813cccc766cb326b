//! Writes that reach the database at once.

use std::ops::{Bound, Range};

use bytes::Bytes;
use fjall::{UserKey, UserValue};
use mortise_core::ids::{Installation, TenantId};
use mortise_core::layer::Layer;

use super::keys::{Bounds, OWN_KEY_BYTES_MAX, Prefix, VALUE_BYTES_MAX};
use super::{StateDb, StateDbError, StateId, failed};

/// Writes to commit at once. A later call overrides what an earlier one wrote to the same key.
///
/// Range deletes look at the database as it is when [`apply`](Self::apply) is called: no other batch may write to the
/// same installation at the time.
#[must_use = "a batch does nothing until it is committed"]
pub struct StateBatch {
    db: StateDb,
    state: StateId,
    /// In the order of the calls; `None`: deleted. An entry's writes come in key order, so sorting them once at the end
    /// costs next to nothing, where keeping them sorted costs as much as the database itself.
    writes: Vec<(UserKey, Option<UserValue>)>,
    /// Where keys are put together.
    scratch: Vec<u8>,
}

impl StateBatch {
    pub(super) fn new(db: StateDb, state: StateId) -> Self {
        Self { db, state, writes: Vec::new(), scratch: Vec::new() }
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// How many keys will be written. Sorts what was collected: not for after every write.
    pub fn len(&mut self) -> usize {
        self.settle();
        self.writes.len()
    }

    /// Sets one of the node's own keys.
    ///
    /// # Errors
    /// The key or the value is too long.
    pub fn put_meta(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateDbError> {
        self.write(&Prefix::meta(self.state), key, Some(value))
    }

    /// Deletes one of the node's own keys.
    ///
    /// # Errors
    /// The key is too long.
    pub fn delete_meta(&mut self, key: &[u8]) -> Result<(), StateDbError> {
        self.write(&Prefix::meta(self.state), key, None)
    }

    /// Keeps an effect.
    ///
    /// # Errors
    /// The key or the value is too long.
    pub fn put_effect(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateDbError> {
        self.write(&Prefix::effects(self.state), key, Some(value))
    }

    /// Forgets an effect.
    ///
    /// # Errors
    /// The key is too long.
    pub fn delete_effect(&mut self, key: &[u8]) -> Result<(), StateDbError> {
        self.write(&Prefix::effects(self.state), key, None)
    }

    /// Sets one key of an installation, for restoring and importing.
    ///
    /// # Errors
    /// The key or the value is too long.
    pub fn put_state(
        &mut self,
        installation: Installation,
        tenant: TenantId,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), StateDbError> {
        self.write(&Prefix::state(self.state, installation, tenant), key, Some(value))
    }

    /// Carries out what an entry wrote to an installation: first its range deletes, then its points.
    ///
    /// # Errors
    /// A key or a value is too long; the database cannot be read.
    pub fn apply(
        &mut self,
        installation: Installation,
        tenant: TenantId,
        layer: &Layer,
    ) -> Result<(), StateDbError> {
        let prefix = Prefix::state(self.state, installation, tenant);
        let mut ranges = layer.ranges().peekable();
        if ranges.peek().is_some() {
            let view = self.db.view();
            self.settle();
            let settled = self.writes.len();
            for range in ranges {
                let Some(bounds) = prefix.bounds(range) else { continue };
                let pending = within(&self.writes[..settled], &bounds);
                for (_, value) in &mut self.writes[pending] {
                    *value = None;
                }
                for key in view.keys(&prefix, range) {
                    self.writes.push((key?, None));
                }
            }
        }
        for (key, value) in layer.points() {
            self.write(&prefix, key, value.as_ref().map(Bytes::as_ref))?;
        }
        Ok(())
    }

    /// Writes all of it, or on an error none. Not durable before [`StateDb::persist`]: when the process ends before that,
    /// the newest batches may be gone, each as a whole.
    ///
    /// # Errors
    /// After a failure the database takes no more writes; the process must stop.
    pub fn commit(mut self) -> Result<(), StateDbError> {
        self.settle();
        // Without a durability: a system call for each entry would buy what replaying the log gives anyway.
        let mut batch = fjall::OwnedWriteBatch::with_capacity(self.db.database.clone(), self.writes.len());
        for (key, value) in self.writes {
            match value {
                Some(value) => batch.insert(&self.db.keyspace, key, value),
                None => batch.remove(&self.db.keyspace, key),
            }
        }
        batch.commit().map_err(failed("commit a batch"))
    }

    fn write(&mut self, prefix: &Prefix, key: &[u8], value: Option<&[u8]>) -> Result<(), StateDbError> {
        if key.len() > OWN_KEY_BYTES_MAX {
            return Err(StateDbError::KeyTooLong { bytes: key.len(), max: OWN_KEY_BYTES_MAX });
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(prefix.as_bytes());
        self.scratch.extend_from_slice(key);
        let bytes = value.map_or(0, <[u8]>::len);
        if bytes > VALUE_BYTES_MAX {
            return Err(StateDbError::ValueTooLong { bytes, max: VALUE_BYTES_MAX });
        }
        self.writes.push((self.scratch.as_slice().into(), value.map(UserValue::from)));
        Ok(())
    }

    /// Sorts the writes, and of those to one key keeps the last: fjall gives all writes of a batch one sequence number,
    /// so it must not see a key twice.
    fn settle(&mut self) {
        // Stable, and linear where the writes are in order already.
        self.writes.sort_by(|(one, _), (two, _)| one.cmp(two));
        self.writes.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
    }
}

/// Which of the sorted writes lie within the bounds.
fn within(writes: &[(UserKey, Option<UserValue>)], bounds: &Bounds) -> Range<usize> {
    let start = match &bounds.0 {
        Bound::Included(start) => writes.partition_point(|(key, _)| **key < **start),
        Bound::Excluded(start) => writes.partition_point(|(key, _)| **key <= **start),
        Bound::Unbounded => 0,
    };
    let end = match &bounds.1 {
        Bound::Included(end) => writes.partition_point(|(key, _)| **key <= **end),
        Bound::Excluded(end) => writes.partition_point(|(key, _)| **key < **end),
        Bound::Unbounded => writes.len(),
    };
    start..end.max(start)
}
