//! Everything a node keeps on disk: the durable log, the state database and snapshot files, in one locked folder.
//!
//! ```text
//!   DataFolder ─┬─ CURRENT     Current               which log and which state count
//!               ├─ log/        Log, LogReader        the durable truth; every ack waits for its fsync
//!               ├─ state/      StateDb, StateView    what the log said so far; replay repairs it
//!               └─ snapshots/  SnapshotWriter …      written aside, then renamed
//! ```
//! The log and snapshots reach files only through [`disk::Disk`], which tests replace by one that fails.

mod current;
pub mod disk;
pub mod folder;
pub mod log;
pub mod small_file;
pub mod snapshot;
pub mod state;

pub use current::{CURRENT_FILE, Current};
pub use disk::{Disk, DiskFile, FaultyDisk, MemoryDisk, RealDisk};
pub use folder::{DataFolder, FolderError, ScratchFile};
pub use log::{Log, LogError, LogOptions, LogReader, LogRecord, Recovery};
pub use small_file::{SmallFile, SmallFileError};
pub use snapshot::{
    IncomingSnapshot, Section, SnapshotDecoder, SnapshotEncoder, SnapshotError, SnapshotInfo, SnapshotReader,
    SnapshotWriter,
};
pub use state::{StateBatch, StateDb, StateDbError, StateDbOptions, StateId, StateView};
