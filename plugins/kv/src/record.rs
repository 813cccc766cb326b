//! How records lie in the tenant's state.
//!
//! ```text
//!  'k' key                 ─▶ a record, as mortise_commands::kv_record has it
//!  'd' expires u64-be key  ─▶ (nothing)             the due index: when to look at a key
//! ```
//! Records are laid out in `mortise_commands`, since whoever watches a tenant's state reads them too.

use mortise_commands::kv_record::RECORDS;
pub(crate) use mortise_commands::kv_record::{StoredRecord, record_key, user_key};
use mortise_sdk::{KeyRange, Rejection};

/// Most bytes of a key. The due index puts 9 bytes before one, and a profile's default limit is 4 KiB.
pub(crate) const KEY_BYTES_MAX: usize = 4080;

const DUE: u8 = b'd';

/// Reads a record's stored form.
pub(crate) fn decode(bytes: &[u8]) -> Result<StoredRecord<'_>, Rejection> {
    StoredRecord::decode(bytes)
        .ok_or_else(|| Rejection::unsupported("unreadable_record", "another plugin wrote this state"))
}

/// Where the records of `keys` lie.
pub(crate) fn record_range(keys: KeyRange) -> KeyRange {
    let end = keys.end.map(|end| record_key(&end));
    KeyRange { start: record_key(&keys.start), end }.intersect(KeyRange::prefix([RECORDS]))
}

/// Where the due index says that `key` expires at `expires_ms`.
pub(crate) fn due_key(expires_ms: u64, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(9 + key.len());
    bytes.push(DUE);
    bytes.extend_from_slice(&expires_ms.to_be_bytes());
    bytes.extend_from_slice(key);
    bytes
}

/// The time and the key that an entry of the due index names.
pub(crate) fn parse_due_key(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (expires, key) = bytes.strip_prefix(&[DUE])?.split_first_chunk()?;
    Some((u64::from_be_bytes(*expires), key))
}

/// The due index.
pub(crate) fn due_range() -> KeyRange {
    KeyRange::prefix([DUE])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_record_is_refused() {
        assert_eq!(decode(b"\x02version.value").unwrap_err().code, "unreadable_record");
    }

    #[test]
    fn the_due_index_sorts_by_time() {
        assert!(due_key(255, b"z") < due_key(256, b"a"));
        assert_eq!(parse_due_key(&due_key(256, b"a")), Some((256, b"a".as_slice())));
    }

    #[test]
    fn an_unbounded_range_of_keys_stays_within_the_records() {
        let range = record_range(KeyRange::all());
        assert!(range.contains(&record_key(&[255; 9])));
        assert!(!range.contains(&due_key(0, b"a")));
    }
}
