//! `mortise plugin`: plugins that groups know.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use mortise_client::admin::PluginInfo;

use crate::arguments::GroupArgument;
use crate::context::Context;
use crate::output;

/// Digits of a digest that tables show; 8 are enough to name a plugin.
const DIGEST_DIGITS: usize = 16;

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Make plugins known to a group, whose leader checks and compiles them
    #[command(after_help = "Example:\n  mortise plugin upload target/plugins/*.wasm")]
    Upload {
        /// Components
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        group: GroupArgument,
    },
    /// List the plugins of all groups, or of one
    List {
        /// Only this group
        #[arg(long, value_name = "NUMBER")]
        group: Option<u64>,
    },
    /// Show a plugin, with commands to try
    Inspect {
        /// NAME (the newest upload), NAME@VERSION, or at least 8 digits of the digest
        plugin: String,
        #[command(flatten)]
        group: GroupArgument,
    },
}

/// Runs one.
pub(crate) async fn run(command: PluginCommand, context: &Context) -> anyhow::Result<()> {
    let admin = context.admin().await?;
    match command {
        PluginCommand::Upload { files, group } => {
            let admin = admin.in_group(group.group);
            let mut uploads = Vec::new();
            for file in files {
                let component =
                    tokio::fs::read(&file).await.with_context(|| format!("read {}", file.display()))?;
                let upload = admin.upload_plugin(component.into()).await;
                let upload = upload.with_context(|| format!("upload {}", file.display()))?;
                if !context.json {
                    let PluginInfo { name, version, digest, .. } = &upload.plugin;
                    let what = if upload.known { "known already" } else { "uploaded" };
                    output::line(&format!("{what}: {name} {version} {}", short(digest)))?;
                }
                uploads.push(upload);
            }
            if context.json { output::json(&uploads) } else { Ok(()) }
        }
        PluginCommand::List { group } => {
            let plugins = admin.in_group(group).list_plugins().await?;
            context.print(&plugins, |plugins| list(plugins))
        }
        PluginCommand::Inspect { plugin, group } => {
            context.print(&admin.in_group(group.group).inspect_plugin(&plugin).await?, show)
        }
    }
}

fn short(digest: &str) -> &str {
    digest.get(..DIGEST_DIGITS).unwrap_or(digest)
}

fn list(plugins: &[PluginInfo]) -> String {
    if plugins.is_empty() {
        return "no plugins yet: `mortise plugin upload FILE` adds one".into();
    }
    let row = |plugin: &PluginInfo| {
        vec![
            plugin.name.clone(),
            plugin.group.to_string(),
            plugin.version.clone(),
            short(&plugin.digest).to_owned(),
            plugin.schema.to_string(),
            output::size(plugin.component_bytes),
            plugin.tenants.len().to_string(),
            plugin.summary.clone(),
        ]
    };
    let rows: Vec<_> = plugins.iter().map(row).collect();
    output::table(&["NAME", "GROUP", "VERSION", "DIGEST", "SCHEMA", "SIZE", "TENANTS", "SUMMARY"], &rows)
}

fn show(plugin: &PluginInfo) -> String {
    let tenants = if plugin.tenants.is_empty() { "none".into() } else { plugin.tenants.join(", ") };
    let rows = [
        ("name", plugin.name.clone()),
        ("group", plugin.group.to_string()),
        ("version", plugin.version.clone()),
        ("summary", plugin.summary.clone()),
        ("digest", plugin.digest.clone()),
        ("schema", plugin.schema.to_string()),
        ("encoding", plugin.encoding.clone()),
        ("size", output::size(plugin.component_bytes)),
        ("tenants", tenants),
    ];
    let mut text = output::pairs(&rows);
    for example in &plugin.examples {
        text = format!("{text}\nexample: {}\n  {}", example.name, example.display());
    }
    text
}
