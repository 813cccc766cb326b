//! The one pointer of a data folder: which log and which state count. What is built beside them is published by replacing
//! this file, so that after a crash the old log goes with the old state, or the new one with the new one.

use std::sync::Arc;

use mortise_core::codec::{DecodeError, Reader, Writer};

use crate::disk::Disk;
use crate::folder::LOG_FOLDER;
use crate::log::{LogError, remove_log};
use crate::small_file::{SmallFile, SmallFileError};
use crate::state::StateId;

/// The file.
pub const CURRENT_FILE: &str = "CURRENT";
const FORMAT: u8 = 1;
/// Logs kept aside that are remembered: each is the trace of an operator's decision, and they are few.
const KEPT_MAX: usize = 1000;

/// Which log and which state of a data folder count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// The state, in the state database.
    pub state: StateId,
    /// The log's number, from 1 on: see [`Current::log_folder`].
    pub log: u64,
    /// Numbers of former logs that are kept, because a new history gave them up.
    pub kept: Vec<u64>,
}

impl Default for Current {
    /// Those of a new data folder.
    fn default() -> Self {
        Self { state: StateId(1), log: 1, kept: Vec::new() }
    }
}

impl Current {
    /// What the folder's file says; the default where there is none.
    ///
    /// # Errors
    /// The file is damaged, newer than this release, or cannot be read.
    pub fn read(disk: &Arc<dyn Disk>) -> Result<Self, SmallFileError> {
        let Some(bytes) = SmallFile::new(disk.clone(), CURRENT_FILE).read()? else {
            return Ok(Self::default());
        };
        let decode = |mut reader: Reader| {
            let version = reader.u8("format")?;
            if version != FORMAT {
                return Err(DecodeError::TooNew { what: "pointer", version, known: FORMAT });
            }
            let (state, log) = (StateId(reader.count("state")?), reader.count("log")?);
            let kept = (0..reader.count("kept")?.min(KEPT_MAX as u64)).map(|_| reader.count("kept log"));
            let current = Self { state, log, kept: kept.collect::<Result<_, _>>()? };
            reader.finish()?;
            Ok(current)
        };
        decode(Reader::new(bytes)).map_err(|error| SmallFileError::Damaged {
            file: CURRENT_FILE.to_owned(),
            what: error.to_string(),
        })
    }

    /// Makes this what counts. Durable when it returns.
    ///
    /// # Errors
    /// A file operation failed: after a crash either may count.
    pub fn publish(&self, disk: &Arc<dyn Disk>) -> Result<(), SmallFileError> {
        let mut writer = Writer::default();
        writer.u8(FORMAT).count(self.state.0).count(self.log).count(self.kept.len().min(KEPT_MAX) as u64);
        self.kept.iter().take(KEPT_MAX).for_each(|log| _ = writer.count(*log));
        SmallFile::new(disk.clone(), CURRENT_FILE).replace(&writer.finish())
    }

    /// The folder of the log that counts.
    pub fn log_folder(&self) -> String {
        log_folder(self.log)
    }

    /// Removes the logs that neither count nor are kept: what a crash left of a switch. Returns their folders.
    ///
    /// # Errors
    /// A file operation failed.
    pub fn remove_other_logs(&self, disk: &dyn Disk) -> Result<Vec<String>, LogError> {
        let names =
            disk.list("").map_err(|error| LogError::Io { action: "list", file: String::new(), error })?;
        let others = names
            .into_iter()
            .filter(|name| log_number(name).is_some_and(|log| log != self.log && !self.kept.contains(&log)));
        let others: Vec<String> = others.collect();
        others.iter().try_for_each(|folder| remove_log(disk, folder))?;
        Ok(others)
    }
}

fn log_folder(log: u64) -> String {
    if log == 1 { LOG_FOLDER.to_owned() } else { format!("{LOG_FOLDER}-{log}") }
}

