//! Snapshots as files of the data folder.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::sync::Arc;

use bytes::Bytes;

use super::{MAGIC, NAME_BYTES_MAX, Section, SnapshotDecoder, SnapshotEncoder, SnapshotError, SnapshotInfo};
use crate::disk::{Disk, DiskFile, create_anew};
use crate::folder::SNAPSHOTS_FOLDER;

const SUFFIX: &str = ".snapshot";
const SUFFIX_UNFINISHED: &str = ".snapshot.tmp";
/// Behind the name of a snapshot that counts no more, and is kept.
const SUFFIX_KEPT: &str = ".kept";
/// Bytes written or read at once: large enough for the disk's full speed.
const BUFFER_BYTES: usize = 256 << 10;

pub(super) fn at<'a>(action: &'static str, file: &'a str) -> impl Fn(io::Error) -> SnapshotError + 'a {
    move |error| SnapshotError::Io { action, file: file.to_owned(), error }
}

/// The path of a snapshot.
fn path_of(name: &str) -> Result<String, SnapshotError> {
    match is_name(name) {
        true => Ok(format!("{SNAPSHOTS_FOLDER}/{name}{SUFFIX}")),
        false => Err(SnapshotError::Name { name: name.to_owned() }),
    }
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.starts_with('.') && name.bytes().all(plain)
}

/// A file of a [`Disk`] as a stream to write.
pub struct DiskWriter {
    file: Arc<dyn DiskFile>,
    offset: u64,
}

impl Write for DiskWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(self.offset, bytes)?;
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file of a [`Disk`] as a stream to read.
pub struct DiskReader {
    file: Arc<dyn DiskFile>,
    offset: u64,
}

impl Read for DiskReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(self.offset, buffer)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// Writes a snapshot file. It gets its name only when it is finished; one that is dropped before leaves nothing.
pub struct SnapshotWriter {
    aside: Aside,
    encoder: Option<SnapshotEncoder<BufWriter<DiskWriter>>>,
}

/// A snapshot file that has no name of its own yet. Dropped before it gets one, it leaves nothing.
pub(super) struct Aside {
    disk: Arc<dyn Disk>,
    path: String,
    /// The name while it is written.
    pub(super) aside: String,
    pub(super) file: Arc<dyn DiskFile>,
    published: bool,
}

impl Aside {
    /// Makes a file that is to be the snapshot `name`, and is called after `working` meanwhile.
    pub(super) fn create(disk: Arc<dyn Disk>, name: &str, working: &str) -> Result<Self, SnapshotError> {
        let path = path_of(name)?;
        let aside = format!("{SNAPSHOTS_FOLDER}/{working}{SUFFIX_UNFINISHED}");
        disk.create_folder(SNAPSHOTS_FOLDER).map_err(at("create folder", SNAPSHOTS_FOLDER))?;
        let file = create_anew(disk.as_ref(), &aside).map_err(at("create snapshot", &aside))?;
        Ok(Self { disk, path, aside, file, published: false })
    }

    /// Makes durable what was written.
    pub(super) fn sync(&self) -> Result<(), SnapshotError> {
        self.file.sync_data().map_err(at("sync snapshot", &self.aside))
    }

    /// Gives it its name, durably. It was synced.
    pub(super) fn publish(mut self) -> Result<(), SnapshotError> {
        self.disk.rename(&self.aside, &self.path).map_err(at("name snapshot", &self.path))?;
        self.published = true;
        self.disk.sync_folder(SNAPSHOTS_FOLDER).map_err(at("sync folder", SNAPSHOTS_FOLDER))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = self.disk.remove(&self.aside)
        {
            tracing::warn!(file = self.aside, %error, "an unfinished snapshot stays until the next start");
        }
    }
}

impl SnapshotWriter {
    /// Begins the snapshot `name`, which will replace one of that name. See [`SnapshotEncoder::new`].
    ///
    /// # Errors
    /// It is no name; the header is too large; a file operation fails.
    pub fn create(disk: Arc<dyn Disk>, name: &str, header: &[u8]) -> Result<Self, SnapshotError> {
        let aside = Aside::create(disk, name, name)?;
        let output =
            BufWriter::with_capacity(BUFFER_BYTES, DiskWriter { file: aside.file.clone(), offset: 0 });
        let encoder = Some(SnapshotEncoder::new(output, &aside.aside, header)?);
        Ok(Self { aside, encoder })
    }

    /// See [`SnapshotEncoder::begin_section`].
    ///
    /// # Errors
    /// As there.
    pub fn begin_section(&mut self, header: &[u8]) -> Result<(), SnapshotError> {
        self.encoder()?.begin_section(header)
    }

    /// See [`SnapshotEncoder::write`].
    ///
    /// # Errors
    /// As there.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), SnapshotError> {
        self.encoder()?.write(chunk)
    }

    /// See [`SnapshotEncoder::end_section`].
    ///
    /// # Errors
    /// As there.
    pub fn end_section(&mut self) -> Result<(), SnapshotError> {
        self.encoder()?.end_section()
    }

    /// Ends the snapshot. It is durable and has its name when this returns.
    ///
    /// # Errors
    /// A section was not ended; a file operation fails. No snapshot of this name came to be then, or the old one is
    /// still there, or in the rare case that only the folder could not be synced, the new one is.
    pub fn finish(mut self) -> Result<SnapshotInfo, SnapshotError> {
        let encoder = self.encoder.take().ok_or(SnapshotError::OutOfOrder { what: "a second end" })?;
        let (output, info) = encoder.finish()?;
        output.into_inner().map_err(|error| at("write snapshot", &self.aside.aside)(error.into_error()))?;
        self.aside.sync()?;
        self.aside.publish()?;
        Ok(info)
    }

    fn encoder(&mut self) -> Result<&mut SnapshotEncoder<BufWriter<DiskWriter>>, SnapshotError> {
        self.encoder.as_mut().ok_or(SnapshotError::OutOfOrder { what: "anything after the end" })
    }
}

