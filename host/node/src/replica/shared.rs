//! What the replica's threads and its callers share.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use mortise_core::group::NodeId;
use mortise_core::ids::{Epoch, GroupId, TenantId};
use mortise_core::replica::MonoTime;
use mortise_core::time::LogTime;
use mortise_runtime::Runtime;
use mortise_storage::disk::Disk;
use mortise_storage::snapshot::{list_snapshots, remove_snapshot};
use mortise_storage::state::StateDb;
use mortise_storage::{DataFolder, FolderError, ScratchFile, StateId};

use super::api::{Leader, WriteError};
use super::options::ReplicaOptions;
use super::tables::Tables;
use super::watch::Watchers;
use crate::groups::Directory;
use crate::metrics::Metrics;

/// What the replica's threads and its callers share.
pub(crate) struct Shared {
    pub options: ReplicaOptions,
    pub group: GroupId,
    pub db: StateDb,
    /// Log and snapshots.
    pub disk: Arc<dyn Disk>,
    pub runtime: Runtime,
    pub metrics: Arc<Metrics>,
    pub positions: Positions,
    pub in_flight: InFlight,
    /// Why writes are refused, while they are.
    pub refused: Mutex<Option<WriteError>>,
    /// Why the replica stopped.
    pub fault: tokio::sync::watch::Sender<Option<String>>,
    pub stopping: AtomicBool,
    tables: RwLock<Tables>,
    /// The state in the database that the tables belong to. Changes together with them.
    state: AtomicU64,
    /// States in the database that nobody uses any more.
    discarded: Mutex<BTreeSet<StateId>>,
    /// Who waits for news of a tenant.
    pub watchers: Watchers,
    /// The epoch in which this replica leads, and serves; 0: it does not.
    pub leads: AtomicU64,
    /// The other node whose leadership this replica follows; 0: none.
    pub leader: AtomicU64,
    /// Where the nodes are.
    directory: Directory,
    /// How each tenant's section of the newest snapshot was written.
    sections: Mutex<HashMap<TenantId, String>>,
    /// Locked as long as this lives. Last, so that the database is closed before another process may open it.
    folder: DataFolder,
}

/// Where the replica is in its log. Each is written by one thread at a time, and read by all.
#[derive(Default)]
pub(crate) struct Positions {
    pub epoch: AtomicU64,
    pub last: AtomicU64,
    pub commit: AtomicU64,
    pub applied: AtomicU64,
    pub log_first: AtomicU64,
    pub log_bytes: AtomicU64,
    pub snapshot: AtomicU64,
    pub isr_members: AtomicU64,
}

/// Writes accepted and not yet answered: what bounds the memory of every queue between a client and its answer.
#[derive(Default)]
pub(crate) struct InFlight {
    writes: AtomicUsize,
    bytes: AtomicUsize,
}

