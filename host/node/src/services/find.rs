//! Which replica answers a call: the one that has the tenant, or leads the group. Where it is on another node, the caller is
//! told of that.

use mortise_core::ids::{GroupId, TenantId};
use mortise_proto::v1::{ErrorCode, ErrorDetail};

use super::{Context, errors};
use crate::replica::{AdminError, Replica, WriteError};

/// Where a call came in: where another node leads, its caller is told of the same listener there.
#[derive(Clone, Copy)]
pub(super) enum Listener {
    Data,
    Admin,
}

impl Listener {
    fn not_leader(self, error: WriteError) -> ErrorDetail {
        match self {
            Self::Data => error.into(),
            Self::Admin => AdminError::Write(error).into(),
        }
    }
}

impl Context {
    pub(super) fn check_recovered(&self) -> Result<(), ErrorDetail> {
        let recovering =
            || ErrorDetail::new(ErrorCode::NotLeader, "the node is recovering its state").retryable();
        self.groups.is_recovered().then_some(()).ok_or_else(recovering)
    }

    /// The replica that has the tenant of this name, and the tenant's number there. Asks etcd only where this node cannot
    /// know: a name that is new here is either unknown to all, or was created a moment ago.
    pub(super) async fn find_tenant(
        &self,
        name: &str,
        listener: Listener,
    ) -> Result<(Replica, TenantId), ErrorDetail> {
        if let Some(found) = self.find_tenant_here(name, listener) {
            return found;
        }
        let unknown = || errors::no_such_tenant(name);
        let node = self.cluster.as_ref().ok_or_else(unknown)?;
        let record = match node.names().look_up(name).await {
            Ok(record) => record.ok_or_else(unknown)?,
            // Another node may know it, or reach etcd.
            Err(error @ AdminError::Directory(_)) => {
                let what = format!("this node cannot look the tenant {name:?} up: {error}");
                return Err(ErrorDetail::new(ErrorCode::NotLeader, what).retryable());
            }
            Err(error) => return Err(error.into()),
        };
        match self.groups.get(record.group) {
            Some(replica) => match replica.tenant(name) {
                Some(tenant) => Ok((replica, tenant)),
                // It is only being created, or was just dropped.
                None if replica.leads() => Err(unknown()),
                None => Err(listener.not_leader(replica.not_leader())),
            },
            None => Err(listener.not_leader(node.led_elsewhere(record.group))),
        }
    }

    /// The same, as far as this node knows without asking; `None`: it does not.
    pub(super) fn find_tenant_here(
        &self,
        name: &str,
        listener: Listener,
    ) -> Option<Result<(Replica, TenantId), ErrorDetail>> {
        if let Err(recovering) = self.check_recovered() {
            return Some(Err(recovering));
        }
        let here = self.groups.of_tenant(name);
        let entered = self.cluster.as_ref().and_then(|node| node.directory().tenant(name));
        match (here, entered) {
            (Some((replica, tenant)), _) if replica.leads() => Some(Ok((replica, tenant))),
            (Some((replica, tenant)), Some(record)) if record.group == replica.group() => {
                Some(Ok((replica, tenant)))
            }
            // What leads here would have it by now, and the directory is behind.
            (_, Some(record)) => match self.groups.get(record.group) {
                Some(replica) if replica.leads() => None,
                Some(replica) => Some(Err(listener.not_leader(replica.not_leader()))),
                None => {
                    let node = self.cluster.as_ref()?;
                    Some(Err(listener.not_leader(node.led_elsewhere(record.group))))
                }
            },
            // A follower's: its leader knows whether that is still so.
            (Some((replica, tenant)), None) => Some(Ok((replica, tenant))),
            (None, None) => None,
        }
    }

    /// The group that is meant by a number in a request, where 0 is the only one of `all`.
    fn meant(&self, group: u64, mut all: Vec<GroupId>) -> Result<GroupId, ErrorDetail> {
        all.sort_unstable();
        all.dedup();
        match (group, all.as_slice()) {
            (0, [only]) => Ok(*only),
            (0, []) => {
                let what = "there is no group yet: create one with `mortise group create`";
                Err(ErrorDetail::new(ErrorCode::NotFound, what))
            }
            (0, several) => {
                let numbers: Vec<String> = several.iter().map(ToString::to_string).collect();
                let what = format!("there are the groups {}: say which one is meant", numbers.join(", "));
                let groups = several.iter().map(|group| group.0).collect();
                Err(ErrorDetail { groups, ..ErrorDetail::new(ErrorCode::Invalid, what) })
            }
            (number, _) => Ok(GroupId(number)),
        }
    }

    /// This node's replica of a group; 0: of the only one it has.
    pub(super) fn find_replica(&self, group: u64) -> Result<Replica, ErrorDetail> {
        self.check_recovered()?;
        let group = self.meant(group, self.groups.numbers())?;
        let what = || format!("this node has no replica of group {group}: see `mortise group list`");
        self.groups.get(group).ok_or_else(|| ErrorDetail::new(ErrorCode::NotFound, what()))
    }

    /// The replica that leads a group; 0: the only one of the cluster.
    pub(super) async fn find_leading(&self, group: u64) -> Result<Replica, ErrorDetail> {
        self.check_recovered()?;
        let mut all = self.groups.numbers();
        all.extend(self.cluster.iter().flat_map(|node| node.directory().groups()));
        let group = self.meant(group, all)?;
        let error = match (self.groups.get(group), &self.cluster) {
            (Some(replica), _) if replica.leads() => return Ok(replica),
            (Some(replica), _) => replica.not_leader(),
            (None, Some(node)) => node.leader_elsewhere(group).await?,
            (None, None) => {
                let what =
                    format!("there is no group {group}: this node is in no cluster, and has one group");
                return Err(ErrorDetail::new(ErrorCode::NotFound, what));
            }
        };
        Err(Listener::Admin.not_leader(error))
    }

    /// The replica that leads the group of a tenant: others may not know the newest.
    pub(super) async fn find_leading_of(&self, tenant: &str) -> Result<Replica, ErrorDetail> {
        let (replica, _) = self.find_tenant(tenant, Listener::Admin).await?;
        if replica.leads() { Ok(replica) } else { Err(Listener::Admin.not_leader(replica.not_leader())) }
    }
}
