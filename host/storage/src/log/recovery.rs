//! Opening a log: what is damage, and what is only the torn end of writes that were never synced.
//!
//! A crash may keep, lose or tear any write since the last fsync, also a later one rather than an earlier one. So
//! "an invalid record with a valid one behind it" alone is no proof of damage, and "an invalid record with nothing
//! behind it" alone is no proof of a torn write: it could be the last synced record with a flipped bit. What decides
//! is whether the damaged record *was synced*, and the log says so itself, for the price of 8 bytes a record and
//! one write (no fsync) a sync:
//!
//! - every frame carries `synced`, the index its writer knew to be fsynced;
//! - right after each fsync the writer puts a mark, a frame without a record, that says the same. It needs no fsync
//!   of its own: it survives the end of the process at once, and a power cut once the kernel has written it;
//! - all segments but the last one are synced whole before the next is made;
//! - a segment's header says how long the file is, so that cutting it is always seen.
//!
//! ```text
//!   expected record is invalid at ✗, in the last segment:
//!   │ 7 │ 8 │ ✗ │ 10 │ mark: synced ≤ 10 │      9 ≤ 10: damage. Error, nothing is changed.
//!   │ 7 │ 8 │ mark ≤ 8 │ ✗ │ 10 (synced ≤ 8) │  9 > 8: never synced. Torn tail, cut from 9.
//! ```
//! Headers of frames are searched for at every place to the end of the segment, whether or not their payloads hold.
//!
//! What remains undetected: damage of records that were synced after the last mark which survived. That takes a
//! power cut within the kernel's delay *and* damage in the last synced write at once. The state's own persisted
//! applied index bounds even this: a log that ends below it has lost records, and its owner must refuse it.
//!
//! Records found beyond the last known sync, and the marks behind the last record, are written again and fsynced
//! before the log opens, because an fsync that failed in an earlier life may have left pages that can be read but never
//! reached the disk.

use bytes::BytesMut;
use mortise_core::ids::{Epoch, LogIndex};

use super::error::{at, damaged};
use super::frame::{Debris, Found, FrameReader, put_mark, search};
use super::segment::{FileName, Segment, in_folder};
use super::{LogError, LogOptions};
use crate::disk::{Disk, read_exact_at};

/// What opening a log found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Index of the first record, or of the one to come.
    pub first_index: LogIndex,
    /// Index of the last record; the one before `first_index` where there is none.
    pub last_index: LogIndex,
    /// Epoch of the last record.
    pub last_epoch: Epoch,
    /// How many segments there are.
    pub segments: usize,
    /// The tail that was cut, where there was one.
    pub torn: Option<Torn>,
    /// Files of segments that were never finished, now removed.
    pub unfinished: Vec<String>,
}

/// The end of writes that no fsync covered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The segment.
    pub file: String,
    /// From where on it was cut.
    pub offset: u64,
    /// Bytes cut, up to the last one that was not zero.
    pub bytes: u64,
    /// Frames seen among them.
    pub frames: u64,
}

/// Bytes read or written at once.
const PART_BYTES: u64 = 1 << 20;

pub(super) struct Recovered {
    pub(super) segments: Vec<Segment>,
    pub(super) report: Recovery,
}

/// Checks the whole log, and only then repairs its end.
pub(super) fn recover(disk: &dyn Disk, options: &LogOptions) -> Result<Recovered, LogError> {
    let folder = options.folder.as_str();
    disk.create_folder(folder).map_err(at("create folder", folder))?;
    let (firsts, unfinished) = list(disk, folder)?;
    let mut segments = Vec::with_capacity(firsts.len().max(1));
    for first in firsts {
        segments.push(Segment::open(disk, folder, first)?);
    }
    let mut epoch = segments.first().map_or(Epoch(0), |segment| segment.epoch_before);
    let count = segments.len();
    for place in 0..count.saturating_sub(1) {
        let (before, after) = segments.split_at_mut(place + 1);
        walk_closed(&mut before[place], &after[0], options, &mut epoch)?;
    }
    let tail = match segments.last_mut() {
        Some(last) => walk_last(last, options, &mut epoch)?,
        None => Tail { synced: LogIndex(0), debris: Debris::default() },
    };
    for name in &unfinished {
        let path = in_folder(folder, name);
        disk.remove(&path).map_err(at("remove unfinished segment", &path))?;
    }
    // An earlier life may have removed or renamed a segment without coming to sync that. What the log goes on from must
    // not be taken back by a crash.
    disk.sync_folder(folder).map_err(at("sync folder", folder))?;
    let torn = match segments.last_mut() {
        Some(last) => repair(last, &tail, epoch)?,
        None => {
            let empty = Segment::create(disk, folder, LogIndex(1), Epoch(0), options.segment_bytes)?;
            segments.push(empty);
            None
        }
    };
    let last = &segments[segments.len() - 1];
    let report = Recovery {
        first_index: segments[0].first,
        last_index: last.last,
        last_epoch: epoch,
        segments: segments.len(),
        torn,
        unfinished,
    };
    Ok(Recovered { segments, report })
}

fn list(disk: &dyn Disk, folder: &str) -> Result<(Vec<LogIndex>, Vec<String>), LogError> {
    let (mut firsts, mut unfinished) = (Vec::new(), Vec::new());
    for name in disk.list(folder).map_err(at("list folder", folder))? {
        match FileName::parse(&name) {
            FileName::Segment(first) => firsts.push(first),
            FileName::Unfinished => unfinished.push(name),
            FileName::Foreign => return Err(LogError::Foreign { file: in_folder(folder, &name) }),
        }
    }
    firsts.sort();
    Ok((firsts, unfinished))
}

