//! Links between the nodes of a cluster, and the transport of what replicas say to each other.
//!
//! ```text
//!            the core's effects: send, open and close a stream, fetch a snapshot
//!                 │                                                     ▲ messages, streams opened and closed: Local
//!                 ▼                                                     │
//!   Peers ── Streams (queues) ── Link: Idle, Dialling, Connected, Broken│     Service: admits, bounds, counts
//!                                  │ one HTTP/2 connection a peer       │         │
//!                                  └─ Ping · Control · Replicate · FetchSnapshot · Memory · MemberStatus
//! ```
//! A node has one [`Peers`]. It dials each peer on first use, shares that connection between all calls, pings it, and
//! dials again when it breaks. Everything that may be lost is lost here: the core repeats what matters. Nothing that is
//! decided rests on this crate; every message carries its own fence, which the core checks.
//!
//! What can be relied on: messages of one stream arrive in order, and none is missing before the stream ends; a stream that is
//! not read is not sent more, and stops neither control messages nor pings; every queue, wait and table has a bound; when
//! [`Peers`] is dropped or closed, everything ends.

mod caller;
mod certificate;
mod counters;
mod error;
mod fetch;
mod link;
mod local;
mod options;
mod peers;
mod queue;
mod service;
mod shared;
mod status;
mod stop;
mod streams;
mod wire;

pub use caller::Speaker;
pub use certificate::{BadNames, CertificateNames, Tls};
pub use counters::Count;
pub use error::PeerError;
pub use link::{Client, LinkState, Transition};
pub use local::{Local, Refusal, SnapshotSink, SnapshotSource};
pub use options::{
    CALLS_PER_CONNECTION_MAX, CONNECTION_WINDOW_BYTES, Identity, Options, PROTOCOL, STREAM_WINDOW_BYTES,
    STREAMS_MAX,
};
pub use peers::Peers;
pub use status::{LinkStatus, MemberStatus};
pub use wire::BadMessage;
