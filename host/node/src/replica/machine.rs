//! The state machine: carries out entries, one after the other, against the state database and the tables.
//!
//! ```text
//!   entry ─▶ plugin calls over an overlay ─▶ one batch: effects, tenant records, session records, applied index
//!                                            └─▶ committed without fsync ─▶ tables in memory ─▶ results
//! ```
//! A crash between the log's fsync and the batch loses nothing: the entry is applied again, from the same state.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use mortise_core::digest::{Context, Digest, entry_digest};
use mortise_core::entry::{Body, Command, Entry, SessionChange};
use mortise_core::ids::{LogIndex, PluginDigest, Sequence, SessionId, TenantId};
use mortise_core::outcome::Outcome;
use mortise_core::session::SessionDelta;
use mortise_runtime::{Applied as Call, Applier, LocalFault};
use mortise_storage::state::{StateBatch, StateDbError, StateId};

use super::kept::{Keeper, Kept};
use super::plan::{CommandResult, Plan};
use super::plugin_log;
use super::records::TableWrites;
use super::shared::Shared;
use super::snapshot::SnapshotError;
use super::tables::{Tables, TablesError, Tenant};
use crate::metrics::TenantMetrics;

/// Tenants that keep an instance warm. More take turns: bounds memory, not tenants.
const APPLIERS_MAX: usize = 32;

