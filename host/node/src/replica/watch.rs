//! Watches: a tenant's applied commands, in order, from any of them that is still kept, and then as they come.
//!
//! ```text
//!   database ──── a page ───▶ Watch::next ──▶ whoever watches
//!   apply thread ── wakes ──▶   │
//!   core ◀── may I read? ───────┘ at the beginning, and before it is said that all is told
//! ```
//! A watch has a place and nothing else: what it tells lies in the database (`kept.rs`), and is read when it is wanted.
//! So one that is slow costs nothing and holds nobody up; one that is too slow finds that its place is gone.
//!
//! Only what is applied is told, and what is applied is committed, on every replica. So any may tell; but only a leader
//! can know that nothing is missing, and it asks the others before it says so.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use mortise_core::ids::TenantId;
use mortise_core::replica::{Freshness, Position};
use mortise_core::state::{Direction, KeyRange};
use mortise_storage::StateId;
use mortise_storage::state::{StateDbError, StateView};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use super::api::{QueryError, WriteError};
use super::kept::{Kept, keys_between, keys_of, read};
use super::query::{PERMIT_TIME_MAX, Queries};
use super::shared::{Shared, lock, uptime};
use super::tables::TablesError;

/// Pages read at once, over all watches of a replica: they take turns with queries on the same disk.
const READS_MAX: usize = 4;
/// Bytes of commands in one page, but for one that is larger alone: well under the 4 MiB that gRPC clients take by
/// default.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// Bytes of commands looked at for one page: bounds the time that a read takes where little is wanted.
const LOOK_BYTES_MAX: usize = 8 << 20;

/// What is to be watched.
#[derive(Clone, Debug)]
pub struct WatchRequest {
    /// Whose commands.
    pub tenant: TenantId,
    /// From where on.
    pub from: WatchFrom,
    /// Only commands that changed keys with this prefix, and of their effects only those. Empty: all commands.
    pub key_prefix: Bytes,
    /// Any member of the group tells, as far as it has applied; else only the leader.
    pub any_member: bool,
    /// How often it is said how far the watch is, where nothing happens.
    pub progress: Duration,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchFrom {
    /// With the first command that is applied from now on.
    Now,
    /// With the oldest one that is kept.
    Oldest,
    /// With this one.
    Sequence {
        /// Its number, from 1.
        sequence: u64,
        /// Where the one before it is in the log, if that is known: checked to be part of the history.
        after: Option<Position>,
    },
}

/// What a watch tells at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchBatch {
    /// Commands, in order.
    pub events: Vec<Kept>,
    /// The sequence to go on with: all before it is told, or was not wanted.
    pub next: u64,
    /// Where the command before that is in the log, if that is known.
    pub after: Option<Position>,
    /// Nothing that had been acknowledged a moment ago is missing. Of a member that need not lead: nothing that it had
    /// applied.
    pub caught_up: bool,
}

/// Why a watch does not begin, or ends.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// As with queries: no such tenant (any more), another node leads, too much to do, stopping.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The tenant was created without `watch`.
    #[error(
        "this tenant keeps nothing for watchers: create one that does, with `mortise tenant create --watch`"
    )]
    NotKept,
    /// The next command to tell is not kept any more.
    #[error(
        "sequence {wanted} is compacted, the oldest that is kept is {oldest}: read the state anew, and watch from there"
    )]
    Compacted {
        /// The sequence that is to be told next.
        wanted: u64,
        /// The oldest that can be.
        oldest: u64,
    },
    /// There has been no such sequence.
    #[error("sequence {wanted} is not reached yet, the newest is {newest}: watch from {} on", newest + 1)]
    Ahead {
        /// The sequence that was asked for.
        wanted: u64,
        /// The last command's.
        newest: u64,
    },
    /// What was told before is no part of the history any more.
    #[error("the history that was watched was given up: read the state anew, and watch from now on")]
    Lost,
}

impl From<StateDbError> for WatchError {
    fn from(error: StateDbError) -> Self {
        TablesError::from(error).into()
    }
}

impl From<TablesError> for WatchError {
    fn from(error: TablesError) -> Self {
        Self::Query(QueryError::Internal(format!("read what is kept for watchers: {error}")))
    }
}

/// Who waits for news of a tenant.
pub(crate) struct Watchers {
    waiting: Mutex<HashMap<TenantId, watch::Sender<()>>>,
    reads: Arc<Semaphore>,
}

impl Default for Watchers {
    fn default() -> Self {
        Self { waiting: Mutex::default(), reads: Arc::new(Semaphore::new(READS_MAX)) }
    }
}

