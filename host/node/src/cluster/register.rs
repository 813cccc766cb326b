//! A node says in etcd which process it is, on which folder, and where it is reached; and learns whether its folder is the
//! one it had.

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
    /// The number of its folder, and the newest start that the folder saw; 0: none.
    pub(super) storage: u128,
    pub(super) before: BootId,
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
        let Self { coordinator, node, storage, before, .. } = *self;
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
                let restored = before != BootId(0) && (other || record.boot > before);
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
        let next = NodeRecord { storage, boot, addresses: self.addresses.clone(), nonce: new_nonce()? };
        match coordinator.swap_node(node, expected, next).await? {
            SwapOutcome::Applied(_) => Ok(Some(registered)),
            SwapOutcome::Refused(_) | SwapOutcome::Unknown => Ok(None),
        }
    }
}
