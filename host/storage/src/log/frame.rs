//! Frames: how records lie in a segment.
//!
//! ```text
//!   0        4           8       16      24       32     36         40
//!   │ length │ crc of    │ epoch │ index │ synced │ kind │ crc of   │ payload … │ zeros up to a
//!   │ u32    │ payload   │ u64   │ u64   │ u64    │ u32  │ 0..36    │           │ multiple of 8
//! ```
//! Little endian. Both checksums are CRC32C and start from the segment's salt, so that bytes which a user copied out
//! of a log and stored as a value never look like a frame. The frame's own checksum makes its length trustworthy
//! before it is used. A frame of zeros is none: it is preallocated space.
//!
//! `synced` is what the writer knew to be fsynced when it wrote the frame. See [`recovery`](super::recovery).

use std::io;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use mortise_core::ids::{Epoch, LogIndex};

use super::LogRecord;
use crate::disk::DiskFile;

/// Bytes before the payload.
pub(super) const FRAME_BYTES: u64 = 40;
/// Frames begin at multiples of this, so that a search for one among damaged bytes has few places to try.
pub(super) const ALIGNMENT: u64 = 8;
/// Bytes read at once: large enough for the disk's full speed, small enough to hold several.
const READ_BYTES: u64 = 256 << 10;

const KIND_RECORD: u32 = 1;
const KIND_MARK: u32 = 2;

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) length: u32,
    pub(super) payload_crc: u32,
    pub(super) epoch: Epoch,
    /// Of a mark: equal to `synced`.
    pub(super) index: LogIndex,
    pub(super) synced: LogIndex,
    pub(super) is_mark: bool,
}

impl FrameHeader {
    /// Bytes of the whole frame with its padding.
    pub(super) fn frame_bytes(&self) -> u64 {
        frame_bytes(self.length as usize)
    }

    fn encode(&self, salt: u32, buffer: &mut BytesMut) {
        let start = buffer.len();
        buffer.put_u32_le(self.length);
        buffer.put_u32_le(self.payload_crc);
        buffer.put_u64_le(self.epoch.0);
        buffer.put_u64_le(self.index.0);
        buffer.put_u64_le(self.synced.0);
        buffer.put_u32_le(if self.is_mark { KIND_MARK } else { KIND_RECORD });
        let crc = crc32c::crc32c_append(salt, &buffer[start..]);
        buffer.put_u32_le(crc);
    }

    /// Reads a header; `None` where there is none.
    pub(super) fn decode(salt: u32, bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; FRAME_BYTES as usize] = bytes.get(..FRAME_BYTES as usize)?.try_into().ok()?;
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if crc32c::crc32c_append(salt, &bytes[..36]) != u32_at(36) {
            return None;
        }
        Some(Self {
            length: u32_at(0),
            payload_crc: u32_at(4),
            epoch: Epoch(u64_at(8)),
            index: LogIndex(u64_at(16)),
            synced: LogIndex(u64_at(24)),
            is_mark: match u32_at(32) {
                KIND_RECORD => false,
                KIND_MARK => true,
                _ => return None,
            },
        })
    }
}

/// Bytes of a frame with `payload` bytes of payload, with its padding.
pub(super) fn frame_bytes(payload: usize) -> u64 {
    FRAME_BYTES + (payload as u64).next_multiple_of(ALIGNMENT)
}

/// Appends a record's frame.
pub(super) fn put_record(buffer: &mut BytesMut, salt: u32, record: &LogRecord, synced: LogIndex) {
    let header = FrameHeader {
        length: record.payload.len() as u32,
        payload_crc: crc32c::crc32c_append(salt, &record.payload),
        epoch: record.epoch,
        index: record.index,
        synced,
        is_mark: false,
    };
    header.encode(salt, buffer);
    buffer.put_slice(&record.payload);
    let padding = header.frame_bytes() - FRAME_BYTES - record.payload.len() as u64;
    buffer.put_bytes(0, padding as usize);
}

/// Appends a mark: all up to `synced` was fsynced.
pub(super) fn put_mark(buffer: &mut BytesMut, salt: u32, epoch: Epoch, synced: LogIndex) {
    let payload_crc = crc32c::crc32c_append(salt, &[]);
    let header = FrameHeader { length: 0, payload_crc, epoch, index: synced, synced, is_mark: true };
    header.encode(salt, buffer);
}

/// What stands at a place of a segment.
pub(super) enum Found {
    /// A frame whose checksums hold.
    Frame { header: FrameHeader, payload: Bytes },
    /// A header whose checksum holds over a payload whose does not.
    BadPayload,
    /// Neither a frame nor zeros, or a frame that is longer than what may be read.
    BadHeader,
    /// Zeros where a frame would stand, or the end of what may be read.
    Nothing,
}

/// Reads a part of a segment from front to back.
pub(super) struct FrameReader {
    file: Arc<dyn DiskFile>,
    salt: u32,
    /// Where the next frame begins.
    pub(super) offset: u64,
    /// Nothing at or after it is read.
    end: u64,
    buffer: Bytes,
    buffer_offset: u64,
}