impl Watchers {
    /// There is news of these.
    pub(crate) fn wake(&self, tenants: impl IntoIterator<Item = TenantId>) {
        let mut waiting = lock(&self.waiting);
        for tenant in tenants {
            let nobody = waiting.get(&tenant).is_some_and(|sender| sender.send(()).is_err());
            if nobody {
                waiting.remove(&tenant);
            }
        }
    }

    /// There is news of the replica.
    pub(crate) fn wake_all(&self) {
        lock(&self.waiting).retain(|_, sender| sender.send(()).is_ok());
    }

    fn subscribe(&self, tenant: TenantId) -> watch::Receiver<()> {
        lock(&self.waiting).entry(tenant).or_insert_with(|| watch::Sender::new(())).subscribe()
    }
}

/// See the module's documentation. It keeps no replica alive that is to end.
pub struct Watch {
    queries: Weak<Queries>,
    tenant: TenantId,
    /// `None`: all commands.
    keys: Option<KeyRange>,
    any_member: bool,
    progress: Duration,
    next: u64,
    after: Option<Position>,
    /// The state that the place was found in: in another one it is checked again.
    state: StateId,
    woken: watch::Receiver<()>,
    /// When it is next to be said how far the watch is.
    mark_at: Instant,
    /// It may be said as soon as nothing is left to tell.
    confirmed: bool,
}

/// What was read.
struct Page {
    events: Vec<Kept>,
    next: u64,
    after: Option<Position>,
    state: StateId,
    /// There is more to read.
    more: bool,
}

impl Watch {
    pub(super) async fn start(queries: &Arc<Queries>, request: WatchRequest) -> Result<Self, WatchError> {
        let WatchRequest { tenant, from, key_prefix, any_member, progress } = request;
        let woken = queries.shared.watchers.subscribe(tenant);
        let told = match from {
            WatchFrom::Sequence { after, .. } => after,
            WatchFrom::Now | WatchFrom::Oldest => None,
        };
        confirm(queries, any_member, told).await?;
        let shared = Arc::clone(&queries.shared);
        let (state, newest, next, after) =
            read_blocking(queries, move || place(&shared, tenant, from)).await?;
        if !any_member && next > newest + 1 {
            return Err(WatchError::Ahead { wanted: next, newest });
        }
        Ok(Self {
            queries: Arc::downgrade(queries),
            tenant,
            keys: (!key_prefix.is_empty()).then(|| KeyRange::prefix(&key_prefix)),
            any_member,
            progress,
            next,
            after: told.or(after),
            state,
            woken,
            mark_at: Instant::now() + progress,
            confirmed: true,
        })
    }

    /// What there is to tell; waits for it. Nothing is lost where the wait is given up.
    ///
    /// # Errors
    /// The watch is over; see [`WatchError`].
    pub async fn next(&mut self) -> Result<WatchBatch, WatchError> {
        loop {
            let queries = self.queries()?;
            let (tenant, next, keys) = (self.tenant, self.next, self.keys.clone());
            let shared = Arc::clone(&queries.shared);
            let read = read_blocking(&queries, move || page(&shared, tenant, next, keys.as_ref()));
            let page = read.await?;
            if page.state != self.state {
                // It came with a snapshot: of the same history, or of one that goes on elsewhere.
                confirm(&queries, self.any_member, self.after).await?;
                self.state = page.state;
                continue;
            }
            drop(queries);
            (self.next, self.after) = (page.next, page.after.or(self.after));
            let told_all = page.events.is_empty() && !page.more;
            let caught_up = told_all && std::mem::take(&mut self.confirmed);
            if caught_up || !page.events.is_empty() || (page.more && Instant::now() >= self.mark_at) {
                self.mark_at = Instant::now() + self.progress;
                return Ok(WatchBatch { events: page.events, next: self.next, after: self.after, caught_up });
            }
            if told_all {
                self.wait().await?;
            }
        }
    }

    /// Waits until there may be news, or it is time to say that there are none.
    async fn wait(&mut self) -> Result<(), WatchError> {
        let queries = self.queries()?;
        if !self.any_member && queries.shared.leads.load(Ordering::Acquire) == 0 {
            let (group, leader) = (queries.shared.group, queries.shared.find_leader());
            return Err(QueryError::NotLeader { group, leader }.into());
        }
        drop(queries);
        tokio::select! {
            woken = self.woken.changed() => woken.map_err(|_| QueryError::ShuttingDown.into()),
            () = sleep_until(self.mark_at) => {
                let queries = self.queries()?;
                confirm(&queries, self.any_member, None).await?;
                self.confirmed = true;
                Ok(())
            }
        }
    }

