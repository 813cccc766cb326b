//! Segments: the files of a log.
//!
//! ```text
//!   00000000000000000001.log   00000000000000004711.log   (the index of the first record)
//!
//!   │ header, 64 bytes │ frame │ frame │ … │ zeros up to the preallocated length │
//! ```
//! The header is durable before the file gets its name, and says how long the file is: a shorter one was cut by
//! someone else.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use mortise_core::ids::{Epoch, LogIndex};

use super::error::{LogError, at, damaged};
use super::frame::FRAME_BYTES;
use crate::disk::{Disk, DiskFile, create_anew, read_exact_at};

/// Bytes before the first frame.
pub(super) const HEADER_BYTES: u64 = 64;
/// The newest format this release writes and reads.
const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"MORTLOG\0";
const SUFFIX: &str = ".log";
const SUFFIX_UNFINISHED: &str = ".log.tmp";
/// A place in memory for every so many bytes of log: a read begins at most this far before what it wants, and the
/// places of a segment of 64 MiB take 16 KiB.
const PLACE_BYTES: u64 = 64 << 10;

/// What a file of the log's folder is, by its name.
pub(super) enum FileName {
    Segment(LogIndex),
    /// A segment whose creation or rewriting was not finished. Nothing in it counts.
    Unfinished,
    Foreign,
}

impl FileName {
    pub(super) fn parse(name: &str) -> Self {
        let (digits, unfinished) = match name.strip_suffix(SUFFIX_UNFINISHED) {
            Some(digits) => (digits, true),
            None => (name.strip_suffix(SUFFIX).unwrap_or_default(), false),
        };
        match digits.parse::<u64>() {
            Ok(first) if digits == segment_digits(LogIndex(first)) => {
                if unfinished {
                    Self::Unfinished
                } else {
                    Self::Segment(LogIndex(first))
                }
            }
            _ => Self::Foreign,
        }
    }
}

fn segment_digits(first: LogIndex) -> String {
    format!("{:020}", first.0)
}

/// The name of the segment that begins with `first`.
pub(super) fn segment_name(first: LogIndex) -> String {
    segment_digits(first) + SUFFIX
}

fn unfinished_name(first: LogIndex) -> String {
    segment_digits(first) + SUFFIX_UNFINISHED
}

/// One segment, as the writer and the readers know it.
pub(super) struct Segment {
    /// Relative to the disk's root.
    pub(super) path: String,
    pub(super) file: Arc<dyn DiskFile>,
    /// Starts the checksums of the frames.
    pub(super) salt: u32,
    /// Length of the file.
    pub(super) bytes: u64,
    /// Index of the first record that is or will be here.
    pub(super) first: LogIndex,
    /// Epoch of the record before `first`.
    pub(super) epoch_before: Epoch,
    /// Index of the last record; the one before `first` where there is none.
    pub(super) last: LogIndex,
    /// Where the next frame goes.
    pub(super) end: u64,
    /// Zeros were written from `end` up to here, where that is behind it; the rest may be space that is only reserved.
    pub(super) filled: u64,
    /// Records and where they begin, in order, one in every [`PLACE_BYTES`].
    places: Vec<(LogIndex, u64)>,
}

impl Segment {
    /// Makes an empty segment of `bytes` bytes that is durable when this returns.
    pub(super) fn create(
        disk: &dyn Disk,
        folder: &str,
        first: LogIndex,
        epoch_before: Epoch,
        bytes: u64,
    ) -> Result<Self, LogError> {
        let path = in_folder(folder, &segment_name(first));
        let unfinished = in_folder(folder, &unfinished_name(first));
        let salt = new_salt();
        let header = encode_header(first, epoch_before, bytes, salt);
        let file = write_aside(disk, &unfinished, bytes, &header)?;
        publish(disk, folder, &unfinished, &path)?;
        Ok(Self::empty(path, file, salt, bytes, first, epoch_before))
    }

    /// Replaces the segment's file by one that ends before `offset`. Durable when this returns.
    pub(super) fn rewrite(&self, disk: &dyn Disk, folder: &str, offset: u64) -> Result<Self, LogError> {
        let mut kept = vec![0; offset as usize];
        read_exact_at(self.file.as_ref(), 0, &mut kept).map_err(at("read segment", &self.path))?;
        let unfinished = in_folder(folder, &unfinished_name(self.first));
        let file = write_aside(disk, &unfinished, self.bytes, &kept)?;
        publish(disk, folder, &unfinished, &self.path)?;
        let (salt, path) = (self.salt, self.path.clone());
        let mut segment = Self::empty(path, file, salt, self.bytes, self.first, self.epoch_before);
        segment.end = offset;
        segment.places = self.places.iter().copied().take_while(|(_, place)| *place < offset).collect();
        Ok(segment)
    }

