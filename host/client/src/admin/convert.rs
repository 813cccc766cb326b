//! The admin service's messages to and from this library's types: once, on receipt.

use mortise_core::profile::Profile;
use mortise_proto::v1;

use super::lacking;
use super::types::{NodeStatus, PluginExample, PluginInfo, SnapshotInfo, StateInfo, TenantInfo};
use crate::error::ClientError;

pub(super) fn tenant(tenant: Option<v1::Tenant>) -> Result<TenantInfo, ClientError> {
    let tenant = tenant.ok_or_else(|| lacking("tenant"))?;
    let state =
        tenant.state.map(|state| StateInfo { digest: state.digest, pairs: state.pairs, bytes: state.bytes });
    Ok(TenantInfo {
        name: tenant.name,
        id: tenant.id,
        group: tenant.group,
        plugin: tenant.plugin_name,
        plugin_version: tenant.plugin_version,
        plugin_digest: tenant.plugin_digest,
        schema: tenant.schema,
        encoding: tenant.encoding,
        watch: tenant.watch,
        commands: tenant.commands,
        failures: tenant.failures,
        next_due_ms: tenant.next_due_ms,
        effect_digest: tenant.effect_digest,
        state,
        snapshot_section: tenant.snapshot_section,
    })
}

pub(super) fn plugin(plugin: Option<v1::Plugin>) -> Result<PluginInfo, ClientError> {
    let plugin = plugin.ok_or_else(|| lacking("plugin"))?;
    let example =
        |example: v1::Example| PluginExample { name: example.name, command: example.command.to_vec() };
    Ok(PluginInfo {
        group: plugin.group,
        name: plugin.name,
        version: plugin.version,
        digest: plugin.digest,
        schema: plugin.schema,
        summary: plugin.summary,
        encoding: plugin.encoding,
        component_bytes: plugin.component_bytes,
        examples: plugin.examples.into_iter().map(example).collect(),
        tenants: plugin.tenants,
    })
}

pub(super) fn profile(profile: Option<v1::Profile>) -> Result<Profile, ClientError> {
    profile.map(Profile::from).ok_or_else(|| lacking("profile"))
}

pub(super) fn snapshot(snapshot: v1::SnapshotResponse) -> SnapshotInfo {
    SnapshotInfo {
        index: snapshot.index,
        bytes: snapshot.bytes,
        digest: snapshot.digest,
        log_first_index: snapshot.log_first_index,
    }
}

pub(super) fn status(status: v1::StatusResponse) -> NodeStatus {
    NodeStatus {
        version: status.version,
        runtime: status.runtime,
        node: status.node,
        group: status.group,
        groups: status.groups,
        role: status.role,
        epoch: status.epoch,
        last_index: status.last_index,
        commit_index: status.commit_index,
        applied_index: status.applied_index,
        log_first_index: status.log_first_index,
        log_bytes: status.log_bytes,
        state_disk_bytes: status.state_disk_bytes,
        free_disk_bytes: status.free_disk_bytes,
        snapshot_index: status.snapshot_index,
        tenants: status.tenants,
        plugins: status.plugins,
        sessions: status.sessions,
        uptime_ms: status.uptime_ms,
        writes_refused: status.writes_refused,
        log_time_ms: status.log_time_ms,
        data_address: status.data_address,
        admin_address: status.admin_address,
    }
}
