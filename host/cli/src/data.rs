//! `mortise write` and `mortise query`: a plugin's own commands, as bytes.

use clap::Args;
use serde_json::{Value, json};

use crate::context::Context;
use crate::{input, output};

/// Arguments of `write`.
#[derive(Args, Debug)]
#[command(after_help = "\
Prints the plugin's reply: as text where it is text, else in hexadecimal.

Examples:
  mortise write ledger '{\"open\":{\"account\":\"ann\"}}'
  mortise write ledger @command.json
  make-command | mortise write ledger -")]
pub(crate) struct WriteArguments {
    /// The tenant
    tenant: String,
    /// The command: a text, @FILE, or - for the standard input
    command: String,
}

/// Arguments of `query`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  mortise query ledger '{\"balance\":{\"account\":\"ann\"}}'")]
pub(crate) struct QueryArguments {
    /// The tenant
    tenant: String,
    /// The request: a text, @FILE, or - for the standard input
    request: String,
}

/// Runs `write`.
pub(crate) async fn write(arguments: WriteArguments, context: &Context) -> anyhow::Result<()> {
    let command = input::bytes(&arguments.command)?;
    let written = context.data().await?.tenant(arguments.tenant).write(command).await?;
    if context.json {
        return output::json(&json!({ "reply": output::to_json(&written.reply), "index": written.index.0 }));
    }
    if written.reply.is_empty() && output::is_terminal() {
        return output::line("OK");
    }
    print(&written.reply)
}

/// Runs `query`.
pub(crate) async fn query(arguments: QueryArguments, context: &Context) -> anyhow::Result<()> {
    let request = input::bytes(&arguments.request)?;
    let answer = context.data().await?.tenant(arguments.tenant).query(request).await?;
    if context.json {
        let response = output::to_json(&answer.response);
        return output::json(&json!({ "response": response, "applied": answer.applied.0 }));
    }
    print(&answer.response)
}

fn print(bytes: &[u8]) -> anyhow::Result<()> {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) if output::is_terminal() => output::json(&value),
        _ => output::line(&output::text_or_hex(bytes)),
    }
}
