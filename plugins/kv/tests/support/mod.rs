//! Short ways to write commands and requests.
#![allow(dead_code)]

use mortise_commands::kv::condition::Expected;
use mortise_commands::kv::{
    Batch, Command, CompareAndSwap, Condition, Delete, DeleteRange, Get, KeyRange, Operation, Put,
    PutIfAbsent, Range, Request, command, operation, request,
};

pub(crate) fn put(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Command {
    put_for(key, value, 0)
}

pub(crate) fn put_for(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, ttl_ms: u64) -> Command {
    let put = Put { key: key.as_ref().to_vec().into(), value: value.as_ref().to_vec().into(), ttl_ms };
    command(command::Operation::Put(put))
}

pub(crate) fn put_if_absent(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, ttl_ms: u64) -> Command {
    let (key, value) = (key.as_ref().to_vec(), value.as_ref().to_vec());
    command(command::Operation::PutIfAbsent(PutIfAbsent { key, value, ttl_ms }))
}

pub(crate) fn condition(key: impl AsRef<[u8]>, expected: Expected) -> Condition {
    Condition { key: key.as_ref().to_vec(), expected: Some(expected) }
}

pub(crate) fn swap(key: impl AsRef<[u8]>, expected: Expected, value: impl AsRef<[u8]>) -> Command {
    let condition = Some(condition(key, expected));
    let swap = CompareAndSwap { condition, value: value.as_ref().to_vec(), ttl_ms: 0 };
    command(command::Operation::CompareAndSwap(swap))
}

pub(crate) fn value(value: impl AsRef<[u8]>) -> Expected {
    Expected::Value(value.as_ref().to_vec())
}

pub(crate) fn delete(key: impl AsRef<[u8]>) -> Command {
    command(command::Operation::Delete(Delete { key: key.as_ref().to_vec() }))
}

pub(crate) fn delete_range(keys: KeyRange, count: bool) -> Command {
    command(command::Operation::DeleteRange(DeleteRange { keys: Some(keys), everything: false, count }))
}

pub(crate) fn batch(conditions: Vec<Condition>, commands: Vec<Command>) -> Command {
    let operations = commands.into_iter().map(part).collect();
    command(command::Operation::Batch(Batch { conditions, operations }))
}

pub(crate) fn command(operation: command::Operation) -> Command {
    Command { operation: Some(operation) }
}

fn part(command: Command) -> Operation {
    let operation = match command.operation {
        Some(command::Operation::Put(put)) => operation::Operation::Put(put),
        Some(command::Operation::Delete(delete)) => operation::Operation::Delete(delete),
        Some(command::Operation::DeleteRange(range)) => operation::Operation::DeleteRange(range),
        other => panic!("not for a batch: {other:?}"),
    };
    Operation { operation: Some(operation) }
}

pub(crate) fn prefix(prefix: impl AsRef<[u8]>) -> KeyRange {
    KeyRange { prefix: prefix.as_ref().to_vec(), ..KeyRange::default() }
}

pub(crate) fn between(start: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> KeyRange {
    KeyRange { start: start.as_ref().to_vec(), end: end.as_ref().to_vec(), ..KeyRange::default() }
}

pub(crate) fn get(key: impl AsRef<[u8]>) -> Request {
    Request { operation: Some(request::Operation::Get(Get { key: key.as_ref().to_vec() })) }
}

pub(crate) fn range(range: Range) -> Request {
    Request { operation: Some(request::Operation::Range(range)) }
}
