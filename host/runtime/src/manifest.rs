//! What a plugin says of itself, checked.

use bytes::Bytes;

use crate::abi::ManifestRecord;

/// Bytes of a plugin's name.
const NAME_BYTES_MAX: usize = 64;
/// Bytes of a version, a media type and an example's name.
const SHORT_BYTES_MAX: usize = 128;
/// Bytes of a summary: one line.
const SUMMARY_BYTES_MAX: usize = 512;
/// Examples. They are for people, and for checks that run every one.
const EXAMPLES_MAX: usize = 64;
/// Bytes of all examples.
const EXAMPLES_BYTES_MAX: usize = 64 << 10;

/// What a plugin says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Lower-case letters, digits, `-` and `_`; 1 to 64 bytes.
    pub name: String,
    /// The plugin's version, as a semantic version.
    pub version: String,
    /// The version of its state's layout, at least 1.
    pub schema: u32,
    /// One line for people.
    pub summary: String,
    /// Media type of commands and replies.
    pub encoding: String,
    /// Named commands.
    pub examples: Vec<(String, Bytes)>,
}

/// What is wrong with a manifest. The message says which field, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct ManifestError {
    /// The field.
    pub field: &'static str,
    /// What it must be.
    pub problem: String,
}

impl TryFrom<ManifestRecord> for Manifest {
    type Error = ManifestError;

    fn try_from(record: ManifestRecord) -> Result<Self, ManifestError> {
        let ManifestRecord { name, version, schema, summary, encoding, examples } = record;
        let name_char = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        ensure(
            !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(name_char),
            "name",
            || format!("must be 1 to {NAME_BYTES_MAX} of a-z, 0-9, '-' and '_'"),
        )?;
        ensure(is_version(&version), "version", || {
            "must be a semantic version, such as 1.2.0 or 1.2.0-rc.1".to_owned()
        })?;
        ensure(schema >= 1, "schema", || "must be at least 1".to_owned())?;
        ensure(summary.len() <= SUMMARY_BYTES_MAX && is_line(&summary), "summary", || {
            format!("must be one line of at most {SUMMARY_BYTES_MAX} bytes")
        })?;
        let encoding_len = 1..=SHORT_BYTES_MAX;
        ensure(encoding_len.contains(&encoding.len()) && is_media_type(&encoding), "encoding", || {
            format!("must be a media type of at most {SHORT_BYTES_MAX} bytes, such as application/json")
        })?;
        ensure(examples.len() <= EXAMPLES_MAX, "examples", || format!("must be at most {EXAMPLES_MAX}"))?;
        let named =
            |(name, _): &(String, _)| !name.is_empty() && name.len() <= SHORT_BYTES_MAX && is_line(name);
        ensure(examples.iter().all(named), "examples", || {
            format!("must have names of one line, 1 to {SHORT_BYTES_MAX} bytes")
        })?;
        let bytes: usize = examples.iter().map(|(_, command)| command.len()).sum();
        ensure(bytes <= EXAMPLES_BYTES_MAX, "examples", || {
            format!("must have at most {EXAMPLES_BYTES_MAX} bytes together")
        })?;
        let examples = examples.into_iter().map(|(name, command)| (name, command.into())).collect();
        Ok(Self { name, version, schema, summary, encoding, examples })
    }
}

fn ensure(holds: bool, field: &'static str, problem: impl FnOnce() -> String) -> Result<(), ManifestError> {
    if holds { Ok(()) } else { Err(ManifestError { field, problem: problem() }) }
}

fn is_line(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// Three numbers, then perhaps `-` or `+` and identifiers (<https://semver.org>, without its rule on leading zeros).
fn is_version(text: &str) -> bool {
    let (numbers, rest) = text.find(['-', '+']).map_or((text, ""), |at| text.split_at(at));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let rest_char = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+');
    text.len() <= SHORT_BYTES_MAX
        && numbers.split('.').count() == 3
        && numbers.split('.').all(is_number)
        && rest.len() != 1
        && rest.bytes().all(rest_char)
}

fn is_media_type(text: &str) -> bool {
    text.contains('/') && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> ManifestRecord {
        ManifestRecord {
            name: "kv-2_x".into(),
            version: "1.0.0-rc.1+b7".into(),
            schema: 1,
            summary: "Keys and values".into(),
            encoding: "application/json; charset=utf-8".into(),
            examples: vec![("put".into(), b"{}".to_vec())],
        }
    }

    #[test]
    fn a_good_manifest_passes() {
        assert_eq!(Manifest::try_from(good()).unwrap().name, "kv-2_x");
    }

    #[test]
    fn each_bad_field_is_refused_by_name() {
        type Spoil = fn(&mut ManifestRecord);
        let story: &[(&str, Spoil)] = &[
            ("name", |record| record.name = String::new()),
            ("name", |record| record.name = "x".repeat(65)),
            ("name", |record| record.name = "../Evil".into()),
            ("version", |record| record.version = "1.0".into()),
            ("version", |record| record.version = "1.0.0-".into()),
            ("version", |record| record.version = "1.0.x".into()),
            ("schema", |record| record.schema = 0),
            ("summary", |record| record.summary = "two\nlines".into()),
            ("summary", |record| record.summary = "x".repeat(8 << 20)),
            ("encoding", |record| record.encoding = "json".into()),
            ("encoding", |record| record.encoding = "a/\u{7}".into()),
            ("examples", |record| record.examples = vec![(String::new(), vec![])]),
            ("examples", |record| record.examples = vec![("x".into(), vec![]); 65]),
            ("examples", |record| record.examples = vec![("x".into(), vec![0; 65 << 10])]),
        ];
        for (field, spoil) in story {
            let mut record = good();
            spoil(&mut record);
            assert_eq!(Manifest::try_from(record).unwrap_err().field, *field);
        }
    }
}
