//! A node says in etcd which process it is, on which folder, and where it is reached; and learns whether its folder is the
//! one it had.

use std::time::Duration;

use mortise_coordination::{
    Addresses, CoordinationError, Coordinator, Expected, NodeRecord, SwapOutcome, new_nonce,
};
use mortise_core::group::{BootId, NodeId};

/// The first wait after a failure; doubles up to the longest.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// What registering found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Registered {
    /// The folder is older than what this node once had, or another one: what it holds does not count.
    pub(super) restored: bool,
}

/// Registers the process `boot`, whose folder had seen the start `before` (0: none). Goes on until etcd answers: whether the
/// folder is the newest is known there alone.
pub(super) async fn register(
    coordinator: &dyn Coordinator,
    node: NodeId,
    storage: u128,
    before: BootId,
    boot: BootId,
    addresses: &Addresses,
) -> Result<Registered, CoordinationError> {
    let (mut wait, mut told) = (RETRY_MIN, false);
    loop {
        match attempt(coordinator, node, storage, before, boot, addresses).await {
            Ok(Some(registered)) => return Ok(registered),
            Ok(None) => {}
            Err(error @ (CoordinationError::Config(_) | CoordinationError::Corrupt(_))) => return Err(error),
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

/// `None`: somebody else wrote the record meanwhile, or whether it was written is not known.
async fn attempt(
    coordinator: &dyn Coordinator,
    node: NodeId,
    storage: u128,
    before: BootId,
    boot: BootId,
    addresses: &Addresses,
) -> Result<Option<Registered>, CoordinationError> {
    let seen = coordinator.read_node(node).await?;
    let (expected, restored) = match &seen.record {
        None => (Expected::Absent, false),
        Some(record) => {
            let expected = Expected::Present { mod_revision: seen.mod_revision, nonce: record.nonce };
            if record.storage == storage && record.boot == boot {
                // An attempt whose answer was lost has succeeded.
                return Ok(Some(Registered { restored: false }));
            }
            if record.boot >= boot {
                let what = format!(
                    "node {node} was started as number {} after this start, {boot}: two processes under one name, or a clock \
                     that went back",
                    record.boot
                );
                return Err(CoordinationError::Config(what));
            }
            let restored = before != BootId(0) && (record.storage != storage || record.boot > before);
            if restored {
                tracing::warn!(%node, "the data folder is older than what this node once had: it takes no part in what was acknowledged since");
            } else if record.storage != storage {
                tracing::warn!(%node, "this node has a new, empty data folder: it gets its groups' data from the others");
            }
            (expected, restored)
        }
    };
    let next = NodeRecord { storage, boot, addresses: addresses.clone(), nonce: new_nonce()? };
    match coordinator.swap_node(node, expected, next).await? {
        SwapOutcome::Applied(_) => Ok(Some(Registered { restored })),
        SwapOutcome::Refused(_) | SwapOutcome::Unknown => Ok(None),
    }
}
