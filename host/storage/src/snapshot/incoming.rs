//! A snapshot file that comes from elsewhere, part by part.

use std::io::BufReader;
use std::sync::Arc;

use super::file::{BUFFER_BYTES, DiskReader, SUFFIX_UNFINISHED, at, path_of};
use super::{SnapshotDecoder, SnapshotError, SnapshotInfo};
use crate::disk::{Disk, DiskFile};
use crate::folder::SNAPSHOTS_FOLDER;

/// Writes a snapshot file that was made elsewhere. It gets its name only when it is whole and every checksum of it was
/// seen to match; one that is dropped before leaves nothing.
pub struct IncomingSnapshot {
    disk: Arc<dyn Disk>,
    path: String,
    aside: String,
    file: Arc<dyn DiskFile>,
    offset: u64,
    finished: bool,
}

impl IncomingSnapshot {
    /// Begins the snapshot `name`, which will replace one of that name.
    ///
    /// # Errors
    /// It is no name; a file operation fails.
    pub fn create(disk: Arc<dyn Disk>, name: &str) -> Result<Self, SnapshotError> {
        let path = path_of(name)?;
        // Not the name under which this node would write its own snapshot at the same index.
        let aside = format!("{SNAPSHOTS_FOLDER}/{name}-incoming{SUFFIX_UNFINISHED}");
        disk.create_folder(SNAPSHOTS_FOLDER).map_err(at("create folder", SNAPSHOTS_FOLDER))?;
        if disk.remove(&aside).is_ok() {
            tracing::debug!(aside, "removed what an earlier attempt left");
        }
        let file = disk.create(&aside).map_err(at("create snapshot", &aside))?;
        Ok(Self { disk, path, aside, file, offset: 0, finished: false })
    }

    /// Bytes written so far: where the next part goes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Writes the next part.
    ///
    /// # Errors
    /// A file operation fails.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.file.write_at(self.offset, bytes).map_err(at("write snapshot", &self.aside))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Checks the whole file and gives it its name, durably.
    ///
    /// # Errors
    /// It is damaged or not whole; a file operation fails.
    pub fn finish(mut self) -> Result<SnapshotInfo, SnapshotError> {
        self.file.sync_data().map_err(at("sync snapshot", &self.aside))?;
        let input = DiskReader::new(self.file.clone());
        let mut decoder = SnapshotDecoder::new(BufReader::with_capacity(BUFFER_BYTES, input), &self.aside)?;
        while decoder.next_section()?.is_some() {}
        decoder.check_end()?;
        let info = decoder.info().cloned();
        let info = info.ok_or(SnapshotError::OutOfOrder { what: "the end of a check before the trailer" })?;
        self.disk.rename(&self.aside, &self.path).map_err(at("name snapshot", &self.path))?;
        self.finished = true;
        self.disk.sync_folder(SNAPSHOTS_FOLDER).map_err(at("sync folder", SNAPSHOTS_FOLDER))?;
        Ok(info)
    }
}

impl Drop for IncomingSnapshot {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = self.disk.remove(&self.aside)
        {
            tracing::warn!(file = self.aside, %error, "an unfinished snapshot stays until the next start");
        }
    }
}
