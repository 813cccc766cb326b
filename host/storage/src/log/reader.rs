//! Reading beside the writer.

use std::sync::{Arc, PoisonError, RwLock};

use mortise_core::ids::LogIndex;

use super::error::{at, damaged};
use super::frame::{Found, FrameReader};
use super::segment::Segment;
use super::{LogError, LogRecord};

/// The segments, as the writer left them. Never empty; the last one is written to.
pub(super) struct Shared {
    segments: RwLock<Vec<Segment>>,
}

impl Shared {
    pub(super) fn new(segments: Vec<Segment>) -> Self {
        assert!(!segments.is_empty(), "a log has at least one segment");
        Self { segments: RwLock::new(segments) }
    }

    pub(super) fn read<T>(&self, action: impl FnOnce(&[Segment]) -> T) -> T {
        action(&self.segments.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn write<T>(&self, action: impl FnOnce(&mut Vec<Segment>) -> T) -> T {
        action(&mut self.segments.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn with_active<T>(&self, action: impl FnOnce(&mut Segment) -> T) -> T {
        self.write(|segments| {
            let last = segments.len() - 1;
            action(&mut segments[last])
        })
    }

    pub(super) fn push(&self, segment: Segment) {
        self.write(|segments| segments.push(segment));
    }

    pub(super) fn first_index(&self) -> LogIndex {
        self.read(|segments| segments[0].first)
    }

    pub(super) fn last_index(&self) -> LogIndex {
        self.read(|segments| segments[segments.len() - 1].last)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.read(|segments| segments.iter().map(|segment| segment.bytes).sum())
    }
}

/// Reads records from any thread, also such as are not synced yet.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
    record_bytes_max: u32,
}

/// A part of a segment to read.
struct Part {
    reader: FrameReader,
    path: String,
    /// The record after the part's last.
    next: LogIndex,
}

impl LogReader {
    pub(super) fn new(shared: Arc<Shared>, record_bytes_max: u32) -> Self {
        Self { shared, record_bytes_max }
    }

    /// Index of the first record, or of the one to come where there is none.
    pub fn first_index(&self) -> LogIndex {
        self.shared.first_index()
    }

    /// Index of the last record, synced or not.
    pub fn last_index(&self) -> LogIndex {
        self.shared.last_index()
    }

    /// The records from `from` on, as many as have up to `bytes_max` bytes of payload, but at least one where there
    /// is one. None where `from` is beyond the last.
    ///
    /// # Errors
    /// The record was dropped; the file cannot be read, or does not hold what was written to it.
    pub fn read(&self, from: LogIndex, bytes_max: usize) -> Result<Vec<LogRecord>, LogError> {
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut due = from;
        while let Some(mut part) = self.part(due)? {
            while due < part.next {
                let offset = part.reader.offset;
                let Some(record) = self.next_record(&mut part, due)? else { continue };
                if record.index < due {
                    continue;
                }
                if record.index > due {
                    let what = format!("the record {} is there instead", record.index);
                    return Err(damaged(&part.path, offset, due, what));
                }
                bytes += record.payload.len();
                if bytes > bytes_max && !records.is_empty() {
                    return Ok(records);
                }
                records.push(record);
                due = due.next();
            }
        }
        Ok(records)
    }

    /// The record at the part's present offset; none where there is a mark.
    fn next_record(&self, part: &mut Part, due: LogIndex) -> Result<Option<LogRecord>, LogError> {
        let offset = part.reader.offset;
        let what = match part.reader.next().map_err(at("read", &part.path))? {
            Found::Frame { header, .. } if header.is_mark => return Ok(None),
            Found::Frame { header, payload } if header.length <= self.record_bytes_max => {
                return Ok(Some(LogRecord { epoch: header.epoch, index: header.index, payload }));
            }
            Found::Frame { header, .. } => {
                format!("a record of {} bytes is longer than allowed", header.length)
            }
            Found::BadPayload => "the checksum of the payload does not match".to_owned(),
            Found::BadHeader => "the checksum of the record does not match".to_owned(),
            Found::Nothing => "there are only zeros".to_owned(),
        };
        Err(damaged(&part.path, offset, due, what))
    }

    /// Where `index` can be read; none where it does not exist yet.
    fn part(&self, index: LogIndex) -> Result<Option<Part>, LogError> {
        self.shared.read(|segments| {
            let first = segments[0].first;
            if index < first {
                return Err(LogError::Dropped { index, first });
            }
            let after = segments.partition_point(|segment| segment.first <= index);
            let segment = &segments[after - 1];
            if index > segment.last {
                return Ok(None);
            }
            let place = segment.place_before(index);
            let reader = FrameReader::new(segment.file.clone(), segment.salt, place, segment.end);
            Ok(Some(Part { reader, path: segment.path.clone(), next: segment.last.next() }))
        })
    }
}
