//! A map from byte strings to byte strings: put, get, delete, compare-and-swap, ranges, batches and TTLs.
//!
//! `proto/commands/proto/mortise/kv/v1/kv.proto` is its interface: the messages, and every code it refuses with.
//! It is also the plugin to copy from. Read on in `record` (what lies in the state), `write` (commands), `range`
//! (requests) and `expiry` (TTLs).
//!
//! Every key has a version, the tenant's count of commands at its last write, so that a caller can read, compute and
//! write back on the condition that nobody else wrote in between.

mod expiry;
mod protobuf;
mod range;
mod record;
mod write;

use mortise_commands::kv::{Command, Put, Reply, Request, Response, command};
use mortise_sdk::snapshot::{Source, load};
use mortise_sdk::{Context, Plugin, Rejection, Transaction, View, export_plugin};

pub use protobuf::Protobuf;

/// The plugin.
pub struct Kv;
export_plugin!(Kv);

impl Plugin for Kv {
    const NAME: &'static str = "kv";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "A key-value map with compare-and-swap, ranges, batches and TTLs";
    type Command = Command;
    type Reply = Reply;
    type Request = Request;
    type Response = Response;
    type Encoding = Protobuf;

    fn check(_: &View<'_>, _: &Context, command: &Command) -> Result<(), Rejection> {
        write::check(command)
    }

    fn apply(tx: &mut Transaction<'_>, context: &Context, command: Command) -> Result<Reply, Rejection> {
        write::apply(tx, context, command)
    }

    fn query(view: &View<'_>, context: &Context, request: Request) -> Result<Response, Rejection> {
        range::query(view, context, request)
    }

    fn expire(tx: &mut Transaction<'_>, context: &Context) {
        expiry::expire(tx, context);
    }

    /// Every pair, as by default; then says when the next key expires, which is no part of the pairs.
    fn restore(tx: &mut Transaction<'_>, _: &Context, source: &mut Source<'_>) -> Result<(), String> {
        load(tx, source)?;
        expiry::arm(tx);
        Ok(())
    }

    fn examples() -> Vec<(&'static str, Command)> {
        let put = Put { key: "greeting".into(), value: "hello".into(), ttl_ms: 0 };
        vec![("put", Command { operation: Some(command::Operation::Put(put)) })]
    }
}
