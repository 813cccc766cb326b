//! Everything a node needs from etcd: a session, the records of nodes, groups and tenants with compare-and-swap,
//! candidates, one watch of it all, and the role events that follow from it. The same in-process.
//!
//! ```text
//!   node, replicas, commands
//!        │ reads, swaps                ▲ Changes: whole states, the newest      ▲ RoleEvents
//!        ▼                             │                                        │
//!   Coordinator ── Coordination: requests · session · observe ── Roles (compares states)
//!        │                 every answer is judged: cluster id, revision
//!        ▼
//!   Backend ── Etcd (3.4 and later) | Memory | Faulty over any of them
//! ```
//! etcd has two roles, kept apart. A leased *session* is only a failure detector: it authorises nothing. A persistent
//! *record* of each group, changed only by compare-and-swap, is the leadership. [`RoleEvent`] says how the events of
//! older texts are called here.
//!
//! What can be relied on: a session is over at the latest when its TTL has passed since the last answered renewal was
//! sent, by a clock that counts suspended time; a watch that was cut off, hangs or was compacted begins anew with a
//! listing, and a listing now and then finds what it lost; a swap whose answer is lost is said to be unknown; an etcd
//! that was wiped, restored or exchanged is noticed by its cluster id or by a revision below one that was known when
//! the question was asked, and then nothing is swapped and no session begins until an operator accepts it. A restore
//! under the same `--initial-cluster-token` that meanwhile got beyond the known revision cannot be noticed: restore
//! under a new token.
//!
//! Recovery: an endpoint that hangs is left after one attempt (1 s), a watch that hangs after 3 s; waits between
//! attempts grow from 50 ms to 2 s. So after etcd serves again, everything is in order within 5 s and a TTL.
mod agent;
pub mod backend;
mod config;
mod coordinator;
mod error;
mod keys;
mod moment;
mod record;
mod role_events;
mod roles;
mod seen;
mod state;

pub use agent::{Changes, Coordination, Interest, Known};
pub use backend::etcd::{Etcd, EtcdConfig, Tls};
pub use backend::memory::Memory;
pub use config::Config;
pub use coordinator::{Coordinator, Read, Swap};
pub use error::{Broken, CoordinationError, Corrupt, SessionLoss};
pub use keys::group_name;
pub use moment::Moment;
pub use record::{Addresses, NodeRecord, TenantRecord, TenantState, new_nonce};
pub use role_events::{RoleEvents, Told};
pub use roles::{RoleChange, RoleEvent, Roles, Viewpoint};
pub use seen::{ClusterId, Expected, Revision, Seen, Source, SwapOutcome};
pub use state::{
    Candidate, Change, Entry, GroupState, History, NodeState, Nodes, Session, SessionState, Tenants,
    record_of,
};
