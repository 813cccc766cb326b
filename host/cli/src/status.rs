//! `mortise status` and `mortise snapshot`.

use std::time::Duration;

use indicatif::HumanDuration;
use mortise_client::admin::NodeStatus;

use crate::arguments::GroupArgument;
use crate::context::Context;
use crate::output;

/// Runs `status`.
pub(crate) async fn status(group: Option<u64>, context: &Context) -> anyhow::Result<()> {
    context.print(&context.admin().await?.in_group(group).status().await?, show)
}

fn show(status: &NodeStatus) -> String {
    let snapshot = match status.snapshot_index {
        0 => "none".into(),
        index => format!("up to entry {index}"),
    };
    let writes = if status.writes_refused.is_empty() { "accepted" } else { &status.writes_refused };
    let others: Vec<_> = status.groups.iter().filter(|group| **group != status.group).collect();
    let group = match others.as_slice() {
        [] => status.group.to_string(),
        others => {
            let others: Vec<String> = others.iter().map(ToString::to_string).collect();
            format!("{}; --group shows the others here: {}", status.group, others.join(", "))
        }
    };
    output::pairs(&[
        ("node", status.node.clone()),
        ("version", status.version.clone()),
        ("runtime", status.runtime.clone()),
        ("group", group),
        ("role", status.role.clone()),
        ("writes", writes.to_owned()),
        ("epoch", status.epoch.to_string()),
        ("log", format!("entries {} to {}", status.log_first_index, status.last_index)),
        ("committed", status.commit_index.to_string()),
        ("applied", status.applied_index.to_string()),
        ("log time", output::moment(status.log_time_ms)),
        ("log size", output::size(status.log_bytes)),
        ("state size", output::size(status.state_disk_bytes)),
        ("free disk", output::size(status.free_disk_bytes)),
        ("snapshot", snapshot),
        ("tenants", status.tenants.to_string()),
        ("plugins", status.plugins.to_string()),
        ("sessions", status.sessions.to_string()),
        ("uptime", HumanDuration(Duration::from_millis(status.uptime_ms)).to_string()),
        ("data", status.data_address.clone()),
        ("admin", status.admin_address.clone()),
    ])
}

/// Runs `snapshot`.
pub(crate) async fn snapshot(group: GroupArgument, context: &Context) -> anyhow::Result<()> {
    let snapshot = context.admin().await?.in_group(group.group).snapshot().await?;
    context.print(&snapshot, |snapshot| {
        let size = output::size(snapshot.bytes);
        let (index, first) = (snapshot.index, snapshot.log_first_index);
        format!("snapshot up to entry {index}: {size}; the log now begins at entry {first}")
    })
}
