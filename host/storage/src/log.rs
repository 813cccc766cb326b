//! The durable log: records with consecutive indexes, in segment files of our own.
//!
//! ```text
//!   append ─▶ page cache ─▶ sync ─▶ durable ─▶ drop_below
//!                │                     │
//!                └── LogReader ◀───────┘      (from any thread)
//! ```
//! One writer appends; [`LogReader`]s read beside it. Nothing that a finished [`Log::sync`] covered is ever cut or
//! deleted by recovery: damage there is an error that names the place. [`recovery`] says how damage is told from a
//! torn tail.

mod ahead;
mod begin;
mod error;
mod frame;
mod reader;
pub mod recovery;
mod segment;
mod truncate;

pub use begin::remove_log;
pub use error::LogError;
pub use reader::LogReader;
pub use recovery::{Recovery, Torn};

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use mortise_core::ids::{Epoch, LogIndex};

use crate::disk::Disk;
use error::at;
use frame::{FRAME_BYTES, frame_bytes, put_mark, put_record};
use reader::Shared;
use segment::{Segment, segment_bytes_for};

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// The leadership under which it was written. Never less than that of the record before.
    pub epoch: Epoch,
    /// Its place: one more than that of the record before.
    pub index: LogIndex,
    /// What the log does not look at.
    pub payload: Bytes,
}

/// How a log is laid out.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Folder of the segments, relative to the disk's root. Nothing else may be in it. Default `log`.
    pub folder: String,
    /// Bytes to which a segment is preallocated. A larger append gets a segment of its own size. Default 64 MiB,
    /// minimum 4 KiB.
    pub segment_bytes: u64,
    /// Most bytes of one record's payload. Default 64 MiB.
    pub record_bytes_max: u32,
}

/// Smaller segments would hold little beside their header.
const SEGMENT_BYTES_MIN: u64 = 4 << 10;
/// The buffer for frames is given back after an append that needed more, so that one large append does not keep its
/// memory for ever.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            folder: crate::folder::LOG_FOLDER.to_owned(),
            segment_bytes: 64 << 20,
            record_bytes_max: 64 << 20,
        }
    }
}

/// The writer of a log.
///
/// Invariants: `synced` ≤ `last_index`; every segment but the last one is synced whole; the bytes after the last
/// frame of the last segment are zero.
pub struct Log {
    disk: Arc<dyn Disk>,
    options: LogOptions,
    shared: Arc<Shared>,
    /// Epoch of the last record.
    last_epoch: Epoch,
    last: LogIndex,
    /// All up to here is durable.
    synced: LogIndex,
    /// Set once, by a failure that leaves it unknown what is durable.
    poison: Option<String>,
    /// Bytes of frames in the last append.
    appended: u64,
    buffer: BytesMut,
}

impl Log {
    /// Opens the log in the folder of `options`, and makes an empty one that begins with index 1 where there is none.
    /// All records there are when this returns are durable.
    ///
    /// # Errors
    /// Damage, gaps, foreign files: nothing is changed then. See [`recovery`].
    pub fn open(disk: Arc<dyn Disk>, mut options: LogOptions) -> Result<(Self, Recovery), LogError> {
        options.segment_bytes = options.segment_bytes.max(SEGMENT_BYTES_MIN);
        let recovered = recovery::recover(disk.as_ref(), &options)?;
        let log = Self {
            disk,
            options,
            last_epoch: recovered.report.last_epoch,
            last: recovered.report.last_index,
            synced: recovered.report.last_index,
            shared: Arc::new(Shared::new(recovered.segments)),
            poison: None,
            appended: 0,
            buffer: BytesMut::new(),
        };
        Ok((log, recovered.report))
    }

