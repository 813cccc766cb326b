//! A small file that is replaced whole: after a crash it holds what it held before or what it was to hold, never a
//! mixture, and damage is found.

use std::io;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::disk::{Disk, create_anew, folder_of, read_exact_at};

const MAGIC: &[u8; 8] = b"MORTREC\0";
const VERSION: u32 = 1;
/// Magic, version, length, and the checksum of both and the content.
const HEADER_BYTES: usize = 20;
/// Most bytes of content: what is larger is no small file, and its length not to be believed.
pub const SMALL_FILE_BYTES_MAX: usize = 1 << 20;

/// Why a small file could not be read or replaced.
#[derive(Debug, thiserror::Error)]
pub enum SmallFileError {
    /// A file operation failed. After a failed replacement it is unknown which content a crash would leave.
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
    /// It is not as it was written. It is left as it is.
    #[error("{file} is damaged: {what}")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// Written by a newer release.
    #[error(
        "{file} has format version {version}, newer than this release knows ({VERSION}): use a newer release"
    )]
    TooNew {
        /// The file.
        file: String,
        /// Its version.
        version: u32,
    },
    /// The content is too large.
    #[error("{bytes} bytes are more than the {SMALL_FILE_BYTES_MAX} that {file} can hold")]
    TooLarge {
        /// The file.
        file: String,
        /// Bytes of the content.
        bytes: usize,
    },
}

/// A small file of a disk. It need not exist.
pub struct SmallFile {
    disk: Arc<dyn Disk>,
    path: String,
}

impl SmallFile {
    /// The file at `path`, relative to the disk's root. `path` with `.tmp` behind it is used while it is replaced.
    pub fn new(disk: Arc<dyn Disk>, path: &str) -> Self {
        Self { disk, path: path.to_owned() }
    }

    /// Its content; `None` where there is no such file.
    ///
    /// # Errors
    /// It is damaged, newer than this release, or cannot be read.
    pub fn read(&self) -> Result<Option<Bytes>, SmallFileError> {
        let file = match self.disk.open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| self.failed("open", error))?,
        };
        let length = file.len().map_err(|error| self.failed("read the length of", error))?;
        let most = (HEADER_BYTES + SMALL_FILE_BYTES_MAX) as u64;
        if length < HEADER_BYTES as u64 || length > most {
            return Err(self.damaged(format!("it has {length} bytes, not {HEADER_BYTES} to {most}")));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        read_exact_at(file.as_ref(), 0, &mut bytes).map_err(|error| self.failed("read", error))?;
        self.decode(bytes.into()).map(Some)
    }

    /// Replaces its content. Durable when this returns.
    ///
    /// # Errors
    /// It is too large; a file operation failed.
    pub fn replace(&self, content: &[u8]) -> Result<(), SmallFileError> {
        if content.len() > SMALL_FILE_BYTES_MAX {
            return Err(SmallFileError::TooLarge { file: self.path.clone(), bytes: content.len() });
        }
        let aside = format!("{}.tmp", self.path);
        let write = || {
            let file = create_anew(self.disk.as_ref(), &aside)?;
            file.write_at(0, &encode(content))?;
            file.sync_data()?;
            self.disk.rename(&aside, &self.path)?;
            self.disk.sync_folder(folder_of(&self.path))
        };
        write().map_err(|error| self.failed("replace", error))
    }

    fn decode(&self, mut bytes: Bytes) -> Result<Bytes, SmallFileError> {
        if !bytes.starts_with(MAGIC) {
            return Err(self.damaged("it does not begin as such a file does".to_owned()));
        }
        bytes.advance(MAGIC.len());
        let (version, length, checksum) = (bytes.get_u32_le(), bytes.get_u32_le(), bytes.get_u32_le());
        if checksum != checksum_of(version, length, &bytes) {
            return Err(self.damaged("its checksum does not match".to_owned()));
        }
        if version > VERSION {
            return Err(SmallFileError::TooNew { file: self.path.clone(), version });
        }
        if length as usize != bytes.len() {
            return Err(self.damaged(format!("it has {} bytes of content, not {length}", bytes.len())));
        }
        Ok(bytes)
    }

    fn failed(&self, action: &'static str, error: io::Error) -> SmallFileError {
        SmallFileError::Io { action, file: self.path.clone(), error }
    }

    fn damaged(&self, what: String) -> SmallFileError {
        SmallFileError::Damaged { file: self.path.clone(), what }
    }
}

fn encode(content: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(HEADER_BYTES + content.len());
    let length = content.len() as u32;
    bytes.put_slice(MAGIC);
    bytes.put_u32_le(VERSION);
    bytes.put_u32_le(length);
    bytes.put_u32_le(checksum_of(VERSION, length, content));
    bytes.put_slice(content);
    bytes
}

fn checksum_of(version: u32, length: u32, content: &[u8]) -> u32 {
    let head = crc32c::crc32c(&version.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(head, &length.to_le_bytes()), content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{FaultyDisk, RealDisk};

    fn file(disk: &FaultyDisk) -> SmallFile {
        SmallFile::new(Arc::new(disk.clone()), "REPLICA")
    }

    #[test]
    fn the_content_comes_back_as_it_was_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = SmallFile::new(Arc::new(RealDisk::open(folder.path()).unwrap()), "REPLICA");
        assert_eq!(file.read().unwrap(), None);
        for content in [&b"one"[..], b"", &[7; 100_000]] {
            file.replace(content).unwrap();
            assert_eq!(file.read().unwrap().unwrap(), content);
        }
        assert!(matches!(
            file.replace(&vec![0; SMALL_FILE_BYTES_MAX + 1]),
            Err(SmallFileError::TooLarge { .. })
        ));
        assert_eq!(file.read().unwrap().unwrap(), [7; 100_000][..]);
    }

    #[test]
    fn a_power_cut_at_any_moment_leaves_the_old_content_or_the_new_one() {
        for changes in 0..6 {
            for seed in 0..40 {
                let disk = FaultyDisk::new();
                file(&disk).replace(b"old").unwrap();
                disk.cut_power_after(changes);
                let replaced = file(&disk).replace(b"new");
                disk.crash(seed);
                let content = file(&disk).read().unwrap().unwrap();
                assert!(content == "new" || (content == "old" && replaced.is_err()), "{changes} {seed}");
                file(&disk).replace(b"newer").unwrap();
                assert_eq!(file(&disk).read().unwrap().unwrap(), "newer");
            }
        }
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_found() {
        let disk = FaultyDisk::new();
        file(&disk).replace(b"content").unwrap();
        let whole = disk.content("REPLICA").unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            disk.put("REPLICA", flipped);
            assert!(matches!(file(&disk).read(), Err(SmallFileError::Damaged { .. })), "byte {at} flipped");
            disk.put("REPLICA", whole[..at].to_vec());
            assert!(matches!(file(&disk).read(), Err(SmallFileError::Damaged { .. })), "cut at {at}");
        }
        disk.put("REPLICA", [&whole[..], b"x"].concat());
        assert!(file(&disk).read().is_err());
    }

    #[test]
    fn a_file_of_a_newer_release_says_so() {
        let disk = FaultyDisk::new();
        file(&disk).replace(b"content").unwrap();
        let mut newer = disk.content("REPLICA").unwrap();
        newer[8..12].copy_from_slice(&2u32.to_le_bytes());
        newer[16..20].copy_from_slice(&checksum_of(2, 7, b"content").to_le_bytes());
        disk.put("REPLICA", newer);
        assert!(matches!(file(&disk).read(), Err(SmallFileError::TooNew { version: 2, .. })));
    }
}
