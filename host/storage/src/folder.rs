//! The data folder: whose it is, in which format, and that one process uses it at a time.
//!
//! ```text
//!   FORMAT       "mortise data folder", its version and its identity
//!   LOCK         locked while a process uses the folder; says which
//!   CURRENT      which log and which state count, once a snapshot was installed
//!   log/         segments of the log; log-N/ after installed snapshots
//!   state/       the state database
//!   snapshots/   snapshot files
//! ```

use std::cmp::Ordering;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;

use crate::disk::{Disk, RealDisk};

/// Folder of the log's segments, inside the data folder.
pub const LOG_FOLDER: &str = "log";
/// Folder of the state database, inside the data folder.
pub const STATE_FOLDER: &str = "state";
/// Folder of the groups' data folders, inside that of a node in a cluster.
pub const GROUPS_FOLDER: &str = "groups";
/// Folder of snapshot files, inside the data folder.
pub const SNAPSHOTS_FOLDER: &str = "snapshots";

const FORMAT_FILE: &str = "FORMAT";
const FORMAT_FILE_UNFINISHED: &str = "FORMAT.tmp";
const LOCK_FILE: &str = "LOCK";
/// What the name of a folder that was set aside goes on with.
const SET_ASIDE: &str = "damaged";
const MAGIC: &str = "mortise data folder";
/// The format this release writes and reads. Version 1 had longer keys in the state database.
const VERSION: u32 = 2;
/// A FORMAT file is three short lines. More than this is not one.
const FORMAT_BYTES_MAX: u64 = 4096;

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file operation failed.
    #[error("{action} {}: {error}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        #[source]
        error: io::Error,
    },
    /// Another process uses it.
    #[error("{} is in use by process {pid}: stop it, or choose another folder", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The process, as its lock file says; `unknown` where it does not.
        pid: String,
    },
    /// There is something else in it.
    #[error("{} is not empty and no data folder of mortise ({name} is in it): choose another folder", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Something in it.
        name: String,
    },
    /// It is the folder of a node alone where one of a cluster is wanted, or the other way round.
    #[error(
        "{} is the data folder of a node {is}, and this node is {wanted}: choose another folder", path.display()
    )]
    OtherKind {
        /// The folder.
        path: PathBuf,
        /// What it is.
        is: &'static str,
        /// What was to be opened.
        wanted: &'static str,
    },
    /// Its FORMAT file is not what we write.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// Made by a newer release.
    #[error(
        "{} has data format version {version}, newer than this release knows ({known}): use a newer release",
        path.display()
    )]
    TooNew {
        /// The folder.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The version known here.
        known: u32,
    },
    /// Made by a release that is too old.
    #[error(
        "{} has data format version {version}, which this release does not read any more (it reads {known}): export \
         its tenants with the release that wrote it, and import them here into a new folder",
        path.display()
    )]
    TooOld {
        /// The folder.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The version known here.
        known: u32,
    },
}

fn at(action: &'static str, path: &Path) -> impl Fn(io::Error) -> FolderError {
    let path = path.to_owned();
    move |error| FolderError::Io { action, path: path.clone(), error }
}

/// A file without a name. See [`DataFolder::scratch`].
#[derive(Debug)]
pub struct ScratchFile(File);

impl Read for ScratchFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for ScratchFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for ScratchFile {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

/// A data folder that belongs to this process until it is dropped.
pub struct DataFolder {
    path: PathBuf,
    disk: Arc<RealDisk>,
    id: String,
    /// Holds the lock while it is open.
    _lock: File,
}

impl std::fmt::Debug for DataFolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataFolder").field("path", &self.path).finish_non_exhaustive()
    }
}

