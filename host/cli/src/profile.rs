//! `mortise profile`: fuel and limits under which plugins run.

use anyhow::{Context as _, bail};
use clap::Subcommand;
use mortise_core::profile::Profile;
use serde_json::{Map, Value};

use crate::arguments::GroupArgument;
use crate::context::Context;
use crate::output;

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum ProfileCommand {
    /// Show the profile in force
    Show(GroupArgument),
    /// Change the profile, for all tenants of its group and from the next command on
    #[command(after_help = "Example:\n  mortise profile set fuel=400000000 reply_bytes_max=1048576")]
    Set {
        /// What to change; `mortise profile show` lists the fields
        #[arg(required = true, value_name = "FIELD=VALUE")]
        changes: Vec<String>,
        #[command(flatten)]
        group: GroupArgument,
    },
}

/// Runs one.
pub(crate) async fn run(command: ProfileCommand, context: &Context) -> anyhow::Result<()> {
    let (ProfileCommand::Show(group) | ProfileCommand::Set { group, .. }) = command;
    let admin = context.admin().await?.in_group(group.group);
    let mut profile = admin.profile().await?;
    if let ProfileCommand::Set { changes, .. } = command {
        for change in &changes {
            apply(&mut profile, change)?;
        }
        profile.version += 1;
        profile = admin.set_profile(&profile).await?;
    }
    let mut values = Map::from_iter([("version".to_owned(), Value::from(profile.version))]);
    values.extend(fields(&mut profile).map(|(name, value)| (name.to_owned(), Value::from(*value))));
    context.print(&values, |_| {
        let version = ("version", profile.version.to_string());
        let fields = fields(&mut profile).map(|(name, value)| (name, value.to_string()));
        output::pairs(&std::iter::once(version).chain(fields).collect::<Vec<_>>())
    })
}

/// Every field that can be set.
fn fields(profile: &mut Profile) -> std::array::IntoIter<(&'static str, &mut u64), 13> {
    let Profile {
        version: _,
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
    } = profile;
    [
        ("fuel", fuel),
        ("fuel_bulk", fuel_bulk),
        ("fuel_host_call", fuel_host_call),
        ("fuel_host_16_bytes", fuel_host_16_bytes),
        ("memory_bytes_max", memory_bytes_max),
        ("table_elements_max", table_elements_max),
        ("stack_bytes_max", stack_bytes_max),
        ("key_bytes_max", key_bytes_max),
        ("value_bytes_max", value_bytes_max),
        ("write_bytes_max", write_bytes_max),
        ("read_bytes_max", read_bytes_max),
        ("reply_bytes_max", reply_bytes_max),
        ("session_ttl_ms_max", session_ttl_ms_max),
    ]
    .into_iter()
}

fn apply(profile: &mut Profile, change: &str) -> anyhow::Result<()> {
    let (name, value) =
        change.split_once('=').with_context(|| format!("{change:?} is no change: give FIELD=VALUE"))?;
    let value = value.replace('_', "");
    let value = value.parse().with_context(|| format!("{change:?}: the value must be a whole number"))?;
    let Some((_, field)) = fields(profile).find(|(field, _)| *field == name) else {
        let names: Vec<_> = fields(profile).map(|(name, _)| name).collect();
        bail!("there is no field {name:?}: use one of {}", names.join(", "));
    };
    *field = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_applied_or_refused_with_a_reason() {
        let mut profile = Profile::default();
        apply(&mut profile, "fuel=300_000_000").unwrap();
        assert_eq!(profile.fuel, 300_000_000);
        for (change, reason) in
            [("fuel", "FIELD=VALUE"), ("fuel=much", "whole number"), ("speed=1", "fuel_bulk")]
        {
            assert!(apply(&mut profile, change).unwrap_err().to_string().contains(reason), "{change}");
        }
    }
}
