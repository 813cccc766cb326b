//! What is kept of the commands of a tenant that was created with `--watch`: each with its outcome and its net effects,
//! for watchers.
//!
//! ```text
//!   key     tenant u64-be │ sequence u64-be
//!   value   format │ total │ position │ log time │ expires │ principal │ command │ outcome │ effects
//! ```
//! A command's *sequence* is the tenant's own count of commands and expirations, the one that its plugin sees. What is
//! kept is replicated state: written in the entry's batch, trimmed by a rule that is the same on every replica, and part
//! of a group's snapshots. So every replica keeps the same: the tenant's newest commands, without a hole.

use std::collections::HashMap;

use bytes::Bytes;
use mortise_core::codec::{DecodeError, Reader, Writer};
use mortise_core::digest::Context;
use mortise_core::entry::Entry;
use mortise_core::ids::{Epoch, LogIndex, TenantId};
use mortise_core::layer::Effect;
use mortise_core::outcome::Outcome;
use mortise_core::replica::Position;
use mortise_core::state::{Direction, KeyRange};
use mortise_core::time::LogTime;
use mortise_storage::state::{StateBatch, StateDb, StateDbError, StateId};

use super::tables::{TablesError, damaged};

/// Commands kept of a tenant: a watcher that was away for a while finds where it was.
const COMMANDS_MAX: u64 = 100_000;
/// Bytes kept of a tenant, besides its oldest command and those of its newest entry: what its watchers cost on the disk
/// and in snapshots.
const BYTES_MAX: u64 = 64 << 20;
/// Counted for a command beside its own bytes: its key, and what begins its value.
const FRAME_BYTES: u64 = 16 + HEAD_BYTES as u64;
/// Format and total.
const HEAD_BYTES: usize = 1 + 8;
/// Deletes of one batch: few enough not to hold up the commits of others.
const DELETES_PER_BATCH: usize = 1_000;
const FORMAT: u8 = 1;

/// A command or an expiration that was applied, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The tenant's count of commands and expirations at this one.
    pub sequence: u64,
    /// The log entry that carried it.
    pub position: Position,
    /// Log time, in milliseconds since 1970-01-01 UTC.
    pub time: LogTime,
    /// Who asked, as authenticated.
    pub principal: Option<String>,
    /// The plugin's own bytes; `None`: an expiration.
    pub command: Option<Bytes>,
    /// What became of it.
    pub outcome: Outcome,
    /// What it changed, net; nothing unless it was applied.
    pub effects: Vec<Effect>,
}

impl Kept {
    pub(crate) fn new(
        entry: &Entry,
        context: &Context,
        command: Option<&Bytes>,
        outcome: Outcome,
        effects: Vec<Effect>,
    ) -> Self {
        Self {
            sequence: context.sequence,
            position: Position { epoch: entry.epoch, index: entry.index },
            time: context.time,
            principal: context.principal.clone(),
            command: command.cloned(),
            outcome,
            effects,
        }
    }

    fn encode(&self) -> Bytes {
        let mut writer = Writer::default();
        writer.u64(self.position.epoch.0).u64(self.position.index.0).u64(self.time.0);
        writer.bool(self.command.is_none()).option_string(self.principal.as_deref());
        writer.bytes(self.command.as_deref().unwrap_or_default());
        self.outcome.encode(&mut writer);
        writer.count(self.effects.len() as u64);
        self.effects.iter().for_each(|effect| effect.encode(&mut writer));
        writer.finish()
    }

    fn decode(sequence: u64, mut reader: Reader) -> Result<Self, DecodeError> {
        let position = Position { epoch: Epoch(reader.u64("epoch")?), index: LogIndex(reader.u64("index")?) };
        let time = LogTime(reader.u64("log time")?);
        let expires = reader.bool("expires")?;
        let principal = reader.option_string("principal")?;
        let command = reader.bytes("command")?;
        let outcome = Outcome::decode(&mut reader)?;
        let count = reader.count("effects")?;
        let mut effects = Vec::new();
        for _ in 0..count {
            effects.push(Effect::decode(&mut reader)?);
        }
        reader.finish()?;
        let command = (!expires).then_some(command);
        Ok(Self { sequence, position, time, principal, command, outcome, effects })
    }

    /// Leaves the effects on keys of this range.
    pub(crate) fn narrow(&mut self, keys: &KeyRange) {
        self.effects.retain_mut(|effect| match effect {
            Effect::Put(key, _) | Effect::Delete(key) => keys.contains(key),
            Effect::DeleteRange(range) => {
                *range = range.intersect(keys);
                !range.is_empty()
            }
        });
    }
}

/// Which of a tenant's commands are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    oldest: u64,
    /// The total at the oldest.
    before: u64,
    /// Bytes of all commands ever kept: what is kept has less than this by `before`, and the oldest besides.
    total: u64,
}

