//! The core's messages.

use bytes::Bytes;
use mortise_core::digest::Digest;
use mortise_core::entry::Stamp;
use mortise_core::group::{BootId, Generation, Incarnation};
use mortise_core::ids::{Epoch, GroupId, LogIndex};
use mortise_core::replica::{Body, Fence, Message, Position, SnapshotMeta, StreamId};
use mortise_core::time::LogTime;
use mortise_proto::v1;
use mortise_proto::v1::peer_message::Body as WireBody;

use super::packed::{pack_entries, pack_epochs, unpack_entries, unpack_epochs};
use super::{BadMessage, digest};

pub(crate) fn message_to_wire(message: Message) -> v1::PeerMessage {
    let Message { fence, body } = message;
    v1::PeerMessage { fence: Some(fence_to_wire(fence)), body: Some(body_to_wire(body)) }
}

pub(crate) fn message_from_wire(message: v1::PeerMessage) -> Result<Message, BadMessage> {
    let fence = message.fence.ok_or(BadMessage::Missing("fence"))?;
    let body = message.body.ok_or(BadMessage::Missing("body"))?;
    Ok(Message { fence: fence_from_wire(fence), body: body_from_wire(body)? })
}

fn fence_to_wire(fence: Fence) -> v1::Fence {
    let Fence { cluster, group, generation, epoch, boot, from, to, stream } = fence;
    v1::Fence {
        cluster,
        group: group.0,
        generation: generation.0,
        epoch: epoch.0,
        boot: boot.0,
        from: from.0,
        to: to.0,
        stream: stream.0,
    }
}

fn fence_from_wire(fence: v1::Fence) -> Fence {
    let v1::Fence { cluster, group, generation, epoch, boot, from, to, stream } = fence;
    Fence {
        cluster,
        group: GroupId(group),
        generation: Generation(generation),
        epoch: Epoch(epoch),
        boot: BootId(boot),
        from: Incarnation(from),
        to: Incarnation(to),
        stream: StreamId(stream),
    }
}

#[allow(clippy::unnecessary_wraps, reason = "the field of every message is optional")]
pub(super) fn position_to_wire(at: Position) -> Option<v1::Position> {
    Some(v1::Position { epoch: at.epoch.0, index: at.index.0, group: 0 })
}

/// An absent position is the one before the first entry, as an absent number is 0.
pub(super) fn position_from_wire(at: Option<v1::Position>) -> Position {
    let v1::Position { epoch, index, group: _ } = at.unwrap_or_default();
    Position { epoch: Epoch(epoch), index: LogIndex(index) }
}

fn body_to_wire(body: Body) -> WireBody {
    match body {
        Body::Open => WireBody::Open(v1::OpenBody {}),
        Body::Last { last, reinstall } => {
            WireBody::Last(v1::LastBody { last: position_to_wire(last), reinstall })
        }
        Body::Match { last, end } => {
            WireBody::Match(v1::MatchBody { end: position_to_wire(end), last: position_to_wire(last) })
        }
        Body::Append { previous, entries, commit } => WireBody::Append(v1::AppendBody {
            previous: position_to_wire(previous),
            commit: commit.0,
            entries: pack_entries(&entries),
        }),
        Body::Durable { index, applied, rebuild } => WireBody::Durable(v1::DurableBody {
            index: index.0,
            applied: applied.map(applied_to_wire),
            rebuild: rebuild.map(|index| index.0),
        }),
        Body::Snapshot { meta, replace } => {
            WireBody::Snapshot(v1::SnapshotBody { meta: Some(meta_to_wire(meta)), replace })
        }
        Body::Beacon { round, commit } => WireBody::Beacon(v1::BeaconBody { round, commit: commit.0 }),
        Body::BeaconAnswer { round, lease } => WireBody::BeaconAnswer(v1::BeaconAnswerBody { round, lease }),
        Body::AskCommit { question } => WireBody::AskCommit(v1::AskCommitBody { question }),
        Body::TellCommit { question, commit } => {
            WireBody::TellCommit(v1::TellCommitBody { question, commit: commit.0 })
        }
        Body::Campaign => WireBody::Campaign(v1::CampaignBody {}),
        Body::Diverged { index } => WireBody::Diverged(v1::DivergedBody { index: index.0 }),
        Body::Refused { promised } => WireBody::Refused(v1::RefusedBody { promised: promised.0 }),
    }
}

