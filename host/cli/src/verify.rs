//! `mortise verify`: everything in a data folder, read and checked.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use mortise_node::cluster::{self, NodeReport};
use mortise_node::replica::{self, VerifyReport};
use mortise_runtime::{Runtime, RuntimeOptions};
use serde_json::{Value, json};

use crate::context::Context;
use crate::errors::FAILURE;
use crate::output;

const REPLICA_ADVICE: &str =
    "Restore the folder from a copy, or keep it as it is and ask for help; a node refuses what is damaged.";
const NODE_ADVICE: &str = "Start the node: it puts a damaged group aside and gets the data anew from the other members. \
    Where it refuses to start, give it an empty folder. An old copy of the folder counts for nothing.";

/// Its arguments.
#[derive(Args, Debug)]
#[command(after_help = "\
Reads log, state and snapshots with all their checksums, and digests every tenant's state; of a node of a cluster,
those of each of its groups. Repairs nothing. Exit code 1 where something is wrong.

For a node of a cluster, damage is no disaster: it puts a damaged group aside when it starts, and gets the data anew
from the other members.

Example:
  mortise verify data/dev")]
pub(crate) struct VerifyArguments {
    /// The data folder of a node that does not run
    #[arg(value_name = "DATA_DIR")]
    folder: PathBuf,
}

/// Runs it.
pub(crate) async fn run(arguments: VerifyArguments, context: &Context) -> anyhow::Result<ExitCode> {
    let folder = arguments.folder;
    let check = move || {
        let runtime = Runtime::new(RuntimeOptions::default())?;
        let found = if folder.join("groups").is_dir() {
            cluster::verify(&folder, &runtime).map(Found::Node)
        } else {
            replica::verify(&folder, &runtime).map(Found::Replica)
        };
        found.with_context(|| format!("verify {}", folder.display()))
    };
    let found = tokio::task::spawn_blocking(check).await.context("the check crashed")??;
    context.print(&found.json(), |_| found.show())?;
    Ok(if found.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) })
}

/// What was in the folder.
enum Found {
    /// The data of a node alone.
    Replica(VerifyReport),
    /// The groups of a node of a cluster.
    Node(NodeReport),
}

impl Found {
    fn is_sound(&self) -> bool {
        match self {
            Self::Replica(report) => report.problems.is_empty(),
            Self::Node(report) => report.is_sound(),
        }
    }

    fn json(&self) -> Value {
        let report = match self {
            Self::Replica(report) => return json(report),
            Self::Node(report) => report,
        };
        let group = |(name, found): &(String, Result<VerifyReport, String>)| {
            let mut group = match found {
                Ok(report) => json(report),
                Err(error) => json!({ "sound": false, "problems": [error] }),
            };
            group["folder"] = name.as_str().into();
            group
        };
        json!({
            "sound": report.is_sound(),
            "groups": report.groups.iter().map(group).collect::<Vec<_>>(),
            "set_aside": report.set_aside,
            "problems": report.problems,
        })
    }

    fn show(&self) -> String {
        let (text, advice) = match self {
            Self::Replica(report) => (show(report), REPLICA_ADVICE),
            Self::Node(report) => (show_node(report), NODE_ADVICE),
        };
        if self.is_sound() { text } else { format!("{text}\n{advice}") }
    }
}

fn show_node(report: &NodeReport) -> String {
    let mut parts: Vec<String> =
        report.problems.iter().map(|problem| format!("problem: {problem}")).collect();
    for (name, found) in &report.groups {
        let found = found.as_ref().map_or_else(|error| format!("problem: {error}"), show);
        parts.push(format!("groups/{name}\n{found}"));
    }
    for name in &report.set_aside {
        parts.push(format!("groups/{name}\nkept aside since it was found damaged; not checked"));
    }
    if parts.is_empty() {
        parts.push("no groups".into());
    }
    parts.join("\n\n")
}

fn json(report: &VerifyReport) -> Value {
    let tenants: Vec<_> = report
        .tenants
        .iter()
        .map(|tenant| {
            json!({
                "name": tenant.name,
                "commands": tenant.commands,
                "effect_digest": tenant.effect_digest,
                "state_digest": tenant.state.digest.to_string(),
                "pairs": tenant.state.pairs,
                "bytes": tenant.state.bytes,
            })
        })
        .collect();
    let snapshots: Vec<_> = report
        .snapshots
        .iter()
        .map(|(name, info)| json!({ "name": name, "bytes": info.bytes, "digest": output::hex(&info.digest) }))
        .collect();
    json!({
        "sound": report.problems.is_empty(),
        "log_first_index": report.log.0.0,
        "log_last_index": report.log.1.0,
        "entries": report.entries,
        "torn_bytes": report.torn_bytes,
        "applied_index": report.applied.0,
        "tenants": tenants,
        "snapshots": snapshots,
        "problems": report.problems,
    })
}

fn show(report: &VerifyReport) -> String {
    let mut rows = vec![
        ("log", format!("{} entries, {} to {}", report.entries, report.log.0, report.log.1)),
        ("state", format!("applied up to entry {}", report.applied)),
    ];
    if report.torn_bytes > 0 {
        rows.push(("torn tail", format!("{} cut: no fsync covered them", output::size(report.torn_bytes))));
    }
    rows.extend(
        report
            .snapshots
            .iter()
            .map(|(name, info)| ("snapshot", format!("{name}, {}", output::size(info.bytes)))),
    );
    let mut text = output::pairs(&rows);
    if !report.tenants.is_empty() {
        let rows: Vec<_> = report
            .tenants
            .iter()
            .map(|tenant| {
                vec![
                    tenant.name.clone(),
                    tenant.commands.to_string(),
                    tenant.state.pairs.to_string(),
                    output::size(tenant.state.bytes),
                    tenant.state.digest.to_string(),
                ]
            })
            .collect();
        let table = output::table(&["TENANT", "COMMANDS", "PAIRS", "SIZE", "STATE DIGEST"], &rows);
        text = format!("{text}\n\n{table}");
    }
    if report.problems.is_empty() {
        return format!("{text}\n\nsound");
    }
    for problem in &report.problems {
        text = format!("{text}\nproblem: {problem}");
    }
    text
}
