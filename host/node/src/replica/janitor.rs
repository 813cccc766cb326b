//! The janitor: deletes what dropped tenants, replaced installations and replaced states left, beside everything else.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use mortise_core::ids::TenantId;
use mortise_core::state::Direction;
use mortise_storage::StateId;

use super::machine::{Fault, effects_of};
use super::records::{TableWrites, garbage};
use super::shared::Shared;

/// How often the janitor looks for work.
const EVERY: Duration = Duration::from_secs(2);
/// Effects deleted by one batch: few enough not to hold up the commits of others.
const EFFECTS_PER_BATCH: usize = 1_000;

/// Runs until `stop` closes.
pub(crate) fn run(shared: &Arc<Shared>, stop: &Receiver<()>) {
    while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(EVERY) {
        if let Err(fault) = sweep(shared) {
            // What is left is found again at the next round, or after a restart.
            tracing::warn!(
                error = format!("{:#}", anyhow::Error::from(fault)),
                "delete what dropped tenants left"
            );
        }
    }
}

fn sweep(shared: &Shared) -> Result<(), Fault> {
    while let Some(state) = shared.discarded() {
        shared.db.delete_state(state)?;
        shared.forget_discarded(state);
    }
    let state = shared.state();
    for (tenant, installation) in garbage(&shared.db, state)? {
        if shared.stopping.load(Ordering::Acquire) {
            return Ok(());
        }
        shared.db.delete_installation(state, installation, tenant)?;
        // Ids are not used again: who is gone stays so.
        if !shared.tables().tenants.contains_key(&tenant) {
            delete_effects(shared, state, tenant)?;
        }
        let mut batch = shared.db.batch(state);
        batch.delete_garbage(tenant, installation)?;
        batch.commit()?;
    }
    Ok(())
}

/// Deletes what was kept for a dropped tenant's watchers.
fn delete_effects(shared: &Shared, state: StateId, tenant: TenantId) -> Result<(), Fault> {
    let mut range = effects_of(tenant);
    loop {
        let mut batch = shared.db.batch(state);
        let effects = shared.db.effects_scan(state, &range, Direction::Ascending);
        for effect in effects.take(EFFECTS_PER_BATCH) {
            let (key, _) = effect?;
            batch.delete_effect(&key)?;
            // The next scan begins behind what this one deletes, and so does not wade through its tombstones.
            range.start = key;
        }
        if batch.is_empty() {
            return Ok(());
        }
        batch.commit()?;
    }
}
