//! A log that begins anew, behind a snapshot that holds what it held.

use mortise_core::ids::{Epoch, LogIndex};

use super::error::at;
use super::segment::{Segment, segment_bytes_for};
use super::{Log, LogError};
use crate::disk::Disk;

impl Log {
    /// The folder of the segments.
    pub fn folder(&self) -> &str {
        &self.options.folder
    }

    /// Goes on in another folder, without records: the next one follows the one at `last`, of `epoch`, which a snapshot
    /// holds. The new log is durable when this returns; the old folder is left as it is, and which of the two counts after
    /// a crash is for the caller to note. Readers read the new log from now on.
    ///
    /// # Errors
    /// A file operation failed: the log is as before.
    pub fn begin_anew(&mut self, folder: &str, last: LogIndex, epoch: Epoch) -> Result<(), LogError> {
        self.check_poison()?;
        // From an attempt that was not finished, and so never counted.
        remove_log(self.disk.as_ref(), folder)?;
        self.disk.create_folder(folder).map_err(at("create folder", folder))?;
        let bytes = segment_bytes_for(0).max(self.options.segment_bytes);
        let segment = Segment::create(self.disk.as_ref(), folder, last.next(), epoch, bytes)?;
        folder.clone_into(&mut self.options.folder);
        self.shared.write(|segments| *segments = vec![segment]);
        (self.last, self.synced, self.last_epoch, self.appended) = (last, last, epoch, 0);
        Ok(())
    }
}

/// Removes a log that no [`Log`] uses, with its folder. Nothing happens where there is none.
///
/// # Errors
/// A file operation failed; what was not removed is still there.
pub fn remove_log(disk: &dyn Disk, folder: &str) -> Result<(), LogError> {
    let names = match disk.list(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        names => names.map_err(at("list folder", folder))?,
    };
    for name in names {
        let path = format!("{folder}/{name}");
        disk.remove(&path).map_err(at("remove", &path))?;
    }
    disk.remove_folder(folder).map_err(at("remove folder", folder))
}
