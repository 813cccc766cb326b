//! A node in one process: listeners, services, health, and the replica behind them.
//!
//! ```text
//! data  :7400 ─ Data, health, reflection ────────────────────┐
//! admin :7401 ─ Admin, Cluster, health, reflection, /metrics ├─▶ Groups ─▶ Replicas
//! peer  :7402 ─ Peer ───────────────────────────── Cluster ──┘
//! ```
//! A node alone has no peer listener, and one group.
//! The listeners open before recovery, so that an address in use is found out at once and health can say
//! NOT_SERVING; calls are refused as UNAVAILABLE until it is done.

mod health;
mod listener;
mod routes;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mortise_coordination::Addresses;
use mortise_core::group::NodeId;
use mortise_runtime::{Runtime, RuntimeError, RuntimeOptions};
use mortise_storage::DataFolder;
use mortise_storage::disk::Disk;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::health::Health;
use self::listener::{Listener, Phase, Windows};
use crate::cluster::{self, Cluster, JoinError, Parts};
use crate::config::{Config, ConfigError, ListenerSettings};
use crate::groups::Groups;
use crate::metrics::Metrics;
use crate::replica::{Replica, ReplicaOptions, StartError};
use crate::security::{self, TlsError, Tokens};
use crate::services::{About, Context};

