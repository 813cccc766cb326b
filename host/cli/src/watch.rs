//! `mortise watch`: a tenant's commands as they are applied.

use clap::Args;
use mortise_client::watch::{Effect, WatchEvent, WatchFrom, WatchOptions};
use serde_json::{Value, json};

use crate::context::Context;
use crate::{input, output};

/// Where a watch begins and ends.
#[derive(Args, Debug)]
pub(crate) struct Extent {
    /// Begin with this command: the tenant's count of commands, which kv calls a version [default: from now on]
    #[arg(long, value_name = "SEQUENCE", value_parser = clap::value_parser!(u64).range(1..))]
    from: Option<u64>,
    /// Begin with the oldest command that is kept
    #[arg(long, conflicts_with = "from")]
    oldest: bool,
    /// End after so many lines [default: when interrupted]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

impl Extent {
    /// Where it begins.
    pub(crate) fn begin(&self) -> WatchFrom {
        match self.from {
            Some(sequence) => WatchFrom::Sequence(sequence),
            None if self.oldest => WatchFrom::Oldest,
            None => WatchFrom::Now,
        }
    }

    /// How many lines are printed at most.
    pub(crate) fn lines(&self) -> u64 {
        self.limit.unwrap_or(u64::MAX)
    }
}

/// Its arguments.
#[derive(Args, Debug)]
#[command(after_help = "\
The tenant must have been created with --watch. It keeps its newest 100,000 commands, but no more than 64 MiB of them; what
is older is an error that names the oldest sequence. The watch goes on by itself where a node fails or another one leads,
without a gap and without a repeat. To go on after an interruption, give the last sequence printed plus 1 with --from.

Prints a line for each command: its sequence, the command (or \"expired\"), the reply or why there is none, and what it
changed in the plugin's state, with tabs between; bytes that are no text of one line in hexadecimal, after 0x.

Examples:
  mortise watch ledger
  mortise watch ledger --from 120 --json | jq -c .reply
  mortise watch ledger --oldest --limit 10")]
pub(crate) struct WatchArguments {
    /// The tenant
    tenant: String,
    #[command(flatten)]
    extent: Extent,
    /// Only commands that change keys of the plugin's state with this prefix, and only those changes
    #[arg(long, value_name = "PREFIX", conflicts_with = "hex_prefix")]
    prefix: Option<String>,
    /// The same, the prefix in hexadecimal
    #[arg(long, value_name = "PREFIX")]
    hex_prefix: Option<String>,
    /// Ask any member of the group, not only its leader: the same, but maybe later
    #[arg(long)]
    any_member: bool,
}

/// Runs it.
pub(crate) async fn run(arguments: WatchArguments, context: &Context) -> anyhow::Result<()> {
    let WatchArguments { tenant, extent, prefix, hex_prefix, any_member } = arguments;
    let key_prefix = match hex_prefix {
        Some(prefix) => input::unhex(&prefix)?,
        None => prefix.unwrap_or_default().into_bytes(),
    };
    let options = WatchOptions { from: extent.begin(), key_prefix, any_member };
    let mut watch = context.data().await?.tenant(tenant).watch(options).await?;
    for _ in 0..extent.lines() {
        let event = watch.next().await?;
        // One object a line, whoever reads it.
        output::line(&if context.json { to_json(&event).to_string() } else { to_line(&event) })?;
    }
    Ok(())
}

fn to_line(event: &WatchEvent) -> String {
    let command =
        event.command.as_ref().map_or_else(|| "expired".to_owned(), |command| output::word(command));
    let outcome = match &event.outcome {
        Ok(reply) => output::word(reply),
        Err(error) => error.to_string(),
    };
    let mut columns = vec![event.sequence.to_string(), command, outcome];
    columns.extend(event.effects.iter().map(|effect| match effect {
        Effect::Put(key, value) => format!("put {} {}", output::word(key), output::word(value)),
        Effect::Delete(key) => format!("delete {}", output::word(key)),
        Effect::DeleteRange(range) => {
            let end = range.end.as_ref().map_or_else(|| "the end".to_owned(), |end| output::word(end));
            format!("delete from {} to {end}", output::word(&range.start))
        }
    }));
    columns.join("\t")
}

fn to_json(event: &WatchEvent) -> Value {
    let mut object = json!({
        "sequence": event.sequence,
        "position": event.position.to_string(),
        "time_ms": event.time_ms,
        "effects": event.effects.iter().map(effect_to_json).collect::<Vec<_>>(),
    });
    match &event.command {
        Some(command) => object["command"] = output::to_json(command),
        None => object["expired"] = true.into(),
    }
    if let Some(principal) = &event.principal {
        object["principal"] = principal.as_str().into();
    }
    match &event.outcome {
        Ok(reply) => object["reply"] = output::to_json(reply),
        Err(error) => {
            object["error"] = error.to_string().into();
            if let Some(rejection) = error.rejection() {
                object["rejection"] = rejection.code.as_str().into();
            }
        }
    }
    object
}

fn effect_to_json(effect: &Effect) -> Value {
    match effect {
        Effect::Put(key, value) => json!({ "put": output::to_json(key), "value": output::to_json(value) }),
        Effect::Delete(key) => json!({ "delete": output::to_json(key) }),
        Effect::DeleteRange(range) => json!({
            "delete_from": output::to_json(&range.start),
            "to": range.end.as_ref().map(|end| output::to_json(end)),
        }),
    }
}
