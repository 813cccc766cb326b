//! The one true history: every entry in the order in which it was first committed, applied to a state machine that
//! never fails.

use std::collections::{BTreeMap, BTreeSet};

use std::rc::Rc;

use mortise_core::digest::Digest;
use mortise_core::ids::LogIndex;
use mortise_core::replica::{LogEntry, Position};

use crate::world::{Applied, Checkpoint, Done, Key, Machine, Payload, Register, Violation};

#[derive(Debug, Default)]
pub(crate) struct Reference {
    entries: Vec<LogEntry>,
    digests: Vec<Digest>,
    machine: Machine,
    /// The values of a key, by version.
    values: BTreeMap<Key, Vec<u64>>,
    /// What keys were in histories that an operator gave up: replicas that have not heard of it still show them.
    given_up: BTreeSet<(Key, Register)>,
}

impl Reference {
    /// The last committed entry.
    pub(crate) fn last(&self) -> Position {
        self.machine.at
    }

    pub(crate) fn entry(&self, index: LogIndex) -> Option<&LogEntry> {
        self.entries.get(usize::try_from(index.0.checked_sub(1)?).ok()?)
    }

    /// The position of a committed entry; the beginning for 0.
    pub(crate) fn position(&self, index: LogIndex) -> Option<Position> {
        if index.0 == 0 { Some(Position::default()) } else { self.entry(index).map(|entry| entry.at) }
    }

    /// The effect digest after the entry at `index`; that of nothing for 0.
    pub(crate) fn digest(&self, index: LogIndex) -> Option<Digest> {
        let Some(before) = index.0.checked_sub(1) else { return Some(Digest::default()) };
        self.digests.get(usize::try_from(before).ok()?).copied()
    }

    /// The value that a key had in a version.
    pub(crate) fn value(&self, key: Key, version: u64) -> Option<u64> {
        self.values.get(&key)?.get(usize::try_from(version.checked_sub(1)?).ok()?).copied()
    }

    /// Whether a key had this value in a history that was given up.
    pub(crate) fn was_given_up(&self, key: Key, register: Register) -> bool {
        self.given_up.contains(&(key, register))
    }

    /// How many versions of a key there are.
    pub(crate) fn versions(&self, key: Key) -> u64 {
        self.values.get(&key).map_or(0, |values| values.len() as u64)
    }

    /// The right state after the entry at `index`.
    pub(crate) fn state_at(&self, index: LogIndex) -> Result<Rc<Checkpoint>, Violation> {
        let mut machine = Machine::default();
        for entry in self.entries.iter().take(index.0 as usize) {
            machine.apply(entry).or_else(|what| Violation::of("I2", what))?;
        }
        Ok(machine.checkpoint())
    }

    /// The next entry. Returns the command in it, and what became of it.
    pub(super) fn extend(&mut self, entry: &LogEntry) -> Result<Option<(Payload, Done)>, Violation> {
        let last = self.last();
        if entry.at.index != last.index.next() || entry.at.epoch < last.epoch {
            return Violation::of("I2", format!("{:?} is committed after {last:?}", entry.at));
        }
        let time = self.machine.stamp.time;
        let applied = self.machine.apply(entry).or_else(|what| Violation::of("I2", what))?;
        if self.machine.stamp.time < time {
            return Violation::of("TIME", format!("log time goes back at {}", entry.at.index));
        }
        self.entries.push(entry.clone());
        self.digests.push(self.machine.digest);
        let Applied::Command(payload, done) = applied else { return Ok(None) };
        if let Done::Executed(register) = done {
            self.values.entry(payload.key).or_default().push(register.value);
        }
        Ok(Some((payload, done)))
    }

    /// Goes back to where `last` was the last entry.
    pub(super) fn cut(&mut self, last: LogIndex) -> Result<(), Violation> {
        let kept: Vec<LogEntry> = self.entries.drain(..).take(last.0 as usize).collect();
        let mut given_up = std::mem::take(&mut self.given_up);
        for (key, values) in &self.values {
            let registers = (1..).zip(values).map(|(version, value)| Register { version, value: *value });
            given_up.extend(registers.map(|register| (*key, register)));
        }
        *self = Self { given_up, ..Self::default() };
        kept.iter().try_for_each(|entry| self.extend(entry).map(|_| ()))
    }
}