impl InFlight {
    /// Takes room for the writes, or says which bound is reached.
    pub(crate) fn reserve(
        &self,
        writes: usize,
        bytes: usize,
        options: &ReplicaOptions,
    ) -> Result<(), &'static str> {
        let writes_before = self.writes.fetch_add(writes, Ordering::Relaxed);
        let bytes_before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        // A single message is always let in where nothing else is.
        let full = if writes_before + writes > options.writes_in_flight_max && writes_before > 0 {
            "too many writes are in flight (writes_in_flight_max)"
        } else if bytes_before + bytes > options.write_bytes_in_flight_max && writes_before > 0 {
            "too many bytes of writes are in flight (write_bytes_in_flight_max)"
        } else {
            return Ok(());
        };
        self.release(writes, bytes);
        Err(full)
    }

    /// Gives the room of answered writes back.
    pub(crate) fn release(&self, writes: usize, bytes: usize) {
        self.writes.fetch_sub(writes, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Writes and bytes in flight.
    pub(crate) fn now(&self) -> (usize, usize) {
        (self.writes.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

impl Shared {
    pub(crate) fn new(
        options: ReplicaOptions,
        folder: DataFolder,
        disk: Arc<dyn Disk>,
        runtime: Runtime,
        metrics: Arc<Metrics>,
        (db, state, tables): (StateDb, StateId, Tables),
        directory: Directory,
    ) -> Self {
        Self {
            group: options.group,
            options,
            folder,
            db,
            disk,
            runtime,
            metrics,
            positions: Positions::default(),
            in_flight: InFlight::default(),
            refused: Mutex::new(None),
            fault: tokio::sync::watch::Sender::new(None),
            stopping: AtomicBool::new(false),
            tables: RwLock::new(tables),
            state: AtomicU64::new(state.0),
            discarded: Mutex::default(),
            watchers: Watchers::default(),
            leads: AtomicU64::new(0),
            leader: AtomicU64::new(0),
            directory,
            sections: Mutex::default(),
        }
    }

    /// The tables, to read.
    pub(crate) fn tables(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tables, to change. For the apply thread only; held for short.
    pub(crate) fn tables_mut(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state in the database that the tables belong to. Who needs both asks while holding the tables.
    pub(crate) fn state(&self) -> StateId {
        StateId(self.state.load(Ordering::Acquire))
    }

    /// Another state, with its tables, takes the place of the present one. For the apply thread only.
    pub(crate) fn replace_state(&self, state: StateId, tables: Tables) {
        let mut present = self.tables_mut();
        *present = tables;
        self.state.store(state.0, Ordering::Release);
    }

    /// Nobody uses this state any more: the janitor deletes it.
    pub(crate) fn discard(&self, state: StateId) {
        lock(&self.discarded).insert(state);
    }

    /// A state to delete.
    pub(crate) fn discarded(&self) -> Option<StateId> {
        lock(&self.discarded).first().copied()
    }

    /// It is deleted.
    pub(crate) fn forget_discarded(&self, state: StateId) {
        lock(&self.discarded).remove(&state);
    }

    /// The epoch in which this replica leads, and serves: its tables then show all that earlier epochs ever brought about.
    pub(crate) fn leading(&self) -> Option<Epoch> {
        let epoch = self.leads.load(Ordering::Acquire);
        (epoch != 0).then_some(Epoch(epoch))
    }

    /// Whom to name to those who want a leader.
    pub(crate) fn find_leader(&self) -> Option<Leader> {
        let leader = NodeId(self.leader.load(Ordering::Relaxed));
        (leader != NodeId(0)).then(|| self.directory.node(leader))
    }

    /// Why a replica that does not lead takes no write.
    pub(crate) fn not_leader(&self) -> WriteError {
        WriteError::NotLeader { group: self.group, leader: self.find_leader() }
    }

    /// From here on nothing new is begun.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.watchers.wake_all();
    }

    /// What is told of a logged write that nobody answers any more.
    pub(crate) fn unanswered(&self) -> WriteError {
        self.fault.borrow().clone().map_or(WriteError::LeadershipLost, WriteError::Stopped)
    }

    /// Notes why the replica stops. The first reason stays.
    pub(crate) fn set_fault(&self, reason: &str) {
        self.fault.send_if_modified(|fault| {
            if fault.as_deref() != Some(reason) {
                tracing::error!(reason, "the replica stops");
            }
            let first = fault.is_none();
            fault.get_or_insert_with(|| reason.to_owned());
            first
        });
        self.watchers.wake_all();
    }

    /// An unnamed file in the data folder.
    pub(crate) fn scratch(&self) -> Result<ScratchFile, FolderError> {
        self.folder.scratch()
    }

    /// How the tenant's section of the newest snapshot was written; empty before the first.
    pub(crate) fn section_note(&self, tenant: TenantId) -> String {
        lock(&self.sections).get(&tenant).cloned().unwrap_or_default()
    }

    /// Notes how a tenant's section was written.
    pub(crate) fn note_section(&self, tenant: TenantId, note: String) {
        lock(&self.sections).insert(tenant, note);
    }

    /// Bytes free on the data folder's disk; as many as can be where the system does not say.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.disk.free_bytes().unwrap_or_else(|error| {
            tracing::warn!(%error, "ask for free disk space");
            u64::MAX
        })
    }

    /// Refuses writes below the low-water mark of free disk, and takes them again above it.
    pub(crate) fn check_disk(&self) {
        let (free, mark) = (self.free_bytes(), self.options.free_disk_bytes_min);
        self.metrics.free_disk(free);
        let refusal = (free < mark).then_some(WriteError::DiskFull { free, mark });
        let mut refused = self.refusal();
        match (&*refused, &refusal) {
            (None, Some(refusal)) => tracing::error!(%refusal, "writes are refused"),
            (Some(_), None) => tracing::info!(free, "enough disk is free again: writes are taken"),
            _ => {}
        }
        *refused = refusal;
    }

    /// Removes all but the newest snapshots.
    pub(crate) fn remove_old_snapshots(&self) {
        let kept = self.options.snapshots_kept.max(1);
        let removed = list_snapshots(self.disk.as_ref()).and_then(|names| {
            let old = names.iter().rev().skip(kept);
            old.into_iter().try_for_each(|name| remove_snapshot(self.disk.as_ref(), name))
        });
        if let Err(error) = removed {
            tracing::warn!(%error, "remove old snapshots");
        }
    }

    /// Why writes are refused at present.
    pub(crate) fn refusal(&self) -> MutexGuard<'_, Option<WriteError>> {
        lock(&self.refused)
    }
}

/// Locks, also where another holder panicked: what is behind our locks is valid after every statement.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Microseconds on a clock that goes on while the machine sleeps, and never goes back.
pub(crate) fn uptime() -> MonoTime {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    // The kernel gives no negative numbers for this clock.
    let (seconds, nanos) =
        (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    MonoTime(seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000))
}

/// This machine's clock, in milliseconds since 1970-01-01 UTC.
pub(crate) fn clock() -> LogTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    LogTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
