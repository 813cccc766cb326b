//! Keys in this process: what `mortise dev` uses, and tests. It keeps etcd's semantics, also the inconvenient ones:
//! leases that run out, compaction, a history that can be wiped or restored.

mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use mortise_core::group::LeaseId;
use tokio::sync::watch;

use super::{
    Answer, Backend, BackendError, Committed, Grant, KeyValue, Range, Transaction, Watch, WatchEvent,
};
use crate::seen::Revision;
pub use state::Backup;
use state::State;

/// How often leases are looked at: they end this late at most. etcd takes up to half a second.
const EXPIRY_EVERY: Duration = Duration::from_millis(50);

/// Keys in memory. Clones share them, as nodes share an etcd.
#[derive(Clone)]
pub struct Memory {
    hub: Arc<Hub>,
}

struct Hub {
    state: Mutex<State>,
    /// Counts changes, so that watches wait for the next one.
    changes: watch::Sender<u64>,
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
        result
    }
}

impl Memory {
    /// No keys. Leases end as long as this is called within a tokio runtime that runs.
    pub fn new() -> Self {
        let hub = Arc::new(Hub { state: Mutex::new(State::new()), changes: watch::Sender::new(0) });
        tokio::spawn(expire(Arc::downgrade(&hub)));
        Self { hub }
    }

    /// Changes a key as any other client of etcd might.
    pub fn put(&self, key: &str, value: &[u8]) {
        self.hub.change(|state| state.put_raw(key.as_bytes(), value));
    }

    /// Deletes a key as any other client of etcd might.
    pub fn delete(&self, key: &str) {
        self.hub.change(|state| state.delete_raw(key.as_bytes()));
    }

    /// Drops the history of all changes up to now.
    pub fn compact(&self) {
        self.hub.change(State::compact);
    }

    /// What a backup holds: keys and revision, no leases' remaining time.
    pub fn backup(&self) -> Backup {
        self.hub.state().backup()
    }

    /// etcd is gone for a moment and comes back with what `backup` holds, or with nothing; under the same cluster id
    /// (the operator's mistake) or another one.
    pub fn restore(&self, backup: Option<Backup>, same_id: bool) {
        self.hub.change(|state| state.restore(backup, same_id));
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

async fn expire(hub: Weak<Hub>) {
    loop {
        tokio::time::sleep(EXPIRY_EVERY).await;
        let Some(hub) = hub.upgrade() else { return };
        let expired = hub.state().expired();
        for lease in expired {
            // It may have been renewed or revoked since; both are seen under the lock.
            hub.change(|state| state.expire(lease));
        }
    }
}

impl Backend for Memory {
    type Watch = MemoryWatch;

    async fn read(&self, range: Range) -> Result<Answer<Vec<KeyValue>>, BackendError> {
        let state = self.hub.state();
        Ok(state.answer(state.read(&range)))
    }

    async fn commit(&self, transaction: Transaction) -> Result<Answer<Committed>, BackendError> {
        self.hub.change(|state| {
            let committed = state.commit(transaction)?;
            Ok(state.answer(committed))
        })
    }

    async fn grant(&self, ttl_seconds: u32) -> Result<Answer<Grant>, BackendError> {
        let mut state = self.hub.state();
        let grant = state.grant(Duration::from_secs(ttl_seconds.into()));
        Ok(state.answer(grant))
    }

    async fn renew(&self, lease: LeaseId) -> Result<Answer<Duration>, BackendError> {
        let mut state = self.hub.state();
        let ttl = state.renew(lease)?;
        Ok(state.answer(ttl))
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), BackendError> {
        self.hub.change(|state| state.revoke(lease))
    }

    async fn watch(&self, prefix: String, from: Revision) -> Result<MemoryWatch, BackendError> {
        let changes = self.hub.changes.subscribe();
        let life = self.hub.state().life();
        Ok(MemoryWatch { hub: Arc::downgrade(&self.hub), changes, prefix, from, life })
    }

    fn turn_away(&self) {}
}

/// A watch on [`Memory`].
pub struct MemoryWatch {
    hub: Weak<Hub>,
    changes: watch::Receiver<u64>,
    prefix: String,
    from: Revision,
    life: u64,
}

impl Watch for MemoryWatch {
    async fn next(&mut self) -> Result<Answer<Vec<WatchEvent>>, BackendError> {
        let gone = || BackendError::NotDone { endpoint: "memory".into(), why: "it is gone".into() };
        loop {
            {
                let hub = self.hub.upgrade().ok_or_else(gone)?;
                let state = hub.state();
                if state.life() != self.life {
                    return Err(gone());
                }
                let events = state.events(&self.prefix, self.from)?;
                self.from = state.next_revision();
                if !events.is_empty() {
                    return Ok(state.answer(events));
                }
            }
            self.changes.changed().await.map_err(|_| gone())?;
        }
    }
}
