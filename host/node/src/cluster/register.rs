//! A node says in etcd which process it is, on which folder, and where it is reached; and learns whether its folder is the
//! one it had.
//!
//! A folder that was copied before the newest start is told by its start. One that was copied while the node ran, such as a
//! volume's snapshot, knows the newest start, too: so a node that runs goes on counting, in its folder first, and then in
//! etcd. What is left is a copy that is younger than the last count.

use std::time::Duration;

use mortise_coordination::{
    Addresses, CoordinationError, Coordinator, Expected, NodeRecord, SwapOutcome, new_nonce,
};
use mortise_core::group::{BootId, NodeId};

use super::JoinError;
use crate::replica::{StartError, clock};

/// The first wait after a failure; doubles up to the longest.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// What registering found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Registered {
    /// This process.
    pub(super) boot: BootId,
    /// The folder is older than what this node once had, or another one: what it holds does not count.
    pub(super) restored: bool,
}

/// A process that registers.
pub(super) struct Registration<'a> {
    pub(super) coordinator: &'a dyn Coordinator,
    pub(super) node: NodeId,
    /// The number of its folder, the newest start that the folder saw (0: none), and how far it has counted since.
    pub(super) storage: u128,
    pub(super) before: BootId,
    pub(super) count: u64,
    pub(super) addresses: Addresses,
    /// Notes the process in its folder, before etcd hears of it: a folder whose start etcd does not know is no restored one.
    pub(super) note: &'a (dyn Fn(BootId) -> Result<(), StartError> + Send + Sync),
}

/// Registers. Goes on until etcd answers: whether the folder is the newest is known there alone.
pub(super) async fn register(registration: &Registration<'_>) -> Result<Registered, JoinError> {
    let (mut wait, mut told, mut tried) = (RETRY_MIN, false, None);
    loop {
        match registration.attempt(&mut tried).await {
            Ok(Some(registered)) => return Ok(registered),
            Ok(None) => {}
            Err(
                error @ (JoinError::Start(_)
                | JoinError::Coordination(
                    CoordinationError::Config(_) | CoordinationError::Corrupt(_),
                )),
            ) => return Err(error),
            Err(error) if !told => {
                told = true;
                tracing::warn!(%error, "register this node: waiting for etcd, without which its folder cannot be judged");
            }
            Err(error) => tracing::debug!(%error, "register this node"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
}

impl Registration<'_> {
    /// `None`: somebody else wrote the record meanwhile, or whether it was written is not known. `tried`: the last attempt.
    async fn attempt(&self, tried: &mut Option<Registered>) -> Result<Option<Registered>, JoinError> {
        let Self { coordinator, node, storage, before, count, .. } = *self;
        let seen = coordinator.read_node(node).await?;
        let (expected, newest, restored) = match &seen.record {
            None => (Expected::Absent, BootId(0), false),
            Some(record)
                if tried.is_some_and(|tried| tried.boot == record.boot) && record.storage == storage =>
            {
                // Its answer was lost.
                return Ok(*tried);
            }
            Some(record) => {
                let expected = Expected::Present { mod_revision: seen.mod_revision, nonce: record.nonce };
                let other = record.storage != storage;
                let is_old = (record.boot, record.count) > (before, count);
                let restored = before != BootId(0) && (other || is_old);
                if restored {
                    tracing::warn!(%node, "the data folder is older than what this node once had: it takes no part in what was acknowledged since");
                } else if other {
                    tracing::warn!(%node, "this node has a new, empty data folder: it gets its groups' data from the others");
                }
                (expected, record.boot, restored)
            }
        };
        // Later than every start that this folder or etcd knows; and, where both were lost, than what peers may remember.
        let boot = BootId(clock().0.max(before.0.max(newest.0).saturating_add(1)));
        (self.note)(boot)?;
        let registered = Registered { boot, restored };
        *tried = Some(registered);
        let (addresses, nonce) = (self.addresses.clone(), new_nonce()?);
        let next = NodeRecord { storage, boot, count: 0, addresses, nonce };
        match coordinator.swap_node(node, expected, next).await? {
            SwapOutcome::Applied(_) => Ok(Some(registered)),
            SwapOutcome::Refused(_) | SwapOutcome::Unknown => Ok(None),
        }
    }
}

/// Counts one further in the folder, and then in etcd. `note` writes the next count into the folder, and returns it. Whether
/// etcd takes it does not matter: a folder that is ahead is no old one.
pub(super) async fn count(
    coordinator: &dyn Coordinator,
    node: NodeId,
    boot: BootId,
    note: impl FnOnce() -> Result<u64, StartError>,
) -> Result<(), JoinError> {
    let seen = coordinator.read_node(node).await?;
    // A newer process runs under this name: this one is about to stop.
    let Some(record) = seen.record.filter(|record| record.boot == boot) else { return Ok(()) };
    let expected = Expected::Present { mod_revision: seen.mod_revision, nonce: record.nonce };
    let next = NodeRecord { count: note()?, nonce: new_nonce()?, ..record };
    coordinator.swap_node(node, expected, next).await?;
    Ok(())
}
