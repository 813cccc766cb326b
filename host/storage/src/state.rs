//! What plugins keep, and what the node keeps about them, in one ordered database (fjall).
//!
//! ```text
//!   s │ state │ installation │ tenant │ a plugin's key      state
//!   m │ state │ the node's key                              meta: applied index, sessions, tenants …
//!   e │ state │ the node's key                              effects kept for watchers
//! ```
//! Numbers keep their order, so that what belongs together lies together; small ones take one byte. All three are
//! ranges of *one* fjall keyspace: a batch then reaches the disk, and after damage falls back, as a whole. Keyspaces of
//! their own would be flushed apart, and fjall's journal, which ends silently at the first damaged record, could then give back an
//! applied index older than the state it stands for.
//!
//! Nothing here is the durable truth: the log is. After a crash or damage the database may be older than what was
//! committed to it, and its owner replays the log from the applied index on. What [`StateDb::persist`] covered
//! survives a crash.

mod batch;
mod keys;
mod view;

pub use batch::StateBatch;
pub use view::{StateDbPairs, StateView};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use mortise_core::ids::{Installation, TenantId};
use mortise_core::state::{Direction, KeyRange, StateReader};

use keys::Prefix;

/// Which of the states in a database: the present one, or one that is built beside it and published by the switch of a
/// pointer ([`crate::Current`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateId(pub u64);

impl StateId {
    /// The next one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Name of the one keyspace.
const KEYSPACE: &str = "data";
/// Keys that one batch of [`StateDb::delete_installation`] removes: few enough that an entry which is committed
/// meanwhile waits for about a millisecond.
const DELETE_KEYS_MAX: usize = 1024;

/// How much memory and disk the database may use. The memory is for the whole node, whatever the number of tenants.
#[derive(Clone, Debug)]
pub struct StateDbOptions {
    /// Bytes of blocks kept in memory for reads. Default 16 MiB.
    pub cache_bytes: u64,
    /// Bytes written before they are flushed to a table. Up to 5 times this is held in memory under load. Used when
    /// the database is created and fixed then. Default 16 MiB, minimum 1 MiB.
    pub memtable_bytes: u64,
    /// Bytes that fjall's journals may take on the disk. Default 128 MiB, minimum 64 MiB.
    pub journal_bytes_max: u64,
    /// Threads that flush and compact. Default 2: one of them is kept free for flushes, which writes wait for.
    pub worker_threads: usize,
}

impl Default for StateDbOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 16 << 20,
            memtable_bytes: 16 << 20,
            journal_bytes_max: 128 << 20,
            worker_threads: 2,
        }
    }
}

/// Why the database could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateDbError {
    /// The database failed. After a failed write it takes no more of them; the process must stop.
    #[error("{action}: {error}")]
    Failed {
        /// What was attempted.
        action: &'static str,
        /// Why it failed.
        #[source]
        error: fjall::Error,
    },
    /// Another process has it open.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The database's folder.
        path: PathBuf,
    },
    /// A key is longer than the database can hold.
    #[error("a key of {bytes} bytes is longer than the {max} that can be stored")]
    KeyTooLong {
        /// Its bytes.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// A value is longer than the database can hold.
    #[error("a value of {bytes} bytes is longer than the {max} that can be stored")]
    ValueTooLong {
        /// Its bytes.
        bytes: usize,
        /// The bound.
        max: usize,
    },
}

fn failed(action: &'static str) -> impl Fn(fjall::Error) -> StateDbError {
    move |error| StateDbError::Failed { action, error }
}

/// The database. Clones share it.
#[derive(Clone)]
pub struct StateDb {
    database: Database,
    keyspace: Keyspace,
}

impl StateDb {
    /// Most bytes of a plugin's key: fjall's 65,535 less our longest prefix.
    pub const KEY_BYTES_MAX: usize = keys::OWN_KEY_BYTES_MAX;

    /// Opens the database in the folder `path`, and makes it where there is none.
    ///
    /// # Errors
    /// Another process has it open; the files cannot be read or are damaged.
    pub fn open(path: &Path, options: StateDbOptions) -> Result<Self, StateDbError> {
        const MIB: u64 = 1 << 20;
        let database = Database::builder(path)
            .cache_size(options.cache_bytes)
            .max_journaling_size(options.journal_bytes_max.max(64 * MIB))
            .worker_threads(options.worker_threads.max(1))
            .open()
            .map_err(|error| match error {
                fjall::Error::Locked => StateDbError::Locked { path: path.to_owned() },
                error => StateDbError::Failed { action: "open the state database", error },
            })?;
        let create = || KeyspaceCreateOptions::default().max_memtable_size(options.memtable_bytes.max(MIB));
        let keyspace = database.keyspace(KEYSPACE, create).map_err(failed("open the state keyspace"))?;
        Ok(Self { database, keyspace })
    }