    /// Opens a present segment and checks its header; the frames are for the caller.
    pub(super) fn open(disk: &dyn Disk, folder: &str, first: LogIndex) -> Result<Self, LogError> {
        let path = in_folder(folder, &segment_name(first));
        let file = disk.open(&path).map_err(at("open segment", &path))?;
        let length = file.len().map_err(at("read length of segment", &path))?;
        let mut header = [0; HEADER_BYTES as usize];
        let cut = |what: String| damaged(&path, 0, first, what);
        if length < HEADER_BYTES {
            return Err(cut(format!("the file has {length} bytes, fewer than a segment header")));
        }
        read_exact_at(file.as_ref(), 0, &mut header).map_err(at("read segment header", &path))?;
        let header = decode_header(&path, first, &header)?;
        if header.first != first {
            return Err(LogError::Misnamed { file: path, first: header.first });
        }
        if header.bytes != length {
            let written = header.bytes;
            return Err(cut(format!("the file has {length} bytes, but was made with {written}")));
        }
        Ok(Self::empty(path, file, header.salt, length, first, header.epoch_before))
    }

    fn empty(
        path: String,
        file: Arc<dyn DiskFile>,
        salt: u32,
        bytes: u64,
        first: LogIndex,
        epoch_before: Epoch,
    ) -> Self {
        let last = LogIndex(first.0.saturating_sub(1));
        let (end, filled, places) = (HEADER_BYTES, HEADER_BYTES, Vec::new());
        Self { path, file, salt, bytes, first, epoch_before, last, end, filled, places }
    }

    /// Notes that the record after `last` begins at `offset`.
    pub(super) fn note_record(&mut self, offset: u64) {
        self.last = self.last.next();
        let far = self.places.last().is_none_or(|(_, place)| offset - place >= PLACE_BYTES);
        if far {
            self.places.push((self.last, offset));
        }
    }

    /// A place at or before the record `index`, from which to read on.
    pub(super) fn place_before(&self, index: LogIndex) -> u64 {
        let after = self.places.partition_point(|(place, _)| *place <= index);
        after.checked_sub(1).map_or(HEADER_BYTES, |place| self.places[place].1)
    }

    /// Whether `bytes` of frames fit, and a mark after them.
    pub(super) fn fits(&self, bytes: u64) -> bool {
        self.end + bytes + FRAME_BYTES <= self.bytes
    }

    /// Whether the segment has no record.
    pub(super) fn is_empty(&self) -> bool {
        self.last < self.first
    }
}

/// Bytes of a segment that has room for `frames` bytes of frames and a mark.
pub(super) fn segment_bytes_for(frames: u64) -> u64 {
    HEADER_BYTES + frames + FRAME_BYTES
}

/// Writes a file that has no meaning yet, and syncs it. Leaves none behind on an error.
fn write_aside(
    disk: &dyn Disk,
    path: &str,
    bytes: u64,
    content: &[u8],
) -> Result<Arc<dyn DiskFile>, LogError> {
    let write = || {
        let file = create_anew(disk, path)?;
        file.preallocate(bytes)?;
        file.write_at(0, content)?;
        file.sync_data()?;
        Ok(file)
    };
    write().map_err(|error: std::io::Error| {
        if let Err(error) = disk.remove(path) {
            tracing::warn!(path, %error, "an unfinished segment stays until the next start");
        }
        at("create segment", path)(error)
    })
}

/// Gives a file written aside its name, durably. After an error it is unknown which name it has.
fn publish(disk: &dyn Disk, folder: &str, from: &str, to: &str) -> Result<(), LogError> {
    let unknown = |error| LogError::Poisoned { cause: at("name segment", to)(error).to_string() };
    disk.rename(from, to).map_err(unknown)?;
    disk.sync_folder(folder).map_err(unknown)
}

pub(super) fn in_folder(folder: &str, name: &str) -> String {
    format!("{folder}/{name}")
}

/// Differs from segment to segment, and nobody outside knows it.
fn new_salt() -> u32 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish() as u32
}

struct Header {
    bytes: u64,
    first: LogIndex,
    epoch_before: Epoch,
    salt: u32,
}

fn encode_header(first: LogIndex, epoch_before: Epoch, bytes: u64, salt: u32) -> BytesMut {
    let mut header = BytesMut::with_capacity(HEADER_BYTES as usize);
    header.put_slice(MAGIC);
    header.put_u32_le(VERSION);
    header.put_u32_le(salt);
    header.put_u64_le(bytes);
    header.put_u64_le(first.0);
    header.put_u64_le(epoch_before.0);
    // Room for later formats.
    header.put_bytes(0, HEADER_BYTES as usize - 4 - header.len());
    let crc = crc32c::crc32c(&header);
    header.put_u32_le(crc);
    header
}

fn decode_header(path: &str, first: LogIndex, header: &[u8; 64]) -> Result<Header, LogError> {
    let u32_at = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    if !header.starts_with(MAGIC) {
        return Err(damaged(path, 0, first, "the file does not begin as a segment does".to_owned()));
    }
    if crc32c::crc32c(&header[..60]) != u32_at(60) {
        return Err(damaged(path, 0, first, "the checksum of the segment header does not match".to_owned()));
    }
    let version = u32_at(8);
    if version > VERSION {
        return Err(LogError::TooNew { file: path.to_owned(), version, known: VERSION });
    }
    Ok(Header {
        salt: u32_at(12),
        bytes: u64_at(16),
        first: LogIndex(u64_at(24)),
        epoch_before: Epoch(u64_at(32)),
    })
}
