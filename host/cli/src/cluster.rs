//! `mortise cluster`: who leads and who follows, and what operators do about it.

use std::io::IsTerminal;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use mortise_client::cluster::{ClusterStatus, GroupStatus, LinkReport, MemberAnswer, MemberReport};
use serde_json::json;

use crate::context::Context;
use crate::output;

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show every member of every group, and how far it is
    Status {
        /// Only this group
        #[arg(long, value_name = "NUMBER")]
        group: Option<u64>,
    },
    /// Hand a group's leadership to another in-sync member
    Transfer {
        /// The group
        group: u64,
        /// The node that shall lead
        node: u64,
    },
    /// Make a node a member of a group: it learns first, and is a voter once it is in sync
    Add {
        /// The group
        group: u64,
        /// The node
        node: u64,
    },
    /// Take a node out of a group; its data stays in its folder
    Remove {
        /// The group
        group: u64,
        /// The node
        node: u64,
    },
    /// Set how many in-sync members a commit needs
    MinIsr {
        /// The group
        group: u64,
        /// How many
        count: u32,
    },
    /// Accept an etcd that was wiped, restored or exchanged
    #[command(long_about = ACCEPT)]
    AcceptEtcd {
        /// The group whose new history the node called is to begin; without it etcd is accepted for the node only
        #[arg(long, value_name = "NUMBER")]
        group: Option<u64>,
        /// Nodes that are gone for good, with what they had
        #[arg(long, value_name = "NUMBER,…", value_delimiter = ',')]
        gone: Vec<u64>,
        /// Do it without asking
        #[arg(long)]
        yes: bool,
    },
    /// Start a group with what one node has, although others had more: loses acknowledged writes
    #[command(long_about = UNCLEAN)]
    UncleanStart {
        /// The group
        group: u64,
        /// Do it without asking
        #[arg(long)]
        yes: bool,
    },
}

const ACCEPT: &str = "\
Accept an etcd that was wiped, restored or exchanged.

Nodes notice that etcd is not the one they knew, and freeze: a leader serves on, but nobody is elected and no set changes.
First make sure that the etcd in front of them is the right one, and that it was restored under a new
--initial-cluster-token. Then run this command against every node (--admin-endpoint names one, and only one), without --group; and at
last with --group, for each group, against its leader, where one serves, else against the member whose log is furthest: a refusal
names it. It begins a new history with the newest record that the members remember, in an epoch far above all that they know of.
Every member has to be heard, or declared gone with --gone; too few of them, and `cluster unclean-start` is what is left. Create no
tenant before all groups are back: their leaders enter the names of theirs in etcd again.";

const UNCLEAN: &str = "\
Start a group with what one node has, although others had more.

For the day when every member that had all acknowledged writes is gone for good. The node that is called (--admin-endpoint
names it, and no other) begins a new history with what it has: acknowledged writes that it missed are lost. Members that come back later follow the new
history; what they had beyond it is kept aside in their folders. Where etcd was wiped or restored, too, accept that first, with
`cluster accept-etcd` without --group, on this node.";

/// Runs one.
pub(crate) async fn run(command: ClusterCommand, context: &Context) -> anyhow::Result<()> {
    let cluster = context.cluster().await?;
    match command {
        ClusterCommand::Status { group } => {
            let status = cluster.status(group).await?;
            context.print(&status, show)
        }
        ClusterCommand::Transfer { group, node } => {
            cluster.transfer(group, node).await?;
            done(context, &format!("node {node} leads group {group}"))
        }
        ClusterCommand::Add { group, node } => {
            cluster.add(group, node).await?;
            done(context, &format!("node {node} learns what group {group} has, and will be a voter"))
        }
        ClusterCommand::Remove { group, node } => {
            cluster.remove(group, node).await?;
            done(context, &format!("node {node} is no member of group {group} any more"))
        }
        ClusterCommand::MinIsr { group, count } => {
            cluster.set_min_isr(group, count).await?;
            done(context, &format!("commits of group {group} need {count} in-sync members"))
        }
        ClusterCommand::AcceptEtcd { group, gone, yes } => {
            confirm(yes, ACCEPT)?;
            cluster.accept_etcd(group, &gone).await?;
            done(context, "etcd is accepted")
        }
        ClusterCommand::UncleanStart { group, yes } => {
            confirm(yes, UNCLEAN)?;
            cluster.unclean_start(group).await?;
            done(context, &format!("group {group} has begun a new history"))
        }
    }
}

