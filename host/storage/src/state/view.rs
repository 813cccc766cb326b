//! The database at one moment.

use std::sync::Arc;

use bytes::Bytes;
use fjall::{Keyspace, Readable, Snapshot, UserKey};
use mortise_core::ids::{Installation, TenantId};
use mortise_core::state::{Direction, KeyRange, Pairs, StateError, StateReader};

use super::keys::Prefix;
use super::{StateDbError, StateId, failed};

/// The pairs of a scan, as they were when it began.
pub type StateDbPairs = Box<dyn Iterator<Item = Result<(Bytes, Bytes), StateDbError>> + Send>;

/// Everything in the database as it was when the view was taken. Clones share the moment.
#[derive(Clone)]
pub struct StateView {
    snapshot: Snapshot,
    keyspace: Keyspace,
}

impl StateView {
    pub(super) fn new(snapshot: Snapshot, keyspace: Keyspace) -> Self {
        Self { snapshot, keyspace }
    }

    /// A tenant's installation.
    pub fn reader(
        &self,
        state: StateId,
        installation: Installation,
        tenant: TenantId,
    ) -> Arc<dyn StateReader> {
        let prefix = Prefix::state(state, installation, tenant);
        Arc::new(InstallationReader { view: self.clone(), prefix })
    }

    /// See [`StateDb::meta_get`](super::StateDb::meta_get).
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn meta_get(&self, state: StateId, key: &[u8]) -> Result<Option<Bytes>, StateDbError> {
        self.get(&Prefix::meta(state), key)
    }

    /// See [`StateDb::meta_scan`](super::StateDb::meta_scan).
    pub fn meta_scan(&self, state: StateId, prefix: &[u8]) -> StateDbPairs {
        self.scan(&Prefix::meta(state), &KeyRange::prefix(prefix), Direction::Ascending)
    }

    /// See [`StateDb::effects_scan`](super::StateDb::effects_scan).
    pub fn effects_scan(&self, state: StateId, range: &KeyRange, direction: Direction) -> StateDbPairs {
        self.scan(&Prefix::effects(state), range, direction)
    }

    /// See [`StateDb::effect_get`](super::StateDb::effect_get).
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn effect_get(&self, state: StateId, key: &[u8]) -> Result<Option<Bytes>, StateDbError> {
        self.get(&Prefix::effects(state), key)
    }

    fn get(&self, prefix: &Prefix, key: &[u8]) -> Result<Option<Bytes>, StateDbError> {
        let Some(key) = prefix.key(key) else { return Ok(None) };
        let value = self.snapshot.get(&self.keyspace, key).map_err(failed("read state"))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, prefix: &Prefix, range: &KeyRange, direction: Direction) -> StateDbPairs {
        let Some(bounds) = prefix.bounds(range) else { return Box::new(std::iter::empty()) };
        let length = prefix.len();
        let pairs = self.snapshot.range(&self.keyspace, bounds);
        let pair = move |guard: fjall::Guard| {
            let (key, value) = guard.into_inner().map_err(failed("scan state"))?;
            Ok((Bytes::copy_from_slice(&key[length..]), Bytes::copy_from_slice(&value)))
        };
        match direction {
            Direction::Ascending => Box::new(pairs.map(pair)),
            Direction::Descending => Box::new(pairs.rev().map(pair)),
        }
    }

    /// The whole keys of the range, with their prefix.
    pub(super) fn keys(
        &self,
        prefix: &Prefix,
        range: &KeyRange,
    ) -> impl Iterator<Item = Result<UserKey, StateDbError>> + use<> {
        let bounds = prefix.bounds(range);
        let guards = bounds.map(|bounds| self.snapshot.range(&self.keyspace, bounds));
        guards.into_iter().flatten().map(|guard| guard.key().map_err(failed("scan state")))
    }
}

/// One installation at one moment.
struct InstallationReader {
    view: StateView,
    prefix: Prefix,
}

impl StateReader for InstallationReader {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        self.view.get(&self.prefix, key).map_err(state_error)
    }

    fn scan(&self, range: &KeyRange, direction: Direction) -> Pairs<'_> {
        Box::new(self.view.scan(&self.prefix, range, direction).map(|pair| pair.map_err(state_error)))
    }
}

fn state_error(error: StateDbError) -> StateError {
    StateError(Box::new(error))
}
