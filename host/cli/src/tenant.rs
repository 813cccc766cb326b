//! `mortise tenant`: tenants, in whichever group they are.

use clap::Subcommand;
use mortise_client::admin::TenantInfo;
use serde_json::json;

use crate::arguments::GroupArgument;
use crate::context::Context;
use crate::{output, transfer};

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Create a tenant
    #[command(after_help = "\
Examples:
  mortise tenant create orders --plugin ledger
  mortise tenant create orders --plugin ledger --group 2")]
    Create {
        /// Its name, unlike that of any other in the cluster: letters, digits, '-', '_' and '.'
        name: String,
        /// Its plugin: NAME (the newest upload), NAME@VERSION, or at least 8 digits of the digest
        #[arg(long)]
        plugin: String,
        /// Keep its effects for watchers
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        group: GroupArgument,
    },
    /// List the tenants of all groups, or of one
    List {
        /// Only this group
        #[arg(long, value_name = "NUMBER")]
        group: Option<u64>,
    },
    /// Show one tenant
    Show {
        /// Its name
        name: String,
        /// With the digest of its state, for which all of it is read
        #[arg(long)]
        digest: bool,
    },
    /// Drop a tenant with all its state
    Drop {
        /// Its name
        name: String,
        /// Confirms that its state is to be gone
        #[arg(long, required = true)]
        yes: bool,
    },
    /// Give a tenant another plugin of the same name and schema
    Switch {
        /// Its name
        name: String,
        /// The plugin: NAME (the newest upload), NAME@VERSION, or at least 8 digits of the digest
        #[arg(long)]
        plugin: String,
    },
    /// Write a tenant's state into a snapshot file
    #[command(after_help = "Example:\n  mortise tenant export ledger ledger.snapshot")]
    Export {
        /// Its name
        name: String,
        /// The file; - is the standard output
        file: String,
    },
    /// Make a tenant of a snapshot file; the node must know its plugin
    #[command(after_help = "Example:\n  mortise tenant import ledger-copy ledger.snapshot")]
    Import {
        /// The new tenant's name
        name: String,
        /// The file; - is the standard input
        file: String,
        #[command(flatten)]
        group: GroupArgument,
    },
}

/// Runs one.
pub(crate) async fn run(command: TenantCommand, context: &Context) -> anyhow::Result<()> {
    let admin = context.admin().await?;
    match command {
        TenantCommand::Create { name, plugin, watch, group } => {
            let tenant = admin.in_group(group.group).create_tenant(&name, &plugin, watch).await?;
            context.print(&tenant, |tenant| {
                format!("created {}: it runs {} {}", tenant.name, tenant.plugin, tenant.plugin_version)
            })
        }
        TenantCommand::List { group } => {
            let tenants = admin.in_group(group).list_tenants().await?;
            context.print(&tenants, |tenants| list(tenants))
        }
        TenantCommand::Show { name, digest } => context.print(&admin.tenant(&name, digest).await?, show),
        TenantCommand::Drop { name, yes: _ } => {
            admin.drop_tenant(&name).await?;
            context.print(&json!({ "dropped": name }), |_| format!("dropped {name}"))
        }
        TenantCommand::Switch { name, plugin } => {
            let tenant = admin.switch_tenant(&name, &plugin).await?;
            context.print(&tenant, |tenant| {
                let digest = tenant.plugin_digest.get(..16).unwrap_or_default();
                format!("{} now runs {} {} ({digest})", tenant.name, tenant.plugin, tenant.plugin_version)
            })
        }
        TenantCommand::Export { name, file } => transfer::export(&admin, &name, &file, context).await,
        TenantCommand::Import { name, file, group } => {
            let tenant = transfer::import(&admin.in_group(group.group), &name, &file, context).await?;
            context.print(&tenant, |tenant| {
                format!("imported {}: {} commands, plugin {}", tenant.name, tenant.commands, tenant.plugin)
            })
        }
    }
}

fn list(tenants: &[TenantInfo]) -> String {
    if tenants.is_empty() {
        return "no tenants yet: `mortise tenant create NAME --plugin PLUGIN` makes one".into();
    }
    let row = |tenant: &TenantInfo| {
        vec![
            tenant.name.clone(),
            tenant.group.to_string(),
            tenant.plugin.clone(),
            tenant.plugin_version.clone(),
            tenant.commands.to_string(),
            tenant.failures.to_string(),
            yes_no(tenant.watch),
        ]
    };
    let rows: Vec<_> = tenants.iter().map(row).collect();
    output::table(&["NAME", "GROUP", "PLUGIN", "VERSION", "COMMANDS", "FAILURES", "WATCH"], &rows)
}

fn show(tenant: &TenantInfo) -> String {
    let next_due = tenant.next_due_ms.map_or("nothing expires".into(), output::moment);
    let section = if tenant.snapshot_section.is_empty() { "none yet" } else { &tenant.snapshot_section };
    let mut rows = vec![
        ("name", tenant.name.clone()),
        ("id", tenant.id.to_string()),
        ("group", tenant.group.to_string()),
        ("plugin", format!("{} {}", tenant.plugin, tenant.plugin_version)),
        ("plugin digest", tenant.plugin_digest.clone()),
        ("schema", tenant.schema.to_string()),
        ("encoding", tenant.encoding.clone()),
        ("watch", yes_no(tenant.watch)),
        ("commands", tenant.commands.to_string()),
        ("failures", tenant.failures.to_string()),
        ("next due", next_due),
        ("effect digest", tenant.effect_digest.clone()),
        ("snapshot section", section.to_owned()),
    ];
    if let Some(state) = &tenant.state {
        rows.push(("state digest", state.digest.clone()));
        rows.push(("pairs", state.pairs.to_string()));
        rows.push(("bytes", output::size(state.bytes)));
    }
    output::pairs(&rows)
}

fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.into()
}
