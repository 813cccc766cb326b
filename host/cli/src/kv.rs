//! `mortise kv`: keys and values, in the manner of etcdctl.

mod read;
mod watch;

use clap::{ArgGroup, Args, Subcommand};
use mortise_client::kv::{self, Expected, Kv, Reply};
use serde_json::json;

pub(crate) use self::read::RangeArguments;
use self::watch::WatchArguments;
use crate::context::Context;
use crate::data::{Ack, AckArguments, FreshnessArguments, print_token};
use crate::input;

/// Its arguments.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mortise kv put greeting hello
  mortise kv put session-7 open --ttl 60
  mortise kv put seen yes --ack leader      prints a token for `mortise fate kv TOKEN`
  mortise kv get greeting --stale-ms 500    of any member, at most half a second late
  mortise kv cas greeting goodbye --expect hello
  mortise kv range user/ --prefix --limit 10
  mortise kv del user/ --prefix
  mortise kv watch --prefix user/
  mortise kv put --hex 00ff 0102")]
pub(crate) struct KvArguments {
    /// The tenant
    #[arg(long, global = true, env = "MORTISE_KV_TENANT", default_value = "kv")]
    tenant: String,
    /// Keys and values are hexadecimal, in and out
    #[arg(long, global = true)]
    hex: bool,
    #[command(subcommand)]
    command: KvCommand,
}

/// The commands.
#[derive(Debug, Subcommand)]
enum KvCommand {
    /// Set a key, whatever it held
    Put {
        #[command(flatten)]
        put: PutArguments,
        #[command(flatten)]
        ack: AckArguments,
    },
    /// Set a key that is not there yet
    PutIfAbsent(PutArguments),
    /// Print a key's value; exit code 4 where it is not there
    Get {
        /// The key
        key: String,
        #[command(flatten)]
        freshness: FreshnessArguments,
    },
    /// Remove a key or a range of them; prints how many there were
    Del(DelArguments),
    /// Set a key that holds what is expected; exit code 3 where it does not
    Cas(CasArguments),
    /// Print keys and their values, in order
    Range(RangeArguments),
    /// Print changes of keys as they happen
    Watch(WatchArguments),
}

#[derive(Args, Debug)]
struct PutArguments {
    /// The key
    key: String,
    /// The value: a text, @FILE, or - for the standard input
    value: String,
    /// Remove the key after so long
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=u64::MAX / 1000))]
    ttl: Option<u64>,
}

#[derive(Args, Debug)]
struct DelArguments {
    /// The key; the first of the range, or the prefix
    key: String,
    /// All keys that begin with KEY
    #[arg(long, conflicts_with = "range_end")]
    prefix: bool,
    /// All keys from KEY up to, but without, this one
    #[arg(long, value_name = "KEY")]
    range_end: Option<String>,
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("expected").required(true).multiple(false))]
struct CasArguments {
    /// The key
    key: String,
    /// Its new value: a text, @FILE, or - for the standard input
    value: String,
    /// It holds this value
    #[arg(long, value_name = "VALUE", group = "expected")]
    expect: Option<String>,
    /// Its last write has this version
    #[arg(long, value_name = "VERSION", group = "expected")]
    expect_version: Option<u64>,
    /// It is not there
    #[arg(long, group = "expected")]
    expect_absent: bool,
    /// It is there
    #[arg(long, group = "expected")]
    expect_present: bool,
    /// Remove the key after so long
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=u64::MAX / 1000))]
    ttl: Option<u64>,
}

/// Runs one.
pub(crate) async fn run(arguments: KvArguments, context: &Context) -> anyhow::Result<()> {
    let KvArguments { tenant, hex, command } = arguments;
    let connect = async || anyhow::Ok(Kv::new(context.data().await?.tenant(tenant.as_str())));
    match command {
        KvCommand::Put { put: PutArguments { key, value, ttl }, ack } => {
            let (key, value) = (bytes(&key, hex)?, value_bytes(&value, hex)?);
            if ack.ack == Ack::Leader {
                let command = kv::put(key, value, milliseconds(ttl));
                let token = context.data().await?.tenant(tenant.as_str()).write_early(command).await?;
                return print_token(token, context);
            }
            done(&connect().await?.put(key, value, milliseconds(ttl)).await?, context)
        }
        KvCommand::PutIfAbsent(PutArguments { key, value, ttl }) => {
            let (key, value) = (bytes(&key, hex)?, value_bytes(&value, hex)?);
            done(&connect().await?.put_if_absent(key, value, milliseconds(ttl)).await?, context)
        }
        KvCommand::Cas(cas) => {
            let expected = match (&cas.expect, cas.expect_version) {
                (Some(value), _) => Expected::Value(bytes(value, hex)?),
                (None, Some(version)) => Expected::Version(version),
                (None, None) if cas.expect_absent => Expected::Absent,
                (None, None) => Expected::Present,
            };
            let (key, value) = (bytes(&cas.key, hex)?, value_bytes(&cas.value, hex)?);
            done(
                &connect().await?.compare_and_swap(key, expected, value, milliseconds(cas.ttl)).await?,
                context,
            )
        }
        KvCommand::Del(del) => {
            let key = bytes(&del.key, hex)?;
            let range = match (del.prefix, del.range_end) {
                (true, _) => Some(read::keys(key.clone(), None, true)),
                (false, Some(end)) => Some(read::keys(key.clone(), Some(bytes(&end, hex)?), false)),
                (false, None) => None,
            };
            let kv = connect().await?;
            let reply = match range {
                Some(range) => kv.delete_range(range, true).await?,
                None => kv.delete(key).await?,
            };
            let deleted = json!({ "deleted": reply.deleted, "version": reply.version });
            context.print(&deleted, |_| reply.deleted.to_string())
        }
        KvCommand::Get { key, freshness } => {
            let key = bytes(&key, hex)?;
            read::get(&connect().await?.reading(freshness.choice()), &tenant, key, hex, context).await
        }
        KvCommand::Watch(watch) => watch::run(&connect().await?, watch, hex, context).await,
        KvCommand::Range(range) => read::range(&connect, range, hex, context).await,
    }
}

fn done(reply: &Reply, context: &Context) -> anyhow::Result<()> {
    context.print(&json!({ "version": reply.version }), |_| "OK".into())
}

/// A key, or a value to compare with.
fn bytes(text: &str, hex: bool) -> anyhow::Result<Vec<u8>> {
    if hex { input::unhex(text) } else { Ok(text.as_bytes().to_vec()) }
}

/// A value: also out of a file, which is then taken as it is, hexadecimal or not.
fn value_bytes(text: &str, hex: bool) -> anyhow::Result<Vec<u8>> {
    if hex && text != "-" && !text.starts_with('@') { input::unhex(text) } else { input::bytes(text) }
}

fn milliseconds(ttl: Option<u64>) -> u64 {
    ttl.map_or(0, |seconds| seconds.saturating_mul(1000))
}
