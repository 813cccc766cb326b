//! Rows of CSV and NDJSON.

use std::cell::{Cell, OnceCell};
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;

use serde_json::{Map, Value};

use super::LoadError;
use super::template::{RowProblem, Source, Values, escape};

/// Most bytes of a row: far above what a node takes as a command, and a bound for a file that has no lines, or a quote
/// that is never closed.
const ROW_BYTES_MAX: u64 = 64 << 20;
/// Bytes read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// One row.
pub(super) struct Row<'a> {
    number: u64,
    data: Data<'a>,
}

enum Data<'a> {
    Csv { columns: &'a [String], record: &'a csv::ByteRecord },
    Line { line: &'a [u8], object: OnceCell<Map<String, Value>> },
}

impl<'a> Row<'a> {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The line itself, which must be JSON.
    pub(super) fn line(&self) -> Result<&'a [u8], RowProblem> {
        match &self.data {
            Data::Csv { .. } => Err(problem("a row of CSV is no command")),
            Data::Line { line, .. } => {
                serde_json::from_slice::<serde::de::IgnoredAny>(line)
                    .map_err(|error| problem(format!("it is no JSON: {error}")))?;
                Ok(line)
            }
        }
    }
}

fn problem(problem: impl Into<String>) -> RowProblem {
    RowProblem { column: None, problem: problem.into() }
}

impl Values for Row<'_> {
    fn append(&self, source: &Source, out: &mut Vec<u8>) -> Result<(), RowProblem> {
        match (source, &self.data) {
            (Source::RowNumber, _) => out.extend_from_slice(self.number.to_string().as_bytes()),
            (Source::Column(name), Data::Csv { columns, record }) => {
                let position = columns.iter().position(|column| column == name);
                let field = position.and_then(|position| record.get(position));
                out.extend_from_slice(field.ok_or_else(|| missing(name))?);
            }
            (Source::Whole, Data::Csv { columns, record }) => whole(columns, record, out)?,
            (Source::Whole, Data::Line { line, object }) => {
                fields(line, object)?;
                out.extend_from_slice(line);
            }
            (Source::Column(name), Data::Line { line, object }) => {
                let fields = fields(line, object)?;
                match fields.get(name) {
                    Some(Value::String(text)) => out.extend_from_slice(text.as_bytes()),
                    Some(Value::Null) => {}
                    Some(other) => out.extend_from_slice(other.to_string().as_bytes()),
                    None if name == "json" => out.extend_from_slice(line),
                    None => return Err(missing(name)),
                }
            }
        }
        Ok(())
    }
}

fn missing(name: &str) -> RowProblem {
    RowProblem { column: Some(name.to_owned()), problem: "it is missing".into() }
}

fn fields<'a>(
    line: &[u8],
    object: &'a OnceCell<Map<String, Value>>,
) -> Result<&'a Map<String, Value>, RowProblem> {
    if let Some(fields) = object.get() {
        return Ok(fields);
    }
    let parsed =
        serde_json::from_slice(line).map_err(|error| problem(format!("it is no JSON object: {error}")))?;
    Ok(object.get_or_init(|| parsed))
}

/// A row of CSV as a JSON object of strings.
fn whole(columns: &[String], record: &csv::ByteRecord, out: &mut Vec<u8>) -> Result<(), RowProblem> {
    let mut separator = b'{';
    for (name, field) in columns.iter().zip(record) {
        let not_text = |_| RowProblem { column: Some(name.clone()), problem: "the text is not UTF-8".into() };
        let field = std::str::from_utf8(field).map_err(not_text)?;
        out.push(separator);
        separator = b',';
        for (text, end) in [(name.as_str(), "\":"), (field, "\"")] {
            out.push(b'"');
            out.extend_from_slice(escape(text).as_bytes());
            out.extend_from_slice(end.as_bytes());
        }
    }
    out.push(b'}');
    Ok(())
}

