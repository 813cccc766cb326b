//! The node among others: registered in etcd, linked to its peers, with a replica of each group that lists it.
//!
//! ```text
//!   etcd ◀──▶ Coordinator ──changes──▶ housekeeping ──▶ replicas: started, told, stopped
//!                  ▲                        └─────────▶ links and addresses of the nodes
//!                  └─ records, swaps ─┐
//!   peers ◀─▶ Peers ◀─▶ MemberOutside │ Local ◀─▶ replicas
//! ```
//! A group's data lies in a folder of its own, `groups/NUMBER`, below the node's.

mod housekeeping;
mod local;
mod member;
mod memory;
mod operations;
mod register;
mod tenants;
mod verify;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use mortise_coordination::{
    Addresses, Coordination, CoordinationError, Coordinator, Etcd, Interest, SessionState,
};
use mortise_core::group::{BootId, NodeId};
use mortise_core::ids::GroupId;
use mortise_core::replica::OperatorCommand;
use mortise_peer::{Identity, Local, Options as PeerOptions, Peers, Tls};
use mortise_runtime::Runtime;
use mortise_storage::DataFolder;
use tokio::task::JoinHandle;
use tonic::service::Routes;

use self::memory::Remembered;
use self::tenants::Names;
use crate::config::{ClusterSettings, Config, ConfigError};
use crate::groups::{Directory, Groups};
use crate::metrics::Metrics;
use crate::replica::{Inbox, ReplicaOptions, StartError, Times};

pub(crate) use self::operations::{GroupInfo, MemberInfo, OperationError};
pub use self::verify::{NodeReport, verify};

/// How long a stop waits for a leadership to be handed over.
const HAND_OVER_TIME_MAX: Duration = Duration::from_secs(3);

