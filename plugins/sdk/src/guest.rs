//! The component's side: what the host exports to it, and what it exports to the host.

use std::marker::PhantomData;

use crate::allocator::{self, Allocator};
use crate::rejection::Kind;
use crate::snapshot::{Sink, Source};
use crate::{
    Decode, Direction, Encode, Encoding, KeyRange, Plugin, Rejection, Transaction, View, log::Level,
};

/// What wit-bindgen makes of `wit/plugin.wit`.
#[allow(missing_docs, unsafe_code, unreachable_pub, clippy::all, clippy::unwrap_used, clippy::expect_used)]
pub mod bindings {
    wit_bindgen::generate!({
        world: "plugin",
        path: "../../wit",
        pub_export_macro: true,
        export_macro_name: "export_component",
        default_bindings_module: "mortise_sdk::guest::bindings",
    });
}

use bindings::mortise::storage::{log, state, transfer, types};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator::new(allocator::behind_data);

/// Exports a [`Plugin`] as the world's functions. Made by [`export_plugin!`](crate::export_plugin).
pub struct Adapter<P>(PhantomData<P>);

impl<P: Plugin> bindings::Guest for Adapter<P> {
    fn describe() -> types::Manifest {
        let encoded = |(name, command): (&str, P::Command)| {
            P::Encoding::encode(&command).ok().map(|bytes| (name.to_owned(), bytes))
        };
        types::Manifest {
            name: P::NAME.to_owned(),
            version: P::VERSION.to_owned(),
            schema: P::SCHEMA,
            summary: P::SUMMARY.to_owned(),
            encoding: P::Encoding::MEDIA_TYPE.to_owned(),
            examples: P::examples().into_iter().filter_map(encoded).collect(),
        }
    }

    fn validate(view: &state::View, ctx: types::Context, command: Vec<u8>) -> Result<(), types::Rejection> {
        log_panics();
        let command = P::Encoding::decode(command)?;
        Ok(P::check(&View::new(Reader::View(view)), &ctx.into(), &command)?)
    }

    fn apply(
        tx: &state::Transaction,
        ctx: types::Context,
        command: Vec<u8>,
    ) -> Result<Vec<u8>, types::Rejection> {
        log_panics();
        let command = P::Encoding::decode(command)?;
        let reply = P::apply(&mut transaction(tx), &ctx.into(), command)?;
        Ok(P::Encoding::encode(&reply)?)
    }

    fn query(view: &state::View, ctx: types::Context, request: Vec<u8>) -> Result<Vec<u8>, types::Rejection> {
        log_panics();
        let request = P::Encoding::decode(request)?;
        let response = P::query(&View::new(Reader::View(view)), &ctx.into(), request)?;
        Ok(P::Encoding::encode(&response)?)
    }

    fn expire(tx: &state::Transaction, ctx: types::Context) {
        log_panics();
        P::expire(&mut transaction(tx), &ctx.into());
    }

    fn snapshot(view: &state::View, output: &transfer::Sink) -> Result<(), String> {
        log_panics();
        let mut sink = Sink::new(Output(output));
        P::snapshot(&View::new(Reader::View(view)), &mut sink)?;
        sink.flush();
        Ok(())
    }

    fn restore(tx: &state::Transaction, ctx: types::Context, input: &transfer::Source) -> Result<(), String> {
        log_panics();
        P::restore(&mut transaction(tx), &ctx.into(), &mut Source::new(Input(input)))
    }

    fn migrate(tx: &state::Transaction, ctx: types::Context, from_schema: u32) -> Result<(), String> {
        log_panics();
        P::migrate(&mut transaction(tx), &ctx.into(), from_schema)
    }
}

/// Makes a panic's message a line in the operator's log: to the host a panic is but an unreachable instruction.
fn log_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|info| write_log(Level::Error, &info.to_string()))));
}

fn transaction(tx: &state::Transaction) -> Transaction<'_> {
    Transaction::new(Reader::Transaction(tx), Writer(tx))
}

impl From<types::Context> for crate::Context {
    fn from(context: types::Context) -> Self {
        Self { sequence: context.sequence, time_ms: context.time_ms, principal: context.principal }
    }
}

impl From<Rejection> for types::Rejection {
    fn from(rejection: Rejection) -> Self {
        let kind = match rejection.kind {
            Kind::Invalid => types::Kind::Invalid,
            Kind::Conflict => types::Kind::Conflict,
            Kind::Missing => types::Kind::Missing,
            Kind::Denied => types::Kind::Denied,
            Kind::Exhausted => types::Kind::Exhausted,
            Kind::Unsupported => types::Kind::Unsupported,
        };
        Self { kind, code: rejection.code.to_owned(), message: rejection.message }
    }
}

impl From<&KeyRange> for state::KeyRange {
    fn from(range: &KeyRange) -> Self {
        Self { start: range.start.clone(), end: range.end.clone() }
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Reader<'a> {
    View(&'a state::View),
    Transaction(&'a state::Transaction),
}

impl Reader<'_> {
    pub(crate) fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::View(view) => view.get(key),
            Self::Transaction(tx) => tx.get(key),
        }
    }

    pub(crate) fn get_many(&self, keys: &[Vec<u8>]) -> Vec<Option<Vec<u8>>> {
        match self {
            Self::View(view) => view.get_many(keys),
            Self::Transaction(tx) => tx.get_many(keys),
        }
    }

    pub(crate) fn page(
        &self,
        range: &KeyRange,
        direction: Direction,
        bytes_max: u32,
    ) -> (Vec<u8>, Option<Vec<u8>>) {
        let range = range.into();
        let direction = match direction {
            Direction::Ascending => state::Direction::Ascending,
            Direction::Descending => state::Direction::Descending,
        };
        let page = match self {
            Self::View(view) => view.scan(&range, direction, bytes_max),
            Self::Transaction(tx) => tx.scan(&range, direction, bytes_max),
        };
        (page.pairs, page.next)
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Writer<'a>(&'a state::Transaction);

impl Writer<'_> {
    pub(crate) fn put(&self, key: &[u8], value: &[u8]) {
        self.0.put(key, value);
    }

    pub(crate) fn delete(&self, key: &[u8]) {
        self.0.delete(key);
    }

    pub(crate) fn delete_range(&self, range: &KeyRange) {
        self.0.delete_range(&range.into());
    }

    pub(crate) fn next_due(&self, time_ms: Option<u64>) {
        self.0.next_due(time_ms);
    }
}

pub(crate) struct Output<'a>(&'a transfer::Sink);

impl Output<'_> {
    pub(crate) fn write(&mut self, chunk: &[u8]) {
        self.0.write(chunk);
    }
}

pub(crate) struct Input<'a>(&'a transfer::Source);

impl Input<'_> {
    pub(crate) fn read(&mut self, bytes_max: u32) -> Option<Vec<u8>> {
        self.0.read(bytes_max)
    }
}

pub(crate) fn write_log(level: Level, message: &str) {
    let level = match level {
        Level::Debug => log::Level::Debug,
        Level::Info => log::Level::Info,
        Level::Warn => log::Level::Warn,
        Level::Error => log::Level::Error,
    };
    log::write(level, message);
}