/// The replica cannot go on: a fault of this machine, or of its data.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A plugin could not be run, for a reason of this machine.
    #[error(transparent)]
    Runtime(#[from] LocalFault),
    /// The state database failed.
    #[error(transparent)]
    Database(#[from] StateDbError),
    /// The tables are damaged.
    #[error(transparent)]
    Tables(#[from] TablesError),
    /// A snapshot could not be written or read.
    #[error("snapshot: {0}")]
    Snapshot(#[source] SnapshotError),
    /// The entry contradicts the state.
    #[error("entry {index}: {problem}")]
    Contradiction {
        /// The entry.
        index: LogIndex,
        /// What is wrong.
        problem: String,
    },
}

/// What became of an entry.
#[derive(Debug)]
pub(crate) enum EntryResult {
    /// Of commands: one result each.
    Commands(Vec<CommandResult>),
    /// Of anything else: done, or refused with a reason that is the same on every replica.
    Other(Result<(), Refused>),
}

/// Why an entry other than commands changed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    NoSuch(&'static str),
    Exists(&'static str),
    Precondition(String),
}

/// See the module's documentation.
pub(crate) struct Machine {
    pub(super) shared: Arc<Shared>,
    appliers: HashMap<TenantId, WarmApplier>,
    keeper: Keeper,
}

struct WarmApplier {
    plugin: PluginDigest,
    profile: u64,
    applier: Applier,
    used: LogIndex,
}

impl Machine {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, appliers: HashMap::new(), keeper: Keeper::default() }
    }

    /// Applies the next entry.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Result<EntryResult, Fault> {
        let start = Instant::now();
        self.check_order(entry)?;
        let mut batch = self.shared.db.batch(self.shared.state());
        let (result, commands) = match &entry.body {
            Body::Commands(commands) => {
                (EntryResult::Commands(self.commands(entry, commands, batch)?), commands.len())
            }
            Body::Expire { tenant } => (EntryResult::Other(self.expire(entry, *tenant, batch)?), 0),
            body => {
                let done = self.other(entry, body, &mut batch)?;
                self.commit(entry, batch, done.is_err(), &[], |_| {})?;
                if let Body::TenantDrop { tenant } = body {
                    self.shared.watchers.wake([*tenant]);
                }
                (EntryResult::Other(done), 0)
            }
        };
        self.shared.positions.applied.store(entry.index.0, Ordering::Release);
        self.shared.metrics.entry_applied(start.elapsed(), commands);
        Ok(result)
    }

    /// Goes on with another state: nothing that knows the present one is kept.
    pub(crate) fn replace(&mut self, state: StateId, tables: Tables) {
        self.appliers.clear();
        self.keeper.clear();
        self.shared.positions.applied.store(tables.applied.index.0, Ordering::Release);
        self.shared.replace_state(state, tables);
        self.shared.watchers.wake_all();
    }

    /// Makes instances ready for the next entries: off the write path.
    pub(crate) fn warm(&mut self, index: LogIndex) -> Result<(), Fault> {
        for warm in self.appliers.values_mut().filter(|warm| warm.used == index) {
            warm.applier.warm()?;
        }
        Ok(())
    }

    fn check_order(&self, entry: &Entry) -> Result<(), Fault> {
        let tables = self.shared.tables();
        let contradiction = |problem| Fault::Contradiction { index: entry.index, problem };
        if entry.index != tables.applied.index.next() {
            return Err(contradiction(format!("the last one applied is {}", tables.applied.index)));
        }
        if entry.epoch < tables.applied.epoch || entry.time < tables.applied.time {
            return Err(contradiction("its epoch or its time goes back".into()));
        }
        // Nothing runs in an entry that begins an epoch: its leader may not have applied the newest profile.
        if entry.profile != tables.profile.version && entry.body != Body::EpochStart {
            let (named, present) = (entry.profile, tables.profile.version);
            return Err(contradiction(format!("it names profile {named}, in force is {present}")));
        }
        Ok(())
    }

    /// Writes the batch, with the applied index, and then shows its results to everybody.
    fn commit(
        &self,
        entry: &Entry,
        mut batch: StateBatch,
        refused: bool,
        changed: &[(TenantId, Digest)],
        publish: impl FnOnce(&mut Tables),
    ) -> Result<(), Fault> {
        let mut applied = self.shared.tables().applied;
        (applied.index, applied.epoch, applied.time) = (entry.index, entry.epoch, entry.time);
        applied.digest = entry_digest(applied.digest, entry, refused, changed);
        applied.put(&mut batch)?;
        batch.commit()?;
        let mut tables = self.shared.tables_mut();
        tables.applied = applied;
        publish(&mut tables);
        drop(tables);
        self.shared.watchers.wake(changed.iter().map(|(id, _)| *id));
        Ok(())
    }

    fn commands(
        &mut self,
        entry: &Entry,
        commands: &[Command],
        mut batch: StateBatch,
    ) -> Result<Vec<CommandResult>, Fault> {
        let plan = Plan::make(&self.shared.tables(), commands);
        let mut results = plan.results;
        let mut tenants = Vec::with_capacity(plan.shares.len());
        for share in plan.shares {
            let mut tenant = share.tenant;
            self.share(entry, commands, share.id, &mut tenant, &share.commands, &mut results, &mut batch)?;
            batch.put_tenant(share.id, &tenant)?;
            tenants.push((share.id, tenant));
        }
        for (duplicate, original) in plan.duplicates {
            results[duplicate] = results[original].clone();
        }
        let results: Vec<CommandResult> =
            results.into_iter().map(|result| result.unwrap_or(CommandResult::NoSuchTenant)).collect();
        self.record(entry, commands, &plan.executed, &results, &mut batch)?;
        let changed: Vec<(TenantId, Digest)> =
            tenants.iter().map(|(id, tenant)| (*id, tenant.digest)).collect();
        self.commit(entry, batch, false, &changed, |tables| {
            for (id, tenant) in tenants {
                tables.insert_tenant(id, tenant);
            }
        })?;
        Ok(results)
    }

    /// Runs one tenant's commands of the entry, in a fresh instance.
    #[allow(clippy::too_many_arguments)] // One caller; a struct would only name them twice.
    fn share(
        &mut self,
        entry: &Entry,
        commands: &[Command],
        id: TenantId,
        tenant: &mut Tenant,
        which: &[usize],
        results: &mut [Option<CommandResult>],
        batch: &mut StateBatch,
    ) -> Result<(), Fault> {
        let state = self.shared.db.reader(self.shared.state(), tenant.installation, id);
        let metrics = self.shared.metrics.tenant(&tenant.name);
        let applier = self.applier(id, tenant.plugin, entry.index)?;
        let mut calls = applier.begin(state, tenant.digest)?;
        calls.keep_effects(tenant.watch);
        let mut kept = Vec::new();
        for &at in which {
            let Some(command) = commands.get(at) else { continue };
            tenant.sequence += 1;
            let context =
                Context { sequence: tenant.sequence, time: entry.time, principal: command.principal.clone() };
            let call = calls.apply(&context, &command.payload)?;
            note_call(&metrics, tenant, &call);
            if let Some(effects) = call.effects {
                let outcome = call.outcome.clone();
                kept.push(Kept::new(entry, &context, Some(&command.payload), outcome, effects));
            }
            results[at] = Some(CommandResult::Outcome(call.outcome));
        }
        let (layer, digest) = calls.finish();
        tenant.digest = digest;
        if let Some(due) = layer.due() {
            tenant.due = due;
        }
        batch.apply(tenant.installation, id, &layer)?;
        self.keep(id, &kept, batch)
    }

    /// Keeps commands and their effects for watchers.
    fn keep(&mut self, id: TenantId, kept: &[Kept], batch: &mut StateBatch) -> Result<(), Fault> {
        let state = self.shared.state();
        for kept in kept {
            self.keeper.keep((&self.shared.db, state), batch, id, kept)?;
        }
        Ok(())
    }

    /// Records outcomes in the session table.
    fn record(
        &self,
        entry: &Entry,
        commands: &[Command],
        executed: &[bool],
        results: &[CommandResult],
        batch: &mut StateBatch,
    ) -> Result<(), Fault> {
        if commands.iter().all(|command| command.session == SessionId::NONE) {
            return Ok(());
        }
        let mut delta = SessionDelta::default();
        let mut tables = self.shared.tables_mut();
        for ((command, executed), result) in commands.iter().zip(executed).zip(results) {
            let key = (command.tenant, command.session);
            if let (true, CommandResult::Outcome(outcome)) = (*executed, result) {
                tables.sessions.record(key, command.sequence, entry.index, outcome.clone(), &mut delta);
            }
        }
        let mut answered: HashMap<_, Sequence> = HashMap::new();
        for command in commands.iter().filter(|command| command.session != SessionId::NONE) {
            let up_to = answered.entry((command.tenant, command.session)).or_default();
            *up_to = (*up_to).max(command.answered_up_to);
        }
        for (key, up_to) in answered {
            tables.sessions.touch(key, entry.time, up_to, &mut delta);
        }
        let writes = tables.sessions.writes(entry.index, delta);
        drop(tables);
        for write in writes {
            batch.session_write(write, &self.shared.db, self.shared.state())?;
        }
        Ok(())
    }

    /// Everything but commands and expirations.
    fn other(
        &mut self,
        entry: &Entry,
        body: &Body,
        batch: &mut StateBatch,
    ) -> Result<Result<(), Refused>, Fault> {
        match body {
            Body::EpochStart => {
                batch.put_epoch(entry.epoch, entry.index)?;
                self.shared.tables_mut().epochs.insert(entry.epoch, entry.index);
                Ok(Ok(()))
            }
            Body::Session(change) => self.session(entry, change, batch),
            Body::TenantCreate(create) => self.create(entry, create, batch),
            Body::TenantDrop { tenant } => self.drop_tenant(*tenant, batch),
            Body::TenantSwitch { tenant, plugin } => self.switch(*tenant, *plugin, batch),
            Body::Plugin { component } => self.plugin(entry, component, batch),
            Body::Profile(profile) => self.profile(profile, batch),
            Body::Import(import) => self.import(entry, import, batch),
            Body::Commands(_) | Body::Expire { .. } => Ok(Ok(())),
        }
    }

    fn session(
        &mut self,
        entry: &Entry,
        change: &SessionChange,
        batch: &mut StateBatch,
    ) -> Result<Result<(), Refused>, Fault> {
        let mut delta = SessionDelta::default();
        let mut tables = self.shared.tables_mut();
        let done = match change {
            SessionChange::Open { tenant, .. } if !tables.tenants.contains_key(tenant) => {
                Err(Refused::NoSuch("tenant"))
            }
            SessionChange::Open { tenant, ttl_ms } => {
                let key = (*tenant, SessionId::opened_at(self.shared.group, entry.epoch, entry.index));
                let opened = tables.sessions.open(key, *ttl_ms, entry.time, &mut delta);
                opened
                    .then_some(())
                    .ok_or_else(|| Refused::Precondition("the tenant has too many sessions".into()))
            }
            SessionChange::Close { tenant, session } => {
                let closed = tables.sessions.close((*tenant, *session), &mut delta);
                closed.then_some(()).ok_or(Refused::NoSuch("session"))
            }
            SessionChange::Expire { sessions } => {
                for key in sessions {
                    tables.sessions.expire(*key, entry.time, &mut delta);
                }
                Ok(())
            }
        };
        let writes = tables.sessions.writes(entry.index, delta);
        drop(tables);
        for write in writes {
            batch.session_write(write, &self.shared.db, self.shared.state())?;
        }
        Ok(done)
    }

    fn expire(
        &mut self,
        entry: &Entry,
        id: TenantId,
        mut batch: StateBatch,
    ) -> Result<Result<(), Refused>, Fault> {
        let Some(mut tenant) = self.shared.tables().tenants.get(&id).cloned() else {
            self.commit(entry, batch, true, &[], |_| {})?;
            return Ok(Err(Refused::NoSuch("tenant")));
        };
        if tenant.due.is_none_or(|due| due > entry.time.0) {
            self.commit(entry, batch, true, &[(id, tenant.digest)], |_| {})?;
            return Ok(Err(Refused::Precondition("nothing is due".into())));
        }
        tenant.due = None;
        tenant.sequence += 1;
        let state = self.shared.db.reader(self.shared.state(), tenant.installation, id);
        let applier = self.applier(id, tenant.plugin, entry.index)?;
        let mut calls = applier.begin(state, tenant.digest)?;
        calls.keep_effects(tenant.watch);
        let context = Context { sequence: tenant.sequence, time: entry.time, principal: None };
        let call = calls.expire(&context)?;
        let (layer, digest) = calls.finish();
        tenant.digest = digest;
        note_call(&self.shared.metrics.tenant(&tenant.name), &mut tenant, &call);
        if let Some(due) = layer.due() {
            tenant.due = due;
        }
        batch.apply(tenant.installation, id, &layer)?;
        if let Some(effects) = call.effects {
            let kept = Kept::new(entry, &context, None, call.outcome, effects);
            self.keep(id, &[kept], &mut batch)?;
        }
        batch.put_tenant(id, &tenant)?;
        let changed = [(id, tenant.digest)];
        self.commit(entry, batch, false, &changed, |tables| tables.insert_tenant(id, tenant))?;
        Ok(Ok(()))
    }

    fn applier(
        &mut self,
        id: TenantId,
        plugin: PluginDigest,
        index: LogIndex,
    ) -> Result<&mut Applier, Fault> {
        if self.appliers.len() >= APPLIERS_MAX && !self.appliers.contains_key(&id) {
            let oldest = self.appliers.iter().min_by_key(|(_, warm)| warm.used).map(|(id, _)| *id);
            oldest.map(|oldest| self.appliers.remove(&oldest));
        }
        let tables = self.shared.tables();
        let profile = tables.profile.version;
        let fits = |warm: &WarmApplier| warm.plugin == plugin && warm.profile == profile;
        if !self.appliers.get(&id).is_some_and(fits) {
            let known = tables.plugins.get(&plugin).ok_or_else(|| Fault::Contradiction {
                index,
                problem: format!("tenant {id} uses plugin {plugin}, which the group does not know"),
            })?;
            let applier = known.plugin.applier(&tables.profile);
            self.appliers.insert(id, WarmApplier { plugin, profile, applier, used: index });
        }
        drop(tables);
        let warm = self
            .appliers
            .get_mut(&id)
            .ok_or_else(|| Fault::Contradiction { index, problem: format!("tenant {id} has no applier") })?;
        warm.used = index;
        Ok(&mut warm.applier)
    }

    /// Forgets a tenant that is dropped.
    pub(super) fn forget(&mut self, id: TenantId) {
        self.appliers.remove(&id);
        self.keeper.forget(id);
    }
}

/// Counts, and shows what the plugin wrote to the operator's log.
fn note_call(metrics: &TenantMetrics, tenant: &mut Tenant, call: &Call) {
    metrics.fuel.inc_by(call.fuel);
    match &call.outcome {
        Outcome::Applied(_) => metrics.applied.inc(),
        Outcome::Rejected(_) => metrics.rejected.inc(),
        Outcome::Failed(failure) => {
            tenant.failures += 1;
            tracing::warn!(tenant = tenant.name, %failure, "a command failed");
            metrics.failed.inc()
        }
    };
    plugin_log::show(metrics, &tenant.name, &call.logs);
}
