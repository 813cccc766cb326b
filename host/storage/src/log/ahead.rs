//! Zeros written ahead of the records, while nothing else is to be done.
//!
//! ```text
//!   │ header │ frame │ frame │ mark │ zeros, written and synced │ space that is only reserved … │
//!                             ▲ end                              ▲ filled
//! ```
//! The first write into space that is only reserved changes the file system's own records, and the fsync behind it
//! has to make those durable too: on ext4 an fsync of 4 KiB then takes some 100 µs longer than over zeros that were
//! written before. To recovery both are the same: zeros, where no frame is.

use super::segment::Segment;
use super::{Log, LogError};

/// Bytes written at once. Makes an append that comes at this moment wait for half a millisecond; one of 1 MiB would
/// take several.
const SLICE_BYTES: u64 = 256 << 10;
/// A slice is written when fewer zeros than this are left, so that several appends find some before the next moment
/// without work.
const AHEAD_BYTES_MIN: u64 = 256 << 10;
/// An append larger than this does not gain what its zeros cost: under load, when many writes share an fsync, the log
/// should not be written twice.
const APPEND_BYTES_MAX: u64 = 128 << 10;
/// Slices end at multiples of this, the unit in which file systems keep space.
const BLOCK_BYTES: u64 = 4 << 10;

impl Log {
    /// Writes some zeros ahead of the records, durably, where few are left. For moments in which nothing waits to be
    /// appended; without it everything works, but slower. Does nothing while there are records that are not synced,
    /// and behind an append so large that zeros hardly speed it up.
    ///
    /// # Errors
    /// A failed fsync poisons the log, as in [`sync`](Self::sync). A failed write of zeros is no error: the bytes
    /// there were zeros before.
    pub fn fill_ahead(&mut self) -> Result<(), LogError> {
        self.check_poison()?;
        if self.synced < self.last || self.appended > APPEND_BYTES_MAX {
            return Ok(());
        }
        let Some((file, path, start, end)) = self.shared.with_active(|active| {
            let (start, end) = active.slice_to_fill()?;
            Some((active.file.clone(), active.path.clone(), start, end))
        }) else {
            return Ok(());
        };
        let written = file.write_at(start, &vec![0; (end - start) as usize]);
        if let Err(error) = &written {
            tracing::warn!(path, %error, "write zeros ahead of the log; this segment goes on without");
        }
        // Also after a failed write: some of it may have been written, and is synced with what comes next otherwise.
        if let Err(error) = file.sync_data() {
            return Err(self.poisoned(format!("sync zeros in {path}: {error}")));
        }
        self.shared.with_active(|active| active.filled = if written.is_ok() { end } else { active.bytes });
        Ok(())
    }
}

impl Segment {
    /// From where to where zeros are to be written; `None` where there are enough.
    fn slice_to_fill(&self) -> Option<(u64, u64)> {
        let start = self.filled.max(self.end);
        if start >= self.bytes || start - self.end >= AHEAD_BYTES_MIN {
            return None;
        }
        let end = (start + SLICE_BYTES) / BLOCK_BYTES * BLOCK_BYTES;
        Some((start, end.min(self.bytes)))
    }
}
