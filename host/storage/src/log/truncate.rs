//! Taking records off the ends of a log. At every moment in between, what is on the disk is a valid log: names are
//! removed one at a time, each durably, and a segment that loses its end is replaced by a copy in one rename.

use mortise_core::ids::LogIndex;

use super::error::{at, damaged};
use super::frame::{Found, FrameReader};
use super::segment::Segment;
use super::{Log, LogError};

impl Log {
    /// Removes every record after `index`, durably. Nothing happens where there is none. For a follower whose leader
    /// has other records.
    ///
    /// # Errors
    /// `index` is below what the log still has; a file operation failed, which poisons the log where it leaves unknown
    /// what is on the disk. An error may leave records after `index`.
    pub fn truncate_after(&mut self, index: LogIndex) -> Result<(), LogError> {
        self.check_poison()?;
        if index >= self.last {
            return Ok(());
        }
        let first = self.first_index();
        if index.next() < first {
            return Err(LogError::Dropped { index, first });
        }
        // The last record of what stays is read first: from here on nothing but the disk can fail.
        let last_epoch = match index < first {
            true => self.shared.read(|segments| segments[0].epoch_before),
            false => self.epoch_of(index)?,
        };
        while let Some(path) = self.shared.read(|segments| match segments {
            [_, .., last] if last.first > index => Some(last.path.clone()),
            _ => None,
        }) {
            self.remove(&path)?;
            self.shared.write(|segments| segments.pop());
            self.note_last();
        }
        let cut = self.shared.with_active(|active| active.last > index);
        if cut {
            let segment = self.cut_active(index)?;
            self.shared.with_active(|active| *active = segment);
        }
        self.last = index;
        self.last_epoch = last_epoch;
        self.synced = self.synced.min(index);
        if cut {
            // The copy was synced whole.
            self.synced = index;
        }
        Ok(())
    }

    /// Removes the segments that have no record from `index` on. Records below `index` can remain, and the segment
    /// that is being written always does.
    ///
    /// # Errors
    /// A removal failed, which poisons the log; what was not removed is still there.
    pub fn drop_below(&mut self, index: LogIndex) -> Result<(), LogError> {
        self.check_poison()?;
        while let Some(path) = self.shared.read(|segments| match segments {
            [first, second, ..] if second.first <= index => Some(first.path.clone()),
            _ => None,
        }) {
            self.remove(&path)?;
            self.shared.write(|segments| segments.remove(0));
        }
        Ok(())
    }

    fn epoch_of(&self, index: LogIndex) -> Result<mortise_core::ids::Epoch, LogError> {
        let records = self.reader().read(index, 0)?;
        let missing = || damaged(&self.options.folder, 0, index, "it cannot be read".to_owned());
        records.first().map(|record| record.epoch).ok_or_else(missing)
    }

    /// Removes a segment's file. Each name durably before the next, since a crash could otherwise undo the removal
    /// of one but not of its neighbour and leave a gap.
    fn remove(&mut self, path: &str) -> Result<(), LogError> {
        let folder = self.options.folder.clone();
        let removed = self.disk.remove(path).and_then(|()| self.disk.sync_folder(&folder));
        // After a failure it is unknown whether the name is there, and so which segments follow each other.
        removed.map_err(|error| self.poisoned(format!("remove segment {path}: {error}")))
    }

    /// Keeps the writer's fields true between two removals, should the next one fail.
    fn note_last(&mut self) {
        self.last = self.shared.last_index();
        self.synced = self.synced.min(self.last);
    }

    /// A copy of the active segment that ends with the record `index`, under its name.
    fn cut_active(&mut self, index: LogIndex) -> Result<Segment, LogError> {
        let (path, mut frames) = self.shared.with_active(|active| {
            let start = active.place_before(index.next());
            let frames = FrameReader::new(active.file.clone(), active.salt, start, active.end);
            (active.path.clone(), frames)
        });
        let offset = loop {
            let offset = frames.offset;
            match frames.next().map_err(at("read", &path))? {
                Found::Frame { header, .. } if !header.is_mark && header.index > index => break offset,
                Found::Frame { .. } => {}
                _ => {
                    let what = "it cannot be read to be cut off".to_owned();
                    return Err(damaged(&path, offset, index.next(), what));
                }
            }
        };
        let folder = self.options.folder.clone();
        let disk = self.disk.clone();
        let rewritten = self.shared.with_active(|active| active.rewrite(disk.as_ref(), &folder, offset));
        let mut segment = self.poison_on_unknown(rewritten)?;
        segment.last = index;
        Ok(segment)
    }
}
