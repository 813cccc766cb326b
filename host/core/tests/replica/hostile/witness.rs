//! Looks at a replica from outside, and remembers what it must not take back.

use std::collections::BTreeMap;

use mortise_core::ids::Epoch;
use mortise_core::replica::{Effect, LogAtInstall, Replica, View, Write};

/// What is known of the replica's log: the entries that it wrote while it was watched.
pub(crate) struct Witness {
    before: View,
    log: BTreeMap<u64, (Epoch, bytes::Bytes)>,
}

impl Witness {
    pub(crate) fn new(replica: &Replica) -> Self {
        Self { before: replica.view(), log: BTreeMap::new() }
    }

    /// Checks a step's outcome against the one before.
    pub(crate) fn check(&mut self, after: &View, effects: &[Effect], told: &str) {
        let mut last = self.before.last.index.0;
        let new_history = after.generation > self.before.generation;
        let mut installs = false;
        for effect in effects {
            match effect {
                Effect::Write(_, Write::Append(entries)) => {
                    for entry in entries {
                        assert_eq!(entry.at.index.0, last + 1, "appends follow the log: {told}");
                        last += 1;
                        self.log.insert(last, (entry.at.epoch, entry.payload.clone()));
                    }
                }
                Effect::Write(_, Write::Truncate { after: end }) => {
                    assert!(*end >= self.before.commit, "what is committed is not cut off: {told}");
                    assert!(end.0 < last, "a truncation cuts something off: {told}");
                    last = end.0;
                    self.log.retain(|index, _| *index <= last);
                }
                Effect::Write(_, Write::Install { meta, log }) => {
                    installs = true;
                    if *log != LogAtInstall::Stays {
                        let goes_on = meta.last.index >= self.before.commit || new_history;
                        assert!(goes_on, "an installed snapshot holds what is committed: {told}");
                        last = meta.last.index.0;
                        self.log.clear();
                    }
                }
                Effect::Apply { up_to } => {
                    assert!(*up_to <= after.commit, "only what is committed is applied: {told}");
                    assert!(*up_to <= after.durable, "only what is durable is applied: {told}");
                }
                _ => {}
            }
        }
        assert_eq!(after.last.index.0, last, "the log ends with what was written last: {told}");
        assert!(after.commit <= after.last.index && after.durable <= after.last.index, "{told}: {after:?}");
        assert!(after.applied <= after.commit || installs, "{told}: {after:?}");
        assert!(after.commit >= self.before.commit || (installs && new_history), "commit goes back: {told}");
        assert!(after.promised.epoch >= self.before.promised.epoch, "a promise is kept: {told}");
        assert!(after.generation >= self.before.generation, "a generation is kept: {told}");
        if let Some((epoch, _)) = self.log.get(&after.last.index.0) {
            assert_eq!(*epoch, after.last.epoch, "the end's epoch is the last entry's: {told}");
        }
        self.before = after.clone();
    }
}
