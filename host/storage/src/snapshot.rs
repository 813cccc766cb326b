//! Snapshot files, and the same format as a stream for export and import.
//!
//! ```text
//!   │ "MORTSNAP" │ version u32 │ crc │              the beginning
//!   │ header │                                      frames
//!   │ section │ chunk │ chunk │ … │ section end │
//!   │ section │ chunk │ … │ section end │
//!   │ trailer: bytes before it, sections, BLAKE3 of all bytes before it │
//!
//!   a frame:  │ kind u8 │ length u32 │ crc32c u32 of kind, length and payload │ payload │
//! ```
//! Numbers are little endian. What a header, a section's header and a chunk mean is the caller's matter. A file is
//! written aside under a name of its own and gets its real one when it is complete and synced.
//!
//! Reading is streaming: chunks come before the trailer was seen. Each is checked by itself, but whether all are
//! there is known only when [`SnapshotDecoder::next_section`] returned `None`: publish nothing before that.

mod decode;
mod encode;
mod file;
mod incoming;

pub use decode::{Section, SnapshotDecoder};
pub use encode::SnapshotEncoder;
pub use file::{
    DiskReader, DiskWriter, SnapshotReader, SnapshotWriter, keep_aside, list_snapshots, open_snapshot_file,
    remove_leftovers, remove_snapshot,
};
pub use incoming::IncomingSnapshot;

use std::io;

/// Most bytes of a chunk, of the header and of a section's header: what a reader must be ready to hold at once.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

const MAGIC: &[u8; 8] = b"MORTSNAP";
/// The newest format this release writes and reads.
const VERSION: u32 = 1;
/// Bytes of the beginning.
const BEGINNING_BYTES: usize = 16;
/// Bytes of a frame before its payload.
const FRAME_BYTES: usize = 9;
/// Bytes of the trailer's payload.
const TRAILER_BYTES: usize = 48;

const KIND_HEADER: u8 = 1;
const KIND_SECTION: u8 = 2;
const KIND_CHUNK: u8 = 3;
const KIND_SECTION_END: u8 = 4;
const KIND_TRAILER: u8 = 5;

/// What a finished snapshot is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Bytes in all.
    pub bytes: u64,
    /// How many sections it has.
    pub sections: u64,
    /// BLAKE3 over all bytes but the trailer.
    pub digest: [u8; 32],
}

/// Why a snapshot could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A file or stream operation failed.
    #[error("{action} {file}: {error}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file, or what the caller calls the stream.
        file: String,
        /// Why it failed.
        #[source]
        error: io::Error,
    },
    /// It does not begin as a snapshot does.
    #[error("{file} is no snapshot")]
    NotASnapshot {
        /// The file or stream.
        file: String,
    },
    /// Written by a newer release.
    #[error(
        "{file} has format version {version}, newer than this release knows ({known}): use a newer release"
    )]
    TooNew {
        /// The file or stream.
        file: String,
        /// Its version.
        version: u32,
        /// The newest version known here.
        known: u32,
    },
    /// It is damaged.
    #[error("{file} is damaged at byte {offset}: {what}")]
    Damaged {
        /// The file or stream.
        file: String,
        /// Where what is wrong begins.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// It ends too early.
    #[error("{file} ends at byte {offset}, in the middle of a snapshot")]
    Truncated {
        /// The file or stream.
        file: String,
        /// Where it ends.
        offset: u64,
    },
    /// A header or chunk is too large.
    #[error("{what} of {bytes} bytes is larger than the {CHUNK_BYTES_MAX} allowed")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Its bytes.
        bytes: usize,
    },
    /// The caller wrote parts in an order that no snapshot has.
    #[error("{what} does not belong here")]
    OutOfOrder {
        /// The part.
        what: &'static str,
    },
    /// A name that no snapshot can have.
    #[error(
        "{name:?} is no name for a snapshot: use letters, digits, '-', '_' and '.', up to {NAME_BYTES_MAX}"
    )]
    Name {
        /// The name.
        name: String,
    },
}

/// Leaves room for our endings in the 255 bytes that file systems allow.
const NAME_BYTES_MAX: usize = 200;

/// CRC32C of a frame.
fn frame_crc(kind: u8, length: u32, payload: &[u8]) -> u32 {
    let mut head = [kind, 0, 0, 0, 0];
    head[1..].copy_from_slice(&length.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&head), payload)
}

#[cfg(test)]
mod tests;
