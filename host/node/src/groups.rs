//! The groups that this node has a replica of, and what it knows of the nodes where the others are.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

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

    /// The replica of the group that is meant where none is named: that with the lowest number.
    pub(crate) fn first(&self) -> Option<Replica> {
        self.replicas.read().unwrap_or_else(PoisonError::into_inner).values().next().cloned()
    }

    /// The replica that has the tenant of this name, and the tenant's number there.
    pub(crate) fn of_tenant(&self, name: &str) -> Option<(Replica, TenantId)> {
        let replicas = self.replicas.read().unwrap_or_else(PoisonError::into_inner);
        replicas.values().find_map(|replica| replica.tenant(name).map(|tenant| (replica.clone(), tenant)))
    }

    /// A replica that does not lead, and so may not know of a tenant that its leader knows.
    pub(crate) fn behind(&self) -> Option<Replica> {
        let replicas = self.replicas.read().unwrap_or_else(PoisonError::into_inner);
        replicas.values().find(|replica| !replica.leads()).cloned()
    }
}

/// Where the nodes of the cluster serve, as they told. Cheap to clone; all clones show the same.
#[derive(Clone, Default)]
pub(crate) struct Directory(Arc<RwLock<BTreeMap<NodeId, Leader>>>);

impl Directory {
    /// Replaces all of it.
    pub(crate) fn replace(&self, nodes: BTreeMap<NodeId, Leader>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = nodes;
    }

    /// Where that node serves; without addresses where it never told.
    pub(crate) fn find(&self, node: NodeId) -> Leader {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&node).cloned();
        known.unwrap_or(Leader { node, data: String::new(), admin: String::new() })
    }
}
