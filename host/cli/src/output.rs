//! What goes to the standard output: lines, tables, JSON, bytes.

use std::io::{ErrorKind, IsTerminal, Write};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;

/// Writes bytes as they are. Whoever reads them may stop at any time, as `head` does.
pub(crate) fn raw(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.context("write to the standard output"),
    }
}

/// Writes a text and the end of its line. Nothing for an empty text.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    raw(format!("{}\n", text.trim_end_matches('\n')).as_bytes())
}

/// Writes JSON: indented on a terminal, else in one line.
pub(crate) fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    let text =
        if is_terminal() { serde_json::to_string_pretty(value)? } else { serde_json::to_string(value)? };
    line(&text)
}

/// Whether a person reads the standard output.
pub(crate) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Columns under their names.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<_> = head.iter().map(|name| name.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<_> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut head.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

/// Names and values, one pair a line.
pub(crate) fn pairs(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<_> = rows.iter().map(|(name, value)| format!("{name:<width$}  {value}")).collect();
    lines.join("\n")
}

/// Bytes for people: as text where they are text, else in hexadecimal.
pub(crate) fn text_or_hex(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => hex(bytes),
    }
}

/// Bytes as part of a line: as text where they are text without line ends, tabs and the like, else in hexadecimal
/// after `0x`.
pub(crate) fn word(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => format!("0x{}", hex(bytes)),
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |text, byte| format!("{text}{byte:02x}"))
}

/// A plugin's bytes as JSON: what it says where it is JSON, else a string, else `{"hex": …}`.
pub(crate) fn to_json(bytes: &[u8]) -> Value {
    if let Ok(value) = serde_json::from_slice(bytes) {
        return value;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => serde_json::json!({ "hex": hex(bytes) }),
    }
}

/// A number of bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

/// A moment in log time for people.
pub(crate) fn moment(milliseconds: u64) -> String {
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    // Days since 0000-03-01, so that the leap day is a year's last; eras have 400 years.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + carry;
    format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}.{rest:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates() {
        assert_eq!(moment(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(moment(951_827_415_007), "2000-02-29T12:30:15.007Z");
        assert_eq!(moment(1_795_219_200_000), "2026-11-21T00:00:00.000Z");
    }

    #[test]
    fn tables_align_and_do_not_trail() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["long".to_owned(), String::new()]];
        assert_eq!(table(&["NAME", "N"], &rows), "NAME  N\na     1\nlong");
    }

    #[test]
    fn bytes_become_what_they_are() {
        assert_eq!(text_or_hex("grün".as_bytes()), "grün");
        assert_eq!(text_or_hex(&[0xff, 0]), "ff00");
        assert_eq!((word(b"a b"), word(b"a\nb")), ("a b".into(), "0x610a62".into()));
        assert_eq!(to_json(b"{\"a\":1}"), serde_json::json!({"a": 1}));
        assert_eq!(to_json(b"ok"), serde_json::json!("ok"));
        assert_eq!(to_json(&[0xff]), serde_json::json!({"hex": "ff"}));
    }
}
