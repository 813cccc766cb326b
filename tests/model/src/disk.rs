//! A node's disk: what survives a crash, and what was written since.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use mortise_core::digest::Digest;
use mortise_core::entry::Stamp;
use mortise_core::group::Incarnation;
use mortise_core::ids::LogIndex;
use mortise_core::replica::{EpochTable, HardState, LogEntry, Position, Stored, Write, WriteId};

/// What lies on a disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Image {
    /// The small state.
    pub hard: HardState,
    /// The log, from index 1 on.
    pub log: Vec<LogEntry>,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Disk {
    /// What a crash leaves. Shared between states, because most steps leave it alone.
    pub durable: Arc<Image>,
    /// What a process reads back: all that was written.
    pub written: Arc<Image>,
    /// Writes without an fsync, in order. They are contained in `written`.
    pub queue: Vec<(WriteId, Write)>,
}

impl Image {
    /// Whether the log holds `entry`, at its place.
    pub fn holds(&self, entry: &LogEntry) -> bool {
        self.entry(entry.at.index) == Some(entry)
    }

    /// The entry at `index`.
    pub fn entry(&self, index: LogIndex) -> Option<&LogEntry> {
        self.log.get(usize::try_from(index.0).ok()?.checked_sub(1)?)
    }

    /// The index of the last entry.
    pub fn last(&self) -> LogIndex {
        LogIndex(self.log.len() as u64)
    }

    fn write(&mut self, write: &Write) {
        match write {
            Write::Save(hard) => self.hard = hard.clone(),
            Write::Append(entries) => self.log.extend(entries.iter().cloned()),
            Write::Truncate { after } => self.log.truncate(usize::try_from(after.0).unwrap_or(usize::MAX)),
            // No model takes snapshots; the world notes the request for one as a fault of the model.
            Write::Install { .. } => {}
        }
    }

    /// What a process finds at its start. The state machine persists nothing by itself here, so it begins at 0 and the
    /// whole log is applied again: nothing it once knew to be committed protects it.
    fn stored(&self) -> Stored {
        let mut epochs = EpochTable::default();
        self.log.iter().for_each(|entry| epochs.append(entry.at));
        let last = self.log.last();
        Stored {
            hard: self.hard.clone(),
            intact: true,
            base: Position::default(),
            last: last.map(|entry| entry.at).unwrap_or_default(),
            epochs,
            stamp: last.and_then(|entry| Stamp::peek(&entry.payload).ok()).unwrap_or_default(),
            applied: LogIndex(0),
            digest: Digest::default(),
            snapshot: None,
        }
    }
}

impl Disk {
    /// A disk on which nothing was ever written. It is made with a number of its own.
    pub fn made(number: Incarnation) -> Self {
        let hard = HardState { incarnation: number, ..HardState::default() };
        let image = Arc::new(Image { hard, log: Vec::new() });
        Self { durable: Arc::clone(&image), written: image, queue: Vec::new() }
    }

    /// Carries a write out, without an fsync.
    pub fn write(&mut self, id: WriteId, write: Write) {
        Arc::make_mut(&mut self.written).write(&write);
        self.queue.push((id, write));
    }

    /// Makes everything written durable. Returns the last write, if there was one to make durable.
    pub fn sync(&mut self) -> Option<WriteId> {
        let (last, _) = self.queue.last()?;
        let last = *last;
        self.queue.clear();
        self.durable = Arc::clone(&self.written);
        Some(last)
    }

    /// Loses what was not durable.
    pub fn crash(&mut self) {
        self.queue.clear();
        self.written = Arc::clone(&self.durable);
    }

    /// What the next process finds.
    pub fn stored(&self) -> Stored {
        self.durable.stored()
    }

    /// Whether only the small state waits for an fsync.
    pub fn waits_with_saves_only(&self) -> bool {
        self.queue.iter().all(|(_, write)| matches!(write, Write::Save(_)))
    }

    /// The digest of the log up to `index`, standing for what a state machine makes of it.
    pub fn digest(&self, index: LogIndex) -> Digest {
        let mut hasher = DefaultHasher::new();
        for entry in self.written.log.iter().take(usize::try_from(index.0).unwrap_or(usize::MAX)) {
            entry.hash(&mut hasher);
        }
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&hasher.finish().to_be_bytes());
        Digest(digest)
    }
}
