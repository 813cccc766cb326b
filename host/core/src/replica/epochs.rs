//! Where each epoch begins in a log. Two logs are compared by it, and never by their lengths (KIP-101).

use super::message::Position;
use crate::ids::{Epoch, LogIndex};

/// The epochs of a log, each with its first index.
///
/// Invariant: epochs and indexes rise strictly, and no index is 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EpochTable {
    starts: Vec<(Epoch, LogIndex)>,
}

impl EpochTable {
    /// Reads a table from outside; `None` where its invariant is broken.
    pub fn from_starts(starts: Vec<(Epoch, LogIndex)>) -> Option<Self> {
        let rises = starts.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1);
        let begins = starts.first().is_none_or(|first| first.0.0 > 0 && first.1.0 > 0);
        (rises && begins).then_some(Self { starts })
    }

    /// Each epoch with its first index.
    pub fn starts(&self) -> &[(Epoch, LogIndex)] {
        &self.starts
    }

    /// Takes note of an appended entry.
    pub fn append(&mut self, at: Position) {
        if self.starts.last().is_none_or(|(epoch, _)| *epoch < at.epoch) {
            self.starts.push((at.epoch, at.index));
        }
    }

    /// Forgets the entries after `last`.
    pub fn truncate(&mut self, last: LogIndex) {
        self.starts.retain(|(_, start)| *start <= last);
    }

    /// The epoch of the entry at `index`, in a log that reaches so far; 0 before the first.
    pub fn epoch_at(&self, index: LogIndex) -> Epoch {
        let after = self.starts.partition_point(|(_, start)| *start <= index);
        after.checked_sub(1).and_then(|row| self.starts.get(row)).map_or(Epoch(0), |(epoch, _)| *epoch)
    }

    /// The end of the largest epoch that is not above `epoch`, in a log that ends at `last`.
    pub fn end_of(&self, epoch: Epoch, last: LogIndex) -> Position {
        let after = self.starts.partition_point(|(start, _)| *start <= epoch);
        let Some((found, _)) = after.checked_sub(1).and_then(|row| self.starts.get(row)) else {
            return Position::default();
        };
        let index = self.starts.get(after).map_or(last, |(_, next)| LogIndex(next.0.saturating_sub(1)));
        Position { epoch: *found, index }
    }

    /// The table of the log's part up to `last`.
    #[must_use]
    pub fn up_to(&self, last: LogIndex) -> Self {
        let mut table = self.clone();
        table.truncate(last);
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(starts: &[(u64, u64)]) -> EpochTable {
        let starts = starts.iter().map(|(epoch, index)| (Epoch(*epoch), LogIndex(*index))).collect();
        EpochTable::from_starts(starts).unwrap()
    }

    fn at(epoch: u64, index: u64) -> Position {
        Position { epoch: Epoch(epoch), index: LogIndex(index) }
    }

    #[test]
    fn the_end_of_an_epoch_is_where_the_next_one_begins() {
        let table = table(&[(1, 1), (3, 5), (4, 9)]);
        let ends =
            [(0, at(0, 0)), (1, at(1, 4)), (2, at(1, 4)), (3, at(3, 8)), (4, at(4, 12)), (9, at(4, 12))];
        for (epoch, end) in ends {
            assert_eq!(table.end_of(Epoch(epoch), LogIndex(12)), end);
        }
        assert_eq!(table.epoch_at(LogIndex(0)), Epoch(0));
        assert_eq!(table.epoch_at(LogIndex(4)), Epoch(1));
        assert_eq!(table.epoch_at(LogIndex(5)), Epoch(3));
    }

    #[test]
    fn truncation_forgets_epochs_that_begin_behind_it() {
        assert_eq!(table(&[(1, 1), (3, 5), (4, 9)]).up_to(LogIndex(8)), table(&[(1, 1), (3, 5)]));
        assert_eq!(table(&[(1, 1)]).up_to(LogIndex(0)), EpochTable::default());
    }

    #[test]
    fn a_table_that_does_not_rise_is_refused() {
        for starts in
            [vec![(1, 1), (1, 2)], vec![(2, 1), (1, 2)], vec![(1, 2), (2, 2)], vec![(0, 1)], vec![(1, 0)]]
        {
            let starts = starts.into_iter().map(|(epoch, index)| (Epoch(epoch), LogIndex(index))).collect();
            assert_eq!(EpochTable::from_starts(starts), None);
        }
    }
}