/// Why a walk along a segment's frames ended.
struct Stop {
    offset: u64,
    /// `None`: there are only zeros, or nothing.
    what: Option<String>,
    /// The highest index known to be synced, by the frames on the way.
    synced: LogIndex,
}

/// Goes along the frames while they follow each other. Notes them in the segment.
fn walk(segment: &mut Segment, options: &LogOptions, epoch: &mut Epoch) -> Result<Stop, LogError> {
    let mut frames = FrameReader::new(segment.file.clone(), segment.salt, segment.end, segment.bytes);
    let mut synced = LogIndex(0);
    let what = loop {
        let due = segment.last.next();
        let found = frames.next().map_err(at("read", &segment.path))?;
        let header = match found {
            Found::Frame { header, .. } => header,
            Found::BadPayload => break Some("the checksum of the payload does not match".to_owned()),
            Found::BadHeader => break Some("the checksum of the record does not match".to_owned()),
            Found::Nothing => break None,
        };
        if header.is_mark {
            if header.synced > segment.last {
                break Some(format!("a mark for the record {} is there instead", header.synced));
            }
        } else if header.index != due || header.epoch < *epoch {
            let (index, epoch) = (header.index, header.epoch);
            break Some(format!("the record {index} of epoch {epoch} is there instead"));
        } else if header.length > options.record_bytes_max {
            let (bytes, max) = (header.length as usize, options.record_bytes_max);
            return Err(LogError::TooLarge { index: due, bytes, max });
        } else {
            segment.note_record(segment.end);
            *epoch = header.epoch;
        }
        synced = synced.max(header.synced);
        segment.end = frames.offset;
    };
    Ok(Stop { offset: segment.end, what, synced })
}

/// A segment with another one after it was synced whole: all its records must be there.
fn walk_closed(
    segment: &mut Segment,
    after: &Segment,
    options: &LogOptions,
    epoch: &mut Epoch,
) -> Result<(), LogError> {
    let stop = walk(segment, options, epoch)?;
    let due = segment.last.next();
    if due > after.first {
        return Err(LogError::Overlap { file: segment.path.clone(), index: after.first });
    }
    if due == after.first {
        return Ok(());
    }
    let file = segment.path.as_str();
    let debris = search(segment.file.as_ref(), segment.salt, stop.offset, segment.bytes);
    let debris = debris.map_err(at("read", file))?;
    if debris.end == 0 {
        return Err(LogError::Gap { missing: due, file: after.path.clone() });
    }
    let what = stop.what.unwrap_or_else(|| "there are only zeros".to_owned());
    Err(damaged(file, stop.offset, due, what))
}

/// What is behind the last valid frame, and how far the log is known to be synced.
struct Tail {
    synced: LogIndex,
    debris: Debris,
}

fn walk_last(segment: &mut Segment, options: &LogOptions, epoch: &mut Epoch) -> Result<Tail, LogError> {
    let stop = walk(segment, options, epoch)?;
    let file = segment.path.as_str();
    let debris = search(segment.file.as_ref(), segment.salt, stop.offset, segment.bytes);
    let debris = debris.map_err(at("read", file))?;
    let due = segment.last.next();
    if debris.synced >= due {
        let what = stop.what.unwrap_or_else(|| "there are only zeros".to_owned());
        let synced = debris.synced;
        return Err(damaged(file, stop.offset, due, format!("{what}, but all up to {synced} was synced")));
    }
    // What came before this segment was synced when it was made.
    let synced = stop.synced.max(LogIndex(segment.first.0.saturating_sub(1)));
    Ok(Tail { synced, debris })
}

/// Cuts a torn tail, and makes sure that what is left is durable.
fn repair(segment: &mut Segment, tail: &Tail, epoch: Epoch) -> Result<Option<Torn>, LogError> {
    let end = segment.end;
    let torn = (tail.debris.end > end).then(|| Torn {
        file: segment.path.clone(),
        offset: end,
        bytes: tail.debris.end - end,
        frames: tail.debris.frames,
    });
    if let Some(torn) = &torn {
        tracing::warn!(
            file = torn.file,
            offset = torn.offset,
            bytes = torn.bytes,
            "cut torn tail of the log"
        );
        let zeros = vec![0; PART_BYTES.min(torn.bytes) as usize];
        in_parts(end, tail.debris.end, |offset, bytes| segment.file.write_at(offset, &zeros[..bytes]))
            .map_err(at("cut torn tail of", &segment.path))?;
    }
    // Not only what may never have been synced: an fsync that failed with nothing but a mark to cover loses the mark.
    let start = segment.place_before(tail.synced.next());
    let mut buffer = vec![0; PART_BYTES.min(end - start) as usize];
    in_parts(start, end, |offset, bytes| {
        read_exact_at(segment.file.as_ref(), offset, &mut buffer[..bytes])?;
        segment.file.write_at(offset, &buffer[..bytes])
    })
    .map_err(at("write again the tail of", &segment.path))?;
    // Also where nothing was written: an earlier life may have wiped out a failed append without syncing that.
    segment.file.sync_data().map_err(at("sync", &segment.path))?;
    if tail.synced < segment.last && segment.fits(0) {
        let mut mark = BytesMut::new();
        put_mark(&mut mark, segment.salt, epoch, segment.last);
        segment.file.write_at(end, &mark).map_err(at("mark as synced", &segment.path))?;
        segment.end += mark.len() as u64;
    }
    Ok(torn)
}

fn in_parts(
    start: u64,
    end: u64,
    mut action: impl FnMut(u64, usize) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut offset = start;
    while offset < end {
        let bytes = PART_BYTES.min(end - offset);
        action(offset, bytes as usize)?;
        offset += bytes;
    }
    Ok(())
}