impl FrameReader {
    pub(super) fn new(file: Arc<dyn DiskFile>, salt: u32, offset: u64, end: u64) -> Self {
        Self { file, salt, offset, end, buffer: Bytes::new(), buffer_offset: offset }
    }

    /// What stands at [`offset`](Self::offset). After a frame the offset is that of the next one; else it stays.
    pub(super) fn next(&mut self) -> io::Result<Found> {
        let head = self.bytes(FRAME_BYTES)?;
        if head.iter().all(|byte| *byte == 0) {
            return Ok(Found::Nothing);
        }
        let Some(header) = FrameHeader::decode(self.salt, &head) else { return Ok(Found::BadHeader) };
        if header.frame_bytes() > self.end - self.offset {
            return Ok(Found::BadHeader);
        }
        let frame = self.bytes(header.frame_bytes())?;
        let end = FRAME_BYTES as usize + header.length as usize;
        if frame.len() < end {
            return Ok(Found::BadPayload);
        }
        let payload = frame.slice(FRAME_BYTES as usize..end);
        if crc32c::crc32c_append(self.salt, &payload) != header.payload_crc {
            return Ok(Found::BadPayload);
        }
        self.offset += header.frame_bytes();
        Ok(Found::Frame { header, payload })
    }

    /// `count` bytes from the present offset; fewer at the end.
    fn bytes(&mut self, count: u64) -> io::Result<Bytes> {
        let count = count.min(self.end.saturating_sub(self.offset));
        if self.offset + count > self.buffer_offset + self.buffer.len() as u64 {
            let wanted = count.max(READ_BYTES).min(self.end - self.offset);
            let mut buffer = BytesMut::zeroed(wanted as usize);
            let filled = self.file.read_at(self.offset, &mut buffer)?;
            buffer.truncate(filled);
            self.buffer = buffer.freeze();
            self.buffer_offset = self.offset;
        }
        let start = (self.offset - self.buffer_offset) as usize;
        let end = (start + count as usize).min(self.buffer.len());
        Ok(self.buffer.slice(start..end))
    }
}

/// What a search among bytes that are no frames found.
#[derive(Debug, Default)]
pub(super) struct Debris {
    /// Where the last byte that is not zero ends; 0: all are zero.
    pub(super) end: u64,
    /// The highest index that a frame header found there knows to be fsynced.
    pub(super) synced: LogIndex,
    /// How many frame headers were found.
    pub(super) frames: u64,
}

/// Searches `offset..end` for what an earlier writer left.
pub(super) fn search(file: &dyn DiskFile, salt: u32, offset: u64, end: u64) -> io::Result<Debris> {
    let mut debris = Debris::default();
    let mut at = offset;
    let mut buffer = vec![0; (READ_BYTES + FRAME_BYTES) as usize];
    while at < end {
        // A header that begins in this part may end in the next one, hence the overlap.
        let wanted = (READ_BYTES + FRAME_BYTES).min(end - at);
        let filled = file.read_at(at, &mut buffer[..wanted as usize])?;
        let part = &buffer[..filled];
        if let Some(last) = part.iter().rposition(|byte| *byte != 0) {
            debris.end = at + last as u64 + 1;
            for place in (0..part.len().min(READ_BYTES as usize)).step_by(ALIGNMENT as usize) {
                if let Some(header) = FrameHeader::decode(salt, &part[place..]) {
                    debris.frames += 1;
                    debris.synced = debris.synced.max(header.synced);
                }
            }
        }
        at += READ_BYTES;
    }
    Ok(debris)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, MemoryDisk};

    #[test]
    fn a_frame_of_another_salt_is_none() {
        let mut buffer = BytesMut::new();
        let record = LogRecord { epoch: Epoch(3), index: LogIndex(9), payload: Bytes::from_static(b"abc") };
        put_record(&mut buffer, 1, &record, LogIndex(7));
        assert_eq!(buffer.len() as u64, frame_bytes(3));
        assert!(FrameHeader::decode(2, &buffer).is_none());
        let header = FrameHeader::decode(1, &buffer).unwrap();
        assert_eq!((header.epoch, header.index, header.synced), (Epoch(3), LogIndex(9), LogIndex(7)));
    }

    #[test]
    fn a_header_across_the_parts_of_a_search_is_found() {
        let file = MemoryDisk::new().create("f").unwrap();
        let mut buffer = BytesMut::new();
        put_mark(&mut buffer, 5, Epoch(1), LogIndex(40));
        file.preallocate(3 * READ_BYTES).unwrap();
        file.write_at(READ_BYTES - 8, &buffer).unwrap();
        let debris = search(file.as_ref(), 5, 64, 3 * READ_BYTES).unwrap();
        assert_eq!((debris.synced, debris.end), (LogIndex(40), READ_BYTES - 8 + FRAME_BYTES));
        // The search begins at multiples of 8 from its start only, as frames do.
        assert!(debris.frames >= 1);
    }
}
