//! The machine's own disk: what one write and fdatasync cost without anything of ours.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of the file; writes begin again at its start when they reach its end.
const FILE_BYTES: u64 = 64 << 20;

/// A file to write to and fsync, one write after the other.
pub(crate) struct Reference {
    file: File,
    offset: u64,
}

/// What the file is made of before the first write. File systems tell them apart: a first write into space that is
/// only reserved changes metadata, which the fsync then has to make durable too.
#[derive(Clone, Copy)]
pub(crate) enum Space {
    /// Zeros were written and are durable.
    Written,
    /// Space is reserved, nothing was written.
    Reserved,
}

impl Reference {
    pub(crate) fn create(path: &Path, space: Space) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        match space {
            Space::Reserved => {
                rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, FILE_BYTES)?;
            }
            Space::Written => {
                let zeros = vec![0; 1 << 20];
                for offset in (0..FILE_BYTES).step_by(zeros.len()) {
                    file.write_all_at(&zeros, offset)?;
                }
            }
        }
        file.sync_all()?;
        Ok(Self { file, offset: 0 })
    }

    /// Writes behind the last write and fsyncs. How long both took.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<Duration> {
        if self.offset + bytes.len() as u64 > FILE_BYTES {
            self.offset = 0;
        }
        let start = Instant::now();
        self.file.write_all_at(bytes, self.offset)?;
        self.file.sync_data()?;
        self.offset += bytes.len() as u64;
        Ok(start.elapsed())
    }
}
