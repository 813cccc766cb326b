//! Test a compiled plugin through the real runtime: what runs here is what a node runs, over a state in memory.
//!
//! ```no_run
//! use mortise_testkit::Tenant;
//! use serde_json::json;
//!
//! # fn main() -> anyhow::Result<()> {
//! let mut tenant = Tenant::build("mortise-example-counter")?;
//! let reply = tenant.at_time(1_000).as_principal("ann").apply_json(&json!({"add": {"by": 2}}));
//! assert_eq!(reply, Ok(json!(2)));
//! assert_eq!(tenant.query_json(&json!("value")), Ok(json!(2)));
//! tenant.assert_snapshot_roundtrip();
//! # Ok(())
//! # }
//! ```
//! [`conformance`] checks what every plugin owes its host, whatever it stores. Logic is tested faster without a
//! component, with `mortise_sdk::Memory`.

mod conformance;
mod garbage;
mod state;
mod tenant;

pub use conformance::{Report, conformance};
pub use mortise_core::digest::{Digest, StateDigest};
pub use mortise_core::outcome::{Failure, Limit, Outcome, Rejection, RejectionKind};
pub use mortise_core::profile::Profile;
pub use mortise_core::state::MemoryState;
pub use mortise_runtime::{BulkFailure, LogLine, Manifest, Plugin};
pub use tenant::Tenant;