fn done(context: &Context, what: &str) -> anyhow::Result<()> {
    context.print(&json!({ "done": what }), |_| what.to_owned())
}

/// Explains, and asks a person.
fn confirm(yes: bool, about: &str) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        bail!("this needs a person's consent: give --yes");
    }
    eprintln!("{about}\n\nType yes to go on:");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("read the answer")?;
    if answer.trim() != "yes" {
        bail!("nothing was done");
    }
    Ok(())
}

fn show(status: &ClusterStatus) -> String {
    let mut parts: Vec<String> = status.groups.iter().map(show_group).collect();
    if parts.is_empty() {
        parts.push("no groups yet: create one with `mortise group create`".to_owned());
    }
    let rows: Vec<Vec<String>> = status
        .nodes
        .iter()
        .map(|node| {
            let live = if node.live { "live" } else { "gone" };
            let addresses = [&node.data_address, &node.admin_address, &node.peer_address];
            let mut row = vec![node.node.to_string(), live.to_owned()];
            row.extend(addresses.map(Clone::clone));
            row
        })
        .collect();
    parts.push(output::table(&["NODE", "SESSION", "DATA", "ADMIN", "PEER"], &rows));
    parts.extend(status.etcd_problem.iter().map(|problem| format!("etcd: {problem}")));
    parts.join("\n\n")
}

fn show_group(group: &GroupStatus) -> String {
    let record = &group.record;
    let isr: Vec<String> = record.isr.iter().map(u64::to_string).collect();
    let title = format!(
        "group {}: epoch {}, generation {}, in sync {}, commits need {}",
        record.group,
        record.epoch,
        record.generation,
        if isr.is_empty() { "nobody".to_owned() } else { isr.join(",") },
        record.min_isr
    );
    let commits = group.members.iter().filter_map(|member| match &member.answer {
        MemberAnswer::Status(status) => Some(status.commit_index),
        MemberAnswer::Failed { .. } => None,
    });
    let commit = commits.max().unwrap_or(0);
    let rows: Vec<_> =
        group.members.iter().map(|member| row(member, record.isr.contains(&member.node), commit)).collect();
    let head = ["NODE", "ROLE", "EPOCH", "IN SYNC", "COMMIT", "APPLIED", "LAG", "LINKS", "DIGEST"];
    format!("{title}\n{}", output::table(&head, &rows))
}

fn row(member: &MemberReport, in_sync: bool, commit: u64) -> Vec<String> {
    let node = member.node.to_string();
    let member = match &member.answer {
        MemberAnswer::Status(status) => status,
        MemberAnswer::Failed { error } => return vec![node, format!("no answer: {error}")],
    };
    let mut role = member.role.clone();
    if member.frozen {
        role += ", frozen";
    }
    if let Some(index) = member.quarantined_index {
        role += &format!(", quarantined at {index}");
    }
    let link = |link: &LinkReport| match link.round_trip_us {
        Some(micros) if link.state == "connected" => format!("{}: {:.1} ms", link.peer, micros as f64 / 1e3),
        _ => format!("{}: {}", link.peer, link.state),
    };
    let links: Vec<String> = member.links.iter().map(link).collect();
    vec![
        node,
        role,
        member.epoch.to_string(),
        if in_sync { "yes" } else { "no" }.to_owned(),
        member.commit_index.to_string(),
        member.applied_index.to_string(),
        commit.saturating_sub(member.applied_index).to_string(),
        links.join(", "),
        member.effect_digest.chars().take(12).collect(),
    ]
}
