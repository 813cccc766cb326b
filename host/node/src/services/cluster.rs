//! The service Cluster.

use std::sync::Arc;

use futures::{StreamExt, stream};
use mortise_core::group::{GroupRecord, MemberKind, NodeId};
use mortise_core::ids::GroupId;
use mortise_core::replica::{OperatorCommand, RoleKind};
use mortise_peer::{LinkStatus, MemberStatus};
use mortise_proto::v1::cluster_server::Cluster;
use mortise_proto::v1::{self, ErrorCode, ErrorDetail};
use tonic::{Request, Response, Status};

use crate::cluster::{GroupInfo, MemberInfo, Node, OperationError};
use crate::replica::AdminError;

/// Groups whose members are asked at once how they are: where a node hangs, each waits for it.
const GROUPS_ASKED_AT_ONCE: usize = 16;

pub(super) struct ClusterService {
    node: Arc<Node>,
}

impl ClusterService {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    async fn lead(&self, group: u64, command: OperatorCommand) -> Result<(), ErrorDetail> {
        Ok(self.node.operate(GroupId(group), command, true).await?)
    }
}

impl From<OperationError> for ErrorDetail {
    fn from(error: OperationError) -> Self {
        let message = error.to_string();
        match error {
            OperationError::Refused(_) => Self::new(ErrorCode::FailedPrecondition, message),
            OperationError::NoSuchGroup(_) => Self::new(ErrorCode::NotFound, message),
            OperationError::Exists(_) => Self::new(ErrorCode::AlreadyExists, message),
            OperationError::NotLeader(error) => AdminError::Write(error).into(),
            OperationError::Coordination(_) => Self::new(ErrorCode::FailedPrecondition, message).retryable(),
            OperationError::Unknown => {
                Self::new(ErrorCode::FailedPrecondition, message).retryable().effect_unknown()
            }
        }
    }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn create_group(
        &self,
        request: Request<v1::CreateGroupRequest>,
    ) -> Result<Response<v1::CreateGroupResponse>, Status> {
        let v1::CreateGroupRequest { group, nodes, min_isr } = request.into_inner();
        let nodes = nodes.into_iter().map(NodeId).collect();
        let created = self.node.create_group(GroupId(group), &nodes, min_isr).await;
        let record = created.map_err(ErrorDetail::from)?;
        Ok(Response::new(v1::CreateGroupResponse { group: Some(to_group(GroupId(group), &record)) }))
    }

    async fn list_groups(
        &self,
        _: Request<v1::ListGroupsRequest>,
    ) -> Result<Response<v1::ListGroupsResponse>, Status> {
        let (groups, _) = self.node.look();
        let groups = groups.iter().map(|(group, record)| to_group(*group, record)).collect();
        Ok(Response::new(v1::ListGroupsResponse { groups }))
    }

    async fn cluster_status(
        &self,
        request: Request<v1::ClusterStatusRequest>,
    ) -> Result<Response<v1::ClusterStatusResponse>, Status> {
        let wanted = request.into_inner().group;
        let (groups, nodes) = self.node.look();
        let wanted = groups.into_iter().filter(|(group, _)| wanted == 0 || group.0 == wanted);
        let asked = wanted.map(|(group, record)| self.node.ask_members(group, record));
        let told = stream::iter(asked).buffered(GROUPS_ASKED_AT_ONCE).map(to_group_status).collect().await;
        let nodes = nodes.into_iter().map(|(node, state)| {
            let addresses = state.addresses().cloned().unwrap_or_default();
            v1::NodeStatus {
                node: node.0,
                live: state.session.is_some(),
                peer_address: addresses.peer,
                data_address: addresses.data,
                admin_address: addresses.admin,
            }
        });
        Ok(Response::new(v1::ClusterStatusResponse {
            node: self.node.id().0,
            groups: told,
            nodes: nodes.collect(),
            etcd_problem: self.node.etcd_problem().unwrap_or_default(),
        }))
    }

    async fn transfer_leadership(
        &self,
        request: Request<v1::TransferLeadershipRequest>,
    ) -> Result<Response<v1::TransferLeadershipResponse>, Status> {
        let v1::TransferLeadershipRequest { group, node } = request.into_inner();
        self.lead(group, OperatorCommand::Transfer(NodeId(node))).await?;
        Ok(Response::new(v1::TransferLeadershipResponse {}))
    }