/// Why a node could not join its cluster.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Its folder cannot be used.
    #[error("{error}{advice}", error = .0, advice = .0.advice(false))]
    Start(#[from] StartError),
    /// etcd does not let it in, or what it keeps there contradicts it.
    #[error(transparent)]
    Coordination(#[from] CoordinationError),
}

/// The node, for all tasks.
pub(crate) struct Node {
    identity: Identity,
    /// Its folder's number.
    storage: u128,
    groups: Arc<Groups>,
    directory: Directory,
    names: Arc<Names>,
    coordinator: Arc<dyn Coordinator>,
    peers: Peers,
    /// Where each replica hears of things. A replica that starts has one before it is among the groups.
    inboxes: RwLock<BTreeMap<GroupId, Inbox>>,
    remembered: Mutex<Remembered>,
    folder: DataFolder,
    times: Times,
    /// How often the node counts in its folder.
    count_every: Duration,
    /// Where some nodes are reached otherwise than they advertise.
    detours: BTreeMap<NodeId, String>,
    /// What every replica is started with, but for its folder.
    replica: ReplicaOptions,
    runtime: Runtime,
    metrics: Arc<Metrics>,
    registered: OnceLock<register::Registered>,
}

impl Node {
    fn inbox(&self, group: GroupId) -> Option<Inbox> {
        self.inboxes.read().unwrap_or_else(PoisonError::into_inner).get(&group).cloned()
    }

    fn group_folder(&self, group: GroupId) -> PathBuf {
        self.folder.path().join(mortise_storage::folder::GROUPS_FOLDER).join(format!("{:04}", group.0))
    }

    /// Changes what is remembered, durably.
    fn remember(&self, change: impl FnOnce(&mut Remembered)) -> Result<(), StartError> {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = remembered.clone();
        change(&mut next);
        next.write(&self.folder.disk()).map_err(StartError::Remembered)?;
        *remembered = next;
        Ok(())
    }
}

/// A node's membership in its cluster, as long as it runs.
pub(crate) struct Cluster {
    node: Arc<Node>,
    /// Housekeeping, the keeper of names, and the count.
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// What a cluster's node is made of.
pub(crate) struct Parts {
    pub(crate) folder: DataFolder,
    pub(crate) replica: ReplicaOptions,
    pub(crate) runtime: Runtime,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) groups: Arc<Groups>,
    /// How peers are called under TLS.
    pub(crate) tls: Option<Tls>,
}

impl Cluster {
    /// Makes the node. It joins with [`Cluster::join`]; peers may call it before.
    pub(crate) fn new(config: &Config, parts: Parts) -> Result<Self, JoinError> {
        let Parts { folder, replica, runtime, metrics, groups, tls } = parts;
        let settings = &config.cluster;
        let remembered = Remembered::read(&folder.disk()).map_err(StartError::Remembered)?;
        let etcd = Etcd::new(settings.etcd()?)?;
        let coordination = mortise_coordination::Config {
            ttl_seconds: settings.session_ttl_seconds,
            ..mortise_coordination::Config::new(settings.name.clone())
        };
        let coordinator: Arc<dyn Coordinator> =
            Arc::new(Coordination::start(coordination, remembered.known, etcd)?);
        let identity = Identity { cluster: cluster_id(&settings.name), node: NodeId(config.node.id) };
        let storage = u128::from_str_radix(folder.id(), 16).unwrap_or_default();
        let directory = Directory::default();
        let node = Arc::new_cyclic(|node: &Weak<Node>| Node {
            identity,
            storage,
            groups,
            names: Arc::new(Names::new(coordinator.clone(), directory.clone())),
            directory,
            coordinator,
            peers: Peers::new(identity, PeerOptions::default(), tls, node.clone() as Weak<dyn Local>),
            inboxes: RwLock::default(),
            remembered: Mutex::new(remembered),
            folder,
            times: times(settings),
            count_every: Duration::from_secs(settings.folder_count_seconds.into()),
            detours: detours(settings),
            replica,
            runtime,
            metrics,
            registered: OnceLock::new(),
        });
        Ok(Self { node, tasks: Mutex::default() })
    }

    /// What peers call.
    pub(crate) fn service(&self) -> Routes {
        self.node.peers.service()
    }

    /// The node.
    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Registers the node, starts the replicas that it has to have, and goes on keeping house. Waits for etcd, because it
    /// alone knows whether the node's folder is the newest.
    pub(crate) async fn join(&self, addresses: Addresses) -> Result<(), JoinError> {
        let node = &self.node;
        let (coordinator, id) = (node.coordinator.as_ref(), node.identity.node);
        let before = node.remembered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let registration = register::Registration {
            coordinator,
            node: id,
            storage: node.storage,
            before: before.boot,
            count: before.count,
            addresses,
            note: &|boot| node.remember(|remembered| (remembered.boot, remembered.count) = (boot, 0)),
        };
        let registered = register::register(&registration).await?;
        // The first and only time.
        let _ = node.registered.set(registered);
        coordinator.open_session(id, registered.boot)?;
        self.wait_for_listing().await;
        let known = coordinator.known();
        node.remember(|remembered| remembered.known = known)?;
        let changes = coordinator.changes(Interest::All);
        let mut housekeeping = housekeeping::Housekeeping::new(node.clone(), changes);
        housekeeping.begin().await;
        let names = node.names.clone().keep(node.groups.clone(), id);
        let counting = count(node.clone(), registered.boot);
        let tasks = vec![tokio::spawn(housekeeping.run()), tokio::spawn(names), tokio::spawn(counting)];
        *self.tasks.lock().unwrap_or_else(PoisonError::into_inner) = tasks;
        Ok(())
    }

    async fn wait_for_listing(&self) {
        while let Err(error) = self.node.coordinator.ready().await {
            tracing::warn!(%error, "waiting for etcd's listing");
        }
    }

    /// Why the node must stop by itself: a newer process runs under its name.
    pub(crate) async fn superseded(&self) -> String {
        let mut changes = self.node.coordinator.changes(Interest::Group(GroupId(0)));
        loop {
            if let SessionState::Superseded(boot) = self.node.coordinator.session() {
                return format!("a newer process (boot {boot}) runs under this node's name");
            }
            changes.next().await;
        }
    }

    /// Hands over every leadership of this node to another in-sync member, where there is one, so that nobody waits until
    /// its silence is noticed.
    pub(crate) async fn hand_over(&self) {
        let leading = self.node.groups.all().into_iter().filter(|replica| replica.leads());
        futures::future::join_all(leading.map(|replica| async move {
            let record = replica.view().await.and_then(|view| view.record)?;
            let to = record.isr.into_iter().find(|node| *node != self.node.identity.node)?;
            let handed = replica.operate(OperatorCommand::Transfer(to));
            match tokio::time::timeout(HAND_OVER_TIME_MAX, handed).await {
                Ok(Ok(())) => tracing::info!(group = %replica.group(), %to, "handed the leadership over"),
                Ok(Err(why)) => {
                    tracing::info!(group = %replica.group(), why, "the leadership was not handed over")
                }
                Err(_) => {
                    tracing::info!(group = %replica.group(), "the leadership was not handed over in time")
                }
            }
            Some(())
        }))
        .await;
    }

    /// Ends links and session, so that nobody waits for their timeouts, after the replicas were stopped.
    pub(crate) async fn close(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            task.abort();
            // It ends by being aborted, which is an error that says nothing.
            let _ = task.await;
        }
        if let Some(known) = self.node.coordinator.known()
            && let Err(error) = self.node.remember(|remembered| remembered.known = Some(known))
        {
            tracing::warn!(%error, "note what is known of etcd");
        }
        self.node.peers.close().await;
        if tokio::time::timeout(Duration::from_secs(2), self.node.coordinator.close()).await.is_err() {
            tracing::debug!("etcd did not end the session in time: it runs out by itself");
        }
    }
}

