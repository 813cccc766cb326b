//! What members answer about themselves.

use std::time::Duration;

use mortise_core::codec::{Reader, Writer};
use mortise_core::group::{Generation, Incarnation, MEMBERS_MAX, NodeId};
use mortise_core::ids::{Epoch, LogIndex};
use mortise_core::replica::{Memory, Reach, RoleKind, Seen};
use mortise_proto::v1;

use super::BadMessage;
use super::message::{applied_from_wire, applied_to_wire, position_from_wire, position_to_wire};
use crate::link::LinkState;
use crate::status::{LinkStatus, MemberStatus};

/// Most links of one node that are told. A cluster of more nodes than this shows a part of them.
const LINKS_MAX: usize = 1024;
/// Most bytes of an error or an address that are told.
const TEXT_BYTES_MAX: usize = 512;

pub(crate) fn memory_to_wire(memory: Memory) -> v1::MemoryResponse {
    let Memory { node, epoch, seen, reach, frozen } = memory;
    let encode = |seen: Seen| {
        let mut writer = Writer::default();
        seen.encode(&mut writer);
        writer.finish()
    };
    let reach = reach.map(|Reach { incarnation, last }| v1::LogReach {
        incarnation: incarnation.0,
        last: position_to_wire(last),
    });
    v1::MemoryResponse { node: node.0, epoch: epoch.0, seen: seen.map(encode), reach, frozen }
}

pub(crate) fn memory_from_wire(memory: v1::MemoryResponse) -> Result<Memory, BadMessage> {
    let v1::MemoryResponse { node, epoch, seen, reach, frozen } = memory;
    let decode = |bytes| {
        let mut reader = Reader::new(bytes);
        let seen = Seen::decode(&mut reader)?;
        reader.finish().map(|()| seen)
    };
    let reach = reach.map(|v1::LogReach { incarnation, last }| Reach {
        incarnation: Incarnation(incarnation),
        last: position_from_wire(last),
    });
    let seen = seen.map(decode).transpose()?;
    Ok(Memory { node: NodeId(node), epoch: Epoch(epoch), seen, reach, frozen })
}

pub(crate) fn status_to_wire(status: MemberStatus) -> v1::MemberStatusResponse {
    let role = match status.role {
        RoleKind::Follower => v1::MemberRole::Follower,
        RoleKind::Leader => v1::MemberRole::Leader,
        RoleKind::Halted => v1::MemberRole::Halted,
    };
    v1::MemberStatusResponse {
        node: status.node.0,
        role: role.into(),
        serving: status.serving,
        epoch: status.epoch.0,
        generation: status.generation.0,
        incarnation: status.incarnation.0,
        last: position_to_wire(status.last),
        durable: status.durable.0,
        commit: status.commit.0,
        applied: status.applied.0,
        digest: status.digest.map(applied_to_wire),
        frozen: status.frozen,
        quarantined: status.quarantined.map(|index| index.0),
        isr: status.isr.into_iter().map(|node| node.0).collect(),
        links: status.links.into_iter().take(LINKS_MAX).map(link_to_wire).collect(),
    }
}

pub(crate) fn status_from_wire(status: v1::MemberStatusResponse) -> Result<MemberStatus, BadMessage> {
    let role = match status.role() {
        v1::MemberRole::Follower => RoleKind::Follower,
        v1::MemberRole::Leader => RoleKind::Leader,
        v1::MemberRole::Halted => RoleKind::Halted,
        v1::MemberRole::Unspecified => return Err(BadMessage::Missing("role")),
    };
    if status.isr.len() > MEMBERS_MAX {
        return Err(BadMessage::TooLarge { what: "in-sync set", max: MEMBERS_MAX });
    }
    if status.links.len() > LINKS_MAX {
        return Err(BadMessage::TooLarge { what: "links", max: LINKS_MAX });
    }
    Ok(MemberStatus {
        node: NodeId(status.node),
        role,
        serving: status.serving,
        epoch: Epoch(status.epoch),
        generation: Generation(status.generation),
        incarnation: Incarnation(status.incarnation),
        last: position_from_wire(status.last),
        durable: LogIndex(status.durable),
        commit: LogIndex(status.commit),
        applied: LogIndex(status.applied),
        digest: status.digest.map(applied_from_wire).transpose()?,
        frozen: status.frozen,
        quarantined: status.quarantined.map(LogIndex),
        isr: status.isr.into_iter().map(NodeId).collect(),
        links: status.links.into_iter().map(link_from_wire).collect::<Result<_, _>>()?,
    })
}

fn link_to_wire(link: LinkStatus) -> v1::LinkStatus {
    let state = match link.state {
        LinkState::Idle => v1::LinkState::Idle,
        LinkState::Dialling => v1::LinkState::Dialling,
        LinkState::Connected => v1::LinkState::Connected,
        LinkState::Broken => v1::LinkState::Broken,
    };
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    v1::LinkStatus {
        peer: link.peer.0,
        address: cut(link.address),
        state: state.into(),
        for_ms: micros(link.since) / 1000,
        round_trip_us: link.round_trip.map(micros),
        redials: link.redials,
        last_error: cut(link.last_error),
    }
}

fn link_from_wire(link: v1::LinkStatus) -> Result<LinkStatus, BadMessage> {
    let state = match link.state() {
        v1::LinkState::Idle => LinkState::Idle,
        v1::LinkState::Dialling => LinkState::Dialling,
        v1::LinkState::Connected => LinkState::Connected,
        v1::LinkState::Broken => LinkState::Broken,
        v1::LinkState::Unspecified => return Err(BadMessage::Missing("state of a link")),
    };
    if link.address.len().max(link.last_error.len()) > TEXT_BYTES_MAX {
        return Err(BadMessage::TooLarge { what: "text about a link", max: TEXT_BYTES_MAX });
    }
    Ok(LinkStatus {
        peer: NodeId(link.peer),
        address: link.address,
        state,
        since: Duration::from_millis(link.for_ms),
        round_trip: link.round_trip_us.map(Duration::from_micros),
        redials: link.redials,
        last_error: link.last_error,
    })
}

/// The beginning of a text that may be too long, whole characters only.
fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}
