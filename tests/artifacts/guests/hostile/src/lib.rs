//! A plugin that misbehaves on demand, for the tests of the host.
//!
//! Two things choose what it does:
//!
//! - the **command** (or query): a fault's name, perhaps with a number, as in `loop` or `put-big 1000000`.
//!   `in-validate FAULT` does it in `validate` already. [`fault`] lists them;
//! - the **mode**, a text in the data section that `mortise_artifacts::bad_guest` patches: `FAULT-in-EXPORT` does
//!   the fault in that export, whatever its input. Some modes change one thing only: see [`mode`].
//!
//! Without either it is a plain map: `put KEY VALUE`, `get KEY`, `due MILLISECONDS`, and a faithful snapshot. `who`
//! tells who asks.

#![allow(unsafe_code)] // What wit_bindgen generates for the exports cannot carry an attribute of its own.

mod fault;
mod mode;

use fault::{Host, Reply, misbehave, rejection};

#[allow(missing_docs, unreachable_pub, clippy::all)] // generated
mod bindings {
    wit_bindgen::generate!({ world: "plugin", path: "../../../../wit" });
}

use bindings::mortise::storage::state::{Direction, KeyRange, Transaction, View};
use bindings::mortise::storage::transfer::{Sink, Source};
use bindings::{Context, Guest, Manifest, Rejection};

struct Hostile;

impl Guest for Hostile {
    fn describe() -> Manifest {
        mode::fault_in("describe", &Host::Nothing);
        let is = |wanted| mode::is(wanted);
        Manifest {
            name: if is("bad-manifest-name") { "../Hostile plugin" } else { "hostile" }.to_string(),
            version: "0.1.0".to_string(),
            schema: if is("schema-zero") { 0 } else { 1 },
            summary: if is("giant-manifest") {
                "x".repeat(8 << 20)
            } else {
                "Misbehaves on demand".to_string()
            },
            encoding: "text/plain".to_string(),
            examples: vec![("put".to_string(), b"put key value".to_vec())],
        }
    }

    fn validate(view: &View, _ctx: Context, command: Vec<u8>) -> Result<(), Rejection> {
        mode::fault_in("validate", &Host::View(view));
        match text(&command)?.strip_prefix("in-validate ") {
            Some(fault) => misbehave(fault, &Host::View(view)).map(drop),
            None => Ok(()),
        }
    }

    fn apply(tx: &Transaction, ctx: Context, command: Vec<u8>) -> Reply {
        mode::fault_in("apply", &Host::Transaction(tx));
        answer(&command, ctx, &Host::Transaction(tx))
    }

    fn query(view: &View, ctx: Context, request: Vec<u8>) -> Reply {
        mode::fault_in("query", &Host::View(view));
        answer(&request, ctx, &Host::View(view))
    }

    fn expire(tx: &Transaction, ctx: Context) {
        tx.put(b"expired", &ctx.time_ms.to_be_bytes());
        mode::fault_in("expire", &Host::Transaction(tx));
    }

    fn snapshot(view: &View, output: &Sink) -> Result<(), String> {
        mode::fault_in("snapshot", &Host::View(view));
        let mut start = Vec::new();
        loop {
            let page = view.scan(&KeyRange { start, end: None }, Direction::Ascending, 64 << 10);
            output.write(&page.pairs);
            if mode::is("error-in-snapshot") {
                return Err("half-way, the snapshot fails".to_string());
            }
            start = match page.next {
                _ if mode::is("endless-snapshot") => Vec::new(),
                Some(next) => next,
                None => return Ok(()),
            };
        }
    }

    fn restore(tx: &Transaction, _ctx: Context, input: &Source) -> Result<(), String> {
        mode::fault_in("restore", &Host::Transaction(tx));
        let mut dump = Vec::new();
        while let Some(chunk) = input.read(64 << 10) {
            dump.extend_from_slice(&chunk);
        }
        let mut rest = dump.as_slice();
        // The one pair that an unfaithful plugin forgets is the first.
        let mut forget = mode::is("unfaithful-snapshot");
        while !rest.is_empty() {
            let (key, value, behind) = pair(rest).ok_or("the snapshot ends within a pair")?;
            if !std::mem::take(&mut forget) {
                tx.put(key, value);
            }
            rest = behind;
        }
        if mode::is("error-in-restore") { Err("at its end, restore fails".to_string()) } else { Ok(()) }
    }

    fn migrate(tx: &Transaction, _ctx: Context, from_schema: u32) -> Result<(), String> {
        tx.put(b"migrated-from", &from_schema.to_be_bytes());
        mode::fault_in("migrate", &Host::Transaction(tx));
        if mode::is("error-in-migrate") { Err("migrate fails".to_string()) } else { Ok(()) }
    }
}

bindings::export!(Hostile with_types_in bindings);

/// `who` is answered with the caller's name; everything else names a fault.
fn answer(command: &[u8], ctx: Context, host: &Host<'_>) -> Reply {
    match text(command)? {
        "who" => Ok(ctx.principal.unwrap_or_default().into_bytes()),
        fault => misbehave(fault, host),
    }
}

fn text(command: &[u8]) -> Result<&str, Rejection> {
    std::str::from_utf8(command).map_err(|_| rejection("not_utf8", "a command is UTF-8 text"))
}

/// Splits a packed page into its first key, its value, and what follows.
fn pair(packed: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (key_bytes, rest) = packed.split_first_chunk::<4>()?;
    let (value_bytes, rest) = rest.split_first_chunk::<4>()?;
    let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*key_bytes) as usize)?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value_bytes) as usize)?;
    Some((key, value, rest))
}
