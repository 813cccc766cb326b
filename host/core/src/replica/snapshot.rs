//! What the replica needs to know about a snapshot. Its bytes are the business of storage and driver.

use super::epochs::EpochTable;
use super::message::Position;
use crate::digest::Digest;
use crate::entry::Stamp;
use crate::group::Generation;

/// A snapshot: committed state only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotMeta {
    /// The history it belongs to.
    pub generation: Generation,
    /// The last entry it includes.
    pub last: Position,
    /// Where each epoch up to `last` began.
    pub epochs: EpochTable,
    /// The effect digest at `last`.
    pub digest: Digest,
    /// Time and profile of the entry at `last`.
    pub stamp: Stamp,
}
