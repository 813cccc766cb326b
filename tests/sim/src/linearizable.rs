//! Whether what clients saw can have happened one after the other, each between its question and its answer
//! (Herlihy and Wing, 1990).
//!
//! In general that takes a search (Wing and Gong, 1993). Here it does not: every write is answered with the version it
//! made of its key, every read with the version it saw, and versions are unique; so the only order that can explain a
//! history is known, and what is left to check is that it agrees with time. Operation `b` that began after `a` was
//! answered must not have an older version; and a newer one if it is a write. For this the newest version that
//! was answered is remembered a key, and compared with what each operation found when it began. Whether the value
//! belongs to the version is checked against the reference history.

use std::collections::BTreeMap;

use crate::world::Key;

/// What was answered about one key.
#[derive(Debug, Default)]
struct Answered {
    /// The newest version in any answer.
    newest: u64,
    /// Acknowledged writes, oldest first: when, and the newest version until then.
    writes: Vec<(u64, u64)>,
}

/// The answers so far.
#[derive(Debug, Default)]
pub(crate) struct History {
    keys: BTreeMap<Key, Answered>,
}

impl History {
    /// The version that an operation on `key` which begins now must not be older than.
    pub(crate) fn floor(&self, key: Key) -> u64 {
        self.keys.get(&key).map_or(0, |key| key.newest)
    }

    /// The newest version whose write was acknowledged at `time` or before.
    pub(crate) fn acknowledged_at(&self, key: Key, time: u64) -> u64 {
        let Some(key) = self.keys.get(&key) else { return 0 };
        let after = key.writes.partition_point(|(at, _)| *at <= time);
        after.checked_sub(1).and_then(|last| key.writes.get(last)).map_or(0, |(_, version)| *version)
    }

    /// A write that began when the floor was `floor` is acknowledged at `time` with the version it made.
    pub(crate) fn write(&mut self, key: Key, floor: u64, version: u64, time: u64) -> Result<(), String> {
        if version <= floor {
            return Err(format!(
                "key {key}: a write made version {version}, but {floor} was answered before it began"
            ));
        }
        let answered = self.keys.entry(key).or_default();
        answered.newest = answered.newest.max(version);
        let newest = answered.writes.last().map_or(0, |(_, version)| *version).max(version);
        answered.writes.push((time, newest));
        Ok(())
    }

    /// A read that began when the floor was `floor` saw this version.
    pub(crate) fn read(&mut self, key: Key, floor: u64, version: u64) -> Result<(), String> {
        if version < floor {
            return Err(format!(
                "key {key}: a read saw version {version}, but {floor} was answered before it began"
            ));
        }
        let answered = self.keys.entry(key).or_default();
        answered.newest = answered.newest.max(version);
        Ok(())
    }

    /// The history was cut: of this key only `version` versions are left.
    pub(crate) fn cut(&mut self, version_of: impl Fn(Key) -> u64) {
        for (key, answered) in &mut self.keys {
            let left = version_of(*key);
            answered.newest = answered.newest.min(left);
            answered.writes.iter_mut().for_each(|(_, version)| *version = (*version).min(left));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_misses_an_answered_write_is_found() {
        let mut history = History::default();
        history.write(1, history.floor(1), 1, 10).unwrap();
        let floor = history.floor(1);
        assert!(history.read(1, floor, 0).is_err());
        history.read(1, floor, 1).unwrap();
        history.read(2, history.floor(2), 0).unwrap();
    }

    #[test]
    fn reads_that_overlap_a_write_may_see_it_or_not() {
        let mut history = History::default();
        let (first, second) = (history.floor(1), history.floor(1));
        history.read(1, first, 0).unwrap();
        history.write(1, second, 1, 10).unwrap();
        history.read(1, first, 0).unwrap();
    }

    #[test]
    fn two_reads_do_not_go_back_although_the_write_is_not_answered() {
        let mut history = History::default();
        history.read(1, history.floor(1), 5).unwrap();
        assert!(history.read(1, history.floor(1), 4).is_err());
        assert!(history.write(1, history.floor(1), 5, 10).is_err());
    }

    #[test]
    fn the_acknowledged_version_is_that_of_the_time_asked_for() {
        let mut history = History::default();
        history.write(1, 0, 2, 10).unwrap();
        history.write(1, 0, 1, 20).unwrap();
        history.write(1, 0, 3, 30).unwrap();
        let at = |time| history.acknowledged_at(1, time);
        assert_eq!([at(9), at(10), at(20), at(29), at(30)], [0, 2, 2, 2, 3]);
    }
}
