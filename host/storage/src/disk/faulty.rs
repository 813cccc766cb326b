//! Files in memory that lose, tear, refuse and flip what real disks do, on demand and reproducibly.

mod image;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use image::{Chance, Content, NameChange, Unsynced};

use super::memory::read_from;
use super::{Disk, DiskFile, folder_of, names_in};

/// Bytes of a file that a finished fsync covered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncedRange {
    /// Counts the finished fsyncs of the disk, from 1.
    pub sync: u64,
    /// The name the file had then.
    pub path: String,
    /// Which bytes.
    pub bytes: Range<u64>,
}

/// A disk in memory that keeps apart what was synced and what was not. Clones share it.
///
/// Not modelled: folders, which are there as soon as a file is in them.
#[derive(Clone, Default)]
pub struct FaultyDisk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    files: BTreeMap<u64, Content>,
    names: BTreeMap<String, u64>,
    names_synced: BTreeMap<String, u64>,
    names_unsynced: Vec<NameChange>,
    files_count: u64,
    /// Grows with each crash: files opened before it are dead.
    life: u64,
    syncs: u64,
    synced: Vec<SyncedRange>,
    syncs_to_fail: u64,
    writes_to_fail: u64,
    bytes_max: Option<u64>,
    changes_left: Option<u64>,
    flips: Vec<(String, u64, u8)>,
}

impl FaultyDisk {
    /// A disk without files and without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The power goes. Each unsynced write is kept, lost or torn at sectors, each unsynced change of names kept or
    /// lost, all decided by `seed`. Files open at the time are dead; the disk itself can be used on.
    pub fn crash(&self, seed: u64) {
        let mut inner = self.inner();
        let chance = &mut Chance(seed);
        for content in inner.files.values_mut() {
            content.crash(chance);
        }
        for change in std::mem::take(&mut inner.names_unsynced) {
            if chance.below(2) == 0 {
                change.apply(&mut inner.names_synced);
            }
        }
        inner.restart();
    }

    /// The power goes, and takes all that was not synced.
    pub fn crash_losing_all(&self) {
        let mut inner = self.inner();
        for content in inner.files.values_mut() {
            content.lose();
        }
        inner.names_unsynced.clear();
        inner.restart();
    }

    /// Another disk, as this one would be had the power gone now with all that was not synced.
    #[must_use]
    pub fn survivor(&self) -> FaultyDisk {
        let survivor = FaultyDisk::new();
        let inner = self.inner();
        for (path, file) in &inner.names_synced {
            if let Some(mut content) = inner.files.get(file).cloned() {
                content.lose();
                survivor.put(path, content.current);
            }
        }
        survivor
    }

    /// The next `count` fsyncs of files fail. What they should have covered can still be read, but is gone after a
    /// crash, also where a later fsync succeeds.
    pub fn fail_syncs(&self, count: u64) {
        self.inner().syncs_to_fail = count;
    }

    /// The next `count` writes fail half way.
    pub fn fail_writes(&self, count: u64) {
        self.inner().writes_to_fail = count;
    }

    /// After `changes` more writes, fsyncs and changes of names the power fails: the next one has no certain outcome,
    /// and everything from it on fails until [`crash`](Self::crash).
    pub fn cut_power_after(&self, changes: u64) {
        self.inner().changes_left = Some(changes);
    }

    /// The disk is full after `bytes` more. A write that does not fit leaves the part that does.
    pub fn fill_after(&self, bytes: u64) {
        let mut inner = self.inner();
        inner.bytes_max = Some(inner.bytes() + bytes);
    }

    /// The disk has room again.
    pub fn make_room(&self) {
        self.inner().bytes_max = None;
    }

    /// From now on, reads of this byte have the bits of `mask` flipped. What is stored stays as it is.
    pub fn flip_reads(&self, path: &str, offset: u64, mask: u8) {
        self.inner().flips.push((path.to_owned(), offset, mask));
    }

    /// Reads are true again.
    pub fn stop_flipping(&self) {
        self.inner().flips.clear();
    }

    /// How many fsyncs of files finished.
    pub fn syncs(&self) -> u64 {
        self.inner().syncs
    }

    /// What the finished fsyncs covered, in order.
    pub fn synced_ranges(&self) -> Vec<SyncedRange> {
        self.inner().synced.clone()
    }

    /// Whether the file's name and these bytes of it survive every crash.
    pub fn is_synced(&self, path: &str, bytes: Range<u64>) -> bool {
        let inner = self.inner();
        let named = inner.names.get(path);
        named.is_some()
            && named == inner.names_synced.get(path)
            && named.and_then(|file| inner.files.get(file)).is_some_and(|content| content.is_synced(&bytes))
    }

    /// The file as a reader sees it.
    pub fn content(&self, path: &str) -> Option<Vec<u8>> {
        let inner = self.inner();
        inner.files.get(inner.names.get(path)?).map(|content| content.current.clone())
    }

    /// Puts a file on the disk, synced, in place of one of that name: for tests that damage files.
    pub fn put(&self, path: &str, bytes: Vec<u8>) {
        let mut inner = self.inner();
        let file = inner.add_file();
        inner.files.insert(file, Content::synced(bytes));
        inner.names.insert(path.to_owned(), file);
        inner.names_synced.insert(path.to_owned(), file);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, file: u64, life: u64) -> Arc<dyn DiskFile> {
        Arc::new(FaultyFile { disk: self.clone(), file, life })
    }
}

impl Inner {
    fn restart(&mut self) {
        self.names = self.names_synced.clone();
        let named: std::collections::BTreeSet<u64> = self.names.values().copied().collect();
        self.files.retain(|file, _| named.contains(file));
        self.life += 1;
        self.syncs_to_fail = 0;
        self.writes_to_fail = 0;
        self.changes_left = None;
    }

