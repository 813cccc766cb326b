//! Names of tenants, unique in the cluster: a directory in etcd, kept by the leaders of the groups.
//!
//! ```text
//!   free ──claim──▶ Creating, by a group in an epoch ──▶ log: TenantCreate, in that epoch ──▶ Ready
//!     ▲                 │                                                                       │
//!     └────── settle, where the group's leader does not have it ◀────── log: TenantDrop ────────┘
//! ```
//! A group's log is the truth of what the group has; the directory says which group may have it, and where to look for it.
//!
//! **A group logs a creation only in the epoch in which its leader claimed the name. A name is given up only by the leader
//! of the group that has it, where its tables do not show it, and this process does nothing else with it.** So two groups
//! never both have a name:
//! - A claim is a compare-and-swap: of two groups one gets it.
//! - What was claimed in an epoch is given up in that one or a later one. In a later one, what the earlier ever committed
//!   is in the leader's tables, and nothing else of it ever will be. In the same one, it is this process, which does one
//!   thing at a time with a name, and does it to the end.
//! - A leader that was deposed knows less than it thinks: it leaves alone what a later epoch wrote. And every claim is a
//!   new write, so that a swap that is still on its way, which compares revision and nonce, misses it.
//! - A leader that claimed, was deposed, and leads again logs nothing on its old claim: the entry is proposed for the epoch
//!   of the claim, and refused in another one.
//!
//! A crash leaves a name at most claimed without need: by a creation that never came to be, or a tenant that was dropped.
//! The same group claims it anew at once; for the others it is free when the group's leader, the present or the next one,
//! has compared its tables with the directory. That is done at the beginning of each leadership and with each change of
//! the directory, and also enters tenants that the directory lacks, where etcd was wiped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use mortise_coordination::{
    CoordinationError, Coordinator, Expected, SwapOutcome, TenantRecord, TenantState, new_nonce, record_of,
};
use mortise_core::entry::check_tenant_name;
use mortise_core::group::NodeId;
use mortise_core::ids::{Epoch, GroupId, TenantId};
use tokio::sync::{Notify, Semaphore};

use crate::groups::{Directory, Groups};
use crate::replica::{AdminError, Replica, WriteError};

/// Swaps of one claim: each that is refused means that somebody else changed the entry in between.
const CLAIM_SWAPS_MAX: usize = 3;
/// Names that are settled at once: etcd answers some thousand requests a second, and has other things to do.
const SETTLED_AT_ONCE: usize = 16;
/// How long until what could not be settled is tried again.
const SETTLE_RETRY: Duration = Duration::from_secs(1);
/// Names that are looked up in etcd at once, which callers can ask for as they like.
const LOOKUPS_MAX: usize = 32;

/// A group's replica, as far as names are concerned.
pub(crate) trait Holder: Send + Sync {
    /// Its group.
    fn group(&self) -> GroupId;
    /// The epoch in which it leads, and shows all that earlier ones brought about.
    fn leading(&self) -> Option<Epoch>;
    /// The number of its tenant with this name.
    fn tenant(&self, name: &str) -> Option<TenantId>;
    /// All of them.
    fn tenants(&self) -> BTreeMap<String, TenantId>;
}

impl Holder for Replica {
    fn group(&self) -> GroupId {
        self.group()
    }

    fn leading(&self) -> Option<Epoch> {
        self.leading()
    }

    fn tenant(&self, name: &str) -> Option<TenantId> {
        self.tenant(name)
    }

    fn tenants(&self) -> BTreeMap<String, TenantId> {
        self.tenants()
    }
}

/// See the module's documentation.
pub(crate) struct Names {
    coordinator: Arc<dyn Coordinator>,
    directory: Directory,
    /// Names that this process does something with. Bounded by the calls that do.
    busy: Mutex<BTreeSet<String>>,
    /// Something may have to be settled.
    changed: Notify,
    lookups: Semaphore,
}

/// A name that nobody else in this process does anything with.
struct Busy<'a>(&'a Names, &'a str);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy().remove(self.1);
    }
}

impl Names {
    pub(crate) fn new(coordinator: Arc<dyn Coordinator>, directory: Directory) -> Self {
        Self {
            coordinator,
            directory,
            busy: Mutex::default(),
            changed: Notify::new(),
            lookups: Semaphore::new(LOOKUPS_MAX),
        }
    }