/// Keeps commands, as many as the bounds allow. For the apply thread.
pub(crate) struct Keeper {
    commands_max: u64,
    bytes_max: u64,
    /// Of tenants that were written to; read back from the database where it is not known.
    extents: HashMap<TenantId, Extent>,
}

impl Default for Keeper {
    fn default() -> Self {
        Self { commands_max: COMMANDS_MAX, bytes_max: BYTES_MAX, extents: HashMap::new() }
    }
}

impl Keeper {
    /// Keeps a command, and lets go of the oldest ones where there are too many.
    pub(crate) fn keep(
        &mut self,
        (db, state): (&StateDb, StateId),
        batch: &mut StateBatch,
        id: TenantId,
        kept: &Kept,
    ) -> Result<(), TablesError> {
        let known = match self.extents.get(&id) {
            Some(extent) => Some(*extent),
            None => extent(db, state, id)?,
        };
        let body = kept.encode();
        let total = known.map_or(0, |extent| extent.total) + body.len() as u64 + FRAME_BYTES;
        let mut head = Writer::with_capacity(HEAD_BYTES + body.len());
        head.u8(FORMAT).u64(total).raw(&body);
        batch.put_effect(&key(id, kept.sequence), &head.finish())?;
        let known = known.unwrap_or(Extent { oldest: kept.sequence, before: total, total });
        let mut extent = Extent { total, ..known };
        while kept.sequence - extent.oldest >= self.commands_max
            || extent.total - extent.before >= self.bytes_max
        {
            // One of this very batch is not to be found yet: the next command will see to it.
            let Some(bytes) = db.effect_get(state, &key(id, extent.oldest + 1))? else { break };
            batch.delete_effect(&key(id, extent.oldest))?;
            (extent.oldest, extent.before) = (extent.oldest + 1, read_head(bytes)?.0);
        }
        self.extents.insert(id, extent);
        Ok(())
    }

    /// Nothing is known of the tenant any more.
    pub(crate) fn forget(&mut self, id: TenantId) {
        self.extents.remove(&id);
    }

    /// Nothing is known of any tenant: there is another state.
    pub(crate) fn clear(&mut self) {
        self.extents.clear();
    }
}

fn extent(db: &StateDb, state: StateId, id: TenantId) -> Result<Option<Extent>, TablesError> {
    let (view, keys) = (db.view(), keys_of(id));
    let end = |direction| view.effects_scan(state, &keys, direction).next().transpose();
    let (Some((oldest, first)), Some((_, last))) = (end(Direction::Ascending)?, end(Direction::Descending)?)
    else {
        return Ok(None);
    };
    let (before, total) = (read_head(first)?.0, read_head(last)?.0);
    Ok(Some(Extent { oldest: sequence_of(&oldest)?, before, total }))
}

/// The total, and the rest.
fn read_head(value: Bytes) -> Result<(u64, Reader), TablesError> {
    let mut reader = Reader::new(value);
    let mut read = || match reader.u8("format")? {
        FORMAT => reader.u64("total"),
        version => Err(DecodeError::TooNew { what: "a kept command", version, known: FORMAT }),
    };
    let total = read().map_err(damaged("kept commands"))?;
    Ok((total, reader))
}

/// Takes a pair of the database apart.
pub(crate) fn read(key: &[u8], value: Bytes) -> Result<Kept, TablesError> {
    let sequence = sequence_of(key)?;
    Kept::decode(sequence, read_head(value)?.1).map_err(damaged("kept commands"))
}

fn sequence_of(key: &[u8]) -> Result<u64, TablesError> {
    let sequence = key.last_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    sequence.ok_or_else(|| damaged("kept commands")(DecodeError::Malformed { what: "a key" }))
}

/// The keys of all that is kept of a tenant.
pub(crate) fn keys_of(id: TenantId) -> KeyRange {
    KeyRange::prefix(&id.0.to_be_bytes())
}

/// The keys of a tenant's commands from one sequence to another, both included.
pub(crate) fn keys_between(id: TenantId, first: u64, last: u64) -> KeyRange {
    let end = last.checked_add(1).map(|after| key(id, after).into());
    KeyRange { start: key(id, first).into(), end: end.or(keys_of(id).end) }
}

fn key(id: TenantId, sequence: u64) -> Vec<u8> {
    [id.0.to_be_bytes(), sequence.to_be_bytes()].concat()
}

/// Deletes all that is kept of a tenant, beside the commits of others.
pub(crate) fn delete(db: &StateDb, state: StateId, id: TenantId) -> Result<(), StateDbError> {
    let mut range = keys_of(id);
    loop {
        let mut batch = db.batch(state);
        let pairs = db.effects_scan(state, &range, Direction::Ascending);
        for pair in pairs.take(DELETES_PER_BATCH) {
            let (key, _) = pair?;
            batch.delete_effect(&key)?;
            // The next scan begins behind what this one deletes, and so does not wade through its tombstones.
            range.start = key;
        }
        if batch.is_empty() {
            return Ok(());
        }
        batch.commit()?;
    }
}

#[cfg(test)]
mod tests;
