//! The gRPC services: messages in, calls of the [`Replica`], messages out. Generated types stay in here.
//!
//! ```text
//! connection ─▶ guard ─▶ Data / Admin ─▶ Replica
//!               token, cluster, deadline, span, metrics; errors of the transport get their detail
//! ```
//! Every error carries an `ErrorDetail`; `errors.rs` is the one place that decides which.

#![allow(clippy::result_large_err, reason = "what goes wrong goes out on the wire, and is rare")]

mod admin;
mod cluster;
mod convert;
mod data;
mod deadline;
mod errors;
mod find;
mod guard;
mod methods;
mod trace;
mod watch;
mod window;
mod write_stream;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use axum::Router;
use axum::http::HeaderValue;
use mortise_proto::v1::admin_server::AdminServer;
use mortise_proto::v1::cluster_server::ClusterServer;
use mortise_proto::v1::data_server::DataServer;
use tokio::sync::Semaphore;
use tonic::service::Routes;

use crate::cluster::Node;
use crate::config::Limits;
use crate::groups::Groups;
use crate::metrics::{Metrics, Now};
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
    pub(crate) groups: Arc<Groups>,
    /// `None`: the node is alone.
    cluster: Option<Arc<Node>>,
    /// Which cluster the node is of, as calls name it. Unset until the data folder is open.
    identity: OnceLock<HeaderValue>,
    /// Turns true once, when the node begins to stop.
    draining: tokio::sync::watch::Sender<bool>,
    /// The number of the newest write stream. Numbers only grow: the newest stream owns its sessions.
    newest_stream: AtomicU64,
    uploads: Semaphore,
    watches: Arc<Semaphore>,
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
    pub(crate) fn new(
        tokens: Tokens,
        limits: Limits,
        metrics: Arc<Metrics>,
        about: About,
        groups: Arc<Groups>,
        cluster: Option<Arc<Node>>,
    ) -> Self {
        Self {
            watches: Arc::new(Semaphore::new(limits.watches_max)),
            tokens,
            limits,
            metrics,
            about,
            groups,
            cluster,
            identity: OnceLock::new(),
            draining: tokio::sync::watch::Sender::new(false),
            newest_stream: AtomicU64::new(0),
            uploads: Semaphore::new(UPLOADS_MAX),
        }
    }

    /// Says of which cluster the node is, once, before there is anything to call.
    pub(crate) fn identify(&self, cluster: u64) {
        let digits = HeaderValue::from_str(&format!("{cluster:016x}"));
        self.identity.get_or_init(|| digits.unwrap_or(HeaderValue::from_static("")));
    }

    /// From here on write streams take nothing more in, and end when all is answered.
    pub(crate) fn drain(&self) {
        self.draining.send_replace(true);
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

    /// What this node measures, as the page of its metrics. Blocks: it asks for the sizes of files and of free space.
    pub(crate) fn metrics_page(&self) -> String {
        let groups = self.groups.all().iter().map(|replica| (replica.group(), replica.status())).collect();
        let (links, counts) = self.cluster.as_ref().map(|node| node.peer_metrics()).unwrap_or_default();
        self.metrics.encode(&Now { groups, links, counts })
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

/// Adds the service Cluster to an admin listener's routes.
pub(crate) fn cluster(routes: Routes, node: &Arc<Node>) -> Routes {
    routes.add_service(ClusterServer::new(cluster::ClusterService::new(Arc::clone(node))))
}

/// Puts [`guard`] before everything that `router` serves.
pub(crate) fn guarded(router: Router, context: &Arc<Context>) -> Router {
    router.layer(axum::middleware::from_fn_with_state(Arc::clone(context), guard))
}
