//! `mortise group`: the groups of a cluster.

use clap::Subcommand;
use mortise_client::cluster::GroupInfo;

use crate::context::Context;
use crate::output;

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// Create a group on nodes of the cluster
    #[command(after_help = "\
Each node must have been started once. A write is acknowledged once every in-sync member has it on disk, and as long as
there are at least --min-isr of them.

Example:
  mortise group create 1 --nodes 1,2,3")]
    Create {
        /// Its number, from 1 on
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        group: u64,
        /// The numbers of its nodes
        #[arg(long, value_name = "NUMBER,…", value_delimiter = ',', required = true)]
        nodes: Vec<u64>,
        /// How many in-sync members a commit needs; by default more than half of the nodes
        #[arg(long, value_name = "COUNT")]
        min_isr: Option<u32>,
    },
    /// List all groups
    List,
}

/// Runs one.
pub(crate) async fn run(command: GroupCommand, context: &Context) -> anyhow::Result<()> {
    let cluster = context.cluster().await?;
    match command {
        GroupCommand::Create { group, nodes, min_isr } => {
            let group = cluster.create_group(group, &nodes, min_isr).await?;
            context.print(&group, |group| {
                let nodes = members(group);
                format!(
                    "created group {}: nodes {nodes}, commits need {} in sync",
                    group.group, group.min_isr
                )
            })
        }
        GroupCommand::List => context.print(&cluster.list_groups().await?, |groups| list(groups)),
    }
}

fn list(groups: &[GroupInfo]) -> String {
    if groups.is_empty() {
        return "no groups yet: `mortise group create NUMBER --nodes NUMBER,…` makes one".into();
    }
    let row = |group: &GroupInfo| {
        let leader = group.leader.map_or_else(|| "-".to_owned(), |leader| leader.to_string());
        let isr: Vec<String> = group.isr.iter().map(u64::to_string).collect();
        vec![
            group.group.to_string(),
            leader,
            group.epoch.to_string(),
            members(group),
            isr.join(","),
            group.min_isr.to_string(),
        ]
    };
    let rows: Vec<_> = groups.iter().map(row).collect();
    output::table(&["GROUP", "LEADER", "EPOCH", "NODES", "IN SYNC", "MIN"], &rows)
}

fn members(group: &GroupInfo) -> String {
    let members: Vec<String> = group.members.iter().map(|member| member.node.to_string()).collect();
    members.join(",")
}
