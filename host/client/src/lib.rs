//! Rust client of Mortise: of a node, or of a cluster, whose leaders it finds and follows.
//!
//! ```no_run
//! # async fn example() -> Result<(), mortise_client::ClientError> {
//! use mortise_client::{Client, Options, WriterOptions};
//!
//! let client = Client::connect(&Options::new("http://127.0.0.1:7400")).await?;
//! let ledger = client.tenant("ledger");
//! let writer = ledger.writer(WriterOptions::default()).await?;
//! // Exactly once, also where the connection breaks or the node restarts in between.
//! writer.write(r#"{"open": {"account": "ann"}}"#).await?;
//! let answer = ledger.query(r#"{"balance": {"account": "ann"}}"#).await?;
//! # Ok(()) }
//! ```
//! - [`Client`] and [`Tenant`]: data. [`Writer`]: many writes in flight, each exactly once.
//! - [`Writer::send_early`] and [`Tenant::write_early`]: writes that the leader alone acknowledges, with a token
//!   ([`Position`]) for which [`Tenant::ask_fate`] tells what became of them.
//! - [`Watch`]: what is written, as it is applied, each once and in order.
//! - [`AdminClient`]: tenants, plugins, profile, snapshots, status.
//! - [`ClusterClient`]: groups, their members, who leads them.
//! - [`kv::Kv`], [`ledger::Ledger`]: the commands of the shipped plugins as functions; [`typed`]: those of any plugin.
//! - `discovery` (the feature `etcd`): nodes and groups as etcd knows them.
//! - `load` (a feature): CSV and NDJSON files through a [`Writer`].
//!
//! Every error is a [`ClientError`], which says whether the call took effect.

pub mod admin;
mod backoff;
mod client;
pub mod cluster;
mod connection;
#[cfg(feature = "etcd")]
pub mod discovery;
mod error;
mod fate;
pub mod kv;
pub mod ledger;
#[cfg(feature = "load")]
pub mod load;
mod options;
mod position;
mod routes;
mod trail;
pub mod typed;
pub mod watch;
pub mod writer;

pub use admin::AdminClient;
pub use client::{Answer, Client, Freshness, Session, Tenant, Written};
pub use cluster::ClusterClient;
pub use error::{ClientError, ErrorKind, TookEffect};
pub use fate::Fate;
pub use mortise_core::ids::SessionId;
pub use options::{ENDPOINTS_MAX, Options, SILENCE_TIMEOUT_MIN, parse_endpoints};
pub use position::Position;
pub use watch::{Watch, WatchEvent, WatchFrom, WatchOptions};
pub use writer::{Writer, WriterOptions};
