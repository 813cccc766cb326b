//! `mortise verify`: everything in a data folder, read and checked.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use mortise_node::replica::VerifyReport;
use mortise_runtime::{Runtime, RuntimeOptions};
use serde_json::{Value, json};

use crate::context::Context;
use crate::errors::FAILURE;
use crate::output;

/// Its arguments.
#[derive(Args, Debug)]
#[command(after_help = "\
Reads log, state and snapshots with all their checksums, and digests every tenant's state. Repairs nothing.
Exit code 1 where something is wrong.

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
    let groups = folder.join("groups");
    if groups.is_dir() {
        anyhow::bail!(
            "{} is the folder of a node of a cluster: verify each group's folder in {}",
            folder.display(),
            groups.display()
        );
    }
    let report = tokio::task::spawn_blocking(move || {
        let runtime = Runtime::new(RuntimeOptions::default())?;
        let report = mortise_node::replica::verify(&folder, &runtime);
        report.with_context(|| format!("verify {}", folder.display()))
    })
    .await
    .context("the check crashed")??;
    context.print(&json(&report), |_| show(&report))?;
    Ok(if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) })
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
    format!(
        "{text}\nRestore the folder from a copy, or keep it as it is and ask for help; a node refuses what is damaged."
    )
}
