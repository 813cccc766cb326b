//! A cluster's administration: its groups, their members, and who leads them. Needs a token with the scope `admin`
//! where the nodes have tokens.

mod convert;
mod types;

use mortise_proto::v1;
use mortise_proto::v1::cluster_client::ClusterClient as Grpc;
use tonic::transport::Channel;

use crate::connection::{Connection, MESSAGE_BYTES_MAX, Repeat};
use crate::error::ClientError;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::options::Options;
use crate::routes::Subject;
pub use types::{
    ClusterNode, ClusterStatus, GroupInfo, GroupMember, GroupStatus, LinkReport, MemberAnswer, MemberReport,
    MemberStatus,
};

/// A connection to the cluster service of some node, and to that of a group's leader for what only it can do. Cheap to
/// clone.
///
/// Its calls end after the `timeout` of the options. A change whose answer was lost is not repeated; then
/// [`ClientError::took_effect`] says unknown. All errors are the nodes' or the transport's; see [`ErrorKind`]. A node
/// that is in no cluster has no such service: [`ErrorKind::Protocol`].
#[derive(Clone, Debug)]
pub struct ClusterClient {
    connection: Connection,
}

impl ClusterClient {
    /// Connects to the first of the admin endpoints where a node answers.
    ///
    /// # Errors
    /// As [`Client::connect`](crate::Client::connect).
    pub async fn connect(options: &Options) -> Result<Self, ClientError> {
        Ok(Self { connection: Connection::open(options, &options.admin_endpoints).await? })
    }

    /// Creates a group on the nodes named, which need not be up. `min_isr`: how many in-sync members a commit needs;
    /// `None`: more than half of the nodes.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`], [`ErrorKind::FailedPrecondition`] where it cannot be, and those of a call.
    pub async fn create_group(
        &self,
        group: u64,
        nodes: &[u64],
        min_isr: Option<u32>,
    ) -> Result<GroupInfo, ClientError> {
        let request =
            v1::CreateGroupRequest { group, nodes: nodes.to_vec(), min_isr: min_isr.unwrap_or_default() };
        let call = |channel, request| async move { cluster(channel).create_group(request).await };
        let response = self.connection.call(Subject::Node, Repeat::IfWithoutEffect, request, call).await?;
        convert::group(response.group)
    }

    /// All groups, as etcd's records have them.
    ///
    /// # Errors
    /// Those of a call.
    pub async fn list_groups(&self) -> Result<Vec<GroupInfo>, ClientError> {
        let call = |channel, request| async move { cluster(channel).list_groups(request).await };
        let request = v1::ListGroupsRequest {};
        let response = self.connection.call(Subject::Node, Repeat::Freely, request, call).await?;
        response.groups.into_iter().map(|group| convert::group(Some(group))).collect()
    }

    /// Groups with every member as it tells itself, and all nodes. `group`: that one only.
    ///
    /// # Errors
    /// Those of a call.
    pub async fn status(&self, group: Option<u64>) -> Result<ClusterStatus, ClientError> {
        let call = |channel, request| async move { cluster(channel).cluster_status(request).await };
        let request = v1::ClusterStatusRequest { group: group.unwrap_or_default() };
        convert::status(self.connection.call(Subject::Node, Repeat::Freely, request, call).await?)
    }

    /// Hands a group's leadership to one of its in-sync members.
    ///
    /// # Errors
    /// [`ErrorKind::FailedPrecondition`] where the node cannot lead, [`ErrorKind::NotFound`] of the group, and those
    /// of a call.
    pub async fn transfer(&self, group: u64, node: u64) -> Result<(), ClientError> {
        let call = |channel, request| async move { cluster(channel).transfer_leadership(request).await };
        let request = v1::TransferLeadershipRequest { group, node };
        self.lead(group, request, call).await
    }

    /// Makes a node a member: a learner first, a voter as soon as it is in sync.
    ///
    /// # Errors
    /// As [`ClusterClient::transfer`].
    pub async fn add(&self, group: u64, node: u64) -> Result<(), ClientError> {
        let call = |channel, request| async move { cluster(channel).add_member(request).await };
        self.lead(group, v1::AddMemberRequest { group, node }, call).await
    }

    /// Takes a member out.
    ///
    /// # Errors
    /// As [`ClusterClient::transfer`].
    pub async fn remove(&self, group: u64, node: u64) -> Result<(), ClientError> {
        let call = |channel, request| async move { cluster(channel).remove_member(request).await };
        self.lead(group, v1::RemoveMemberRequest { group, node }, call).await
    }

    /// Sets how many in-sync members a commit needs.
    ///
    /// # Errors
    /// As [`ClusterClient::transfer`].
    pub async fn set_min_isr(&self, group: u64, min_isr: u32) -> Result<(), ClientError> {
        let call = |channel, request| async move { cluster(channel).set_min_isr(request).await };
        self.lead(group, v1::SetMinIsrRequest { group, min_isr }, call).await
    }

    /// Starts a group with what the node at the only admin endpoint has, although others that are gone for good may
    /// have had more: acknowledged writes can be lost.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where several admin endpoints are given: the node must be chosen.
    /// [`ErrorKind::FailedPrecondition`] where the group can be had without it, and those of a call.
    pub async fn unclean_start(&self, group: u64) -> Result<(), ClientError> {
        self.connection.only_node()?;
        let call = |channel, request| async move { cluster(channel).unclean_start(request).await };
        let request = v1::UncleanStartRequest { group };
        self.connection.call(Subject::Node, Repeat::IfWithoutEffect, request, call).await?;
        Ok(())
    }

    /// Accepts an etcd that was wiped, restored or exchanged: the node at the only admin endpoint builds a new history
    /// of the group on the newest record that any member remembers. `group`: `None` accepts etcd for the node, and
    /// starts no group. `gone`: members that are gone for good, with what they had.
    ///
    /// # Errors
    /// As [`ClusterClient::unclean_start`].
    pub async fn accept_etcd(&self, group: Option<u64>, gone: &[u64]) -> Result<(), ClientError> {
        self.connection.only_node()?;
        let call = |channel, request| async move { cluster(channel).accept_etcd(request).await };
        let request = v1::AcceptEtcdRequest { group: group.unwrap_or_default(), gone: gone.to_vec() };
        self.connection.call(Subject::Node, Repeat::IfWithoutEffect, request, call).await?;
        Ok(())
    }

    /// A change that only the group's leader can make.
    async fn lead<M, R, F>(
        &self,
        group: u64,
        request: M,
        call: impl FnMut(Channel, tonic::Request<M>) -> F,
    ) -> Result<(), ClientError>
    where
        M: Clone,
        F: Future<Output = Result<tonic::Response<R>, tonic::Status>>,
    {
        self.connection.call(Subject::Group(group), Repeat::IfWithoutEffect, request, call).await?;
        Ok(())
    }
}

fn cluster(channel: Channel) -> Grpc<Channel> {
    Grpc::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}