fn log_number(name: &str) -> Option<u64> {
    let number = match name.strip_prefix(LOG_FOLDER)? {
        "" => 1,
        rest => rest.strip_prefix('-')?.parse().ok()?,
    };
    (log_folder(number) == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::FaultyDisk;
    use crate::log::{Log, LogOptions, LogRecord};
    use bytes::Bytes;
    use mortise_core::ids::{Epoch, LogIndex};

    fn disk() -> (FaultyDisk, Arc<dyn Disk>) {
        let disk = FaultyDisk::new();
        (disk.clone(), Arc::new(disk))
    }

    fn record(index: u64) -> LogRecord {
        LogRecord { epoch: Epoch(3), index: LogIndex(index), payload: Bytes::from_static(b"x") }
    }

    #[test]
    fn a_pointer_comes_back() {
        let (_, disk) = disk();
        assert_eq!(Current::read(&disk).unwrap(), Current::default());
        let current = Current { state: StateId(4), log: 3, kept: vec![1, 2] };
        current.publish(&disk).unwrap();
        assert_eq!(Current::read(&disk).unwrap(), current);
        SmallFile::new(disk.clone(), CURRENT_FILE).replace(b"\x01").unwrap();
        assert!(matches!(Current::read(&disk), Err(SmallFileError::Damaged { .. })));
    }

    #[test]
    fn names_of_logs_are_exact() {
        assert_eq!(
            ["log", "log-2", "log-02", "log-1", "logs", "log-x", "snapshots"].map(log_number),
            [Some(1), Some(2), None, None, None, None, None]
        );
    }

    #[test]
    fn a_log_begins_anew_behind_a_snapshot_whatever_moment_the_power_fails() {
        for changes in 0..40 {
            let (faulty, disk) = disk();
            let (mut log, _) = Log::open(disk.clone(), LogOptions::default()).unwrap();
            log.append(&[record(1), record(2)]).unwrap();
            log.sync().unwrap();
            faulty.cut_power_after(changes);
            let current = Current { state: StateId(2), log: 2, kept: Vec::new() };
            let anew = log.begin_anew(&current.log_folder(), LogIndex(9), Epoch(3)).is_ok();
            let published = anew && current.publish(&disk).is_ok();
            drop(log);
            faulty.crash(changes);
            let found = Current::read(&disk).unwrap();
            assert!(found == current || !published, "{changes}");
            found.remove_other_logs(disk.as_ref()).unwrap();
            let options = LogOptions { folder: found.log_folder(), ..LogOptions::default() };
            let (mut log, _) = Log::open(disk.clone(), options).unwrap();
            let next = if found == current { 10 } else { 3 };
            assert_eq!(log.last_index().next(), LogIndex(next), "{changes}");
            log.append(&[record(next)]).unwrap();
            log.sync().unwrap();
            assert_eq!(log.reader().read(LogIndex(next), 1).unwrap().len(), 1);
        }
    }

    #[test]
    fn a_reader_goes_over_to_the_new_log_and_kept_logs_stay() {
        let (_, disk) = disk();
        let (mut log, _) = Log::open(disk.clone(), LogOptions::default()).unwrap();
        log.append(&[record(1)]).unwrap();
        log.sync().unwrap();
        let reader = log.reader();
        log.begin_anew("log-2", LogIndex(5), Epoch(4)).unwrap();
        assert!(matches!(reader.read(LogIndex(1), 1), Err(LogError::Dropped { .. })));
        log.append(&[LogRecord { epoch: Epoch(4), ..record(6) }]).unwrap();
        assert_eq!(reader.read(LogIndex(6), 1).unwrap()[0].epoch, Epoch(4));
        assert!(log.append(&[LogRecord { epoch: Epoch(3), ..record(7) }]).is_err());
        let current = Current { state: StateId(2), log: 2, kept: vec![1] };
        assert_eq!(current.remove_other_logs(disk.as_ref()).unwrap(), Vec::<String>::new());
        let current = Current { kept: Vec::new(), ..current };
        assert_eq!(current.remove_other_logs(disk.as_ref()).unwrap(), ["log"]);
    }
}
