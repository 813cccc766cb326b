//! An import's bytes, staged by log entries, read as one file.

use std::io::{Error, Read};

use bytes::{Buf, Bytes};
use mortise_storage::state::{StateBatch, StateDb, StateDbError, StateId};

use super::records::{TableWrites, staged};

/// See the module's documentation.
pub(crate) struct StagedFile<'a> {
    db: &'a StateDb,
    state: StateId,
    import: u64,
    offset: u64,
    chunk: Bytes,
    length: u64,
}

impl<'a> StagedFile<'a> {
    /// The import's bytes, from their start.
    pub(crate) fn new(db: &'a StateDb, state: StateId, import: u64) -> Self {
        Self { db, state, import, offset: 0, chunk: Bytes::new(), length: 0 }
    }

    /// Has the batch delete every chunk, and learns how many bytes there are.
    pub(crate) fn delete(&mut self, batch: &mut StateBatch) -> Result<(), StateDbError> {
        self.length = 0;
        while let Some(chunk) =
            staged(self.db, self.state, self.import, self.length)?.filter(|chunk| !chunk.is_empty())
        {
            batch.delete_staged(self.import, self.length)?;
            self.length += chunk.len() as u64;
        }
        Ok(())
    }

    /// Bytes of the file, as [`Self::delete`] found them.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }
}

impl Read for StagedFile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.chunk.is_empty() {
            let chunk = staged(self.db, self.state, self.import, self.offset).map_err(Error::other)?;
            self.chunk = chunk.unwrap_or_default();
            self.offset += self.chunk.len() as u64;
        }
        let count = self.chunk.len().min(buffer.len());
        self.chunk.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
