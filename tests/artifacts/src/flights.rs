//! The slice of the 2013 New York flights in `tests/data`, and what a ledger has after it was loaded.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::workspace_root;

/// How `mortise load --map` makes it transfers: one flight is one transfer of one plane from origin to destination;
/// accounts are opened as they are met.
pub const MAP: &str = r#"{"transfer": {"debit": "{origin}", "credit": "{dest}", "amount": 1, "key": "{#row}",
    "open_missing": "unlimited"}}"#;
/// Some accounts and their balances, as `tests/data/README.md` says.
pub const BALANCES: [(&str, i64); 6] =
    [("EWR", -1034), ("JFK", -1011), ("LGA", -962), ("ORD", 162), ("ATL", 143), ("LAX", 140)];
/// Flights in the slice.
pub const ROWS: u64 = 3007;

/// The slice.
pub fn slice() -> PathBuf {
    workspace_root().join("tests/data/flights-slice.csv")
}

/// The slice so many times over, as a file in `folder`: for tests that have to break off a load in the middle.
///
/// # Errors
/// A file cannot be read or written.
pub fn repeated(folder: &Path, times: usize) -> Result<PathBuf> {
    let text = std::fs::read_to_string(slice()).context("read the slice of flights")?;
    let (header, rows) = text.split_once('\n').context("the slice of flights has no lines")?;
    let path = folder.join("flights.csv");
    std::fs::write(&path, format!("{header}\n{}", rows.repeat(times)))
        .with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}
