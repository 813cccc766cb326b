//! What the replica knows of its log: where it begins and ends, which epochs it has, how far it is durable. The bytes
//! lie in storage; the newest entries are kept here too, for followers.

use std::collections::VecDeque;

use super::effect::WriteId;
use super::epochs::EpochTable;
use super::message::{LogEntry, Position};
use super::snapshot::SnapshotMeta;
use super::stored::Stored;
use crate::entry::Stamp;
use crate::ids::LogIndex;

/// The log.
///
/// Invariants: `base ≤ last`; `durable ≤ last`; `tail` is without gaps and ends at `last`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Log {
    base: Position,
    last: Position,
    stamp: Stamp,
    epochs: EpochTable,
    durable: LogIndex,
    /// Appends on their way to the disk, with the index each reaches.
    writing: VecDeque<(WriteId, LogIndex)>,
    tail: VecDeque<LogEntry>,
    tail_bytes: usize,
    tail_bytes_max: usize,
}

impl Log {
    pub(super) fn new(stored: &Stored, tail_bytes_max: usize) -> Self {
        Self {
            base: stored.base,
            last: stored.last,
            stamp: stored.stamp,
            epochs: stored.epochs.clone(),
            durable: stored.last.index,
            writing: VecDeque::new(),
            tail: VecDeque::new(),
            tail_bytes: 0,
            tail_bytes_max,
        }
    }

    pub(super) fn base(&self) -> Position {
        self.base
    }

    pub(super) fn last(&self) -> Position {
        self.last
    }

    /// Time and profile of the last entry.
    pub(super) fn stamp(&self) -> Stamp {
        self.stamp
    }

    pub(super) fn epochs(&self) -> &EpochTable {
        &self.epochs
    }

    /// Everything up to here is durable.
    pub(super) fn durable(&self) -> LogIndex {
        self.durable
    }

    /// The position at `index`, which the log has to reach.
    pub(super) fn position(&self, index: LogIndex) -> Position {
        Position { epoch: self.epochs.epoch_at(index), index }
    }

    /// Whether the log, or the snapshot it goes on from, holds `at`.
    pub(super) fn holds(&self, at: Position) -> bool {
        at.index <= self.last.index && self.epochs.epoch_at(at.index) == at.epoch
    }

    /// Takes note of entries that `write` appends. They follow the last one.
    pub(super) fn append(&mut self, write: WriteId, entries: &[LogEntry], stamp: Stamp) {
        for entry in entries {
            debug_assert_eq!(entry.at.index, self.last.index.next());
            self.epochs.append(entry.at);
            self.last = entry.at;
            self.tail_bytes += entry.payload.len();
            self.tail.push_back(entry.clone());
        }
        self.stamp = stamp;
        self.writing.push_back((write, self.last.index));
        while self.tail_bytes > self.tail_bytes_max && self.tail.len() > 1 {
            self.tail_bytes -= self.tail.pop_front().map_or(0, |entry| entry.payload.len());
        }
    }

    /// Forgets the entries after `after`, which lies between base and last.
    pub(super) fn truncate(&mut self, after: LogIndex) {
        self.epochs.truncate(after);
        self.last = self.position(after);
        self.durable = self.durable.min(after);
        self.writing.iter_mut().for_each(|(_, reached)| *reached = (*reached).min(after));
        while self.tail.back().is_some_and(|entry| entry.at.index > after) {
            self.tail_bytes -= self.tail.pop_back().map_or(0, |entry| entry.payload.len());
        }
    }

    /// The writer made everything up to `write` durable.
    pub(super) fn flushed(&mut self, write: WriteId) {
        while let Some((_, reached)) = self.writing.pop_front_if(|(id, _)| *id <= write) {
            self.durable = self.durable.max(reached);
        }
    }

    /// Begins anew after a snapshot, which `write` publishes.
    pub(super) fn restart(&mut self, write: WriteId, meta: &SnapshotMeta) {
        self.base = meta.last;
        self.last = meta.last;
        self.stamp = meta.stamp;
        self.epochs = meta.epochs.clone();
        self.durable = LogIndex(0);
        self.writing.clear();
        self.writing.push_back((write, meta.last.index));
        self.tail.clear();
        self.tail_bytes = 0;
    }

    /// The entries before `first` are gone.
    pub(super) fn dropped_before(&mut self, first: LogIndex) {
        let base = LogIndex(first.0.saturating_sub(1)).min(self.last.index);
        if base > self.base.index {
            self.base = self.position(base);
        }
        while self.tail.front().is_some_and(|entry| entry.at.index <= base) {
            self.tail_bytes -= self.tail.pop_front().map_or(0, |entry| entry.payload.len());
        }
    }

    /// The first entry in memory; one past the last where there is none.
    pub(super) fn tail_first(&self) -> LogIndex {
        self.tail.front().map_or(self.last.index.next(), |entry| entry.at.index)
    }

    /// The entry at `index`, where it is in memory.
    pub(super) fn in_memory(&self, index: LogIndex) -> Option<&LogEntry> {
        let place = index.0.checked_sub(self.tail_first().0)?;
        self.tail.get(usize::try_from(place).ok()?)
    }

    /// Entries from `first` on out of memory, at least one and no more than `bytes_max` bytes of payload beyond it.
    pub(super) fn recent(&self, first: LogIndex, bytes_max: usize) -> Vec<LogEntry> {
        let skipped = first.0.saturating_sub(self.tail_first().0) as usize;
        let mut bytes = 0;
        let fits = |entry: &&LogEntry| {
            let begins = bytes == 0;
            bytes += entry.payload.len().max(1);
            begins || bytes <= bytes_max
        };
        self.tail.iter().skip(skipped).take_while(fits).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::Incarnation;
    use crate::ids::Epoch;

    #[test]
    fn the_newest_entries_are_in_memory() {
        let mut log = Log::new(&Stored::empty(Incarnation(1)), 3);
        let at = |index| Position { epoch: Epoch(1), index: LogIndex(index) };
        let held = |log: &Log| -> Vec<u64> {
            (0..8).filter(|index| log.in_memory(LogIndex(*index)).is_some()).collect()
        };
        assert!(held(&log).is_empty());
        for index in 1..=5 {
            let entry = LogEntry { at: at(index), payload: vec![0].into() };
            log.append(WriteId(index), &[entry], Stamp::default());
        }
        assert_eq!(held(&log), [3, 4, 5]);
        assert!(
            (3..=5).all(|index| log.in_memory(LogIndex(index)).is_some_and(|entry| entry.at == at(index)))
        );
        log.truncate(LogIndex(4));
        assert_eq!(held(&log), [3, 4]);
        log.dropped_before(LogIndex(4));
        assert_eq!(held(&log), [4]);
    }
}
