//! Loads, checks, meters and calls a plugin's component.
//!
//! ```text
//!   bytes ─▶ Runtime::load ─▶ Plugin ─┬─▶ Applier ─▶ EntryCalls   one log entry: fresh instance, overlay, digests
//!            check, compile,          ├─▶ Caller                  validate, query, snapshot: one tenant, reused
//!            describe                 └─▶ restore, migrate        bulk writes into an unpublished installation
//! ```
//! The contract with plugins is `wit/README.md`. What is special here:
//!
//! - **Everything that can change an outcome comes from a [`Profile`](mortise_core::profile::Profile)** or is a
//!   constant of this crate; nothing from [`RuntimeOptions`] can.
//! - **Two kinds of failure.** A deterministic one (a trap, a limit, bytes that break the canonical ABI) is an
//!   [`Outcome`](mortise_core::outcome::Outcome), recorded and the same on every replica. Anything else is a
//!   [`LocalFault`]: the replica stops, and nothing is recorded.
//! - **No wall clock, no epochs, no fibers**: a call ends by fuel, on the thread that made it.
//! - Calls may come from any thread with [`NATIVE_STACK_BYTES_MIN`] of stack, which Rust's threads have.

mod abi;
mod applier;
mod bulk;
mod cache;
mod caller;
mod compile;
mod config;
mod failure;
mod growth;
mod guest;
mod host;
mod instance;
mod load;
mod logs;
mod machine;
mod manifest;
mod page;
mod plugin;

pub use applier::{Applied, Applier, EntryCalls};
pub use bulk::{BulkDone, BulkFailure, BulkTarget, StreamError};
pub use cache::CacheError;
pub use caller::{Caller, Refusal};
pub use config::{NATIVE_STACK_BYTES_MIN, RuntimeOptions};
pub use failure::LocalFault;
pub use guest::{GET_MANY_KEYS_MAX, PAGE_BYTES_MAX};
pub use load::LoadError;
pub use logs::{LOG_BYTES_PER_CALL_MAX, Level, LogLine, Logs};
pub use machine::{Runtime, RuntimeError};
pub use manifest::{Manifest, ManifestError};
pub use plugin::Plugin;
