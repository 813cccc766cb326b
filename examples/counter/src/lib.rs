//! A counter, the smallest plugin that does something: add to it, read it.

use mortise_sdk::{Context, Json, Plugin, Rejection, Transaction, View, export_plugin};
use serde::{Deserialize, Serialize};

/// The plugin.
pub struct Counter;
export_plugin!(Counter);

/// Adds `by`, which may be negative: `{"add": {"by": 2}}`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Adds `by`, which may be negative.
    Add {
        /// How much.
        by: i64,
    },
}

/// Asks for the present value: `"value"`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The present value.
    Value,
}

const VALUE: &[u8] = b"value";

impl Plugin for Counter {
    const NAME: &'static str = "counter";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "A counter that can be added to and read";
    type Command = Command;
    type Reply = i64;
    type Request = Request;
    type Response = i64;
    type Encoding = Json;

    fn apply(tx: &mut Transaction<'_>, _: &Context, Command::Add { by }: Command) -> Result<i64, Rejection> {
        let value: i64 = tx.get_json(VALUE)?.unwrap_or(0);
        let overflow = || Rejection::exhausted("overflow", "the sum does not fit 64 bits");
        let sum = value.checked_add(by).ok_or_else(overflow)?;
        tx.put_json(VALUE, &sum)?;
        Ok(sum)
    }

    fn query(view: &View<'_>, _: &Context, Request::Value: Request) -> Result<i64, Rejection> {
        Ok(view.get_json(VALUE)?.unwrap_or(0))
    }

    fn examples() -> Vec<(&'static str, Command)> {
        vec![("add", Command::Add { by: 2 })]
    }
}