fn body_from_wire(body: WireBody) -> Result<Body, BadMessage> {
    Ok(match body {
        WireBody::Open(v1::OpenBody {}) => Body::Open,
        WireBody::Last(v1::LastBody { last, reinstall }) => {
            Body::Last { last: position_from_wire(last), reinstall }
        }
        WireBody::Match(v1::MatchBody { end, last }) => {
            Body::Match { last: position_from_wire(last), end: position_from_wire(end) }
        }
        WireBody::Append(v1::AppendBody { previous, commit, entries }) => Body::Append {
            previous: position_from_wire(previous),
            entries: unpack_entries(entries)?,
            commit: LogIndex(commit),
        },
        WireBody::Durable(v1::DurableBody { index, applied, rebuild }) => Body::Durable {
            index: LogIndex(index),
            applied: applied.map(applied_from_wire).transpose()?,
            rebuild: rebuild.map(LogIndex),
        },
        WireBody::Snapshot(v1::SnapshotBody { meta, replace }) => {
            let meta = meta.ok_or(BadMessage::Missing("snapshot meta"))?;
            Body::Snapshot { meta: meta_from_wire(meta)?, replace }
        }
        WireBody::Beacon(v1::BeaconBody { round, commit }) => {
            Body::Beacon { round, commit: LogIndex(commit) }
        }
        WireBody::BeaconAnswer(v1::BeaconAnswerBody { round, lease }) => Body::BeaconAnswer { round, lease },
        WireBody::AskCommit(v1::AskCommitBody { question }) => Body::AskCommit { question },
        WireBody::TellCommit(v1::TellCommitBody { question, commit }) => {
            Body::TellCommit { question, commit: LogIndex(commit) }
        }
        WireBody::Campaign(v1::CampaignBody {}) => Body::Campaign,
        WireBody::Diverged(v1::DivergedBody { index }) => Body::Diverged { index: LogIndex(index) },
        WireBody::Refused(v1::RefusedBody { promised }) => Body::Refused { promised: Epoch(promised) },
    })
}

pub(super) fn applied_to_wire((index, digest): (LogIndex, Digest)) -> v1::AppliedDigest {
    v1::AppliedDigest { index: index.0, digest: Bytes::copy_from_slice(&digest.0) }
}

pub(super) fn applied_from_wire(applied: v1::AppliedDigest) -> Result<(LogIndex, Digest), BadMessage> {
    Ok((LogIndex(applied.index), digest(&applied.digest, "effect digest")?))
}

fn meta_to_wire(meta: SnapshotMeta) -> v1::SnapshotMeta {
    let SnapshotMeta { generation, last, epochs, digest, stamp: Stamp { time, profile } } = meta;
    v1::SnapshotMeta {
        generation: generation.0,
        last: position_to_wire(last),
        epochs: pack_epochs(&epochs),
        digest: Bytes::copy_from_slice(&digest.0),
        time_ms: time.0,
        profile,
    }
}

fn meta_from_wire(meta: v1::SnapshotMeta) -> Result<SnapshotMeta, BadMessage> {
    let v1::SnapshotMeta { generation, last, epochs, digest: bytes, time_ms, profile } = meta;
    Ok(SnapshotMeta {
        generation: Generation(generation),
        last: position_from_wire(last),
        epochs: unpack_epochs(epochs)?,
        digest: digest(&bytes, "digest of a snapshot")?,
        stamp: Stamp { time: LogTime(time_ms), profile },
    })
}
