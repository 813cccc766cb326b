//! A cluster's groups: who leads, who is a member, and what operators do about it. Needs a token with the scope `admin`
//! where the nodes have tokens.

mod convert;
mod types;

use mortise_proto::v1;
use mortise_proto::v1::cluster_client::ClusterClient as Grpc;

use crate::connection::{Connection, Repeat};
use crate::error::{ClientError, ErrorKind};
use crate::options::Options;
pub use types::{ClusterNode, ClusterStatus, GroupInfo, GroupMember, GroupStatus, LinkReport, MemberReport};

/// A connection to the cluster service of a node. Cheap to clone. What only a group's leader can do goes to its node.
#[derive(Clone, Debug)]
pub struct ClusterClient {
    connection: Connection,
}

impl ClusterClient {
    /// Connects to a node's admin listener.
    ///
    /// # Errors
    /// As [`Client::connect`](crate::Client::connect).
    pub async fn connect(options: &Options) -> Result<Self, ClientError> {
        Ok(Self { connection: Connection::open(options, &options.admin_endpoint).await? })
    }

    /// Creates a group on nodes that were started at least once. `min_isr` 0: more than half of them.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`], [`ErrorKind::FailedPrecondition`] of unknown nodes, and those of a call.
    pub async fn create_group(
        &self,
        group: u64,
        nodes: &[u64],
        min_isr: u32,
    ) -> Result<GroupInfo, ClientError> {
        let request = v1::CreateGroupRequest { group, nodes: nodes.to_vec(), min_isr };
        let call = |channel, request| async move { Grpc::new(channel).create_group(request).await };
        let response = self.connection.call(Repeat::IfWithoutEffect, request, call).await?;
        let lacking =
            || ClientError::new(ErrorKind::Protocol, "the node's answer has no group").effect_unknown();
        response.group.map(convert::group).ok_or_else(lacking)
    }

    /// All groups, by number.
    ///
    /// # Errors
    /// Those of a call.
    pub async fn list_groups(&self) -> Result<Vec<GroupInfo>, ClientError> {
        let call = |channel, request| async move { Grpc::new(channel).list_groups(request).await };
        let response = self.connection.call(Repeat::Freely, v1::ListGroupsRequest {}, call).await?;
        Ok(response.groups.into_iter().map(convert::group).collect())
    }

    /// Groups with their members as they tell, and all nodes. `group` 0: all groups.
    ///
    /// # Errors
    /// Those of a call.
    pub async fn status(&self, group: u64) -> Result<ClusterStatus, ClientError> {
        let request = v1::ClusterStatusRequest { group };
        let call = |channel, request| async move { Grpc::new(channel).cluster_status(request).await };
        Ok(convert::status(self.connection.call(Repeat::Freely, request, call).await?))
    }

    /// Hands a group's leadership to an in-sync member.
    ///
    /// # Errors
    /// [`ErrorKind::FailedPrecondition`] says why not; and those of a call.
    pub async fn transfer(&self, group: u64, node: u64) -> Result<(), ClientError> {
        let request = v1::TransferLeadershipRequest { group, node };
        let call = |channel, request| async move { Grpc::new(channel).transfer_leadership(request).await };
        self.connection.call(Repeat::IfWithoutEffect, request, call).await.map(drop)
    }

    /// Makes a node a member of a group.
    ///
    /// # Errors
    /// As [`transfer`](Self::transfer).
    pub async fn add(&self, group: u64, node: u64) -> Result<(), ClientError> {
        let request = v1::AddMemberRequest { group, node };
        let call = |channel, request| async move { Grpc::new(channel).add_member(request).await };
        self.connection.call(Repeat::IfWithoutEffect, request, call).await.map(drop)
    }

    /// Takes a node out of a group.
    ///
    /// # Errors
    /// As [`transfer`](Self::transfer).
    pub async fn remove(&self, group: u64, node: u64) -> Result<(), ClientError> {
        let request = v1::RemoveMemberRequest { group, node };
        let call = |channel, request| async move { Grpc::new(channel).remove_member(request).await };
        self.connection.call(Repeat::IfWithoutEffect, request, call).await.map(drop)
    }

    /// Sets how many in-sync members a commit needs.
    ///
    /// # Errors
    /// As [`transfer`](Self::transfer).
    pub async fn set_min_isr(&self, group: u64, min_isr: u32) -> Result<(), ClientError> {
        let request = v1::SetMinIsrRequest { group, min_isr };
        let call = |channel, request| async move { Grpc::new(channel).set_min_isr(request).await };
        self.connection.call(Repeat::IfWithoutEffect, request, call).await.map(drop)
    }

    /// Has the node that is called begin a new history of a group with what it has. Loses acknowledged writes.
    ///
    /// # Errors
    /// As [`transfer`](Self::transfer).
    pub async fn unclean_start(&self, group: u64) -> Result<(), ClientError> {
        let request = v1::UncleanStartRequest { group };
        let call = |channel, request| async move { Grpc::new(channel).unclean_start(request).await };
        self.connection.call(Repeat::IfWithoutEffect, request, call).await.map(drop)
    }

    /// Has the node that is called accept etcd as it is; and, with a group other than 0, begin a new history of it with the
    /// newest record that any member remembers. `gone`: members that are gone for good.
    ///
    /// # Errors
    /// As [`transfer`](Self::transfer).
    pub async fn accept_etcd(&self, group: u64, gone: &[u64]) -> Result<(), ClientError> {
        let request = v1::AcceptEtcdRequest { group, gone: gone.to_vec() };
        let call = |channel, request| async move { Grpc::new(channel).accept_etcd(request).await };
        self.connection.call(Repeat::IfWithoutEffect, request, call).await.map(drop)
    }
}