/// Reads CSV with a header line. `columns` sees the header before the first row.
pub(super) fn read_csv(
    source: impl Read,
    delimiter: u8,
    columns: impl FnOnce(&[String]) -> Result<(), LoadError>,
    mut row: impl FnMut(&Row<'_>) -> Result<ControlFlow<()>, LoadError>,
) -> Result<(), LoadError> {
    let left = Cell::new(ROW_BYTES_MAX);
    let source = Bounded { source, left: &left };
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).buffer_capacity(BUFFER_BYTES).from_reader(source);
    let header = reader.headers().map_err(|error| of_csv(error, 0))?;
    let names: Vec<String> = header.iter().map(|name| name.trim().to_owned()).collect();
    columns(&names)?;
    let mut record = csv::ByteRecord::new();
    for number in 1.. {
        left.set(ROW_BYTES_MAX);
        if !reader.read_byte_record(&mut record).map_err(|error| of_csv(error, number))? {
            break;
        }
        let data = Data::Csv { columns: &names, record: &record };
        if row(&Row { number, data })?.is_break() {
            break;
        }
    }
    Ok(())
}

/// Gives at most `left` bytes: the parser keeps a whole row in memory, and sets it anew for each.
struct Bounded<'a, R> {
    source: R,
    left: &'a Cell<u64>,
}

#[derive(Debug, thiserror::Error)]
#[error("it is longer than {} MiB: is there a quote that is never closed?", ROW_BYTES_MAX >> 20)]
struct RowTooLong;

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left.get() == 0 {
            return Err(io::Error::other(RowTooLong));
        }
        let bytes = self.source.by_ref().take(self.left.get()).read(buffer)?;
        self.left.set(self.left.get() - bytes as u64);
        Ok(bytes)
    }
}

fn of_csv(error: csv::Error, row: u64) -> LoadError {
    let problem = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, pos } => {
            let line = pos.as_ref().map_or(0, csv::Position::line);
            format!("line {line} has {len} fields, the header has {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "the header is not UTF-8".into(),
        _ => error.to_string(),
    };
    match error.into_kind() {
        csv::ErrorKind::Io(error) if error.get_ref().is_some_and(|error| error.is::<RowTooLong>()) => {
            LoadError::BadRow { row, column: None, problem: RowTooLong.to_string() }
        }
        csv::ErrorKind::Io(error) => LoadError::Read(error),
        _ => LoadError::BadRow { row, column: None, problem },
    }
}

/// Reads lines of JSON. Blank lines are none.
pub(super) fn read_ndjson(
    source: impl Read,
    mut row: impl FnMut(&Row<'_>) -> Result<ControlFlow<()>, LoadError>,
) -> Result<(), LoadError> {
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, source);
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        if reader.by_ref().take(ROW_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.len() as u64 == ROW_BYTES_MAX {
            let problem = format!("the line is longer than {} MiB", ROW_BYTES_MAX >> 20);
            return Err(LoadError::BadRow { row: number + 1, column: None, problem });
        }
        let text = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line).trim_ascii();
        if text.is_empty() {
            continue;
        }
        number += 1;
        if row(&Row { number, data: Data::Line { line: text, object: OnceCell::new() } })?.is_break() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_an_end_is_an_error_and_not_all_of_memory() {
        let endless = |start: &'static str| start.as_bytes().chain(io::repeat(b'x'));
        let csv = |start| read_csv(endless(start), b',', |_| Ok(()), |_| Ok(ControlFlow::Continue(())));
        for (start, row) in [("a,b\n1,2\n3,\"", "row 2"), ("a,\"b", "row 0")] {
            let error = csv(start).unwrap_err().to_string();
            assert!(error.contains(row) && error.contains("never closed"), "{error}");
        }
        let error = read_ndjson(endless("{\"a\": \""), |_| Ok(ControlFlow::Continue(()))).unwrap_err();
        assert!(error.to_string().contains("longer than 64 MiB"), "{error}");
    }
}