impl DataFolder {
    /// Takes the folder `path` for this process; makes it where it is missing or empty.
    ///
    /// # Errors
    /// It is in use, is someone else's, was made by a newer release, or a file operation fails.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        Self::open_kind(path, Kind::Replica)
    }

    /// Takes the folder `path` for a node of a cluster: it holds no replica itself, but the data folders of many
    /// ([`GROUPS_FOLDER`]).
    ///
    /// # Errors
    /// As [`DataFolder::open`].
    pub fn open_node(path: &Path) -> Result<Self, FolderError> {
        Self::open_kind(path, Kind::Node)
    }

    fn open_kind(path: &Path, kind: Kind) -> Result<Self, FolderError> {
        std::fs::create_dir_all(path).map_err(at("create data folder", path))?;
        let is_ours = path.join(FORMAT_FILE).exists();
        if !is_ours {
            check_empty(path)?;
        }
        let lock = lock(path)?;
        let disk = Arc::new(RealDisk::open(path).map_err(at("open data folder", path))?);
        if !path.join(FORMAT_FILE).exists() {
            create_layout(path, disk.as_ref(), kind)?;
        }
        let (id, found) = read_format(path)?;
        if found != kind {
            let (is, wanted) = (found.name(), kind.name());
            return Err(FolderError::OtherKind { path: path.to_owned(), is, wanted });
        }
        Ok(Self { path: path.to_owned(), disk, id, _lock: lock })
    }

    /// Takes the folder `path`, which must be one of ours already.
    ///
    /// # Errors
    /// As [`DataFolder::open`]; there is no data folder.
    pub fn open_existing(path: &Path) -> Result<Self, FolderError> {
        Self::open_existing_kind(path, Kind::Replica)
    }

    /// The same of a node of a cluster.
    ///
    /// # Errors
    /// As [`DataFolder::open_existing`].
    pub fn open_existing_node(path: &Path) -> Result<Self, FolderError> {
        Self::open_existing_kind(path, Kind::Node)
    }

    fn open_existing_kind(path: &Path, kind: Kind) -> Result<Self, FolderError> {
        std::fs::metadata(path.join(FORMAT_FILE))
            .map_err(at("find the data folder's", &path.join(FORMAT_FILE)))?;
        Self::open_kind(path, kind)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells this folder from every other one, also from one that was made anew in its place: 16 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The disk whose root is the folder, for the log and for snapshots.
    pub fn disk(&self) -> Arc<dyn Disk> {
        self.disk.clone()
    }

    /// An unnamed file in the folder, for work in progress: gone when it is dropped, and after any crash.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn scratch(&self) -> Result<ScratchFile, FolderError> {
        tempfile::tempfile_in(&self.path).map(ScratchFile).map_err(at("create a scratch file in", &self.path))
    }

    /// Where the state database lies.
    pub fn state_path(&self) -> PathBuf {
        self.path.join(STATE_FOLDER)
    }

    /// The folders of a node's groups, in the order of their names, with those that were set aside.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn groups(&self) -> Result<Vec<PathBuf>, FolderError> {
        let groups = self.path.join(GROUPS_FOLDER);
        let names = self.disk.list(GROUPS_FOLDER).map_err(at("list", &groups))?;
        Ok(names.into_iter().map(|name| groups.join(name)).collect())
    }

    /// Bytes that can still be written, to be compared with a low-water mark.
    ///
    /// # Errors
    /// The file system cannot be asked.
    pub fn free_bytes(&self) -> Result<u64, FolderError> {
        self.disk.free_bytes().map_err(at("read free space of", &self.path))
    }
}

/// Takes a data folder that no process uses out of the way, durably: it gets another name beside its own, which is
/// returned.
///
/// # Errors
/// It cannot be renamed.
pub fn set_aside(path: &Path) -> Result<PathBuf, FolderError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let free = (1..).map(|number| path.with_file_name(format!("{name}.{SET_ASIDE}-{number}")));
    let aside =
        free.into_iter().find(|aside| !aside.exists()).unwrap_or_else(|| path.with_extension(SET_ASIDE));
    std::fs::rename(path, &aside).map_err(at("set aside", path))?;
    if let Some(above) = path.parent() {
        File::open(above).and_then(|folder| folder.sync_all()).map_err(at("sync", above))?;
    }
    Ok(aside)
}

/// Whether the folder has a name that [`set_aside`] gave it.
pub fn is_set_aside(path: &Path) -> bool {
    path.extension().and_then(|extension| extension.to_str()).is_some_and(|text| text.starts_with(SET_ASIDE))
}