    async fn add_member(
        &self,
        request: Request<v1::AddMemberRequest>,
    ) -> Result<Response<v1::AddMemberResponse>, Status> {
        let v1::AddMemberRequest { group, node } = request.into_inner();
        self.lead(group, OperatorCommand::Add(NodeId(node))).await?;
        Ok(Response::new(v1::AddMemberResponse {}))
    }

    async fn remove_member(
        &self,
        request: Request<v1::RemoveMemberRequest>,
    ) -> Result<Response<v1::RemoveMemberResponse>, Status> {
        let v1::RemoveMemberRequest { group, node } = request.into_inner();
        self.lead(group, OperatorCommand::Remove(NodeId(node))).await?;
        Ok(Response::new(v1::RemoveMemberResponse {}))
    }

    async fn set_min_isr(
        &self,
        request: Request<v1::SetMinIsrRequest>,
    ) -> Result<Response<v1::SetMinIsrResponse>, Status> {
        let v1::SetMinIsrRequest { group, min_isr } = request.into_inner();
        self.lead(group, OperatorCommand::SetMinIsr(min_isr)).await?;
        Ok(Response::new(v1::SetMinIsrResponse {}))
    }

    async fn unclean_start(
        &self,
        request: Request<v1::UncleanStartRequest>,
    ) -> Result<Response<v1::UncleanStartResponse>, Status> {
        let group = GroupId(request.into_inner().group);
        let done = self.node.operate(group, OperatorCommand::UncleanStart, false).await;
        done.map_err(ErrorDetail::from)?;
        Ok(Response::new(v1::UncleanStartResponse {}))
    }

    async fn accept_etcd(
        &self,
        request: Request<v1::AcceptEtcdRequest>,
    ) -> Result<Response<v1::AcceptEtcdResponse>, Status> {
        let v1::AcceptEtcdRequest { group, gone } = request.into_inner();
        let group = (group != 0).then_some(GroupId(group));
        let gone = gone.into_iter().map(NodeId).collect();
        self.node.accept_etcd(group, gone).await.map_err(ErrorDetail::from)?;
        Ok(Response::new(v1::AcceptEtcdResponse {}))
    }
}

fn to_group(group: GroupId, record: &GroupRecord) -> v1::Group {
    let members = record.members.iter().map(|member| v1::GroupMember {
        node: member.node.0,
        learner: member.kind == MemberKind::Learner,
        incarnation: format!("{:016x}", member.incarnation.0),
    });
    v1::Group {
        group: group.0,
        epoch: record.epoch.0,
        generation: record.generation.0,
        leader: record.leader.map_or(0, |leader| leader.0),
        min_isr: record.min_isr,
        members: members.collect(),
        isr: record.isr.iter().map(|node| node.0).collect(),
        elr: record.elr.iter().map(|node| node.0).collect(),
    }
}

fn to_group_status(info: GroupInfo) -> v1::GroupStatus {
    let record = to_group(info.group, &info.record);
    let members = info.members.into_iter().map(|MemberInfo { node, status }| match status {
        Ok(status) => to_report(status),
        Err(error) => v1::MemberReport { node: node.0, error, ..v1::MemberReport::default() },
    });
    v1::GroupStatus { record: Some(record), members: members.collect() }
}

fn to_report(status: MemberStatus) -> v1::MemberReport {
    let role = match status.role {
        RoleKind::Leader => "leader",
        RoleKind::Follower => "follower",
        RoleKind::Halted => "stopped",
    };
    v1::MemberReport {
        node: status.node.0,
        error: String::new(),
        role: role.into(),
        serving: status.serving,
        epoch: status.epoch.0,
        generation: status.generation.0,
        last_index: status.last.index.0,
        durable_index: status.durable.0,
        commit_index: status.commit.0,
        applied_index: status.applied.0,
        effect_digest: status.digest.map(|(_, digest)| digest.to_string()).unwrap_or_default(),
        digest_index: status.digest.map_or(0, |(index, _)| index.0),
        frozen: status.frozen,
        quarantined_index: status.quarantined.map(|index| index.0),
        links: status.links.into_iter().map(to_link).collect(),
    }
}

fn to_link(link: LinkStatus) -> v1::LinkReport {
    v1::LinkReport {
        peer: link.peer.0,
        state: link.state.name().into(),
        round_trip_us: link.round_trip.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
        redials: link.redials,
        last_error: link.last_error,
    }
}