/// Counts on for ever, so that an old copy of the folder is known to be one.
async fn count(node: Arc<Node>, boot: BootId) {
    loop {
        tokio::time::sleep(node.count_every).await;
        let note = || {
            let mut counted = 0;
            node.remember(|remembered| {
                remembered.count += 1;
                counted = remembered.count;
            })?;
            Ok(counted)
        };
        if let Err(error) = register::count(node.coordinator.as_ref(), node.identity.node, boot, note).await {
            tracing::debug!(%error, "count in the folder and in etcd");
        }
    }
}

/// Clusters are told apart by their names; peers and clients compare this number of it.
pub(crate) fn cluster_id(name: &str) -> u64 {
    derive_number("mortise 2026-11 cluster id", &[name.as_bytes()])
}

/// The same of a node without a cluster: its data folder's.
pub(crate) fn alone_id(folder: &str) -> u64 {
    derive_number("mortise 2026-11 node alone", &[folder.as_bytes()])
}

/// A number that follows from `parts`, and for another purpose from none of them.
fn derive_number(purpose: &str, parts: &[&[u8]]) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key(purpose);
    parts.iter().for_each(|part| _ = hasher.update(part));
    let mut number = [0; 8];
    hasher.finalize_xof().fill(&mut number);
    u64::from_le_bytes(number)
}

fn detours(settings: &ClusterSettings) -> BTreeMap<NodeId, String> {
    let numbered = settings.peer_addresses.iter();
    numbered.filter_map(|(node, address)| Some((NodeId(node.parse().ok()?), address.clone()))).collect()
}

fn times(settings: &ClusterSettings) -> Times {
    const MS: u64 = 1000;
    Times {
        beacon: settings.beacon_ms * MS,
        shrink_after: settings.shrink_after_ms * MS,
        grace: settings.grace_ms * MS,
    }
}

impl From<ConfigError> for JoinError {
    fn from(error: ConfigError) -> Self {
        Self::Start(error.into())
    }
}