    /// Counts a change; fails where the power is off.
    fn count_change(&mut self) -> io::Result<()> {
        match &mut self.changes_left {
            Some(0) => Err(io::Error::other("the power is off")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn add_file(&mut self) -> u64 {
        self.files_count += 1;
        self.files.insert(self.files_count, Content::default());
        self.files_count
    }

    fn bytes(&self) -> u64 {
        let named = self.names.values().filter_map(|file| self.files.get(file));
        named.map(|content| content.current.len() as u64).sum()
    }

    /// How far a file may be extended to: at most `wanted`.
    fn room(&self, length: u64, wanted: u64) -> u64 {
        match self.bytes_max {
            Some(max) => wanted.min(length + max.saturating_sub(self.bytes())).max(length),
            None => wanted,
        }
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.names_unsynced.push(change);
    }

    fn path_of(&self, file: u64) -> String {
        let mut names = self.names.iter().filter(|(_, named)| **named == file);
        names.next().map(|(path, _)| path.clone()).unwrap_or_default()
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.inner();
        if inner.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        inner.count_change()?;
        let file = inner.add_file();
        inner.change_name(NameChange::Create(path.to_owned(), file));
        Ok(self.handle(file, inner.life))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let inner = self.inner();
        let file = *inner.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(file, inner.life))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.inner();
        let file = *inner.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        inner.change_name(NameChange::Rename(from.to_owned(), to.to_owned(), file));
        inner.count_change()
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut inner = self.inner();
        if !inner.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        inner.change_name(NameChange::Remove(path.to_owned()));
        inner.count_change()
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        Ok(names_in(self.inner().names.keys(), folder))
    }

    fn create_folder(&self, _folder: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        // Folders are nothing but the names in them.
        self.sync_folder(folder)
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        let mut inner = self.inner();
        inner.count_change()?;
        let changes = std::mem::take(&mut inner.names_unsynced);
        for change in changes {
            if folder_of(change.path()) == folder {
                change.apply(&mut inner.names_synced);
            } else {
                inner.names_unsynced.push(change);
            }
        }
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let inner = self.inner();
        Ok(inner.bytes_max.map_or(u64::MAX, |max| max.saturating_sub(inner.bytes())))
    }
}

struct FaultyFile {
    disk: FaultyDisk,
    file: u64,
    life: u64,
}

impl FaultyFile {
    /// Runs `action` on the file, where it did not die in a crash.
    fn with<T>(&self, action: impl FnOnce(&mut Inner, &mut Content) -> io::Result<T>) -> io::Result<T> {
        let mut inner = self.disk.inner();
        if inner.life != self.life {
            return Err(io::Error::other("the machine crashed while this file was open"));
        }
        // Taken out for the while, so that the action can look at the rest of the disk too.
        let mut content = inner.files.remove(&self.file).unwrap_or_default();
        let result = action(&mut inner, &mut content);
        inner.files.insert(self.file, content);
        result
    }

    fn extend(&self, bytes: u64) -> io::Result<()> {
        let room = self.disk.inner();
        let length = room.files.get(&self.file).map_or(0, |content| content.current.len() as u64);
        let fits = room.room(length, bytes) >= bytes;
        drop(room);
        match fits {
            true => self.with(|inner, content| {
                content.change(Unsynced::Length(bytes));
                inner.count_change()
            }),
            false => Err(io::ErrorKind::StorageFull.into()),
        }
    }
}

impl DiskFile for FaultyFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        let room = {
            let mut inner = self.disk.inner();
            let length = inner.files.get(&self.file).map_or(0, |content| content.current.len() as u64);
            let room = inner.room(length, end.max(length));
            if inner.writes_to_fail > 0 {
                inner.writes_to_fail -= 1;
                Err(offset + bytes.len() as u64 / 2)
            } else {
                Ok(room)
            }
        };
        let (fits, error) = match room {
            Ok(room) => (room.clamp(offset, end), io::ErrorKind::StorageFull),
            Err(half) => (half, io::ErrorKind::Other),
        };
        self.with(|inner, content| {
            let part = bytes[..(fits - offset) as usize].to_vec();
            content.change(Unsynced::Write { offset, bytes: part });
            inner.count_change()?;
            if fits < end { Err(error.into()) } else { Ok(()) }
        })
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.with(|inner, content| {
            let count = read_from(&content.current, offset, buffer);
            if !inner.flips.is_empty() {
                let path = inner.path_of(self.file);
                for (_, at, mask) in inner.flips.iter().filter(|(flipped, ..)| *flipped == path) {
                    let place = at.checked_sub(offset).filter(|place| *place < count as u64);
                    if let Some(place) = place {
                        buffer[place as usize] ^= mask;
                    }
                }
            }
            Ok(count)
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|_, content| Ok(content.current.len() as u64))
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.extend(bytes)
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        let bytes = bytes.max(self.len()?);
        self.extend(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|inner, content| {
            inner.count_change()?;
            if inner.syncs_to_fail > 0 {
                inner.syncs_to_fail -= 1;
                content.fail_sync();
                return Err(io::Error::other("the device reports an error"));
            }
            inner.syncs += 1;
            let (sync, path) = (inner.syncs, inner.path_of(self.file));
            let ranges = content.sync().into_iter().filter(|bytes| !bytes.is_empty());
            let ranges = ranges.map(|bytes| SyncedRange { sync, path: path.clone(), bytes });
            inner.synced.extend(ranges);
            Ok(())
        })
    }
}