    /// Everything as it is now; what is committed later does not show.
    ///
    /// A view that is held keeps old versions on the disk: not for longer than a snapshot takes.
    pub fn view(&self) -> StateView {
        StateView::new(self.database.snapshot(), self.keyspace.clone())
    }

    /// A tenant's installation as it is now.
    pub fn reader(
        &self,
        state: StateId,
        installation: Installation,
        tenant: TenantId,
    ) -> Arc<dyn StateReader> {
        self.view().reader(state, installation, tenant)
    }

    /// The value of one of the node's own keys.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn meta_get(&self, state: StateId, key: &[u8]) -> Result<Option<Bytes>, StateDbError> {
        self.view().meta_get(state, key)
    }

    /// The node's own pairs whose keys begin with `prefix`, in key order, as they are now.
    pub fn meta_scan(&self, state: StateId, prefix: &[u8]) -> StateDbPairs {
        self.view().meta_scan(state, prefix)
    }

    /// What is kept for watchers under this key.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn effect_get(&self, state: StateId, key: &[u8]) -> Result<Option<Bytes>, StateDbError> {
        self.view().effect_get(state, key)
    }

    /// The kept effects whose keys lie in `range`, as they are now.
    pub fn effects_scan(&self, state: StateId, range: &KeyRange, direction: Direction) -> StateDbPairs {
        self.view().effects_scan(state, range, direction)
    }

    /// Collects writes to commit at once.
    pub fn batch(&self, state: StateId) -> StateBatch {
        StateBatch::new(self.clone(), state)
    }

    /// Makes durable what was committed so far: one fsync.
    ///
    /// # Errors
    /// After a failure the database takes no more writes; the process must stop.
    pub fn persist(&self) -> Result<(), StateDbError> {
        self.database.persist(PersistMode::SyncAll).map_err(failed("persist the state database"))
    }

    /// Deletes an installation that nobody reads any more, in many small batches, so that it can run beside the
    /// commits of others. Returns how many keys it had. To be called again where it was interrupted.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub fn delete_installation(
        &self,
        state: StateId,
        installation: Installation,
        tenant: TenantId,
    ) -> Result<u64, StateDbError> {
        self.delete_prefix(&Prefix::state(state, installation, tenant))
    }

    /// Deletes a state that nobody reads any more, as [`delete_installation`](Self::delete_installation) does.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub fn delete_state(&self, state: StateId) -> Result<u64, StateDbError> {
        let mut deleted = 0;
        for prefix in Prefix::all_of(state) {
            deleted += self.delete_prefix(&prefix)?;
        }
        Ok(deleted)
    }

    /// Every state that has keys, in order.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn states(&self) -> Result<Vec<StateId>, StateDbError> {
        let (view, mut states) = (self.view(), std::collections::BTreeSet::new());
        for prefix in Prefix::kinds() {
            let mut range = KeyRange::all();
            while let Some(key) = view.keys(&prefix, &range).next().transpose()? {
                let Some(state) = prefix.state_of(&key) else { break };
                states.insert(state);
                let Some(next) = state.0.checked_add(1) else { break };
                range.start = Prefix::start_of(StateId(next)).into();
            }
        }
        Ok(states.into_iter().collect())
    }

    fn delete_prefix(&self, prefix: &Prefix) -> Result<u64, StateDbError> {
        let mut range = KeyRange::all();
        let mut deleted = 0;
        loop {
            let keys: Vec<_> =
                self.view().keys(prefix, &range).take(DELETE_KEYS_MAX).collect::<Result<_, _>>()?;
            let Some(last) = keys.last() else { return Ok(deleted) };
            // The next scan begins behind what this one deletes, and so does not wade through its tombstones.
            range.start = Bytes::copy_from_slice(&last[prefix.len()..]);
            deleted += keys.len() as u64;
            let mut batch = self.database.batch();
            for key in keys {
                batch.remove(&self.keyspace, key);
            }
            batch.commit().map_err(failed("delete what nobody reads any more"))?;
        }
    }

    /// Bytes the database takes on the disk, journals included.
    ///
    /// # Errors
    /// The files cannot be read.
    pub fn disk_bytes(&self) -> Result<u64, StateDbError> {
        self.database.disk_space().map_err(failed("read the size of the state database"))
    }
}

#[cfg(test)]
mod tests;
