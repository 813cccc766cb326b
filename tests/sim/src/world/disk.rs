//! A node's disk: what was written, what of it is durable, and what a crash, a failed fsync or a fault leaves.
//!
//! ```text
//! Effect::Write ─▶ written (what a reader sees) ─ pending ─▶ fsync ─▶ durable (what a crash leaves)
//! ```

use std::collections::VecDeque;
use std::rc::Rc;

use mortise_core::entry::Stamp;
use mortise_core::group::Incarnation;
use mortise_core::ids::LogIndex;
use mortise_core::replica::{
    EpochTable, HardState, LogAtInstall, LogEntry, Position, SnapshotMeta, Stored, Write, WriteId,
};

use super::machine::Checkpoint;
use crate::random::Random;

/// The files of a log and of the small state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    pub(crate) hard: HardState,
    pub(crate) base: Position,
    pub(crate) epochs: EpochTable,
    entries: VecDeque<LogEntry>,
}

impl Image {
    pub(crate) fn last(&self) -> Position {
        self.entries.back().map_or(self.base, |entry| entry.at)
    }

    pub(crate) fn entry(&self, index: LogIndex) -> Option<&LogEntry> {
        let skip = index.0.checked_sub(self.base.index.0.checked_add(1)?)?;
        self.entries.get(usize::try_from(skip).ok()?)
    }

    /// Whether the log, or the snapshot before it, holds `at`.
    pub(crate) fn holds(&self, at: Position) -> bool {
        at.index <= self.last().index && self.epochs.epoch_at(at.index) == at.epoch
    }

    fn append(&mut self, entry: LogEntry) {
        self.epochs.append(entry.at);
        self.entries.push_back(entry);
    }

    fn truncate(&mut self, after: LogIndex) {
        self.epochs.truncate(after);
        while self.entries.back().is_some_and(|entry| entry.at.index > after) {
            self.entries.pop_back();
        }
    }

    fn begin_after(&mut self, meta: &SnapshotMeta) {
        self.base = meta.last;
        self.epochs = meta.epochs.clone();
        self.entries.clear();
    }

    fn drop_before(&mut self, first: LogIndex) {
        while self.entries.front().is_some_and(|entry| entry.at.index < first) {
            self.base = self.entries.pop_front().map_or(self.base, |entry| entry.at);
        }
    }

    fn carry_out(&mut self, write: &Write) {
        match write {
            Write::Save(hard) => self.hard = hard.clone(),
            Write::Append(entries) => entries.iter().for_each(|entry| self.append(entry.clone())),
            Write::Truncate { after } => self.truncate(*after),
            Write::Install { log: LogAtInstall::Stays, .. } => {}
            Write::Install { meta, .. } => self.begin_after(meta),
        }
    }
}

/// A snapshot file.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) meta: SnapshotMeta,
    pub(crate) state: Rc<Checkpoint>,
}

/// What a crash found in the middle of being written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Writes that are gone.
    pub(crate) writes: usize,
    /// An append was cut in the middle.
    pub(crate) torn: bool,
}

#[derive(Debug)]
pub(crate) struct Disk {
    /// What a crash leaves.
    pub(crate) durable: Image,
    /// What the process reads.
    pub(crate) written: Image,
    pending: VecDeque<(WriteId, Write)>,
    /// How many of `pending` the fsync under way covers.
    covered: usize,
    /// The state as it was last persisted with fsync.
    pub(crate) state: Rc<Checkpoint>,
    pub(crate) snapshot: Option<Snapshot>,
    /// A fetched snapshot, not published yet.
    pub(crate) staged: Option<Snapshot>,
    /// Whether this is all that the copy under its incarnation made durable.
    pub(crate) intact: bool,
}

/// A copy of a whole disk, to be put back later.
#[derive(Clone, Debug)]
pub(crate) struct Backup {
    image: Image,
    state: Rc<Checkpoint>,
    snapshot: Option<Snapshot>,
}

impl Disk {
    /// An empty one, made with a number of its own.
    pub(crate) fn made(number: Incarnation) -> Self {
        let hard = HardState { incarnation: number, ..HardState::default() };
        let image = Image { hard, ..Image::default() };
        Self {
            durable: image.clone(),
            written: image,
            pending: VecDeque::new(),
            covered: 0,
            state: Checkpoint::empty(),
            snapshot: None,
            staged: None,
            intact: true,
        }
    }

    /// What a process finds when it starts.
    pub(crate) fn stored(&self) -> Stored {
        let last = self.durable.last();
        Stored {
            hard: self.durable.hard.clone(),
            intact: self.intact,
            base: self.durable.base,
            last,
            epochs: self.durable.epochs.clone(),
            stamp: self.stamp_in(&self.durable),
            applied: self.state.at.index,
            digest: self.state.digest,
            snapshot: self.snapshot.as_ref().map(|snapshot| snapshot.meta.clone()),
        }
    }

    /// Time and profile of the last entry written.
    pub(crate) fn last_stamp(&self) -> Stamp {
        self.stamp_in(&self.written)
    }

    fn stamp_in(&self, image: &Image) -> Stamp {
        match image.entry(image.last().index) {
            Some(entry) => Stamp::peek(&entry.payload).unwrap_or_default(),
            None => self.snapshot.as_ref().map_or(self.state.stamp, |snapshot| snapshot.meta.stamp),
        }
    }

