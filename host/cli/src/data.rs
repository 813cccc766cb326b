//! `mortise write`, `mortise query` and `mortise fate`: a plugin's own commands, as bytes, and what became of them.

use std::time::Duration;

use clap::{Args, ValueEnum};
use mortise_client::{Client, Fate, Freshness, Position, WriterOptions};
use serde_json::{Value, json};

use crate::context::Context;
use crate::{input, output};

/// How much longer than its command a session lives that was opened for it.
const SESSION_TTL_EXTRA: Duration = Duration::from_secs(5);

/// Arguments of `write`.
#[derive(Args, Debug)]
#[command(after_help = "\
Prints the plugin's reply: as text where it is text, else in hexadecimal. With --ack leader it prints the write's token, which
`mortise fate` takes; with --wait as well, it goes on to the reply, also where another node becomes the leader meanwhile.
A write that was lost with its leader is not sent again: exit code 1.

Examples:
  mortise write ledger '{\"open\":{\"account\":\"ann\"}}'
  mortise write ledger @command.json
  make-command | mortise write ledger -
  mortise write ledger @command.json --ack leader")]
pub(crate) struct WriteArguments {
    /// The tenant
    tenant: String,
    /// The command: a text, @FILE, or - for the standard input
    command: String,
    #[command(flatten)]
    ack: AckArguments,
    /// With --ack leader: wait for the reply, too
    #[arg(long, requires = "ack")]
    wait: bool,
}

/// When a write is acknowledged, as an argument.
#[derive(Args, Debug)]
pub(crate) struct AckArguments {
    /// When to take the write for done
    #[arg(long, value_name = "WHEN", default_value = "committed")]
    pub(crate) ack: Ack,
}

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ack {
    /// Once every in-sync member has it on disk, and it is applied: it stays
    Committed,
    /// Once the leader alone has it on disk: it is lost if the leader goes before the others have it
    Leader,
}

/// Arguments of `query`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mortise query ledger '{\"balance\":{\"account\":\"ann\"}}'
  mortise query ledger @request.json --stale-ms 500
  mortise query ledger @request.json --at-least 1.3.1702")]
pub(crate) struct QueryArguments {
    /// The tenant
    tenant: String,
    /// The request: a text, @FILE, or - for the standard input
    request: String,
    #[command(flatten)]
    freshness: FreshnessArguments,
}

/// How fresh a read has to be, as arguments of which one at most is given. Without, it is linearizable.
#[derive(Args, Debug)]
#[command(next_help_heading = "Freshness [default: every write acknowledged before; the leader answers]")]
#[group(multiple = false)]
pub(crate) struct FreshnessArguments {
    /// As by default, but the leader does not ask the other members: right unless machines' clocks differ in speed by a tenth
    #[arg(long)]
    lease: bool,
    /// Shows every write that was acknowledged more than so many milliseconds ago; any member answers
    #[arg(long, value_name = "NUMBER")]
    stale_ms: Option<u64>,
    /// Shows the write with this token, as `--ack leader` prints it; any member answers
    #[arg(long, value_name = "TOKEN")]
    at_least: Option<Position>,
}

impl FreshnessArguments {
    /// What was asked for.
    pub(crate) fn choice(&self) -> Freshness {
        match *self {
            Self { lease: true, .. } => Freshness::Lease,
            Self { stale_ms: Some(max), .. } => Freshness::StaleMs(max),
            Self { at_least: Some(token), .. } => Freshness::AtLeast(token),
            Self { lease: false, stale_ms: None, at_least: None } => Freshness::Linearizable,
        }
    }
}

/// Arguments of `fate`.
#[derive(Args, Debug)]
#[command(after_help = "\
Prints one word:
  committed  it stays
  lost       it went with the leader that had acknowledged it, was not executed, and never will be
  pending    it may still be either

Only the leader can tell, after a failover the new one; while there is none: exit code 5.

Example:
  mortise fate ledger 1.3.1702")]
pub(crate) struct FateArguments {
    /// The tenant
    tenant: String,
    /// The token that `mortise write --ack leader` printed
    // Not `token`: that is a global option.
    #[arg(value_name = "TOKEN")]
    position: Position,
    /// Wait for the end of a pending write, up to --timeout
    #[arg(long)]
    wait: bool,
}

/// Runs `write`.
pub(crate) async fn write(arguments: WriteArguments, context: &Context) -> anyhow::Result<()> {
    let WriteArguments { tenant, command, ack: AckArguments { ack }, wait } = arguments;
    let command = input::bytes(&command)?;
    let client = context.data().await?;
    match ack {
        Ack::Leader if wait => return write_both(&client, tenant, command, context).await,
        Ack::Leader => return print_token(client.tenant(tenant).write_early(command).await?, context),
        Ack::Committed => {}
    }
    let written = client.tenant(tenant).write(command).await?;
    print_reply(&written.reply, Some(written.position), context)
}

/// Writes, and prints first the token and then the reply.
async fn write_both(
    client: &Client,
    tenant: String,
    command: Vec<u8>,
    context: &Context,
) -> anyhow::Result<()> {
    let options = WriterOptions {
        timeout: Some(context.timeout()),
        session_ttl: Some(context.timeout() + SESSION_TTL_EXTRA),
        ..WriterOptions::default()
    };
    let writer = client.tenant(tenant).writer(options).await?;
    let mut pending = writer.send_early(command).await?;
    let token = pending.token().await;
    if let Some(token) = token {
        print_token(token, context)?;
    }
    let reply = pending.await?;
    print_reply(&reply, token, context)?;
    // Where that fails, the session ends by itself when it is unused for a while.
    let _ = writer.close().await;
    Ok(())
}

/// Runs `query`.
pub(crate) async fn query(arguments: QueryArguments, context: &Context) -> anyhow::Result<()> {
    let QueryArguments { tenant, request, freshness } = arguments;
    let request = input::bytes(&request)?;
    let answer = context.data().await?.tenant(tenant).query_fresh(request, freshness.choice()).await?;
    if context.json {
        let response = output::to_json(&answer.response);
        return output::json(&json!({ "response": response, "applied": answer.applied.0 }));
    }
    print(&answer.response)
}

/// Runs `fate`.
pub(crate) async fn fate(arguments: FateArguments, context: &Context) -> anyhow::Result<()> {
    let FateArguments { tenant, position: token, wait } = arguments;
    let wait = if wait { context.timeout() } else { Duration::ZERO };
    let fate = match context.data().await?.tenant(tenant).ask_fate(token, None, wait).await? {
        Fate::Pending => "pending",
        Fate::Committed(_) => "committed",
        Fate::Lost => "lost",
    };
    context.print(&json!({ "token": token.to_string(), "fate": fate }), |_| fate.into())
}

/// Prints the token of a write that the leader alone has acknowledged.
pub(crate) fn print_token(token: Position, context: &Context) -> anyhow::Result<()> {
    context.print(&json!({ "token": token.to_string() }), |_| token.to_string())
}

fn print_reply(reply: &[u8], token: Option<Position>, context: &Context) -> anyhow::Result<()> {
    if context.json {
        let token = token.map(|token| token.to_string());
        return output::json(&json!({ "reply": output::to_json(reply), "token": token }));
    }
    if reply.is_empty() && output::is_terminal() {
        return output::line("OK");
    }
    print(reply)
}

fn print(bytes: &[u8]) -> anyhow::Result<()> {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) if output::is_terminal() => output::json(&value),
        _ => output::line(&output::text_or_hex(bytes)),
    }
}