    /// What etcd says of a name now. Of one that no tenant can have, nothing.
    ///
    /// # Errors
    /// etcd does not answer, or too many others ask.
    pub(crate) async fn look_up(&self, name: &str) -> Result<Option<TenantRecord>, AdminError> {
        if check_tenant_name(name).is_err() {
            return Ok(None);
        }
        let full = || WriteError::Overloaded("too many unknown tenants are looked up");
        let _room = self.lookups.try_acquire().map_err(|_| full())?;
        Ok(self.coordinator.read_tenant(name).await?.record)
    }

    /// Has `make` create a tenant in `holder`'s group, under a name that no other group gets. `make` may only log it in
    /// the epoch it is given. Goes on to the end, also where the caller goes away.
    ///
    /// # Errors
    /// The name is malformed or taken; the replica does not lead; etcd is away; what `make` says.
    pub(crate) async fn create<T: Send + 'static, F>(
        self: &Arc<Self>,
        holder: impl Holder + 'static,
        name: &str,
        make: impl FnOnce(Epoch) -> F + Send + 'static,
    ) -> Result<T, AdminError>
    where
        F: Future<Output = Result<T, AdminError>> + Send,
    {
        check_tenant_name(name).map_err(AdminError::Invalid)?;
        let (names, name) = (Arc::clone(self), name.to_owned());
        to_the_end(async move {
            let _busy = names.begin(&name)?;
            if holder.tenant(&name).is_some() {
                return Err(AdminError::AlreadyExists { what: "tenant", name: name.clone() });
            }
            let group = holder.group();
            let epoch = holder.leading().ok_or(WriteError::NotLeader { group, leader: None })?;
            names.claim(&name, group, epoch).await?;
            let made = make(epoch).await;
            names.finish(&holder, &name).await;
            made
        })
        .await
    }

    /// Has `drop` take a tenant out of `holder`'s group, and frees its name. Goes on to the end likewise.
    ///
    /// # Errors
    /// What `drop` says.
    pub(crate) async fn release<T: Send + 'static>(
        self: &Arc<Self>,
        holder: impl Holder + 'static,
        name: &str,
        drop: impl Future<Output = Result<T, AdminError>> + Send + 'static,
    ) -> Result<T, AdminError> {
        let (names, name) = (Arc::clone(self), name.to_owned());
        to_the_end(async move {
            let _busy = names.begin(&name)?;
            let dropped = drop.await;
            names.finish(&holder, &name).await;
            dropped
        })
        .await
    }

    /// Something may have to be settled.
    pub(crate) fn look(&self) {
        self.changed.notify_one();
    }

    /// Settles what has to be, for ever, for the groups that this node leads.
    pub(crate) async fn keep(self: Arc<Self>, groups: Arc<Groups>, me: NodeId) {
        let mut told = BTreeSet::new();
        loop {
            let changed = self.changed.notified();
            let replicas = groups.all();
            // A leadership that begins says nothing here when it has begun. Asked first: what begins meanwhile is looked at
            // again.
            let begins = replicas
                .iter()
                .any(|replica| !replica.leads() && self.directory.leader(replica.group()) == Some(Some(me)));
            let mut troubled = BTreeSet::new();
            for replica in &replicas {
                troubled.append(&mut self.settle_all(replica, &told).await);
            }
            let calm = troubled.is_empty() && !begins;
            told = troubled;
            if calm {
                changed.await;
            } else {
                // Whether time or news ended it is the same.
                let _ = tokio::time::timeout(SETTLE_RETRY, changed).await;
            }
        }
    }

    /// Settles every name of which the directory and the replica's tables say different things; the names that could not
    /// be. `told`: those that need not be told again.
    async fn settle_all(&self, holder: &impl Holder, told: &BTreeSet<String>) -> BTreeSet<String> {
        if holder.leading().is_none() {
            return BTreeSet::new();
        }
        let names = self.in_disorder(holder);
        let settled = stream::iter(names)
            .map(|name| async move { (!self.try_settle(holder, &name, told).await).then_some(name) });
        settled.buffer_unordered(SETTLED_AT_ONCE).filter_map(std::future::ready).collect().await
    }

    /// Settles a name, and says whether it is in order. Whoever else does something with it may leave it as it is.
    async fn try_settle(&self, holder: &impl Holder, name: &str, told: &BTreeSet<String>) -> bool {
        let Ok(_busy) = self.begin(name) else { return false };
        let Err(error) = self.settle(holder, name).await else { return true };
        if !told.contains(name) {
            let group = holder.group();
            tracing::error!(%group, name, %error, "bring the directory of tenants in order; it is tried again");
        }
        false
    }

    fn in_disorder(&self, holder: &impl Holder) -> Vec<String> {
        let (group, has, directory) = (holder.group(), holder.tenants(), self.directory.tenants());
        let entered = |name: &str, id: TenantId| {
            let record = directory.get(name).and_then(record_of);
            record.is_some_and(|record| record.group == group && record.state == TenantState::Ready(id))
        };
        let missing = has.iter().filter(|(name, id)| !entered(name, **id)).map(|(name, _)| name);
        let ours = directory
            .iter()
            .filter(|(_, entry)| record_of(entry).is_some_and(|record| record.group == group))
            .map(|(name, _)| name);
        missing.chain(ours.filter(|name| !has.contains_key(*name))).cloned().collect()
    }

    /// Settles a name after something was done with it; where that fails, later.
    async fn finish(&self, holder: &impl Holder, name: &str) {
        if let Err(error) = self.settle(holder, name).await {
            let group = holder.group();
            tracing::warn!(%group, name, %error, "bring the directory of tenants in order; it is tried again");
            self.look();
        }
    }

    /// Takes a name for a group, in a leadership of it.
    async fn claim(&self, name: &str, group: GroupId, epoch: Epoch) -> Result<(), AdminError> {
        for _ in 0..CLAIM_SWAPS_MAX {
            let seen = self.coordinator.read_tenant(name).await?;
            let expected = match &seen.record {
                None => Expected::Absent,
                Some(record) if record.group != group => {
                    return Err(AdminError::Taken { name: name.to_owned(), group: record.group });
                }
                Some(record) if record.epoch > epoch => {
                    return Err(WriteError::NotLeader { group, leader: None }.into());
                }
                Some(record) => Expected::Present { mod_revision: seen.mod_revision, nonce: record.nonce },
            };
            let next = TenantRecord { group, epoch, state: TenantState::Creating, nonce: new_nonce()? };
            match self.coordinator.swap_tenant(name, expected, Some(next)).await? {
                SwapOutcome::Applied(_) => return Ok(()),
                SwapOutcome::Refused(_) => {}
                SwapOutcome::Unknown => {
                    self.look();
                    return Err(AdminError::Directory("etcd's answer was lost".into()));
                }
            }
        }
        Err(AdminError::Directory("others change the same entry".into()))
    }

    /// Brings what the directory says of a name in line with the tables of a replica that leads. The caller holds the name.
    async fn settle(&self, holder: &impl Holder, name: &str) -> Result<(), AdminError> {
        let Some(epoch) = holder.leading() else { return Ok(()) };
        let group = holder.group();
        let seen = self.coordinator.read_tenant(name).await?;
        // After the epoch was asked for: whatever an earlier one brought about is in there.
        let id = holder.tenant(name);
        let next = id.map(TenantState::Ready);
        let expected = match (&seen.record, next) {
            (None, None) => return Ok(()),
            (None, Some(_)) => Expected::Absent,
            (Some(record), None) if record.group != group => return Ok(()),
            (Some(record), Some(_)) if record.group != group => {
                return Err(AdminError::Taken { name: name.to_owned(), group: record.group });
            }
            // Another node leads the group since.
            (Some(record), _) if record.epoch > epoch => return Ok(()),
            (Some(record), Some(next)) if record.state == next => return Ok(()),
            (Some(record), _) => Expected::Present { mod_revision: seen.mod_revision, nonce: record.nonce },
        };
        let nonce = new_nonce()?;
        let next = next.map(|state| TenantRecord { group, epoch, state, nonce });
        match self.coordinator.swap_tenant(name, expected, next).await? {
            SwapOutcome::Applied(_) => Ok(()),
            SwapOutcome::Refused(_) => Err(AdminError::Directory("somebody else changed the entry".into())),
            SwapOutcome::Unknown => Err(AdminError::Directory("etcd's answer was lost".into())),
        }
    }

    fn begin<'a>(&'a self, name: &'a str) -> Result<Busy<'a>, AdminError> {
        let is_new = self.busy().insert(name.to_owned());
        let busy = || WriteError::Overloaded("something else is being done with this tenant");
        is_new.then(|| Busy(self, name)).ok_or_else(|| busy().into())
    }

    fn busy(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<CoordinationError> for AdminError {
    fn from(error: CoordinationError) -> Self {
        Self::Directory(error.to_string())
    }
}

/// Runs a change to its end, also where whoever waits for it goes away: half of one would have to be undone by others.
async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, AdminError>> + Send + 'static,
) -> Result<T, AdminError> {
    tokio::spawn(change).await.map_err(AdminError::internal)?
}

#[cfg(test)]
mod tests;
