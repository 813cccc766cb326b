//! What kind of file it is, and its rows as batches of commands.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::ControlFlow;

use bytes::Bytes;
use zip::ZipArchive;

use super::LoadError;
use super::mapping::Mapping;
use super::rows::{Row, read_csv, read_ndjson};

/// Rows of a batch: enough to make its cost small beside theirs, few enough for a smooth progress bar.
const BATCH_ROWS_MAX: usize = 512;
/// Bytes of commands of a batch, as well.
const BATCH_BYTES_MAX: usize = 128 << 10;
/// Bytes looked at to tell what a file is.
const HEAD_BYTES: usize = 4 << 10;

/// The kinds of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values with a header line.
    Csv,
    /// A JSON object on each line.
    Ndjson,
}

/// What the file itself does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputOptions {
    /// Default: NDJSON where the text begins with `{`, else CSV.
    pub format: Option<Format>,
    /// What is between the values of CSV. Default `,`.
    pub delimiter: u8,
}

impl Default for InputOptions {
    fn default() -> Self {
        Self { format: None, delimiter: b',' }
    }
}

/// A file to load: plain, or zipped alone in an archive.
pub struct Input<R> {
    source: Packed<R>,
    options: InputOptions,
    bytes: u64,
}

enum Packed<R> {
    Plain(R),
    /// The archive, and the number of the file in it.
    Zipped(Box<ZipArchive<R>>, usize),
}

/// Commands of rows in a row.
#[derive(Debug)]
pub(super) struct Batch {
    /// Number of the first.
    pub(super) first: u64,
    pub(super) commands: Vec<Bytes>,
    /// Bytes of the uncompressed input read so far.
    pub(super) bytes_read: u64,
}

impl<R: Read + Seek> Input<R> {
    /// Looks at the beginning of a file; its name does not matter.
    ///
    /// # Errors
    /// [`LoadError::Read`]; [`LoadError::Input`] where it is packed in another way, or an archive of more than one
    /// file.
    pub fn open(mut source: R, options: InputOptions) -> Result<Self, LoadError> {
        let head = head(&mut source)?;
        let bytes = source.seek(SeekFrom::End(0))?;
        source.seek(SeekFrom::Start(0))?;
        match head.as_slice() {
            [b'P', b'K', 3 | 5, 4 | 6, ..] => {
                let mut archive = ZipArchive::new(source).map_err(of_zip)?;
                let number = only_file(&mut archive)?;
                let bytes = archive.by_index(number).map_err(of_zip)?.size();
                Ok(Self { source: Packed::Zipped(Box::new(archive), number), options, bytes })
            }
            [0x1f, 0x8b, ..] => Err(unpack("gzip")),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Err(unpack("zstd")),
            [b'B', b'Z', b'h', ..] => Err(unpack("bzip2")),
            _ => Ok(Self { source: Packed::Plain(source), options, bytes }),
        }
    }

    /// Bytes of the uncompressed input.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads all rows after the first `skip`, and hands their commands over. It blocks.
    pub(super) fn read(
        self,
        mapping: Mapping,
        skip: u64,
        take: impl FnMut(Batch) -> ControlFlow<()>,
    ) -> Result<(), LoadError> {
        let options = self.options;
        match self.source {
            Packed::Plain(source) => read(source, options, mapping, skip, take),
            Packed::Zipped(mut archive, number) => {
                let file = archive.by_index(number).map_err(of_zip)?;
                read(file, options, mapping, skip, take)
            }
        }
    }
}

