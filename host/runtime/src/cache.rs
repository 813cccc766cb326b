//! Compiled components on disk, so that a start does not compile again.
//!
//! ```text
//! FOLDER (0700, ours)/DIGEST-ENGINE.bin = magic (8 bytes), BLAKE3 of the rest (32 bytes), wasmtime's serialized form
//! ```
//! DIGEST names the component; ENGINE is a digest over everything that makes compiled code fit (wasmtime's version,
//! settings, CPU features). What is in such a file is run as it stands. So the folder must be private, a file that
//! does not match its checksum is compiled again and rewritten, and a file appears by a rename, whole.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use mortise_core::ids::PluginDigest;

const MAGIC: &[u8; 8] = b"MORTCMP1";
const HEADER_BYTES: usize = 40;

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// It cannot be made or looked at.
    #[error("open the compile cache {path}: {source}", path = path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// There is something else in its place, perhaps a symbolic link.
    #[error("the compile cache {path} is not a folder; remove what is there, or name another", path = path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// It belongs to another user.
    #[error(
        "the compile cache {path} belongs to user {owner}, not to {us}; name a folder of your own",
        path = path.display()
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// This process's user.
        us: u32,
    },
    /// Others can look or write into it.
    #[error(
        "the compile cache {path} is open to others (mode {mode:o}), and what lies in it is run: chmod 700 it, after \
         making sure that nobody put anything there",
        path = path.display()
    )]
    Open {
        /// The folder.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

/// The folder, checked.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    /// Makes names of unfinished files unique.
    serial: AtomicU64,
}

impl Cache {
    /// Opens the folder, and makes it where it is missing.
    pub(crate) fn open(folder: &Path) -> Result<Self, CacheError> {
        let path = || folder.to_owned();
        let io = |source| CacheError::Io { path: path(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).or_else(|error| {
            if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(io(error)) }
        })?;
        let metadata = fs::symlink_metadata(folder).map_err(io)?;
        let (mode, owner, us) =
            (metadata.mode() & 0o777, metadata.uid(), rustix::process::geteuid().as_raw());
        if !metadata.is_dir() {
            return Err(CacheError::NotAFolder { path: path() });
        }
        if owner != us {
            return Err(CacheError::Foreign { path: path(), owner, us });
        }
        if mode & 0o077 != 0 {
            return Err(CacheError::Open { path: path(), mode });
        }
        Ok(Self { folder: folder.to_owned(), serial: AtomicU64::new(0) })
    }

    /// The serialized component, if it is there and undamaged.
    pub(crate) fn get(&self, digest: PluginDigest, engine: &wasmtime::Engine) -> Option<Vec<u8>> {
        let path = self.path(digest, engine);
        let mut file = match fs::read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read a compiled plugin; compiling it again");
                return None;
            }
        };
        let intact = file.get(..HEADER_BYTES).is_some_and(|header| {
            let payload = file.get(HEADER_BYTES..).unwrap_or_default();
            header.starts_with(MAGIC) && header.ends_with(blake3::hash(payload).as_bytes())
        });
        if !intact {
            tracing::warn!(path = %path.display(), "a compiled plugin is damaged; compiling it again");
            return None;
        }
        Some(file.split_off(HEADER_BYTES))
    }

    /// Keeps a serialized component. Failing to is no error: it only costs a compilation later.
    pub(crate) fn put(&self, digest: PluginDigest, engine: &wasmtime::Engine, serialized: &[u8]) {
        let path = self.path(digest, engine);
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let aside = path.with_extension(format!("{}-{serial}.new", std::process::id()));
        let written = write(&aside, serialized).and_then(|()| fs::rename(&aside, &path));
        if let Err(error) = written {
            let _ = fs::remove_file(&aside);
            tracing::warn!(path = %path.display(), %error, "cannot keep a compiled plugin");
        }
    }

    fn path(&self, digest: PluginDigest, engine: &wasmtime::Engine) -> PathBuf {
        let mut hasher = Blake3Hasher::default();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let engine = hasher.0.finalize().to_hex();
        self.folder.join(format!("{digest}-{}.bin", engine.get(..16).unwrap_or_default()))
    }
}

fn write(path: &Path, serialized: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(MAGIC)?;
    file.write_all(blake3::hash(serialized).as_bytes())?;
    file.write_all(serialized)
}

/// The standard library's own hasher may change with the compiler's version; this one does not.
#[derive(Default)]
struct Blake3Hasher(blake3::Hasher);

impl Hasher for Blake3Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let hash = self.0.finalize();
        hash.as_bytes().first_chunk().copied().map_or(0, u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn engine() -> wasmtime::Engine {
        wasmtime::Engine::new(&crate::config::config(&crate::RuntimeOptions::default(), 512 << 10)).unwrap()
    }

    #[test]
    fn a_missing_folder_is_made_private() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("a/b");
        Cache::open(&folder).unwrap();
        assert_eq!(fs::metadata(folder).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_folder_open_to_others_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        for mode in [0o750, 0o707, 0o755, 0o701] {
            fs::set_permissions(temp.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(Cache::open(temp.path()), Err(CacheError::Open { .. })), "{mode:o}");
        }
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(Cache::open(temp.path()).is_ok());
    }

    #[test]
    fn a_file_and_a_link_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("file"), "").unwrap();
        symlink(temp.path(), temp.path().join("link")).unwrap();
        for name in ["file", "link"] {
            assert!(matches!(Cache::open(&temp.path().join(name)), Err(CacheError::NotAFolder { .. })));
        }
    }

    #[test]
    fn no_damaged_byte_and_no_truncation_passes() {
        let (temp, engine) = (tempfile::tempdir().unwrap(), engine());
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let cache = Cache::open(temp.path()).unwrap();
        let digest = PluginDigest::of(b"component");
        assert_eq!(cache.get(digest, &engine), None);
        cache.put(digest, &engine, b"serialized");
        assert_eq!(cache.get(digest, &engine).as_deref(), Some(&b"serialized"[..]));
        assert_eq!(cache.get(PluginDigest::of(b"other"), &engine), None);
        let path = cache.path(digest, &engine);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(&path, &bad).unwrap();
            assert_eq!(cache.get(digest, &engine), None, "byte {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert_eq!(cache.get(digest, &engine), None, "{at} bytes");
        }
        cache.put(digest, &engine, b"serialized");
        assert_eq!(fs::read(&path).unwrap(), good);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1, "nothing unfinished is left");
    }
}
