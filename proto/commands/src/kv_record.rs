//! How records lie in the state of a tenant that runs `kv`: for the plugin, and for whoever watches the state.
//!
//! ```text
//!  'k' key   ─▶   0 │ version u64 │ value                   a key that stays
//!  'k' key   ─▶   1 │ version u64 │ expires u64 │ value     a key with a TTL
//! ```
//! Numbers are little endian.

/// What the keys of records begin with.
pub const RECORDS: u8 = b'k';

/// A key's record, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredRecord<'a> {
    /// The tenant's count of commands at the key's last write.
    pub version: u64,
    /// Log time from which on the key is gone, in milliseconds.
    pub expires_ms: Option<u64>,
    /// What the user stored.
    pub value: &'a [u8],
}

impl<'a> StoredRecord<'a> {
    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(17 + self.value.len());
        bytes.push(self.expires_ms.is_some().into());
        bytes.extend_from_slice(&self.version.to_le_bytes());
        if let Some(expires_ms) = self.expires_ms {
            bytes.extend_from_slice(&expires_ms.to_le_bytes());
        }
        bytes.extend_from_slice(self.value);
        bytes
    }

    /// Whether the key is still there at `now_ms`. The plugin's `expire` removes a dead record a little later.
    pub fn is_live(&self, now_ms: u64) -> bool {
        self.expires_ms.is_none_or(|expires_ms| now_ms < expires_ms)
    }

    /// Reads the stored form; `None`: it is none.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
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
}

/// Where the record of `key` lies.
pub fn record_key(key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + key.len());
    bytes.push(RECORDS);
    bytes.extend_from_slice(key);
    bytes
}

/// The key whose record lies at `record_key`; `None`: no record does.
pub fn user_key(record_key: &[u8]) -> Option<&[u8]> {
    record_key.strip_prefix(&[RECORDS])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_written() {
        for expires_ms in [None, Some(0), Some(u64::MAX)] {
            let record = StoredRecord { version: 7, expires_ms, value: b"\x00\xff" };
            assert_eq!(StoredRecord::decode(&record.encode()), Some(record));
        }
        assert_eq!(user_key(&record_key(b"a")), Some(b"a".as_slice()));
        assert_eq!(user_key(b"d"), None);
    }

    #[test]
    fn what_is_no_record_is_none() {
        for bytes in [b"".as_slice(), b"\x00short", b"\x01withoutexpir", b"\x02version.value"] {
            assert_eq!(StoredRecord::decode(bytes), None);
        }
    }
}