/// Whether the folder has nothing but what an interrupted creation of ours leaves.
fn check_empty(path: &Path) -> Result<(), FolderError> {
    let names = std::fs::read_dir(path).map_err(at("list data folder", path))?;
    for entry in names {
        let entry = entry.map_err(at("list data folder", path))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = match name.as_str() {
            LOCK_FILE | FORMAT_FILE_UNFINISHED => true,
            LOG_FOLDER | STATE_FOLDER | SNAPSHOTS_FOLDER | GROUPS_FOLDER => {
                std::fs::read_dir(entry.path()).is_ok_and(|mut names| names.next().is_none())
            }
            _ => false,
        };
        if !ours {
            return Err(FolderError::Foreign { path: path.to_owned(), name });
        }
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File, FolderError> {
    let lock_path = path.join(LOCK_FILE);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock_path)
        .map_err(at("open lock file", &lock_path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            // What the file says is for people only, so that a failure to read it does not matter.
            let _ = file.take(20).read_to_string(&mut pid);
            let pid = pid.trim();
            let known = !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
            let pid = if known { pid } else { "unknown" }.to_owned();
            return Err(FolderError::InUse { path: path.to_owned(), pid });
        }
        Err(error) => return Err(at("lock", &lock_path)(error.into())),
    }
    let mut write = || {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write().map_err(at("write lock file", &lock_path))?;
    Ok(file)
}

/// Makes the folders, and the FORMAT file last, so that where it stands all of them do.
fn create_layout(path: &Path, disk: &dyn Disk, kind: Kind) -> Result<(), FolderError> {
    let create = || {
        for folder in kind.folders() {
            disk.create_folder(folder)?;
        }
        let unfinished = path.join(FORMAT_FILE_UNFINISHED);
        let mut file = File::create(&unfinished)?;
        let id = new_id();
        write!(file, "{MAGIC}\nversion {VERSION}\nid {id:016x}\n{}", kind.line())?;
        file.sync_all()?;
        disk.rename(FORMAT_FILE_UNFINISHED, FORMAT_FILE)?;
        disk.sync_folder("")?;
        // The folder's own name lies in the one above it.
        match path.canonicalize()?.parent() {
            Some(above) => File::open(above)?.sync_all(),
            None => Ok(()),
        }
    };
    create().map_err(at("create the layout of", path))
}

fn new_id() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

/// What a data folder is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One replica of one group.
    Replica,
    /// A node of a cluster.
    Node,
}

impl Kind {
    fn folders(self) -> &'static [&'static str] {
        match self {
            Self::Replica => &[LOG_FOLDER, STATE_FOLDER, SNAPSHOTS_FOLDER],
            Self::Node => &[GROUPS_FOLDER],
        }
    }

    /// Its line in the FORMAT file.
    fn line(self) -> &'static str {
        match self {
            Self::Replica => "",
            Self::Node => "of a node of a cluster\n",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Replica => "alone, or of one group",
            Self::Node => "of a cluster",
        }
    }
}

/// Checks the FORMAT file; the folder's identity, and what it is for.
fn read_format(path: &Path) -> Result<(String, Kind), FolderError> {
    let format_path = path.join(FORMAT_FILE);
    let mut text = String::new();
    let file = File::open(&format_path).map_err(at("open", &format_path))?;
    file.take(FORMAT_BYTES_MAX).read_to_string(&mut text).map_err(at("read", &format_path))?;
    let damaged = |what| FolderError::Damaged { path: format_path.clone(), what };
    let mut lines = text.lines();
    if lines.next() != Some(MAGIC) {
        return Err(damaged("its first line is not that of a data folder"));
    }
    let version = lines.next().and_then(|line| line.strip_prefix("version ")?.parse::<u32>().ok());
    let version = version.ok_or_else(|| damaged("its second line is no version"))?;
    let (path, known) = (path.to_owned(), VERSION);
    match version.cmp(&VERSION) {
        Ordering::Greater => return Err(FolderError::TooNew { path, version, known }),
        Ordering::Less => return Err(FolderError::TooOld { path, version, known }),
        Ordering::Equal => {}
    }
    let id = lines.next().and_then(|line| line.strip_prefix("id "));
    match id {
        Some(id) if id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            let kind =
                if lines.next() == Some(Kind::Node.line().trim_end()) { Kind::Node } else { Kind::Replica };
            Ok((id.to_owned(), kind))
        }
        _ => Err(damaged("its third line is no identity")),
    }
}

#[cfg(test)]
mod tests;
