//! Everything a node needs from etcd: a session, the records of nodes, groups and tenants with compare-and-swap,
//! candidates, one watch of it all, and the role events that follow from it. The same in-process.

mod agent;
pub mod backend;
mod config;
mod coordinator;
mod error;
mod keys;
mod moment;
mod record;
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
pub use seen::{ClusterId, Expected, Revision, Seen, Source, SwapOutcome};
pub use state::{
    Candidate, Change, Entry, GroupState, History, NodeState, Nodes, Session, SessionState, Tenants,
};
