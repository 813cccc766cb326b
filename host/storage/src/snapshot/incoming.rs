//! A snapshot file that comes from elsewhere, part by part.

use std::sync::Arc;

use super::file::{Aside, at};
use super::{SnapshotError, SnapshotInfo, SnapshotReader};
use crate::disk::Disk;

/// Writes a snapshot file that was made elsewhere. It gets its name only when it is whole and every checksum of it was
/// seen to match; one that is dropped before leaves nothing.
pub struct IncomingSnapshot {
    aside: Aside,
    offset: u64,
}

impl IncomingSnapshot {
    /// Begins the snapshot `name`, which will replace one of that name.
    ///
    /// # Errors
    /// It is no name; a file operation fails.
    pub fn create(disk: Arc<dyn Disk>, name: &str) -> Result<Self, SnapshotError> {
        // Not called as this node would call its own snapshot at the same index meanwhile.
        let aside = Aside::create(disk, name, &format!("{name}-incoming"))?;
        Ok(Self { aside, offset: 0 })
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
        self.aside.file.write_at(self.offset, bytes).map_err(at("write snapshot", &self.aside.aside))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Checks the whole file and gives it its name, durably.
    ///
    /// # Errors
    /// It is damaged or not whole; a file operation fails.
    pub fn finish(self) -> Result<SnapshotInfo, SnapshotError> {
        self.aside.sync()?;
        let info = SnapshotReader::of(self.aside.file.clone(), &self.aside.aside)?.verify()?;
        self.aside.publish()?;
        Ok(info)
    }
}
