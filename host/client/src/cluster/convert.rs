//! The cluster service's messages to this library's types: once, on receipt.

use mortise_proto::v1;

use super::types::{
    ClusterNode, ClusterStatus, GroupInfo, GroupMember, GroupStatus, LinkReport, MemberAnswer, MemberReport,
    MemberStatus,
};
use crate::admin::lacking;
use crate::error::ClientError;

pub(super) fn group(group: Option<v1::Group>) -> Result<GroupInfo, ClientError> {
    let group = group.ok_or_else(|| lacking("group"))?;
    let member = |member: v1::GroupMember| GroupMember {
        node: member.node,
        learner: member.learner,
        incarnation: member.incarnation,
    };
    Ok(GroupInfo {
        group: group.group,
        epoch: group.epoch,
        generation: group.generation,
        leader: Some(group.leader).filter(|leader| *leader != 0),
        min_isr: group.min_isr,
        members: group.members.into_iter().map(member).collect(),
        isr: group.isr,
        elr: group.elr,
    })
}

pub(super) fn status(status: v1::ClusterStatusResponse) -> Result<ClusterStatus, ClientError> {
    let groups = status.groups.into_iter().map(|status| {
        let members = status.members.into_iter().map(member).collect();
        Ok(GroupStatus { record: group(status.record)?, members })
    });
    let node = |node: v1::NodeStatus| ClusterNode {
        node: node.node,
        live: node.live,
        peer_address: node.peer_address,
        data_address: node.data_address,
        admin_address: node.admin_address,
    };
    Ok(ClusterStatus {
        node: status.node,
        groups: groups.collect::<Result<_, ClientError>>()?,
        nodes: status.nodes.into_iter().map(node).collect(),
        etcd_problem: Some(status.etcd_problem).filter(|problem| !problem.is_empty()),
    })
}

fn member(report: v1::MemberReport) -> MemberReport {
    let node = report.node;
    if !report.error.is_empty() {
        return MemberReport { node, answer: MemberAnswer::Failed { error: report.error } };
    }
    let status = MemberStatus {
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
    };
    MemberReport { node, answer: MemberAnswer::Status(status) }
}

fn link(link: v1::LinkReport) -> LinkReport {
    LinkReport {
        peer: link.peer,
        state: link.state,
        round_trip_us: link.round_trip_us,
        redials: link.redials,
        last_error: link.last_error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_arrives_whole_and_is_flat_in_json() {
        let record = v1::Group { group: 3, leader: 0, min_isr: 2, isr: vec![1, 2], ..v1::Group::default() };
        let silent = v1::MemberReport { node: 2, error: "no link".into(), ..v1::MemberReport::default() };
        let well = v1::MemberReport { node: 1, role: "leader".into(), ..v1::MemberReport::default() };
        let told = v1::GroupStatus { record: Some(record), members: vec![well, silent] };
        let response = v1::ClusterStatusResponse { node: 1, groups: vec![told], ..Default::default() };
        let status = status(response).unwrap();
        assert_eq!((status.etcd_problem.as_ref(), status.groups[0].record.leader), (None, None));
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["groups"][0]["members"][0]["role"], "leader");
        assert_eq!(json["groups"][0]["members"][1], serde_json::json!({"node": 2, "error": "no link"}));
    }

    #[test]
    fn a_group_without_its_record_is_no_answer() {
        let groups = vec![v1::GroupStatus::default()];
        let response = v1::ClusterStatusResponse { groups, ..Default::default() };
        assert!(status(response).unwrap_err().message().contains("no group"));
    }
}
