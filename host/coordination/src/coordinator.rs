//! What a node asks of its coordinator.

use futures::future::BoxFuture;
use mortise_core::group::{BootId, GroupRecord, NodeId};
use mortise_core::ids::GroupId;

use crate::agent::{Changes, Interest, Known};
use crate::error::CoordinationError;
use crate::record::{NodeRecord, TenantRecord};
use crate::seen::{ClusterId, Expected, Seen, SwapOutcome};
use crate::state::{History, SessionState};

/// The result of a read.
pub type Read<'a, T> = BoxFuture<'a, Result<Seen<T>, CoordinationError>>;
/// The result of a swap. An error says that it certainly did not and will not happen.
pub type Swap<'a, T> = BoxFuture<'a, Result<SwapOutcome<T>, CoordinationError>>;

/// A node's coordinator: one session and one watch, whatever the number of groups.
///
/// Two implementations differ in nothing but where the keys lie: [`Coordination`](crate::Coordination) over
/// [`Etcd`](crate::Etcd) or over [`Memory`](crate::Memory). All calls are bounded in time: a read by
/// [`Config::request_timeout`](crate::Config::request_timeout), a swap by that and one attempt more. Who drops the
/// future of a swap does not know its outcome.
pub trait Coordinator: Send + Sync {
    /// Begins this node's session as its start number `boot`, and goes on trying. Once only.
    ///
    /// # Errors
    /// There is one already, or the numbers are 0.
    fn open_session(&self, node: NodeId, boot: BootId) -> Result<(), CoordinationError>;

    /// How the session is.
    fn session(&self) -> SessionState;

    /// This node wants to lead the group, should it come to that. Lasts over sessions, until withdrawn. It shows up
    /// among the group's candidates once etcd has it.
    fn campaign(&self, group: GroupId);

    /// This node does not want to lead the group any more.
    fn withdraw(&self, group: GroupId);

    /// Reads a group's record, linearizably.
    fn read_group(&self, group: GroupId) -> Read<'_, GroupRecord>;

    /// Replaces a group's record if it still is the one that is expected. A node asks only while its session lives;
    /// an observer (an operator's command) may always.
    fn swap_group(&self, group: GroupId, expected: Expected, next: GroupRecord) -> Swap<'_, GroupRecord>;

    /// Reads a node's record, linearizably.
    fn read_node(&self, node: NodeId) -> Read<'_, NodeRecord>;

    /// Replaces a node's record.
    fn swap_node(&self, node: NodeId, expected: Expected, next: NodeRecord) -> Swap<'_, NodeRecord>;

    /// Looks a tenant up, linearizably.
    fn read_tenant(&self, name: &str) -> Read<'_, TenantRecord>;

    /// Replaces a tenant's entry; with `None` it is removed, and the name is free.
    fn swap_tenant(
        &self,
        name: &str,
        expected: Expected,
        next: Option<TenantRecord>,
    ) -> Swap<'_, TenantRecord>;

    /// Tells what changes: the present state first, then each change.
    fn changes(&self, interest: Interest) -> Changes;

    /// Whether etcd's history is the known one.
    fn history(&self) -> History;

    /// The newest that is known of etcd; to be given to the next start.
    fn known(&self) -> Option<Known>;

    /// An operator accepts etcd as it is, after its history broke.
    ///
    /// # Errors
    /// Another cluster than `cluster` is there.
    fn accept(&self, cluster: ClusterId) -> Result<(), CoordinationError>;

    /// Why etcd cannot be observed at the moment, if so.
    fn problem(&self) -> Option<CoordinationError>;

    /// Waits for the first listing.
    fn ready(&self) -> BoxFuture<'_, Result<(), CoordinationError>>;

    /// Ends the session now, so that nobody waits for its TTL. Etcd forgets it by itself where it cannot be reached.
    fn close(&self) -> BoxFuture<'_, ()>;
}
