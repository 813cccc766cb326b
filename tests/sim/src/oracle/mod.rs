//! What must be true of the answers that clients were given, whatever happens inside.

mod reference;

use std::collections::{BTreeMap, BTreeSet};

use mortise_core::ids::LogIndex;
use mortise_core::replica::{Fate, Freshness, LogEntry, Position};

pub(crate) use reference::Reference;

use crate::linearizable::History;
use crate::world::{Checked, Done, Key, Payload, Register, Violation};

/// Clocks differ in speed by at most this many millionths from the world's.
pub(crate) const DRIFT_MAX: i64 = 40_000;

/// What a read, or a write, has to see at least, as known when it began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Floor {
    version: u64,
    /// How often the history had been cut then: a floor of a history that was given up means nothing.
    cuts: u64,
}

/// What is known of a write.
#[derive(Debug)]
struct Facts {
    key: Key,
    floor: Option<Floor>,
    /// Where the reference history has it, and what it made.
    executed: Option<(LogIndex, Register)>,
    acknowledged: bool,
    lost: bool,
    /// Attempts that a replica promised to have done nothing with.
    refused: BTreeSet<u32>,
}

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) reference: Reference,
    history: History,
    writes: BTreeMap<u64, Facts>,
    cuts: u64,
    /// Acknowledged writes, and reads that were checked.
    pub(crate) acknowledged: u64,
    pub(crate) reads: u64,
}

impl Oracle {
    pub(crate) fn begin_write(&mut self, op: u64, key: Key) {
        let facts = Facts {
            key,
            floor: None,
            executed: None,
            acknowledged: false,
            lost: false,
            refused: BTreeSet::new(),
        };
        self.writes.insert(op, facts);
    }

    /// A write reaches a node for the first time: before, it cannot have taken effect.
    pub(crate) fn write_arrives(&mut self, op: u64) {
        let cuts = self.cuts;
        let Some(facts) = self.writes.get_mut(&op) else { return };
        facts.floor.get_or_insert(Floor { version: self.history.floor(facts.key), cuts });
    }

    /// A replica says that an attempt has not taken effect.
    pub(crate) fn refuse(&mut self, op: u64, attempt: u32) {
        if let Some(facts) = self.writes.get_mut(&op) {
            facts.refused.insert(attempt);
        }
    }

    /// What a read that reaches a node now has to see.
    pub(crate) fn read_floor(&self, key: Key, freshness: Freshness, at_least: u64, now: u64) -> Floor {
        let version = match freshness {
            Freshness::Linearizable | Freshness::Lease => self.history.floor(key),
            Freshness::AtLeast(_) => at_least,
            Freshness::Bounded(micros) => {
                // The replica's own clock measures the bound.
                let slow = micros + micros * DRIFT_MAX.unsigned_abs() / 900_000 + 1;
                self.history.acknowledged_at(key, now.saturating_sub(slow))
            }
        };
        Floor { version, cuts: self.cuts }
    }

    fn version(&self, floor: Floor) -> u64 {
        if floor.cuts == self.cuts { floor.version } else { 0 }
    }

    /// I2, I13: an entry is committed. It is applied to the reference, which every replica has to follow.
    pub(crate) fn commit(&mut self, entry: &LogEntry) -> Checked {
        if let Some((payload, Done::Executed(register))) = self.reference.extend(entry)? {
            self.execute(&payload, entry.at, register)?;
        }
        Ok(())
    }

    fn execute(&mut self, payload: &Payload, at: Position, register: Register) -> Checked {
        let Payload { op, attempt, .. } = payload;
        let Some(facts) = self.writes.get_mut(op) else {
            return Violation::of(
                "I13",
                format!("entry {} executes write {op}, which nobody asked for", at.index),
            );
        };
        if let Some((before, _)) = facts.executed {
            return Violation::of(
                "I13",
                format!("write {op} is executed at {before} and again at {}", at.index),
            );
        }
        if facts.lost {
            return Violation::of(
                "LOST",
                format!("write {op} was called lost, and is executed at {}", at.index),
            );
        }
        if facts.refused.contains(attempt) {
            let what =
                format!("attempt {attempt} of write {op} was refused, and is executed at {}", at.index);
            return Violation::of("I13", what);
        }
        facts.executed = Some((at.index, register));
        Ok(())
    }

