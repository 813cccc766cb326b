//! What can go wrong with a log.

use std::io;

use mortise_core::ids::{Epoch, LogIndex};

/// Why the log could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file operation failed. After a failed `append` nothing was appended, and the log can be used on.
    #[error("{action} {file}: {error}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file.
        file: String,
        /// Why it failed.
        #[source]
        error: io::Error,
    },
    /// An earlier failure left it unknown what is durable. Every later call fails like this one: the process must
    /// stop, and start again from what recovery finds.
    #[error("the log stopped after a failure that may have lost unsynced data: {cause}")]
    Poisoned {
        /// The failure.
        cause: String,
    },
    /// Bytes that were once durable are damaged. The file is left as it is.
    #[error("{file} is damaged at byte {offset}, where the record {index} should be: {what}")]
    Damaged {
        /// The file.
        file: String,
        /// Where in the file.
        offset: u64,
        /// The record that is expected there.
        index: LogIndex,
        /// What is wrong.
        what: String,
    },
    /// Segments do not follow each other.
    #[error("the log has no segment that begins with the record {missing}; the next one there is is {file}")]
    Gap {
        /// The first record that is missing.
        missing: LogIndex,
        /// The segment after the gap.
        file: String,
    },
    /// Two segments have the same record.
    #[error("{file} has the record {index}, and so has the segment after it")]
    Overlap {
        /// The earlier segment.
        file: String,
        /// The first record that both have.
        index: LogIndex,
    },
    /// A segment has another one's name.
    #[error("{file} is a copy or was renamed: by its header it begins with the record {first}")]
    Misnamed {
        /// The file.
        file: String,
        /// What its header says.
        first: LogIndex,
    },
    /// The folder has a file that is no segment.
    #[error("{file} is no segment of the log: move it elsewhere")]
    Foreign {
        /// The file.
        file: String,
    },
    /// Written by a newer release.
    #[error(
        "{file} has format version {version}, newer than this release knows ({known}): use a newer release"
    )]
    TooNew {
        /// The file.
        file: String,
        /// Its version.
        version: u32,
        /// The newest version known here.
        known: u32,
    },
    /// The records to append do not continue the log.
    #[error(
        "append a record with index {index} and epoch {epoch} where {expected} and at least {epoch_min} is due"
    )]
    NotContiguous {
        /// The index of the record.
        index: LogIndex,
        /// The epoch of the record.
        epoch: Epoch,
        /// The index due.
        expected: LogIndex,
        /// The least epoch.
        epoch_min: Epoch,
    },
    /// A record is too large.
    #[error("the record {index} has {bytes} bytes, more than the {max} allowed")]
    TooLarge {
        /// The record.
        index: LogIndex,
        /// Its bytes.
        bytes: usize,
        /// The bound.
        max: u32,
    },
    /// The record was dropped.
    #[error("the record {index} is asked for, but the log begins with {first}")]
    Dropped {
        /// The record.
        index: LogIndex,
        /// The first one there is.
        first: LogIndex,
    },
}

impl LogError {
    /// Whether the files are at fault, and not an operation on them.
    pub fn is_damage(&self) -> bool {
        !matches!(self, Self::Io { .. } | Self::Poisoned { .. } | Self::TooLarge { .. } | Self::TooNew { .. })
    }
}

pub(super) fn at<'a>(action: &'static str, file: &'a str) -> impl Fn(io::Error) -> LogError + Copy + 'a {
    move |error| LogError::Io { action, file: file.to_owned(), error }
}

pub(super) fn damaged(file: &str, offset: u64, index: LogIndex, what: String) -> LogError {
    LogError::Damaged { file: file.to_owned(), offset, index, what }
}
