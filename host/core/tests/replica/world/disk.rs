//! A node's disk and state machine: what is written becomes durable when the disk is flushed, and not before.

use std::collections::VecDeque;

use mortise_core::digest::Digest;
use mortise_core::entry::{Body, Command, Entry, Stamp};
use mortise_core::group::Incarnation;
use mortise_core::ids::{Epoch, LogIndex, Sequence, SessionId, TenantId};
use mortise_core::replica::{
    EpochTable, HardState, LogAtInstall, LogEntry, Position, SnapshotMeta, Stored, Write, WriteId,
};
use mortise_core::time::LogTime;

/// The state machine: remembers the commands it was given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    pub(crate) applied: LogIndex,
    pub(crate) digest: Digest,
    pub(crate) commands: Vec<String>,
}

impl Machine {
    /// Applies the next entry. A machine that differs computes another digest.
    pub(crate) fn apply(&mut self, entry: &LogEntry, differs: bool) {
        assert_eq!(entry.at.index, self.applied.next(), "entries are applied in turn");
        self.applied = entry.at.index;
        self.commands.extend(command(entry));
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.digest.0).update(&entry.payload).update(&[u8::from(differs)]);
        self.digest = Digest(*hasher.finalize().as_bytes());
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) hard: HardState,
    /// What stands before the log, and where the epochs up to there began.
    pub(crate) base: Position,
    base_epochs: EpochTable,
    base_stamp: Stamp,
    pub(crate) log: Vec<LogEntry>,
    pub(crate) machine: Machine,
    pub(crate) snapshot: Option<(SnapshotMeta, Machine)>,
    pub(crate) fetched: Option<(SnapshotMeta, Machine)>,
    unsynced: VecDeque<(WriteId, Write)>,
    /// Something was saved, so that a start finds a copy here.
    used: bool,
    /// A start finds the log damaged.
    pub(crate) damaged: bool,
}

impl Disk {
    /// An empty one, made with this number.
    pub(crate) fn made(number: Incarnation) -> Self {
        Self { hard: HardState { incarnation: number, ..HardState::default() }, ..Self::default() }
    }

    pub(crate) fn write(&mut self, id: WriteId, write: Write) {
        self.unsynced.push_back((id, write));
    }

    /// Makes everything durable that was written. Returns the last write.
    pub(crate) fn flush(&mut self) -> Option<WriteId> {
        let mut last = None;
        while let Some((id, write)) = self.unsynced.pop_front() {
            self.carry_out(write);
            last = Some(id);
        }
        last
    }

    /// The power fails: what was not durable is gone.
    pub(crate) fn lose_unsynced(&mut self) {
        self.unsynced.clear();
        self.fetched = None;
    }

    fn carry_out(&mut self, write: Write) {
        match write {
            Write::Save(hard) => {
                self.hard = hard;
                self.used = true;
            }
            Write::Append(entries) => {
                for entry in entries {
                    assert_eq!(entry.at.index, self.last().index.next(), "appends leave no gap");
                    self.log.push(entry);
                }
            }
            Write::Truncate { after } => self.log.retain(|entry| entry.at.index <= after),
            Write::Install { meta, log } => {
                let (fetched, machine) = self.fetched.take().expect("an installed snapshot was fetched");
                assert_eq!(fetched, meta, "the installed snapshot is the fetched one");
                self.machine = machine.clone();
                if log != LogAtInstall::Stays {
                    self.log.clear();
                    (self.base, self.base_stamp) = (meta.last, meta.stamp);
                    self.base_epochs = meta.epochs.clone();
                }
                self.snapshot = Some((meta, machine));
            }
        }
    }

    pub(crate) fn last(&self) -> Position {
        self.log.last().map_or(self.base, |entry| entry.at)
    }

    fn epochs(&self) -> EpochTable {
        let mut epochs = self.base_epochs.clone();
        self.log.iter().for_each(|entry| epochs.append(entry.at));
        epochs
    }

    fn stamp_at(&self, index: LogIndex) -> Stamp {
        let entry = self.log.iter().find(|entry| entry.at.index == index);
        entry.map_or(self.base_stamp, |entry| Stamp::peek(&entry.payload).expect("an entry"))
    }

    pub(crate) fn entry(&self, index: LogIndex) -> Option<&LogEntry> {
        self.log.iter().find(|entry| entry.at.index == index)
    }

    /// Entries from `first` to `last`, at least one and no more than `bytes_max` bytes beyond it.
    pub(crate) fn read(&self, first: LogIndex, last: LogIndex, bytes_max: usize) -> Vec<LogEntry> {
        let mut bytes = 0;
        let wanted = self.log.iter().filter(|entry| entry.at.index >= first && entry.at.index <= last);
        wanted
            .take_while(|entry| {
                let begins = bytes == 0;
                bytes += entry.payload.len();
                begins || bytes <= bytes_max
            })
            .cloned()
            .collect()
    }

    /// What a start finds.
    pub(crate) fn stored(&self) -> Stored {
        if !self.used {
            return Stored::empty(self.hard.incarnation);
        }
        Stored {
            hard: self.hard.clone(),
            intact: !self.damaged,
            base: self.base,
            last: self.last(),
            epochs: self.epochs(),
            stamp: self.stamp_at(self.last().index),
            applied: self.machine.applied,
            digest: self.machine.digest,
            snapshot: self.snapshot.as_ref().map(|(meta, _)| meta.clone()),
        }
    }

    /// Takes a snapshot of the present state.
    pub(crate) fn take_snapshot(&mut self) -> SnapshotMeta {
        let index = self.machine.applied;
        let epochs = self.epochs().up_to(index);
        let meta = SnapshotMeta {
            generation: self.hard.generation,
            last: Position { epoch: epochs.epoch_at(index), index },
            epochs,
            digest: self.machine.digest,
            stamp: self.stamp_at(index),
        };
        self.snapshot = Some((meta.clone(), self.machine.clone()));
        meta
    }

    /// Drops the entries before `first`.
    pub(crate) fn drop_before(&mut self, first: LogIndex) {
        let base = LogIndex(first.0 - 1);
        if base > self.base.index {
            let epochs = self.epochs().up_to(base);
            self.base_stamp = self.stamp_at(base);
            self.base = Position { epoch: epochs.epoch_at(base), index: base };
            self.base_epochs = epochs;
            self.log.retain(|entry| entry.at.index > base);
        }
    }
}

/// An entry with one command, named `name`.
pub(crate) fn entry(name: &str, time_ms: u64) -> Entry {
    let command = Command {
        tenant: TenantId(1),
        session: SessionId::NONE,
        sequence: Sequence(0),
        answered_up_to: Sequence(0),
        principal: None,
        payload: name.to_string().into(),
    };
    let body = Body::Commands(vec![command]);
    Entry { epoch: Epoch(0), index: LogIndex(0), time: LogTime(time_ms), profile: 0, body }
}

/// The command of an entry; none for an epoch's first.
pub(crate) fn command(entry: &LogEntry) -> Option<String> {
    match Entry::decode(entry.at.epoch, entry.at.index, entry.payload.clone()).ok()?.body {
        Body::Commands(commands) => {
            commands.first().map(|command| String::from_utf8_lossy(&command.payload).into_owned())
        }
        _ => None,
    }
}
