//! The gRPC services: messages in, calls of the [`Replica`], messages out. Generated types stay in here.
//!
//! ```text
//! connection ─▶ guard ─▶ Data / Admin ─▶ Replica
//!               token, deadline, span, metrics; errors of the transport get their detail
//! ```
//! Every error carries an `ErrorDetail`; `errors.rs` is the one place that decides which.

#![allow(clippy::result_large_err, reason = "what goes wrong goes out on the wire, and is rare")]

mod admin;
mod convert;
mod data;
mod deadline;
mod errors;
mod guard;
mod methods;
mod trace;
mod window;
mod write_stream;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use axum::Router;
use mortise_proto::v1::admin_server::AdminServer;
use mortise_proto::v1::data_server::DataServer;
use mortise_proto::v1::{ErrorCode, ErrorDetail};
use tokio::sync::{Semaphore, watch};
use tonic::service::Routes;

use crate::config::Limits;
use crate::metrics::Metrics;
use crate::replica::Replica;
use crate::security::{AccessError, Action, Tokens};

pub(crate) use guard::guard;

/// Uploads at once: each holds a whole component in memory, and they compile one after the other anyway.
const UPLOADS_MAX: usize = 2;

/// What all services share.
pub(crate) struct Context {
    pub(crate) tokens: Tokens,
    pub(crate) limits: Limits,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) about: About,
    /// Set once, when recovery is done.
    replica: OnceLock<Replica>,
    /// Turns true once, when the node begins to stop.
    draining: watch::Sender<bool>,
    /// The number of the newest write stream. Numbers only grow: the newest stream owns its sessions.
    newest_stream: AtomicU64,
    uploads: Semaphore,
}

/// What `Status` says beside the replica's own.
pub(crate) struct About {
    pub(crate) node: String,
    /// wasmtime's version and the processor architecture.
    pub(crate) runtime: String,
    pub(crate) data_address: SocketAddr,
    pub(crate) admin_address: SocketAddr,
    pub(crate) started: Instant,
}

impl Context {
    pub(crate) fn new(tokens: Tokens, limits: Limits, metrics: Arc<Metrics>, about: About) -> Self {
        Self {
            tokens,
            limits,
            metrics,
            about,
            replica: OnceLock::new(),
            draining: watch::Sender::new(false),
            newest_stream: AtomicU64::new(0),
            uploads: Semaphore::new(UPLOADS_MAX),
        }
    }

    /// From here on calls reach the replica.
    pub(crate) fn set_replica(&self, replica: Replica) {
        // Set before: by nobody but this, and once.
        let _ = self.replica.set(replica);
    }

    /// From here on write streams take nothing more in, and end when all is answered.
    pub(crate) fn drain(&self) {
        self.draining.send_replace(true);
    }

    fn replica(&self) -> Result<&Replica, ErrorDetail> {
        let recovering =
            || ErrorDetail::new(ErrorCode::NotLeader, "the node is recovering its state").retryable();
        self.replica.get().ok_or_else(recovering)
    }

    fn next_stream(&self) -> u64 {
        self.newest_stream.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Resolves when the node begins to stop.
    fn draining(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut draining = self.draining.subscribe();
        async move {
            // The sender lives as long as the node; without it, draining is over anyway.
            let _ = draining.wait_for(|draining| *draining).await;
        }
    }

    /// Whether the sender of `authorization` may fetch the metrics.
    pub(crate) fn may_measure(&self, authorization: Option<&[u8]>) -> Result<(), AccessError> {
        let now = SystemTime::now();
        self.tokens.caller(authorization, now)?.check(Action::Measure, now)
    }
}

/// The routes of the service Data.
pub(crate) fn data(context: &Arc<Context>) -> Routes {
    let service = DataServer::new(data::DataService::new(Arc::clone(context)));
    let max = context.limits.message_bytes_max;
    // What goes out is bounded where it is made: replies by the profile, responses by the write stream.
    Routes::new(service.max_decoding_message_size(max).max_encoding_message_size(usize::MAX))
}

/// The routes of the service Admin.
pub(crate) fn admin(context: &Arc<Context>) -> Routes {
    let service = AdminServer::new(admin::AdminService::new(Arc::clone(context)));
    let max = context.limits.message_bytes_max;
    Routes::new(service.max_decoding_message_size(max).max_encoding_message_size(usize::MAX))
}

/// Puts [`guard`] before everything that `router` serves.
pub(crate) fn guarded(router: Router, context: &Arc<Context>) -> Router {
    router.layer(axum::middleware::from_fn_with_state(Arc::clone(context), guard))
}
