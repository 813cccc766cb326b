//! Queries: run beside the write path, on blocking threads, a bounded number at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use bytes::Bytes;
use mortise_core::digest::Context;
use mortise_core::ids::{LogIndex, PluginDigest, TenantId};
use mortise_core::outcome::Outcome;
use mortise_core::replica::{Freshness, MonoTime, ReadPermit, Refusal};
use mortise_runtime::{Caller, LocalFault};
use tokio::sync::{Semaphore, oneshot};

use super::api::{INSTANCES_IN_USE, QueryError};
use super::driver::Event;
use super::plugin_log;
use super::shared::{Shared, clock, lock, uptime};

/// How long a query waits until it may read, in microseconds.
pub(super) const PERMIT_TIME_MAX: u64 = 10_000_000;
/// Instances kept for queries, over all tenants.
const CALLERS_MAX: usize = 32;

/// See the module's documentation.
pub(crate) struct Queries {
    pub(super) shared: Arc<Shared>,
    events: Sender<Event>,
    running: Semaphore,
    waiting: AtomicUsize,
    /// Instances at rest. One is used for the tenant it was made for only.
    callers: Mutex<HashMap<CallerKey, Vec<Caller>>>,
}

type CallerKey = (TenantId, PluginDigest, u64);

impl Queries {
    pub(crate) fn new(shared: Arc<Shared>, events: Sender<Event>) -> Self {
        Self {
            running: Semaphore::new(shared.options.queries_max.max(1)),
            waiting: AtomicUsize::new(0),
            callers: Mutex::new(HashMap::new()),
            shared,
            events,
        }
    }

    /// Answers a query from applied state that is as fresh as asked for.
    pub(crate) async fn query(
        self: &Arc<Self>,
        tenant: TenantId,
        principal: Option<String>,
        request: Bytes,
        freshness: Freshness,
    ) -> Result<(Bytes, LogIndex), QueryError> {
        let _waiting = self.wait()?;
        let deadline = uptime().after(PERMIT_TIME_MAX);
        loop {
            let permit = self.permit(freshness, deadline).await?;
            let running = self.running.acquire().await.map_err(|_| QueryError::ShuttingDown)?;
            let (queries, principal, request) = (self.clone(), principal.clone(), request.clone());
            let done = tokio::task::spawn_blocking(move || queries.run(tenant, principal, &request)).await;
            drop(running);
            // A lease that ran out while the state was read proves nothing of it.
            if uptime() <= permit.valid_until {
                return done.map_err(|error| QueryError::Internal(format!("run the query: {error}")))?;
            }
        }
    }

    /// Asks the core whether the state may be read now; waits until it may.
    pub(super) async fn permit(
        &self,
        freshness: Freshness,
        deadline: MonoTime,
    ) -> Result<ReadPermit, QueryError> {
        let (sender, receiver) = oneshot::channel();
        let gone = || gone(&self.shared);
        self.events.send(Event::Read(freshness, deadline, sender)).map_err(|_| gone())?;
        receiver.await.map_err(|_| gone())?.map_err(|refusal| refused(&self.shared, refusal))
    }

    fn wait(&self) -> Result<Waiting<'_>, QueryError> {
        if self.shared.stopping.load(Ordering::Acquire) {
            return Err(QueryError::ShuttingDown);
        }
        let waiting = Waiting(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.shared.options.queries_waiting_max {
            return Err(QueryError::Overloaded("too many queries wait (queries_waiting_max)"));
        }
        Ok(waiting)
    }

    fn run(
        &self,
        id: TenantId,
        principal: Option<String>,
        request: &[u8],
    ) -> Result<(Bytes, LogIndex), QueryError> {
        let (state, key, caller, context, index, name) = {
            let tables = self.shared.tables();
            let tenant = tables.tenants.get(&id).ok_or(QueryError::NoSuchTenant)?;
            let known = tables.plugins.get(&tenant.plugin).ok_or(QueryError::NoSuchTenant)?;
            let key = (id, tenant.plugin, tables.profile.version);
            let resting = lock(&self.callers).get_mut(&key).and_then(Vec::pop);
            let caller = resting.unwrap_or_else(|| known.plugin.reader(&tables.profile));
            let context =
                Context { sequence: tenant.sequence, time: tables.applied.time.next(clock()), principal };
            // Read under the lock: the tables show an entry only after its batch is in the database.
            let state = self.shared.db.reader(self.shared.state(), tenant.installation, id);
            (state, key, caller, context, tables.applied.index, tenant.name.clone())
        };
        let mut caller = caller;
        let metrics = self.shared.metrics.tenant(&name);
        let outcome = caller.query(state, &context, request);
        metrics.queries.inc();
        plugin_log::show(&metrics, &name, &caller.take_logs());
        self.keep(key, caller);
        match outcome {
            Ok(Outcome::Applied(reply)) => Ok((reply, index)),
            Ok(Outcome::Rejected(rejection)) => Err(QueryError::Rejected(rejection)),
            Ok(Outcome::Failed(failure)) => Err(QueryError::Failed(failure)),
            Err(LocalFault::PoolFull { .. }) => {
                // Those at rest make room for the next one.
                lock(&self.callers).clear();
                Err(QueryError::Overloaded(INSTANCES_IN_USE))
            }
            Err(fault) => Err(QueryError::Internal(format!("{:#}", anyhow::Error::from(fault)))),
        }
    }

    fn keep(&self, key: CallerKey, caller: Caller) {
        let mut callers = lock(&self.callers);
        // Instances of dropped tenants and replaced plugins go with the rest.
        if callers.values().map(Vec::len).sum::<usize>() >= CALLERS_MAX {
            callers.clear();
        }
        callers.entry(key).or_default().push(caller);
    }
}

/// Counts a query from its arrival to its end.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a read that the core refused is not answered.
pub(super) fn refused(shared: &Shared, refusal: Refusal) -> QueryError {
    match refusal {
        Refusal::NotLeader { .. } => {
            QueryError::NotLeader { group: shared.group, leader: shared.find_leader() }
        }
        Refusal::NotReady => QueryError::NotLeader { group: shared.group, leader: None },
        Refusal::Overloaded => QueryError::Overloaded("too many reads wait"),
        Refusal::TimedOut => QueryError::Unconfirmed,
        Refusal::Lost => QueryError::Lost,
        Refusal::OutOfService | Refusal::Malformed => QueryError::OutOfService,
    }
}

/// Why a read that finds no driver is not answered.
pub(super) fn gone(shared: &Shared) -> QueryError {
    match &*shared.fault.borrow() {
        Some(fault) => QueryError::Internal(fault.clone()),
        None => QueryError::ShuttingDown,
    }
}
