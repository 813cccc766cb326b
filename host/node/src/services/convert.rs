//! The replica's types as messages, and back.

use mortise_core::ids::{Epoch, GroupId, LogIndex};
use mortise_core::replica::{Ack, Freshness, Position};
use mortise_proto::v1;

use crate::replica::{PluginInfo, Replica, SnapshotTaken, TenantInfo, WriteError, WriteFate};

/// How fresh an answer of `replica` is to be.
pub(super) fn freshness(
    wanted: Option<v1::query_request::Freshness>,
    replica: &Replica,
) -> Result<Freshness, WriteError> {
    use v1::query_request::Freshness as Wanted;
    Ok(match wanted {
        None | Some(Wanted::Lease(false)) => Freshness::Linearizable,
        Some(Wanted::Lease(true)) => Freshness::Lease,
        Some(Wanted::StaleMsMax(ms)) => Freshness::Bounded(ms.saturating_mul(1_000)),
        Some(Wanted::AtLeast(at)) => Freshness::AtLeast(token(at, replica)?),
    })
}

pub(super) fn position(group: GroupId, at: Position) -> v1::Position {
    v1::Position { epoch: at.epoch.0, index: at.index.0, group: group.0 }
}

/// When a write wants its acknowledgement.
pub(super) fn ack(wanted: i32) -> Result<Ack, WriteError> {
    match v1::Ack::try_from(wanted) {
        Ok(v1::Ack::Committed) => Ok(Ack::Committed),
        Ok(v1::Ack::Leader) => Ok(Ack::Leader),
        Err(_) => Err(WriteError::Invalid(format!("{wanted} is no acknowledgement that this release knows"))),
    }
}

/// A token that a node gave out, shown for a tenant of `replica`. That of a namesake in another group is refused: this log
/// knows nothing of it.
pub(super) fn token(at: v1::Position, replica: &Replica) -> Result<Position, WriteError> {
    let v1::Position { epoch, index, group } = at;
    if epoch == 0 || index == 0 || group == 0 {
        return Err(WriteError::Invalid("a token's epoch, index and group are at least 1".into()));
    }
    let (shown, group) = (GroupId(group), replica.group());
    if shown == group {
        return Ok(Position { epoch: Epoch(epoch), index: LogIndex(index) });
    }
    // Who follows may not know yet that the tenant is another group's now.
    Err(if replica.leads() { WriteError::OtherGroup { shown, group } } else { replica.not_leader() })
}

pub(super) fn fate(fate: WriteFate) -> v1::AskFateResponse {
    use v1::ask_fate_response::Outcome;
    let (fate, outcome) = match fate {
        WriteFate::Pending => (v1::Fate::Pending, None),
        WriteFate::Lost => (v1::Fate::Lost, None),
        WriteFate::Committed(None) => (v1::Fate::Committed, None),
        WriteFate::Committed(Some(Ok(reply))) => (v1::Fate::Committed, Some(Outcome::Reply(reply))),
        WriteFate::Committed(Some(Err(error))) => (v1::Fate::Committed, Some(Outcome::Error(error.into()))),
    };
    v1::AskFateResponse { fate: fate.into(), outcome }
}

pub(super) fn tenant(info: TenantInfo) -> v1::Tenant {
    v1::Tenant {
        name: info.name,
        id: info.id.0,
        plugin_digest: info.plugin.to_string(),
        plugin_name: info.manifest.name,
        plugin_version: info.manifest.version,
        schema: info.manifest.schema,
        encoding: info.manifest.encoding,
        watch: info.watch,
        commands: info.commands,
        next_due_ms: info.next_due_ms,
        effect_digest: info.effect_digest.to_string(),
        state: info.state.map(|state| v1::StateDigest {
            digest: state.digest.to_string(),
            pairs: state.pairs,
            bytes: state.bytes,
        }),
        failures: info.failures,
        snapshot_section: info.snapshot_section,
        group: info.group.0,
    }
}

pub(super) fn plugin(info: PluginInfo) -> v1::Plugin {
    let examples = info.manifest.examples.into_iter();
    v1::Plugin {
        digest: info.digest.to_string(),
        name: info.manifest.name,
        version: info.manifest.version,
        schema: info.manifest.schema,
        summary: info.manifest.summary,
        encoding: info.manifest.encoding,
        component_bytes: info.component_bytes,
        examples: examples.map(|(name, command)| v1::Example { name, command }).collect(),
        tenants: info.tenants,
        group: info.group.0,
    }
}

pub(super) fn snapshot(taken: &SnapshotTaken) -> v1::SnapshotResponse {
    v1::SnapshotResponse {
        index: taken.index.0,
        bytes: taken.bytes,
        digest: taken.digest.to_string(),
        log_first_index: taken.log_first_index.0,
    }
}