fn head(source: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    source.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn unpack(packer: &str) -> LoadError {
    LoadError::Input(format!("the file is packed with {packer}: unpack it first, or use zip"))
}

fn of_zip(error: zip::result::ZipError) -> LoadError {
    LoadError::Input(format!("the zip archive cannot be read: {error}"))
}

/// The number of the archive's only file.
fn only_file<R: Read + Seek>(archive: &mut ZipArchive<R>) -> Result<usize, LoadError> {
    let names: Vec<String> = archive
        .file_names()
        .map(|name| name.map(|name| name.into_owned()))
        .collect::<Result<_, _>>()
        .map_err(of_zip)?;
    let files: Vec<_> = names.iter().filter(|name| !name.ends_with('/')).collect();
    let [name] = files.as_slice() else {
        let some: Vec<_> = files.iter().take(5).map(|name| name.as_str()).collect();
        let message =
            format!("a zip archive must hold one file, this one holds {}: {}", files.len(), some.join(", "));
        return Err(LoadError::Input(message));
    };
    let position = names.iter().position(|other| other == *name);
    position.ok_or_else(|| LoadError::Input("the zip archive is damaged".into()))
}

fn read(
    mut source: impl Read,
    options: InputOptions,
    mut mapping: Mapping,
    skip: u64,
    take: impl FnMut(Batch) -> ControlFlow<()>,
) -> Result<(), LoadError> {
    let head = head(&mut source)?;
    let count = std::cell::Cell::new(0);
    let source = Counted { source: io::Cursor::new(head.clone()).chain(source), count: &count };
    let mut batches = Batches { skip, first: 0, commands: Vec::new(), bytes: 0, count: &count, take };
    match options.format.map_or_else(|| format_of(&head), Ok)? {
        Format::Csv => {
            // The header is known before the first row, so a misspelt column is noticed before anything is sent.
            let checked = std::cell::OnceCell::new();
            read_csv(
                source,
                options.delimiter,
                |columns| {
                    mapping.resolve(columns)?;
                    let _ = checked.set(mapping);
                    Ok(())
                },
                |row| checked.get().map_or(Ok(ControlFlow::Break(())), |mapping| batches.add(mapping, row)),
            )?;
        }
        Format::Ndjson => read_ndjson(source, |row| batches.add(&mapping, row))?,
    }
    let _ = batches.flush();
    Ok(())
}

fn format_of(head: &[u8]) -> Result<Format, LoadError> {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    match text.first() {
        None => Err(LoadError::Input("the file is empty".into())),
        Some(b'{') => Ok(Format::Ndjson),
        Some(b'[') => Err(LoadError::Input(
            "the file is a JSON array: write each of its elements on a line of its own, without the brackets"
                .into(),
        )),
        Some(0) => {
            Err(LoadError::Input("the file is neither CSV nor NDJSON: it begins with a zero byte".into()))
        }
        Some(_) => Ok(Format::Csv),
    }
}

/// Gathers commands.
struct Batches<'a, F> {
    skip: u64,
    first: u64,
    commands: Vec<Bytes>,
    bytes: usize,
    count: &'a std::cell::Cell<u64>,
    take: F,
}

impl<F: FnMut(Batch) -> ControlFlow<()>> Batches<'_, F> {
    fn add(&mut self, mapping: &Mapping, row: &Row<'_>) -> Result<ControlFlow<()>, LoadError> {
        if row.number() <= self.skip {
            return Ok(ControlFlow::Continue(()));
        }
        let command = match mapping.command(row) {
            Ok(command) => command,
            Err(problem) => {
                // The rows before it are good.
                let _ = self.flush();
                let (column, problem) = (problem.column, problem.problem);
                return Err(LoadError::BadRow { row: row.number(), column, problem });
            }
        };
        if self.commands.is_empty() {
            self.first = row.number();
        }
        self.bytes += command.len();
        self.commands.push(command);
        if self.commands.len() >= BATCH_ROWS_MAX || self.bytes >= BATCH_BYTES_MAX {
            return Ok(self.flush());
        }
        Ok(ControlFlow::Continue(()))
    }

    fn flush(&mut self) -> ControlFlow<()> {
        if self.commands.is_empty() {
            return ControlFlow::Continue(());
        }
        self.bytes = 0;
        let commands = std::mem::take(&mut self.commands);
        (self.take)(Batch { first: self.first, commands, bytes_read: self.count.get() })
    }
}

/// Counts what is read.
struct Counted<'a, R> {
    source: R,
    count: &'a std::cell::Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.source.read(buffer)?;
        self.count.set(self.count.get() + bytes as u64);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
