//! What both implementations stand on: keys with revisions, transactions, leases and watches, as etcd is one.
//!
//! Everything a node does lies above this trait, once; so real and in-process coordination differ in nothing else.
//! Implementations bound every wait.

pub mod etcd;
pub mod faulty;
pub mod memory;

use std::future::Future;
use std::time::Duration;

use mortise_core::group::LeaseId;

use crate::error::CoordinationError;
use crate::seen::{ClusterId, Revision};

/// Most operations in one transaction: etcd's default is 128.
pub const OPERATIONS_MAX: usize = 100;

/// A key and what lies under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key. Text, if it is ours.
    pub key: Vec<u8>,
    /// The value; empty where it was deleted.
    pub value: Vec<u8>,
    /// The revision at which it came to be.
    pub create_revision: Revision,
    /// The revision of its last change.
    pub mod_revision: Revision,
    /// The lease it lives with, if any.
    pub lease: Option<LeaseId>,
}

/// An answer, and who gave it when.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// etcd's id of its cluster.
    pub cluster: ClusterId,
    /// Its revision when it answered.
    pub revision: Revision,
    /// What it said.
    pub value: T,
}

/// What to read.
#[derive(Clone, Debug)]
pub enum Range {
    /// One key.
    Key(String),
    /// All keys that begin so.
    Prefix(String),
}

/// What must hold for a transaction to be applied.
#[derive(Clone, Debug)]
pub enum Condition {
    /// There is no such key.
    Absent(String),
    /// The key was last changed at this revision, and holds this value.
    Is(String, Revision, Vec<u8>),
}

/// A change of one key.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Sets it; with a lease, for as long as that lives.
    Put(String, Vec<u8>, Option<LeaseId>),
    /// Removes it.
    Delete(String),
}

/// Changes that happen together, if all conditions hold; at most [`OPERATIONS_MAX`], each of another key.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// What must hold.
    pub conditions: Vec<Condition>,
    /// What to do then.
    pub operations: Vec<Operation>,
    /// The key to read instead, where it does not hold.
    pub otherwise: Option<String>,
}

/// What became of a transaction.
#[derive(Clone, Debug)]
pub enum Committed {
    /// It was applied, at the answer's revision.
    Applied,
    /// A condition did not hold: nothing changed. With what the key to read holds.
    Refused(Option<KeyValue>),
}

/// A lease that was granted, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    /// The lease.
    pub lease: LeaseId,
    /// From each renewal on. May be longer than was asked for.
    pub ttl: Duration,
}

/// A change that a watch tells.
#[derive(Clone, Debug)]
pub struct WatchEvent {
    /// The key after the change.
    pub at: KeyValue,
    /// Whether it was deleted.
    pub deleted: bool,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// It did not reach etcd, or etcd refused it: it did not happen and will not.
    #[error("{endpoint}: {why}")]
    NotDone {
        /// Who was asked.
        endpoint: String,
        /// What is wrong.
        why: String,
    },
    /// It was sent, and no answer came: it may happen yet.
    #[error("{endpoint}: {why}")]
    Unanswered {
        /// Who was asked.
        endpoint: String,
        /// What is known.
        why: String,
    },
    /// User, password or certificate are not accepted.
    #[error("{endpoint}: {why}")]
    Denied {
        /// Who was asked.
        endpoint: String,
        /// What it said.
        why: String,
    },
    /// There is no such lease.
    #[error("there is no such lease")]
    LeaseGone,
    /// The changes since the wanted revision were compacted away.
    #[error("compacted up to revision {0}")]
    Compacted(Revision),
}

impl From<BackendError> for CoordinationError {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::NotDone { endpoint, why } | BackendError::Unanswered { endpoint, why } => {
                Self::Unavailable { endpoint, why }
            }
            BackendError::Denied { endpoint, why } => Self::Denied { endpoint, why },
            error @ (BackendError::LeaseGone | BackendError::Compacted(_)) => {
                Self::Unavailable { endpoint: "etcd".into(), why: error.to_string() }
            }
        }
    }
}

/// Keys and values. Reads and transactions are linearizable.
pub trait Backend: Send + Sync + 'static {
    /// A running watch.
    type Watch: Watch;

    /// Everything in the range, at one revision, in the order of keys.
    fn read(&self, range: Range) -> impl Future<Output = Result<Answer<Vec<KeyValue>>, BackendError>> + Send;

    /// Applies a transaction, or not.
    fn commit(
        &self,
        transaction: Transaction,
    ) -> impl Future<Output = Result<Answer<Committed>, BackendError>> + Send;

    /// A new lease that lives for `ttl_seconds` after each renewal.
    fn grant(&self, ttl_seconds: u32) -> impl Future<Output = Result<Answer<Grant>, BackendError>> + Send;

    /// Renews a lease; the answer is its time to live from now on. The answer's revision may be old.
    fn renew(&self, lease: LeaseId) -> impl Future<Output = Result<Answer<Duration>, BackendError>> + Send;

    /// Ends a lease, and with it its keys.
    fn revoke(&self, lease: LeaseId) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Tells the changes of all keys that begin with `prefix`, from revision `from` on.
    fn watch(
        &self,
        prefix: String,
        from: Revision,
    ) -> impl Future<Output = Result<Self::Watch, BackendError>> + Send;

    /// The next request had better go to another endpoint: this one is behind.
    fn turn_away(&self);
}

/// A running watch.
pub trait Watch: Send {
    /// The next changes, in order. May be none: then it only says that it is alive. An error ends the watch; a watch
    /// that is silent for too long is an error.
    fn next(&mut self) -> impl Future<Output = Result<Answer<Vec<WatchEvent>>, BackendError>> + Send;
}
