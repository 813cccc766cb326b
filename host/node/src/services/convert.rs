//! The replica's types as messages, and back.

use mortise_core::ids::{Epoch, LogIndex};
use mortise_core::replica::{Freshness, Position};
use mortise_proto::v1;

use crate::replica::{PluginInfo, SnapshotTaken, TenantInfo};

pub(super) fn freshness(wanted: Option<v1::query_request::Freshness>) -> Freshness {
    use v1::query_request::Freshness as Wanted;
    match wanted {
        None | Some(Wanted::Lease(false)) => Freshness::Linearizable,
        Some(Wanted::Lease(true)) => Freshness::Lease,
        Some(Wanted::StaleMsMax(ms)) => Freshness::Bounded(ms.saturating_mul(1_000)),
        Some(Wanted::AtLeast(v1::Position { epoch, index })) => {
            Freshness::AtLeast(Position { epoch: Epoch(epoch), index: LogIndex(index) })
        }
    }
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
