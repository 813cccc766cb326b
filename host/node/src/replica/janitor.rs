//! The janitor: deletes what dropped tenants, replaced installations and replaced states left, beside everything else.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::kept;
use super::machine::Fault;
use super::records::{TableWrites, garbage};
use super::shared::Shared;

/// How often the janitor looks for work.
const EVERY: Duration = Duration::from_secs(2);

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
            kept::delete(&shared.db, state, tenant)?;
        }
        let mut batch = shared.db.batch(state);
        batch.delete_garbage(tenant, installation)?;
        batch.commit()?;
    }
    Ok(())
}
