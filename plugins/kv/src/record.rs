//! How records lie in the tenant's state.
//!
//! ```text
//!  'k' key                 ─▶ 0 │ version u64 │ value                   a key that stays
//!  'k' key                 ─▶ 1 │ version u64 │ expires u64 │ value     a key with a TTL
//!  'd' expires u64-be key  ─▶ (nothing)                                 the due index: when to look at a key
//! ```
//! Numbers in values are little endian; those in keys big endian, so that they sort.

use mortise_sdk::{KeyRange, Rejection};

/// Most bytes of a key. The due index puts 9 bytes before one, and a profile's default limit is 4 KiB.
pub(crate) const KEY_BYTES_MAX: usize = 4080;

const RECORDS: u8 = b'k';
const DUE: u8 = b'd';

/// A key's record, as stored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    /// The tenant's count of commands at the key's last write.
    pub(crate) version: u64,
    /// Log time from which on the key is gone, in milliseconds.
    pub(crate) expires_ms: Option<u64>,
    /// What the user stored.
    pub(crate) value: &'a [u8],
}

impl<'a> Record<'a> {
    /// The stored form.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(17 + self.value.len());
        bytes.push(self.expires_ms.is_some().into());
        bytes.extend_from_slice(&self.version.to_le_bytes());
        if let Some(expires_ms) = self.expires_ms {
            bytes.extend_from_slice(&expires_ms.to_le_bytes());
        }
        bytes.extend_from_slice(self.value);
        bytes
    }

    /// Reads the stored form.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Rejection> {
        Self::parse(bytes)
            .ok_or_else(|| Rejection::unsupported("unreadable_record", "another plugin wrote this state"))
    }

    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (version, rest) = rest.split_first_chunk()?;
        let version = u64::from_le_bytes(*version);
        match kind {
            0 => Some(Self { version, expires_ms: None, value: rest }),
            1 => {
                let (expires, value) = rest.split_first_chunk()?;
                Some(Self { version, expires_ms: Some(u64::from_le_bytes(*expires)), value })
            }
            _ => None,
        }
    }

    /// Whether the key is still there at `now_ms`. `expire` removes a dead record a little later.
    pub(crate) fn is_live(&self, now_ms: u64) -> bool {
        self.expires_ms.is_none_or(|expires_ms| now_ms < expires_ms)
    }
}

/// Where the record of `key` lies.
pub(crate) fn record_key(key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + key.len());
    bytes.push(RECORDS);
    bytes.extend_from_slice(key);
    bytes
}

/// The key whose record lies at `record_key`.
pub(crate) fn user_key(record_key: &[u8]) -> &[u8] {
    &record_key[1..]
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
    fn a_record_comes_back_as_written() {
        for expires_ms in [None, Some(0), Some(u64::MAX)] {
            let record = Record { version: 7, expires_ms, value: b"\x00\xff" };
            assert_eq!(Record::decode(&record.encode()), Ok(record));
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for bytes in [b"".as_slice(), b"\x00short", b"\x01withoutexpir", b"\x02version.value"] {
            assert_eq!(Record::decode(bytes).unwrap_err().code, "unreadable_record");
        }
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