    /// The life of this copy, as far as it is durable.
    pub(crate) fn incarnation(&self) -> Incarnation {
        self.durable.hard.incarnation
    }

    /// Writes, without fsync.
    pub(crate) fn write(&mut self, id: WriteId, write: Write) {
        self.written.carry_out(&write);
        self.pending.push_back((id, write));
    }

    /// Begins an fsync of all that is written. False where there is nothing to sync, or one is under way.
    pub(crate) fn begin_sync(&mut self) -> bool {
        if self.covered > 0 || self.pending.is_empty() {
            return false;
        }
        // A truncation or an installed snapshot is durable before anything overwrites it.
        let barrier = |write: &Write| matches!(write, Write::Truncate { .. } | Write::Install { .. });
        let until = self.pending.iter().position(|(_, write)| barrier(write));
        self.covered = until.map_or(self.pending.len(), |at| at.max(1));
        true
    }

    /// The fsync is done. Returns the last write it covers, and a snapshot that it published.
    pub(crate) fn end_sync(&mut self) -> Option<(WriteId, Option<Rc<Checkpoint>>)> {
        let (mut last, mut published) = (None, None);
        for _ in 0..std::mem::take(&mut self.covered) {
            let (id, write) = self.pending.pop_front()?;
            published = self.make_durable(&write).or(published);
            last = Some(id);
        }
        last.map(|last| (last, published))
    }

    fn make_durable(&mut self, write: &Write) -> Option<Rc<Checkpoint>> {
        let was = self.durable.hard.incarnation;
        self.durable.carry_out(write);
        if self.durable.hard.incarnation != was {
            self.intact = true;
        }
        let Write::Install { meta, .. } = write else { return None };
        let staged = self.staged.take_if(|staged| staged.meta == *meta)?;
        self.state = Rc::clone(&staged.state);
        self.snapshot = Some(staged);
        Some(Rc::clone(&self.state))
    }

    /// Whether a snapshot waits to be published.
    pub(crate) fn is_installing(&self) -> bool {
        self.pending.iter().any(|(_, write)| matches!(write, Write::Install { .. }))
    }

    /// The process is gone, or an fsync failed: of what was not synced only the first writes reached the disk, and
    /// perhaps a part of the next one.
    pub(crate) fn crash(&mut self, random: &mut Random) -> Lost {
        let pending = std::mem::take(&mut self.pending);
        let long = |(_, write): &(_, Write)| matches!(write, Write::Append(entries) if entries.len() > 1);
        let kept = match pending.iter().position(long) {
            Some(tears) if random.chance(500) => tears,
            _ => random.below(pending.len() as u64 + 1) as usize,
        };
        let mut lost = Lost { writes: pending.len() - kept, torn: false };
        for (_, write) in pending.iter().take(kept) {
            self.make_durable(write);
        }
        if let Some((_, Write::Append(entries))) = pending.get(kept) {
            let part = random.below(entries.len() as u64) as usize;
            entries.iter().take(part).for_each(|entry| self.durable.append(entry.clone()));
            lost.torn = part > 0;
        }
        self.covered = 0;
        self.staged = None;
        self.written = self.durable.clone();
        lost
    }

    /// Keeps a snapshot file. The log may be dropped up to its end.
    pub(crate) fn keep_snapshot(&mut self, snapshot: Snapshot) {
        self.state = Rc::clone(&snapshot.state);
        self.snapshot = Some(snapshot);
    }

    /// Drops log before `first`, as far as state and snapshot hold it. Returns the first entry that is left.
    pub(crate) fn drop_before(&mut self, first: LogIndex) -> Option<LogIndex> {
        let held = self.snapshot.as_ref()?.meta.last.index.min(self.state.at.index);
        if self.is_installing() || held <= self.durable.base.index {
            return None;
        }
        let first = first.min(held.next());
        self.durable.drop_before(first);
        self.written.drop_before(first);
        Some(self.durable.base.index.next())
    }

    // --- Faults. The process is down.

    pub(crate) fn backup(&self) -> Backup {
        Backup { image: self.durable.clone(), state: Rc::clone(&self.state), snapshot: self.snapshot.clone() }
    }

    /// An old copy of the disk is put back: what was written since is gone.
    pub(crate) fn restore(&mut self, old: Backup) {
        let Backup { image, state, snapshot } = old;
        let number = image.hard.incarnation;
        let empty = Self::made(number);
        *self = Self { durable: image.clone(), written: image, state, snapshot, intact: false, ..empty };
    }

    /// An entry in the middle of the log cannot be read any more: it and all behind it are given up.
    pub(crate) fn rot(&mut self, random: &mut Random) {
        self.intact = false;
        let (base, last) = (self.durable.base.index.0, self.durable.last().index.0);
        let hit = LogIndex(random.between(base, last));
        if hit >= self.state.at.index {
            self.durable.truncate(hit);
        } else if let Some(snapshot) = &self.snapshot {
            self.state = Rc::clone(&snapshot.state);
            self.durable.begin_after(&snapshot.meta);
        } else {
            let hard = self.durable.hard.clone();
            self.durable = Image { hard, ..Image::default() };
            self.state = Checkpoint::empty();
        }
        self.written = self.durable.clone();
    }
}
