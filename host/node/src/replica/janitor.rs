//! The janitor: deletes what dropped tenants and replaced states left, beside everything else.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

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
    for (tenant, installation) in garbage(&shared.db, shared.group)? {
        if shared.stopping.load(Ordering::Acquire) {
            return Ok(());
        }
        shared.db.delete_installation(shared.group, installation, tenant)?;
        let mut batch = shared.db.batch(shared.group);
        batch.delete_garbage(tenant, installation)?;
        batch.commit()?;
    }
    Ok(())
}