    /// The replica, as long as it runs.
    fn queries(&self) -> Result<Arc<Queries>, QueryError> {
        let queries = self.queries.upgrade().ok_or(QueryError::ShuttingDown)?;
        if let Some(fault) = &*queries.shared.fault.borrow() {
            return Err(QueryError::Internal(WriteError::Stopped(fault.clone()).to_string()));
        }
        if queries.shared.stopping.load(Ordering::Acquire) {
            return Err(QueryError::ShuttingDown);
        }
        Ok(queries)
    }
}

/// Waits until the replica has applied all that had been acknowledged, if it is to lead, and `told` in any case.
async fn confirm(queries: &Queries, any_member: bool, told: Option<Position>) -> Result<(), WatchError> {
    let deadline = uptime().after(PERMIT_TIME_MAX);
    if !any_member {
        let newest = queries.permit(Freshness::Linearizable, deadline).await?.index;
        if told.is_some_and(|told| told.index > newest) {
            return Err(WatchError::Lost);
        }
    }
    match told {
        None => Ok(()),
        Some(told) => match queries.permit(Freshness::AtLeast(told), deadline).await {
            Ok(_) => Ok(()),
            Err(QueryError::Lost) => Err(WatchError::Lost),
            Err(error) => Err(error.into()),
        },
    }
}

/// Runs a read on a blocking thread, in turn with others. It has a task of its own, so that a caller who stops waiting in
/// the middle does not keep its turn.
async fn read_blocking<T: Send + 'static>(
    queries: &Queries,
    read: impl FnOnce() -> Result<T, WatchError> + Send + 'static,
) -> Result<T, WatchError> {
    let reads = Arc::clone(&queries.shared.watchers.reads);
    let task = tokio::spawn(async move {
        // Nobody closes it.
        let _turn = reads.acquire().await;
        tokio::task::spawn_blocking(read).await
    });
    let failed = |error| WatchError::Query(QueryError::Internal(format!("read for a watch: {error}")));
    task.await.map_err(failed)?.map_err(failed)?
}

/// The state, the tenant's newest sequence, and the database at that moment.
fn look(shared: &Shared, tenant: TenantId) -> Result<(StateId, u64, StateView), WatchError> {
    let tables = shared.tables();
    let found = tables.tenants.get(&tenant).ok_or(QueryError::NoSuchTenant)?;
    if !found.watch {
        return Err(WatchError::NotKept);
    }
    // Under the lock: the tables show an entry only after its batch is in the database.
    Ok((shared.state(), found.sequence, shared.db.view()))
}

/// Where a watch begins: the state, the newest sequence, the first one to tell, and the position before that.
fn place(
    shared: &Shared,
    tenant: TenantId,
    from: WatchFrom,
) -> Result<(StateId, u64, u64, Option<Position>), WatchError> {
    let (state, newest, view) = look(shared, tenant)?;
    let next = match from {
        WatchFrom::Now => newest + 1,
        WatchFrom::Sequence { sequence, .. } => sequence,
        WatchFrom::Oldest => {
            match view.effects_scan(state, &keys_of(tenant), Direction::Ascending).next().transpose()? {
                Some((key, value)) => read(&key, value)?.sequence,
                None => newest + 1,
            }
        }
    };
    let before = next.saturating_sub(1);
    let before = keys_between(tenant, before, before);
    let before = view.effects_scan(state, &before, Direction::Ascending).next().transpose()?;
    let after = before.map(|(key, value)| read(&key, value)).transpose()?.map(|kept| kept.position);
    Ok((state, newest, next, after))
}

/// What is kept from `next` on, as much as one page holds.
fn page(shared: &Shared, tenant: TenantId, next: u64, wanted: Option<&KeyRange>) -> Result<Page, WatchError> {
    let (state, newest, view) = look(shared, tenant)?;
    let mut page = Page { events: Vec::new(), next, after: None, state, more: false };
    if next > newest {
        return Ok(page);
    }
    let (mut looked, mut told) = (0, 0);
    for pair in view.effects_scan(state, &keys_between(tenant, next, newest), Direction::Ascending) {
        let (key, value) = pair?;
        let bytes = value.len();
        looked += bytes;
        let is_full = !page.events.is_empty() && told + bytes > PAGE_BYTES_MAX;
        if is_full || (page.next > next && looked > LOOK_BYTES_MAX) {
            page.more = true;
            return Ok(page);
        }
        let mut kept = read(&key, value)?;
        if kept.sequence != page.next {
            return Err(WatchError::Compacted { wanted: page.next, oldest: kept.sequence });
        }
        (page.next, page.after) = (kept.sequence + 1, Some(kept.position));
        if let Some(keys) = wanted {
            kept.narrow(keys);
            if kept.effects.is_empty() {
                continue;
            }
        }
        told += bytes;
        page.events.push(kept);
    }
    if page.next <= newest {
        return Err(WatchError::Compacted { wanted: page.next, oldest: newest + 1 });
    }
    Ok(page)
}
