//! What a faulty disk holds: for each file what was synced, and what was written since.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::memory::write_into;

/// The unit in which a write is torn. Disks write a sector whole or not at all.
const SECTOR_BYTES: u64 = 512;

/// A change of a file that no finished fsync covers.
#[derive(Clone)]
pub(super) enum Unsynced {
    Write { offset: u64, bytes: Vec<u8> },
    Length(u64),
}

impl Unsynced {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => write_into(content, *offset, bytes),
            Self::Length(length) => content.resize(*length as usize, 0),
        }
    }

    fn range(&self) -> Range<u64> {
        match self {
            Self::Write { offset, bytes } => *offset..*offset + bytes.len() as u64,
            Self::Length(length) => *length..*length,
        }
    }
}

/// One file.
#[derive(Clone, Default)]
pub(super) struct Content {
    /// What a reader sees.
    pub(super) current: Vec<u8>,
    /// What surely survives a crash.
    synced: Vec<u8>,
    /// What turns `synced` into `current`, but for what a failed fsync lost.
    unsynced: Vec<Unsynced>,
    /// What a failed fsync lost: it can be read until the crash, and is then gone.
    lost: Vec<Range<u64>>,
}

impl Content {
    /// A file that is synced whole.
    pub(super) fn synced(bytes: Vec<u8>) -> Self {
        Self { current: bytes.clone(), synced: bytes, ..Self::default() }
    }

    pub(super) fn change(&mut self, change: Unsynced) {
        change.apply(&mut self.current);
        let range = change.range();
        // Bytes that are written again are dirty again: the next fsync covers them.
        self.lost.retain(|lost| lost.start < range.start || lost.end > range.end);
        self.unsynced.push(change);
    }

    /// A finished fsync: the ranges it covered.
    pub(super) fn sync(&mut self) -> Vec<Range<u64>> {
        let changes = std::mem::take(&mut self.unsynced);
        for change in &changes {
            change.apply(&mut self.synced);
        }
        changes.iter().map(Unsynced::range).collect()
    }

    /// A failed fsync: the pages count as clean and never reach the disk.
    pub(super) fn fail_sync(&mut self) {
        self.lost.extend(self.unsynced.drain(..).map(|change| change.range()));
    }

    /// Whether finished fsyncs cover every byte of the range.
    pub(super) fn is_synced(&self, range: &Range<u64>) -> bool {
        let apart = |other: &Range<u64>| other.end <= range.start || range.end <= other.start;
        range.end <= self.synced.len() as u64
            && self.unsynced.iter().all(|change| apart(&change.range()))
            && self.lost.iter().all(apart)
    }

    /// The power goes, and takes what was not synced.
    pub(super) fn lose(&mut self) {
        self.unsynced.clear();
        self.crash(&mut Chance(0));
    }

    /// The power goes: what was not synced is kept, lost or torn.
    pub(super) fn crash(&mut self, chance: &mut Chance) {
        for change in std::mem::take(&mut self.unsynced) {
            match (chance.below(3), &change) {
                (0, _) => change.apply(&mut self.synced),
                (1, Unsynced::Write { offset, bytes }) => tear(&mut self.synced, *offset, bytes, chance),
                _ => {}
            }
        }
        self.current.clone_from(&self.synced);
        self.lost.clear();
    }
}

/// Writes some of the sectors that the write touches.
fn tear(content: &mut Vec<u8>, offset: u64, bytes: &[u8], chance: &mut Chance) {
    let end = offset + bytes.len() as u64;
    let mut start = offset;
    while start < end {
        let next = ((start / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
        if chance.below(2) == 0 {
            write_into(content, start, &bytes[(start - offset) as usize..(next - offset) as usize]);
        }
        start = next;
    }
}

/// A change of names that no finished fsync of the folder covers.
pub(super) enum NameChange {
    Create(String, u64),
    Remove(String),
    Rename(String, String, u64),
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Create(path, file) => {
                names.insert(path.clone(), *file);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Rename(from, to, file) => {
                if names.get(from) == Some(file) {
                    names.remove(from);
                }
                names.insert(to.clone(), *file);
            }
        }
    }

    pub(super) fn path(&self) -> &str {
        match self {
            Self::Create(path, _) | Self::Remove(path) | Self::Rename(_, path, _) => path,
        }
    }
}

/// Reproducible chance (splitmix64).
pub(super) struct Chance(pub(super) u64);

impl Chance {
    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}
