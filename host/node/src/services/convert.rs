//! The replica's types as messages, and back.

use mortise_core::profile::Profile;
use mortise_proto::v1;

use crate::replica::{PluginInfo, SnapshotTaken, TenantInfo};

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

/// Both profiles have the same fields under the same names. Naming each on both sides makes a field that is added to
/// one of them an error of compilation here.
macro_rules! profiles {
    ($($field:ident),+ $(,)?) => {
        pub(super) fn profile(profile: Profile) -> v1::Profile {
            let Profile { $($field),+ } = profile;
            v1::Profile { $($field),+ }
        }

        pub(super) fn to_profile(profile: v1::Profile) -> Profile {
            let v1::Profile { $($field),+ } = profile;
            Profile { $($field),+ }
        }
    };
}

profiles! {
    version,
    fuel,
    fuel_bulk,
    fuel_host_call,
    fuel_host_16_bytes,
    memory_bytes_max,
    table_elements_max,
    stack_bytes_max,
    key_bytes_max,
    value_bytes_max,
    write_bytes_max,
    read_bytes_max,
    reply_bytes_max,
    session_ttl_ms_max,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_comes_back_as_it_went() {
        let given = Profile { version: 7, fuel: 8, ..Profile::default() };
        assert_eq!(to_profile(profile(given.clone())), given);
    }
}