/// Reads a snapshot file.
pub struct SnapshotReader {
    decoder: SnapshotDecoder<BufReader<DiskReader>>,
}

impl SnapshotReader {
    /// Opens the snapshot `name`. See [`SnapshotDecoder::new`].
    ///
    /// # Errors
    /// There is none; as there.
    pub fn open(disk: &dyn Disk, name: &str) -> Result<Self, SnapshotError> {
        Self::of(open_snapshot_file(disk, name)?, &path_of(name)?)
    }

    /// Reads a snapshot's file; `path` stands in errors.
    pub(super) fn of(file: Arc<dyn DiskFile>, path: &str) -> Result<Self, SnapshotError> {
        let input = BufReader::with_capacity(BUFFER_BYTES, DiskReader { file, offset: 0 });
        Ok(Self { decoder: SnapshotDecoder::new(input, path)? })
    }

    /// What the writer said of the whole snapshot.
    pub fn header(&self) -> &Bytes {
        self.decoder.header()
    }

    /// See [`SnapshotDecoder::next_section`]. At the end also checks that nothing follows.
    ///
    /// # Errors
    /// As there.
    pub fn next_section(&mut self) -> Result<Option<Section>, SnapshotError> {
        let section = self.decoder.next_section()?;
        if section.is_none() {
            self.decoder.check_end()?;
        }
        Ok(section)
    }

    /// See [`SnapshotDecoder::read_chunk`].
    ///
    /// # Errors
    /// As there.
    pub fn read_chunk(&mut self) -> Result<Option<Bytes>, SnapshotError> {
        self.decoder.read_chunk()
    }

    /// Reads and checks all that is left.
    ///
    /// # Errors
    /// As for [`next_section`](Self::next_section).
    pub fn verify(mut self) -> Result<SnapshotInfo, SnapshotError> {
        while self.next_section()?.is_some() {}
        let info = self.decoder.info().cloned();
        info.ok_or(SnapshotError::OutOfOrder { what: "the end of a check before the trailer" })
    }
}

/// The names of the finished snapshots, sorted.
///
/// # Errors
/// The folder cannot be read.
pub fn list_snapshots(disk: &dyn Disk) -> Result<Vec<String>, SnapshotError> {
    let names = disk.list(SNAPSHOTS_FOLDER).map_err(at("list folder", SNAPSHOTS_FOLDER))?;
    let names = names.iter().filter_map(|name| name.strip_suffix(SUFFIX));
    Ok(names.filter(|name| is_name(name)).map(str::to_owned).collect())
}

/// The file of the snapshot `name`, to be sent elsewhere as it is.
///
/// # Errors
/// There is none; the file cannot be opened.
pub fn open_snapshot_file(disk: &dyn Disk, name: &str) -> Result<Arc<dyn DiskFile>, SnapshotError> {
    let path = path_of(name)?;
    disk.open(&path).map_err(at("open snapshot", &path))
}

/// Takes the snapshot `name` out of the way, durably: it is a snapshot no more, but its file stays.
///
/// # Errors
/// There is none; a file operation fails.
pub fn keep_aside(disk: &dyn Disk, name: &str) -> Result<(), SnapshotError> {
    let path = path_of(name)?;
    disk.rename(&path, &format!("{path}{SUFFIX_KEPT}")).map_err(at("rename snapshot", &path))?;
    disk.sync_folder(SNAPSHOTS_FOLDER).map_err(at("sync folder", SNAPSHOTS_FOLDER))
}

/// Removes the snapshot `name`, durably.
///
/// # Errors
/// There is none; a file operation fails.
pub fn remove_snapshot(disk: &dyn Disk, name: &str) -> Result<(), SnapshotError> {
    let path = path_of(name)?;
    disk.remove(&path).map_err(at("remove snapshot", &path))?;
    disk.sync_folder(SNAPSHOTS_FOLDER).map_err(at("sync folder", SNAPSHOTS_FOLDER))
}

/// Removes what unfinished snapshots of an earlier life left, by name and content, and nothing else. For the start:
/// a snapshot that is being written would go too. Returns the names of the files.
///
/// # Errors
/// A file operation fails.
pub fn remove_leftovers(disk: &dyn Disk) -> Result<Vec<String>, SnapshotError> {
    let mut removed = Vec::new();
    for name in disk.list(SNAPSHOTS_FOLDER).map_err(at("list folder", SNAPSHOTS_FOLDER))? {
        if !name.strip_suffix(SUFFIX_UNFINISHED).is_some_and(is_name) {
            continue;
        }
        let path = format!("{SNAPSHOTS_FOLDER}/{name}");
        let file = disk.open(&path).map_err(at("open unfinished snapshot", &path))?;
        let mut beginning = [0; MAGIC.len()];
        let filled = file.read_at(0, &mut beginning).map_err(at("read unfinished snapshot", &path))?;
        // A crash can leave a file whose length was kept and whose content was not.
        let empty = beginning.iter().all(|byte| *byte == 0);
        if empty || MAGIC.starts_with(&beginning[..filled]) {
            disk.remove(&path).map_err(at("remove unfinished snapshot", &path))?;
            removed.push(name);
        }
    }
    if !removed.is_empty() {
        disk.sync_folder(SNAPSHOTS_FOLDER).map_err(at("sync folder", SNAPSHOTS_FOLDER))?;
    }
    Ok(removed)
}