    /// I13: a client is told that its write is committed, and what it made.
    pub(crate) fn acknowledge(&mut self, op: u64, register: Register, now: u64) -> Checked {
        let floor = self.writes.get(&op).and_then(|facts| facts.floor).unwrap_or_default();
        let floor = self.version(floor);
        let Some(facts) = self.writes.get_mut(&op) else { return Ok(()) };
        if facts.executed.map(|(_, made)| made) != Some(register) {
            return Violation::of(
                "I13",
                format!(
                    "write {op} is acknowledged with {register:?}, but its place is {:?}",
                    facts.executed
                ),
            );
        }
        if std::mem::replace(&mut facts.acknowledged, true) {
            // The answer was given before, and got lost.
            return Ok(());
        }
        self.acknowledged += 1;
        let written = self.history.write(facts.key, floor, register.version, now);
        written.or_else(|what| Violation::of("I9", what))
    }

    /// A client is told what became of a write that only the leader had acknowledged.
    pub(crate) fn fate(&mut self, op: u64, fate: Fate, token: Position, now: u64) -> Checked {
        let Some(facts) = self.writes.get_mut(&op) else { return Ok(()) };
        match (fate, facts.executed) {
            (Fate::Committed, Some((index, register))) if index == token.index => {
                // It was executed long before it is answered, perhaps before others began: no floor.
                facts.floor = None;
                self.acknowledge(op, register, now)
            }
            (Fate::Committed, executed) => Violation::of(
                "LOST",
                format!("write {op} is called committed at {token:?}, but its place is {executed:?}"),
            ),
            (Fate::Lost, Some((index, _))) => {
                Violation::of("LOST", format!("write {op} is called lost, but executed at {index}"))
            }
            (Fate::Lost, None) => {
                facts.lost = true;
                Ok(())
            }
        }
    }

    /// I9, I14: a client is told what a read saw.
    ///
    /// A replica in a history that was given up shows what is true there; but no read that has to be the newest may
    /// begin there after the history that counts has begun.
    pub(crate) fn read(
        &mut self,
        key: Key,
        freshness: Freshness,
        saw: Register,
        floor: Floor,
        given_up: bool,
    ) -> Checked {
        self.reads += 1;
        let strict = matches!(freshness, Freshness::Linearizable | Freshness::Lease);
        if given_up && !(strict && floor.cuts == self.cuts) {
            return Ok(());
        }
        let floor = self.version(floor);
        if !strict && self.reference.was_given_up(key, saw) {
            return Ok(());
        }
        if saw.version > 0 && self.reference.value(key, saw.version) != Some(saw.value) {
            return Violation::of(
                "I9",
                format!("a read of key {key} saw {saw:?}, which was never committed"),
            );
        }
        match freshness {
            Freshness::Linearizable | Freshness::Lease => {
                let read = self.history.read(key, floor, saw.version);
                read.or_else(|what| Violation::of("I9", format!("{freshness:?}: {what}")))
            }
            Freshness::Bounded(_) if saw.version < floor => Violation::of(
                "I14",
                format!("a {freshness:?} read of key {key} saw version {}, not {floor}", saw.version),
            ),
            Freshness::AtLeast(_) if saw.version < floor => Violation::of(
                "I14",
                format!("a read of key {key} with a token saw version {}, not {floor}", saw.version),
            ),
            _ => Ok(()),
        }
    }

    /// An operator began a history anew with what one replica has: what is behind `last` is lost, and what was never
    /// committed, or called lost, may come back. Returns how many acknowledged writes are lost.
    pub(crate) fn cut(&mut self, last: LogIndex) -> Result<u64, Violation> {
        for facts in self.writes.values_mut() {
            facts.lost = false;
            facts.refused.clear();
        }
        if last >= self.reference.last().index {
            return Ok(0);
        }
        self.reference.cut(last)?;
        self.cuts += 1;
        let reference = &self.reference;
        self.history.cut(|key| reference.versions(key));
        let mut lost = 0;
        for facts in self.writes.values_mut().filter(|facts| facts.executed.is_some_and(|(at, _)| at > last))
        {
            facts.executed = None;
            lost += u64::from(std::mem::take(&mut facts.acknowledged));
        }
        Ok(lost)
    }

    /// I13, I15: nothing that was acknowledged is missing at the end.
    pub(crate) fn nothing_is_missing(&self) -> Checked {
        let missing = self.writes.iter().find(|(_, facts)| facts.acknowledged && facts.executed.is_none());
        match missing {
            Some((op, _)) => Violation::of("I15", format!("write {op} was acknowledged and is missing")),
            None => Ok(()),
        }
    }
}
