//! `mortise kv watch`.

use clap::Args;
use mortise_client::kv::{Change, Kv, KvEvent};
use serde_json::{Map, Value};

use super::bytes;
use super::read::insert;
use crate::context::Context;
use crate::output;
use crate::watch::Extent;

/// Its arguments.
#[derive(Args, Debug)]
#[command(after_help = "\
The tenant must have been created with --watch. Prints a line for each key that changes: the version, PUT, DELETE or EXPIRE,
the key and its value, with tabs between; DELETE-RANGE with the first key and the key before which it ended, if any. What is
no text of one line is in hexadecimal, after 0x. --limit counts writes, each of which may change several keys.

Examples:
  mortise kv watch --prefix user/
  mortise kv watch --from 120 --json | jq -c 'select(.event == \"put\")'")]
pub(crate) struct WatchArguments {
    /// Only keys that begin with this [default: all keys]
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    #[command(flatten)]
    extent: Extent,
}

/// Runs it.
pub(super) async fn run(
    kv: &Kv,
    arguments: WatchArguments,
    hex: bool,
    context: &Context,
) -> anyhow::Result<()> {
    let prefix = bytes(arguments.prefix.as_deref().unwrap_or_default(), hex)?;
    let mut watch = kv.watch(prefix, arguments.extent.begin()).await?;
    for _ in 0..arguments.extent.lines() {
        let event = watch.next().await?;
        for change in &event.changes {
            let line = if context.json {
                to_json(&event, change, hex).to_string()
            } else {
                to_line(&event, change, hex)
            };
            output::line(&line)?;
        }
    }
    Ok(())
}

fn deleted(event: &KvEvent) -> &'static str {
    if event.expired { "expire" } else { "delete" }
}

fn to_line(event: &KvEvent, change: &Change, hex: bool) -> String {
    let word = |bytes: &[u8]| if hex { output::hex(bytes) } else { output::word(bytes) };
    let columns = match change {
        Change::Put(record) => vec!["PUT".to_owned(), word(&record.key), word(&record.value)],
        Change::Deleted(key) => vec![deleted(event).to_uppercase(), word(key)],
        Change::DeletedRange(start, end) => {
            let end = end.as_deref().map(word);
            ["DELETE-RANGE".to_owned(), word(start)].into_iter().chain(end).collect()
        }
    };
    format!("{}\t{}", event.version, columns.join("\t"))
}

fn to_json(event: &KvEvent, change: &Change, hex: bool) -> Value {
    let mut object = Map::new();
    object.insert("version".into(), event.version.into());
    object.insert("time_ms".into(), event.time_ms.into());
    if let Some(principal) = &event.principal {
        object.insert("principal".into(), principal.as_str().into());
    }
    match change {
        Change::Put(record) => {
            object.insert("event".into(), "put".into());
            insert(&mut object, "key", &record.key, hex);
            insert(&mut object, "value", &record.value, hex);
            if record.expires_ms > 0 {
                object.insert("expires_ms".into(), record.expires_ms.into());
            }
        }
        Change::Deleted(key) => {
            object.insert("event".into(), deleted(event).into());
            insert(&mut object, "key", key, hex);
        }
        Change::DeletedRange(start, end) => {
            object.insert("event".into(), "delete-range".into());
            insert(&mut object, "start", start, hex);
            if let Some(end) = end {
                insert(&mut object, "end", end, hex);
            }
        }
    }
    object.into()
}