    /// Appends records, in one write; all of them or, on an error, none. They are durable only after
    /// [`sync`](Self::sync).
    ///
    /// # Errors
    /// Records that do not continue the log or are too large; a full disk or a failed write, after which the log can
    /// be used on; a poisoned log.
    pub fn append(&mut self, records: &[LogRecord]) -> Result<(), LogError> {
        self.check_poison()?;
        if records.is_empty() {
            return Ok(());
        }
        self.check_records(records)?;
        let bytes: u64 = records.iter().map(|record| frame_bytes(record.payload.len())).sum();
        let rotate = !self.shared.with_active(|active| active.fits(bytes));
        if rotate {
            self.rotate(bytes)?;
        }
        let (file, path, salt, start) = self
            .shared
            .with_active(|active| (active.file.clone(), active.path.clone(), active.salt, active.end));
        self.buffer.clear();
        for record in records {
            put_record(&mut self.buffer, salt, record, self.synced);
        }
        if let Err(error) = file.write_at(start, &self.buffer) {
            // What was written must not stay: it could later be taken for records that follow others.
            let zeros = vec![0; self.buffer.len()];
            if let Err(second) = file.write_at(start, &zeros) {
                return Err(self.poisoned(format!("append to {path}: {error}; wipe it out: {second}")));
            }
            return Err(at("append to", &path)(error));
        }
        self.shared.with_active(|active| {
            for record in records {
                let offset = active.end;
                active.end += frame_bytes(record.payload.len());
                active.note_record(offset);
            }
        });
        self.appended = bytes;
        if let Some(record) = records.last() {
            self.last = record.index;
            self.last_epoch = record.epoch;
        }
        if self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer = BytesMut::new();
        }
        Ok(())
    }

    /// Makes all appended records durable: one fdatasync, none where nothing was appended since the last.
    ///
    /// # Errors
    /// A failure poisons the log for ever: the pages may be gone, and a second fsync would hide that.
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.check_poison()?;
        if self.synced == self.last {
            return Ok(());
        }
        let (file, path) = self.shared.with_active(|active| (active.file.clone(), active.path.clone()));
        if let Err(error) = file.sync_data() {
            return Err(self.poisoned(format!("sync {path}: {error}")));
        }
        self.synced = self.last;
        self.mark()
    }

    /// A reader that can be cloned and used from other threads while this writer appends.
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.shared.clone(), self.options.record_bytes_max)
    }

    /// Index of the first record, or of the one to come where there is none.
    pub fn first_index(&self) -> LogIndex {
        self.shared.first_index()
    }

    /// Index of the last record, synced or not; the one before [`first_index`](Self::first_index) where there is none.
    pub fn last_index(&self) -> LogIndex {
        self.last
    }

    /// Epoch of the last record, also where that one was dropped; 0 in a new log.
    pub fn last_epoch(&self) -> Epoch {
        self.last_epoch
    }

    /// The last record that is durable.
    pub fn synced_index(&self) -> LogIndex {
        self.synced
    }

    /// Bytes the segments take on the disk.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes()
    }

    /// Notes behind the synced records that they are synced. The note itself becomes durable with the next fsync or
    /// by the kernel's own writing, whichever comes first.
    fn mark(&mut self) -> Result<(), LogError> {
        let (file, path, salt, end) = self
            .shared
            .with_active(|active| (active.file.clone(), active.path.clone(), active.salt, active.end));
        self.buffer.clear();
        put_mark(&mut self.buffer, salt, self.last_epoch, self.synced);
        if let Err(error) = file.write_at(end, &self.buffer) {
            return Err(self.poisoned(format!("mark {path} as synced: {error}")));
        }
        self.shared.with_active(|active| active.end += FRAME_BYTES);
        Ok(())
    }

    /// Closes the active segment, synced, and begins one that has room for `bytes` of frames.
    fn rotate(&mut self, bytes: u64) -> Result<(), LogError> {
        self.sync()?;
        let bytes = segment_bytes_for(bytes).max(self.options.segment_bytes);
        let first = self.last.next();
        if self.shared.with_active(|active| active.is_empty()) {
            // Only an append larger than a whole segment comes here: the empty one gives way to a larger one.
            return self.replace_empty(bytes);
        }
        let folder = &self.options.folder;
        let segment = Segment::create(self.disk.as_ref(), folder, first, self.last_epoch, bytes);
        let segment = self.poison_on_unknown(segment)?;
        self.shared.push(segment);
        Ok(())
    }

    fn replace_empty(&mut self, bytes: u64) -> Result<(), LogError> {
        let (first, epoch) = self.shared.with_active(|active| (active.first, active.epoch_before));
        let segment = Segment::create(self.disk.as_ref(), &self.options.folder, first, epoch, bytes);
        let segment = self.poison_on_unknown(segment)?;
        self.shared.with_active(|active| *active = segment);
        Ok(())
    }

    fn check_records(&self, records: &[LogRecord]) -> Result<(), LogError> {
        let (mut expected, mut epoch_min) = (self.last.next(), self.last_epoch);
        for record in records {
            let (index, epoch) = (record.index, record.epoch);
            if index != expected || epoch < epoch_min {
                return Err(LogError::NotContiguous { index, epoch, expected, epoch_min });
            }
            let (bytes, max) = (record.payload.len(), self.options.record_bytes_max);
            if bytes > max as usize {
                return Err(LogError::TooLarge { index, bytes, max });
            }
            (expected, epoch_min) = (index.next(), epoch);
        }
        Ok(())
    }

    fn check_poison(&self) -> Result<(), LogError> {
        match &self.poison {
            Some(cause) => Err(LogError::Poisoned { cause: cause.clone() }),
            None => Ok(()),
        }
    }

    fn poisoned(&mut self, cause: String) -> LogError {
        self.poison = Some(cause.clone());
        LogError::Poisoned { cause }
    }

    /// Keeps the poison that came up below.
    fn poison_on_unknown<T>(&mut self, result: Result<T, LogError>) -> Result<T, LogError> {
        if let Err(LogError::Poisoned { cause }) = &result {
            self.poison = Some(cause.clone());
        }
        result
    }
}

#[cfg(test)]
mod tests;