/// The folder of compiled components within the data folder. Whatever is lost there is compiled again.
const COMPILED_FOLDER: &str = "compiled";

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration cannot be honoured.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A listener's TLS files cannot be used.
    #[error("{listener}.{source}")]
    Tls {
        /// The listener's section.
        listener: &'static str,
        /// Which file, and why.
        source: TlsError,
    },
    /// A listener's address cannot be had.
    #[error("{listener}.address: listen on {address}: {source}")]
    Bind {
        /// The listener's section.
        listener: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// No plugin can run here.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The data folder cannot be opened or recovered.
    #[error("{error}{advice}", error = .0, advice = .0.advice(true))]
    Replica(#[from] StartError),
    /// The node cannot join its cluster.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// Recovery crashed.
    #[error("recovery crashed: {0}")]
    Crashed(#[from] tokio::task::JoinError),
}

/// Starts nodes.
#[derive(Debug)]
pub struct Server;

/// A node that serves. Dropping it cuts its connections off; [`Running::shutdown`] stops it properly.
pub struct Running {
    data_address: SocketAddr,
    admin_address: SocketAddr,
    peer_address: Option<SocketAddr>,
    groups: Arc<Groups>,
    cluster: Option<Cluster>,
    context: Arc<Context>,
    health: Health,
    phase: watch::Sender<Phase>,
    listeners: Vec<JoinHandle<()>>,
    drain_timeout: Duration,
}

impl Server {
    /// Opens the listeners, recovers, and returns when the node serves. Logging is the caller's: see
    /// [`crate::logging::init`].
    ///
    /// # Errors
    /// See [`ServeError`]. Nothing is left running then.
    pub async fn start(config: Config) -> Result<Running, ServeError> {
        start(config, None).await
    }

    /// The same, with log and snapshots on a disk of the caller's: for tests with disks that fail.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_on(config: Config, disk: Arc<dyn Disk>) -> Result<Running, ServeError> {
        start(config, Some(disk)).await
    }
}

async fn start(config: Config, disk: Option<Arc<dyn Disk>>) -> Result<Running, ServeError> {
    config.check()?;
    let tokens = Tokens::new(&config.all_tokens()?);
    let data = Listener::bind("data", config.data_address(), &config.data, Windows::CLIENTS).await?;
    let admin = Listener::bind("admin", config.admin_address(), &config.admin, Windows::CLIENTS).await?;
    let peer = match config.is_clustered() {
        true => Some(Listener::bind("peer", config.peer_address(), &config.peer, Windows::PEERS).await?),
        false => None,
    };
    let (data_address, admin_address) = (data.address(), admin.address());
    let peer_address = peer.as_ref().map(Listener::address);
    if config.node.insecure {
        tracing::warn!(%data_address, %admin_address, "node.insecure is set: TLS and tokens are not enforced");
    }
    let metrics = Arc::new(Metrics::new());
    let about = About {
        node: config.node.name.clone(),
        runtime: Runtime::identity(),
        data_address,
        admin_address,
        started: Instant::now(),
    };
    let groups = Arc::new(Groups::default());
    let limits = config.limits.clone();
    let cluster = match config.is_clustered() {
        true => Some(make_cluster(&config, &metrics, &groups).await?),
        false => None,
    };
    let node = cluster.as_ref().map(Cluster::node);
    let context =
        Context::new(tokens, limits, Arc::clone(&metrics), about, Arc::clone(&groups), node.map(Arc::clone));
    let context = Arc::new(context);
    let health = Health::new().await;
    let phase = watch::Sender::new(Phase::Serving);
    let data = data.serve(routes::data(&context, &health), &metrics, phase.subscribe());
    let admin = admin.serve(routes::admin(&context, &health, node), &metrics, phase.subscribe());
    let mut listeners = Cut(vec![tokio::spawn(data), tokio::spawn(admin)]);
    if let (Some(peer), Some(cluster)) = (peer, &cluster) {
        let router = cluster.service().prepare().into_axum_router();
        listeners.0.push(tokio::spawn(peer.serve(router, &metrics, phase.subscribe())));
    }
    let drain_timeout = Duration::from_millis(config.node.drain_timeout_ms);
    match (&cluster, peer_address) {
        (Some(cluster), Some(peer_address)) => {
            let told = |settings: &ListenerSettings, address: SocketAddr| {
                settings.advertise.clone().unwrap_or_else(|| address.to_string())
            };
            let addresses = Addresses {
                peer: told(&config.peer, peer_address),
                data: told(&config.data, data_address),
                admin: told(&config.admin, admin_address),
            };
            context.identify(cluster::cluster_id(&config.cluster.name));
            cluster.join(addresses).await?;
        }
        _ => {
            let (folder, replica) =
                tokio::task::spawn_blocking(move || recover(&config, disk, metrics)).await??;
            context.identify(cluster::alone_id(&folder));
            groups.insert(replica);
            groups.set_recovered();
        }
    }
    health.set_serving(true).await;
    health.watch(&groups);
    tracing::info!(%data_address, %admin_address, peer_address = peer_address.map(tracing::field::display), "serving");
    let listeners = listeners.keep();
    Ok(Running {
        data_address,
        admin_address,
        peer_address,
        groups,
        cluster,
        context,
        health,
        phase,
        listeners,
        drain_timeout,
    })
}

async fn make_cluster(
    config: &Config,
    metrics: &Arc<Metrics>,
    groups: &Arc<Groups>,
) -> Result<Cluster, ServeError> {
    let (names, id) = (config.certificate_names()?, NodeId(config.node.id));
    let tls = security::peer_tls(&config.peer, names, id)
        .map_err(|source| ServeError::Tls { listener: "peer", source })?;
    let folder = DataFolder::open_node(&config.node.data_folder).map_err(StartError::from)?;
    let parts = Parts {
        folder,
        replica: replica_options(config),
        runtime: make_runtime(config)?,
        metrics: Arc::clone(metrics),
        groups: Arc::clone(groups),
        tls,
    };
    Ok(Cluster::new(config, parts)?)
}

fn make_runtime(config: &Config) -> Result<Runtime, RuntimeError> {
    Runtime::new(RuntimeOptions {
        cache: Some(config.node.data_folder.join(COMPILED_FOLDER)),
        component_bytes_max: config.limits.component_bytes_max,
        compile_time_max: Duration::from_millis(config.limits.compile_ms_max),
        ..RuntimeOptions::default()
    })
}

fn replica_options(config: &Config) -> ReplicaOptions {
    let (storage, limits) = (&config.storage, &config.limits);
    ReplicaOptions {
        segment_bytes: storage.log_segment_bytes,
        entry_bytes_max: storage.entry_bytes_max,
        command_bytes_max: limits.command_bytes_max,
        writes_in_flight_max: limits.writes_in_flight_max,
        write_bytes_in_flight_max: limits.bytes_in_flight_max,
        queries_max: limits.queries_max,
        queries_waiting_max: limits.queries_waiting_max,
        snapshot_log_bytes: storage.snapshot_log_bytes,
        snapshots_kept: storage.snapshots_kept,
        free_disk_bytes_min: storage.free_disk_bytes_min,
        #[cfg(feature = "mutants")]
        mutant: config.mutant,
        ..ReplicaOptions::new(&config.node.data_folder)
    }
}

/// The replica of a node without a cluster, and what its data folder is called.
fn recover(
    config: &Config,
    disk: Option<Arc<dyn Disk>>,
    metrics: Arc<Metrics>,
) -> Result<(String, Replica), ServeError> {
    // A new data folder must be empty when it is made, so it comes before what the runtime puts in there.
    let folder = DataFolder::open(&config.node.data_folder).map_err(StartError::from)?.id().to_owned();
    let (runtime, options) = (make_runtime(config)?, replica_options(config));
    let replica = match disk {
        None => Replica::start(options, runtime, metrics)?,
        Some(disk) => Replica::start_on(options, disk, runtime, metrics)?,
    };
    Ok((folder, replica))
}

impl Running {
    /// Where data is served, with the real port where 0 was configured.
    pub fn data_address(&self) -> SocketAddr {
        self.data_address
    }

    /// Where administration is served, likewise.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Where peers are served; `None` where the node is alone.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.peer_address
    }

    /// The replica of the first group; `None` where the node has none yet.
    pub fn replica(&self) -> Option<Replica> {
        self.groups.first()
    }

    /// The page of metrics.
    pub fn metrics_page(&self) -> String {
        self.context.metrics_page()
    }

    /// Why the replica stopped by itself; `None` while it runs. Such a node serves nothing more: report the reason,
    /// call [`Running::shutdown`] and exit with a failure.
    pub fn fault(&self) -> Option<String> {
        self.groups.fault().borrow().clone()
    }

    /// Waits until the replica stops by itself, and returns why. Never returns while all is well.
    pub async fn wait(&self) -> String {
        let superseded = async {
            match &self.cluster {
                Some(cluster) => cluster.superseded().await,
                None => std::future::pending().await,
            }
        };
        let fault = async {
            match fault_of(self.groups.fault()).await {
                Some(reason) => reason,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            reason = fault => reason,
            reason = superseded => reason,
        }
    }

    /// Stops the node: health says NOT_SERVING, no connection and no write is taken in any more, what was accepted
    /// is answered, and the data folder is closed. Calls that are still open after the drain timeout are cut off.
    pub async fn shutdown(mut self) {
        self.health.set_serving(false).await;
        if let Some(cluster) = &self.cluster {
            cluster.hand_over().await;
        }
        self.context.drain();
        self.phase.send_replace(Phase::Draining);
        self.health.end_watches().await;
        let mut listeners = Cut(std::mem::take(&mut self.listeners));
        if tokio::time::timeout(self.drain_timeout, listeners.wait()).await.is_err() {
            tracing::warn!(timeout = ?self.drain_timeout, "calls are still open: cut off");
            self.phase.send_replace(Phase::Cut);
            listeners.wait().await;
        }
        for replica in self.groups.all() {
            self.groups.remove(replica.group());
            replica.shutdown().await;
        }
        if let Some(cluster) = self.cluster.take() {
            cluster.close().await;
        }
        tracing::info!("stopped");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(Cut(std::mem::take(&mut self.listeners)));
    }
}

/// Why the replica stopped by itself, when it does; `None` when it is gone without a fault. Holds no replica.
async fn fault_of(mut fault: watch::Receiver<Option<String>>) -> Option<String> {
    fault.wait_for(Option::is_some).await.ok()?.clone()
}

/// Listeners that are cut off when this is dropped, with all their connections.
struct Cut(Vec<JoinHandle<()>>);

impl Cut {
    fn keep(mut self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.0)
    }

    async fn wait(&mut self) {
        while let Some(listener) = self.0.last_mut() {
            if let Err(error) = listener.await {
                tracing::error!(%error, "a listener crashed");
            }
            // Its handle must not be asked again.
            self.0.pop();
        }
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}
