//! Commands.

use mortise_commands::kv::condition::Expected;
use mortise_commands::kv::{Batch, CompareAndSwap, Condition, Delete, DeleteRange, Put, PutIfAbsent, Reply};
use mortise_commands::kv::{Command, Operation, command, operation};
use mortise_sdk::{Context, Rejection, Transaction, View};

use crate::expiry::{check_ttl, deadline, schedule};
use crate::range::{self, SCAN_BYTES_MAX};
use crate::record::{KEY_BYTES_MAX, StoredRecord, decode, record_key, record_range};

/// Carries out `command`.
pub(crate) fn apply(
    tx: &mut Transaction<'_>,
    context: &Context,
    command: Command,
) -> Result<Reply, Rejection> {
    check(&command)?;
    let mut deleted = 0;
    match command.operation.ok_or_else(no_operation)? {
        command::Operation::Put(put) => set(tx, context, put),
        command::Operation::PutIfAbsent(PutIfAbsent { key, value, ttl_ms }) => {
            if holds(tx, context, &key, &Expected::Absent(false))? {
                return Err(Rejection::conflict("already_exists", "the key is there already"));
            }
            set(tx, context, Put { key: key.into(), value: value.into(), ttl_ms });
        }
        command::Operation::CompareAndSwap(CompareAndSwap { condition, value, ttl_ms }) => {
            let condition = condition.ok_or_else(no_expectation)?;
            require(tx, context, std::slice::from_ref(&condition))?;
            set(tx, context, Put { key: condition.key.into(), value: value.into(), ttl_ms });
        }
        command::Operation::Delete(Delete { key }) => deleted = remove(tx, context, &key)?,
        command::Operation::DeleteRange(range) => deleted = remove_range(tx, context, range)?,
        command::Operation::Batch(Batch { conditions, operations }) => {
            require(tx, context, &conditions)?;
            for operation in operations {
                deleted += apply_part(tx, context, operation)?;
            }
        }
    }
    Ok(Reply { version: context.sequence, deleted })
}

/// Refuses what is wrong whatever the state holds.
pub(crate) fn check(command: &Command) -> Result<(), Rejection> {
    match command.operation.as_ref().ok_or_else(no_operation)? {
        command::Operation::Put(put) => check_put(&put.key, put.ttl_ms),
        command::Operation::PutIfAbsent(put) => check_put(&put.key, put.ttl_ms),
        command::Operation::CompareAndSwap(swap) => {
            check_condition(swap.condition.as_ref().ok_or_else(no_expectation)?)?;
            check_ttl(swap.ttl_ms)
        }
        command::Operation::Delete(delete) => check_key(&delete.key),
        command::Operation::DeleteRange(range) => check_range(range),
        command::Operation::Batch(batch) => {
            batch.conditions.iter().try_for_each(check_condition)?;
            batch.operations.iter().try_for_each(check_part)
        }
    }
}

/// Refuses a key that is empty or too long.
pub(crate) fn check_key(key: &[u8]) -> Result<(), Rejection> {
    match key.len() {
        0 => Err(Rejection::invalid("empty_key", "a key has one byte at least")),
        1..=KEY_BYTES_MAX => Ok(()),
        _ => Err(Rejection::invalid("key_too_long", "a key has 4,080 bytes at most")),
    }
}

/// Nothing is set in a message that must say what to do.
pub(crate) fn no_operation() -> Rejection {
    Rejection::invalid("no_operation", "the message says nothing to do; is it of a newer version?")
}

fn no_expectation() -> Rejection {
    Rejection::invalid("no_expectation", "a condition must say what it expects: absent, version or value")
}

fn check_put(key: &[u8], ttl_ms: u64) -> Result<(), Rejection> {
    check_key(key)?;
    check_ttl(ttl_ms)
}

fn check_condition(condition: &Condition) -> Result<(), Rejection> {
    check_key(&condition.key)?;
    condition.expected.as_ref().map(|_| ()).ok_or_else(no_expectation)
}

fn check_range(range: &DeleteRange) -> Result<(), Rejection> {
    let bounded = range.keys.as_ref().is_some_and(|keys| *keys != Default::default());
    match bounded || range.everything {
        true => Ok(()),
        false => Err(Rejection::invalid("unbounded_range", "set `everything` to remove every key")),
    }
}

fn check_part(part: &Operation) -> Result<(), Rejection> {
    match part.operation.as_ref().ok_or_else(no_operation)? {
        operation::Operation::Put(put) => check_put(&put.key, put.ttl_ms),
        operation::Operation::Delete(delete) => check_key(&delete.key),
        operation::Operation::DeleteRange(range) => check_range(range),
    }
}

fn apply_part(tx: &mut Transaction<'_>, context: &Context, part: Operation) -> Result<u64, Rejection> {
    match part.operation.ok_or_else(no_operation)? {
        operation::Operation::Put(put) => {
            set(tx, context, put);
            Ok(0)
        }
        operation::Operation::Delete(Delete { key }) => remove(tx, context, &key),
        operation::Operation::DeleteRange(range) => remove_range(tx, context, range),
    }
}

/// Writes without reading: this is what makes a put cheap.
fn set(tx: &mut Transaction<'_>, context: &Context, Put { key, value, ttl_ms }: Put) {
    let expires_ms = deadline(context, ttl_ms);
    let record = StoredRecord { version: context.sequence, expires_ms, value: &value };
    tx.put(&record_key(&key), &record.encode());
    if let Some(expires_ms) = expires_ms {
        schedule(tx, expires_ms, &key);
    }
}

fn remove(tx: &mut Transaction<'_>, context: &Context, key: &[u8]) -> Result<u64, Rejection> {
    let was_there = holds(tx, context, key, &Expected::Absent(false))?;
    tx.delete(&record_key(key));
    Ok(was_there.into())
}

fn remove_range(tx: &mut Transaction<'_>, context: &Context, range: DeleteRange) -> Result<u64, Rejection> {
    let records = record_range(range::keys(range.keys.unwrap_or_default()));
    let (mut count, mut bytes) = (0, 0);
    if range.count {
        for pair in tx.scan(records.clone()) {
            bytes += pair.key().len() + pair.value().len();
            if bytes > SCAN_BYTES_MAX {
                let message =
                    "there is too much in the range to count; remove it without `count`, or in parts";
                return Err(Rejection::exhausted("range_too_large", message));
            }
            count += u64::from(decode(pair.value())?.is_live(context.time_ms));
        }
    }
    tx.delete_range(records);
    Ok(count)
}

fn require(view: &View<'_>, context: &Context, conditions: &[Condition]) -> Result<(), Rejection> {
    for (number, condition) in conditions.iter().enumerate() {
        let expected = condition.expected.as_ref().ok_or_else(no_expectation)?;
        if !holds(view, context, &condition.key, expected)? {
            let message = format!("condition {number} does not hold, nothing was written");
            return Err(Rejection::conflict("compare_failed", message));
        }
    }
    Ok(())
}

fn holds(view: &View<'_>, context: &Context, key: &[u8], expected: &Expected) -> Result<bool, Rejection> {
    let stored = view.get(&record_key(key));
    let record = stored.as_deref().map(decode).transpose()?;
    let live = record.filter(|record| record.is_live(context.time_ms));
    Ok(match (live, expected) {
        (record, Expected::Absent(absent)) => record.is_none() == *absent,
        (Some(record), Expected::Version(version)) => record.version == *version,
        (Some(record), Expected::Value(value)) => record.value == value,
        (None, _) => false,
    })
}
