//! The cluster service's messages as this library's types.

use mortise_proto::v1;

use super::types::{
    ClusterNode, ClusterStatus, GroupInfo, GroupMember, GroupStatus, LinkReport, MemberReport,
};

pub(super) fn group(group: v1::Group) -> GroupInfo {
    let member = |member: v1::GroupMember| GroupMember {
        node: member.node,
        learner: member.learner,
        incarnation: member.incarnation,
    };
    GroupInfo {
        group: group.group,
        epoch: group.epoch,
        generation: group.generation,
        leader: (group.leader != 0).then_some(group.leader),
        min_isr: group.min_isr,
        members: group.members.into_iter().map(member).collect(),
        isr: group.isr,
        elr: group.elr,
    }
}

pub(super) fn status(status: v1::ClusterStatusResponse) -> ClusterStatus {
    let groups = status.groups.into_iter().map(|told| GroupStatus {
        record: group(told.record.unwrap_or_default()),
        members: told.members.into_iter().map(report).collect(),
    });
    let nodes = status.nodes.into_iter().map(|node| ClusterNode {
        node: node.node,
        live: node.live,
        peer_address: node.peer_address,
        data_address: node.data_address,
        admin_address: node.admin_address,
    });
    ClusterStatus {
        node: status.node,
        groups: groups.collect(),
        nodes: nodes.collect(),
        etcd_problem: status.etcd_problem,
    }
}

fn report(report: v1::MemberReport) -> MemberReport {
    let link = |link: v1::LinkReport| LinkReport {
        peer: link.peer,
        state: link.state,
        round_trip_us: link.round_trip_us,
        redials: link.redials,
        last_error: link.last_error,
    };
    MemberReport {
        node: report.node,
        error: report.error,
        role: report.role,
        serving: report.serving,
        epoch: report.epoch,
        generation: report.generation,
        last_index: report.last_index,
        durable_index: report.durable_index,
        commit_index: report.commit_index,
        applied_index: report.applied_index,
        effect_digest: report.effect_digest,
        digest_index: report.digest_index,
        frozen: report.frozen,
        quarantined_index: report.quarantined_index,
        links: report.links.into_iter().map(link).collect(),
    }
}
