//! All file access of the log and of snapshots goes through [`Disk`], so that tests can lose, tear and damage what a
//! real disk loses, tears and damages.
//!
//! ```text
//!   log, snapshots ──▶ Disk / DiskFile ──┬─▶ RealDisk    a folder of the machine
//!                                        ├─▶ MemoryDisk  nothing survives, nothing fails
//!                                        └─▶ FaultyDisk  keeps what was synced apart from what was not
//! ```
//! Paths are relative to the disk's root, with `/` between their parts.

mod faulty;
mod memory;
mod real;

pub use faulty::{FaultyDisk, SyncedRange};
pub use memory::MemoryDisk;
pub use real::RealDisk;

use std::io;
use std::sync::Arc;

/// The files under one root.
///
/// A created, renamed or removed name is durable only after [`sync_folder`](Self::sync_folder) of its folder.
pub trait Disk: Send + Sync {
    /// Makes a new, empty file. Fails where the name is taken.
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a present file for reading and writing.
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives the file `from` the name `to`, in one step, in place of a file that had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes the file's name. Who holds the file open can go on reading it.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// The names in a folder, sorted, without the folder's own path. Names that are not UTF-8 come with replacement
    /// characters.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Makes the folder and those above it, where they are missing, and makes them durable.
    fn create_folder(&self, folder: &str) -> io::Result<()>;

    /// Removes an empty folder, durably.
    fn remove_folder(&self, folder: &str) -> io::Result<()>;

    /// Makes the folder's names durable.
    fn sync_folder(&self, folder: &str) -> io::Result<()>;

    /// Bytes that can still be written.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// One open file. Reads and writes carry their offset, so that a file can be shared between threads.
#[expect(clippy::len_without_is_empty, reason = "a file's length can fail to be read")]
pub trait DiskFile: Send + Sync {
    /// Writes all of `bytes`, extending the file as needed. On an error any part may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Fills `buffer` from `offset` as far as the file reaches; the number of bytes filled.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;

    /// Cuts the file, or extends it with zeros.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Extends the file with zeros to `bytes` and reserves the space, so that a write inside does not meet a full
    /// disk. File systems that cannot reserve only extend.
    fn preallocate(&self, bytes: u64) -> io::Result<()>;

    /// Makes the content and the length durable. After an error some of what was written since the last success may
    /// be lost although it can still be read: the caller must not retry, nor count on it.
    fn sync_data(&self) -> io::Result<()>;
}

/// Makes a new, empty file in the place of one that an unfinished attempt left under that name.
pub(crate) fn create_anew(disk: &dyn Disk, path: &str) -> io::Result<Arc<dyn DiskFile>> {
    match disk.create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            disk.remove(path)?;
            disk.create(path)
        }
        created => created,
    }
}

/// Reads exactly `buffer.len()` bytes; `UnexpectedEof` where the file is shorter.
pub(crate) fn read_exact_at(file: &dyn DiskFile, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    if file.read_at(offset, buffer)? < buffer.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// The folder part of a path; empty for the root.
pub(crate) fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The names directly inside `folder` among sorted paths.
fn names_in<'a>(paths: impl Iterator<Item = &'a String>, folder: &str) -> Vec<String> {
    let mut names: Vec<String> = paths
        .filter_map(|path| match folder {
            "" => Some(path.as_str()),
            _ => path.strip_prefix(folder)?.strip_prefix('/'),
        })
        .map(|rest| rest.split('/').next().unwrap_or(rest).to_owned())
        .collect();
    names.dedup();
    names
}
