//! The groups that this node has a replica of, and what it knows of the others: where they are led, and which tenants they
//! have.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use mortise_coordination::{TenantRecord, Tenants, record_of};
use mortise_core::group::NodeId;
use mortise_core::ids::{GroupId, TenantId};
use tokio::sync::watch;

use crate::replica::{Leader, Replica};

/// The replicas of this node. Shared by all who use them.
#[derive(Default)]
pub(crate) struct Groups {
    replicas: RwLock<BTreeMap<GroupId, Replica>>,
    /// Set when the node has recovered what it had: from then on what is not here is nowhere.
    recovered: AtomicBool,
    /// Why a replica stopped by itself.
    fault: watch::Sender<Option<String>>,
}

impl Groups {
    /// From here on calls reach replicas.
    pub(crate) fn set_recovered(&self) {
        self.recovered.store(true, Ordering::Release);
    }

    /// Whether calls reach replicas.
    pub(crate) fn is_recovered(&self) -> bool {
        self.recovered.load(Ordering::Acquire)
    }

    /// A replica runs.
    pub(crate) fn insert(&self, replica: Replica) {
        let (fault, mut its) = (self.fault.clone(), replica.fault());
        tokio::spawn(async move {
            // A replica that is gone without a fault was told to stop.
            if let Ok(reason) = its.wait_for(Option::is_some).await {
                let reason = reason.clone();
                fault.send_if_modified(|fault| fault.is_none() && std::mem::replace(fault, reason).is_none());
            }
        });
        let mut replicas = self.replicas.write().unwrap_or_else(PoisonError::into_inner);
        replicas.insert(replica.group(), replica);
    }

    /// Why a replica stopped by itself, as soon as one did.
    pub(crate) fn fault(&self) -> watch::Receiver<Option<String>> {
        self.fault.subscribe()
    }

    /// A replica is to run no more.
    pub(crate) fn remove(&self, group: GroupId) -> Option<Replica> {
        self.replicas.write().unwrap_or_else(PoisonError::into_inner).remove(&group)
    }

    /// The replica of a group.
    pub(crate) fn get(&self, group: GroupId) -> Option<Replica> {
        self.replicas.read().unwrap_or_else(PoisonError::into_inner).get(&group).cloned()
    }

    /// All of them, by group.
    pub(crate) fn all(&self) -> Vec<Replica> {
        self.replicas.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Their groups' numbers.
    pub(crate) fn numbers(&self) -> Vec<GroupId> {
        self.replicas.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// The replica of the group with the lowest number.
    pub(crate) fn first(&self) -> Option<Replica> {
        self.replicas.read().unwrap_or_else(PoisonError::into_inner).values().next().cloned()
    }

    /// The replica that has the tenant of this name, and the tenant's number there: the one that leads, where there is one.
    pub(crate) fn of_tenant(&self, name: &str) -> Option<(Replica, TenantId)> {
        let replicas = self.replicas.read().unwrap_or_else(PoisonError::into_inner);
        let having =
            replicas.values().filter_map(|replica| replica.tenant(name).map(|tenant| (replica, tenant)));
        let found = having.max_by_key(|(replica, _)| replica.leads());
        found.map(|(replica, tenant)| (replica.clone(), tenant))
    }
}

/// What etcd says of nodes, groups and tenants, as far as it was told. Cheap to clone; all clones show the same. Always
/// empty at a node that is alone.
#[derive(Clone, Default)]
pub(crate) struct Directory(Arc<RwLock<Told>>);

#[derive(Default)]
struct Told {
    /// Where the nodes serve.
    nodes: BTreeMap<NodeId, Leader>,
    /// Who leads each group; `None`: nobody.
    groups: BTreeMap<GroupId, Option<NodeId>>,
    tenants: Arc<Tenants>,
}

impl Directory {
    fn told(&self) -> RwLockReadGuard<'_, Told> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn told_mut(&self) -> RwLockWriteGuard<'_, Told> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces what is known of nodes.
    pub(crate) fn set_nodes(&self, nodes: BTreeMap<NodeId, Leader>) {
        self.told_mut().nodes = nodes;
    }

    /// Who leads a group. Where its record is gone, the last one that was known stays: nobody gives up data for that.
    pub(crate) fn set_leader(&self, group: GroupId, leader: Option<NodeId>) {
        self.told_mut().groups.insert(group, leader);
    }

    /// Replaces what is known of tenants.
    pub(crate) fn set_tenants(&self, tenants: Arc<Tenants>) {
        self.told_mut().tenants = tenants;
    }

    /// Where that node serves; without addresses where it never told.
    pub(crate) fn node(&self, node: NodeId) -> Leader {
        let known = self.told().nodes.get(&node).cloned();
        known.unwrap_or(Leader { node, data: String::new(), admin: String::new() })
    }

    /// All groups of the cluster.
    pub(crate) fn groups(&self) -> Vec<GroupId> {
        self.told().groups.keys().copied().collect()
    }

    /// The node that leads a group, if one does. `None`: there is no such group.
    pub(crate) fn leader(&self, group: GroupId) -> Option<Option<NodeId>> {
        self.told().groups.get(&group).copied()
    }

    /// What the directory of tenants says of a name.
    pub(crate) fn tenant(&self, name: &str) -> Option<TenantRecord> {
        self.told().tenants.get(name).and_then(record_of).cloned()
    }

    /// The whole directory of tenants.
    pub(crate) fn tenants(&self) -> Arc<Tenants> {
        Arc::clone(&self.told().tenants)
    }
}
