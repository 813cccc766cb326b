//! The byte encoding of log entries and persisted records: little-endian numbers, LEB128 counts and lengths.
//!
//! [`Reader`] treats its input as hostile: every length is checked against what is left before it is used, and no
//! count makes it allocate ahead of the bytes that back it.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Why bytes could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end in the middle of a field.
    #[error("{what}: the bytes end too early")]
    Truncated {
        /// The field.
        what: &'static str,
    },
    /// A field has a value it cannot have.
    #[error("{what}: {value} is not a known value")]
    Unknown {
        /// The field.
        what: &'static str,
        /// What stands there.
        value: u64,
    },
    /// A field is malformed.
    #[error("{what} is malformed")]
    Malformed {
        /// The field.
        what: &'static str,
    },
    /// Bytes are left after the last field.
    #[error("{count} bytes are left over")]
    LeftOver {
        /// How many.
        count: usize,
    },
    /// Written by a newer release.
    #[error(
        "format version {version} of {what} is newer than this release knows ({known}): use a newer release"
    )]
    TooNew {
        /// What was read.
        what: &'static str,
        /// Its version.
        version: u8,
        /// The newest version known here.
        known: u8,
    },
}

/// Appends fields to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    buffer: BytesMut,
}

impl Writer {
    /// An empty buffer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { buffer: BytesMut::with_capacity(capacity) }
    }

    /// What was appended so far.
    pub fn written(&self) -> &[u8] {
        &self.buffer
    }

    /// Forgets what was appended, and keeps the room for more.
    pub fn clear(&mut self) {
        self.buffer.clear();
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.buffer.put_u8(value);
        self
    }

    /// One byte, 0 or 1.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.u8(value.into())
    }

    /// Eight bytes, little endian.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.buffer.put_u64_le(value);
        self
    }

    /// A count: LEB128, one to ten bytes.
    pub fn count(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.buffer.put_u8((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
        self
    }

    /// A count of bytes, then the bytes.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.count(value.len() as u64);
        self.buffer.put_slice(value);
        self
    }

    /// The bytes alone; the reader must know how many.
    pub fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.buffer.put_slice(value);
        self
    }

    /// 0, or 1 and the string.
    pub fn option_string(&mut self, value: Option<&str>) -> &mut Self {
        self.bool(value.is_some());
        if let Some(value) = value {
            self.bytes(value.as_bytes());
        }
        self
    }

    /// 0, or 1 and the number as a count.
    pub fn option_count(&mut self, value: Option<u64>) -> &mut Self {
        self.bool(value.is_some());
        if let Some(value) = value {
            self.count(value);
        }
        self
    }

    /// How many bytes were written.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// What was written.
    pub fn finish(self) -> Bytes {
        self.buffer.freeze()
    }
}

/// Takes fields off the front of a buffer.
#[derive(Debug)]
pub struct Reader {
    rest: Bytes,
}

impl Reader {
    /// Reads `bytes` from their start.
    pub fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }

    /// `count` bytes, sharing the buffer they lie in.
    pub fn raw(&mut self, count: usize, what: &'static str) -> Result<Bytes, DecodeError> {
        if count > self.rest.len() {
            return Err(DecodeError::Truncated { what });
        }
        Ok(self.rest.split_to(count))
    }

    /// `N` bytes.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let array = *self.rest.first_chunk().ok_or(DecodeError::Truncated { what })?;
        self.rest.advance(N);
        Ok(array)
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        let [byte] = self.array(what)?;
        Ok(byte)
    }

    /// One byte that must be 0 or 1.
    pub fn bool(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(DecodeError::Unknown { what, value: value.into() }),
        }
    }

    /// Eight bytes, little endian.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A count: LEB128 in its shortest form, so that equal values have equal bytes.
    pub fn count(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::Malformed { what });
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(DecodeError::Malformed { what });
                }
                return Ok(value);
            }
        }
        Err(DecodeError::Malformed { what })
    }

    /// A count that must fit 32 bits.
    pub fn count32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        u32::try_from(self.count(what)?).map_err(|_| DecodeError::Malformed { what })
    }

    /// A count of bytes, then the bytes.
    pub fn bytes(&mut self, what: &'static str) -> Result<Bytes, DecodeError> {
        let count = self.count(what)?;
        let count = usize::try_from(count).map_err(|_| DecodeError::Truncated { what })?;
        self.raw(count, what)
    }

    /// A count of bytes, then that much UTF-8.
    pub fn string(&mut self, what: &'static str) -> Result<String, DecodeError> {
        let bytes = self.bytes(what)?;
        std::str::from_utf8(&bytes).map(str::to_owned).map_err(|_| DecodeError::Malformed { what })
    }

    /// 0, or 1 and a string.
    pub fn option_string(&mut self, what: &'static str) -> Result<Option<String>, DecodeError> {
        self.bool(what)?.then(|| self.string(what)).transpose()
    }

    /// 0, or 1 and a count.
    pub fn option_count(&mut self, what: &'static str) -> Result<Option<u64>, DecodeError> {
        self.bool(what)?.then(|| self.count(what)).transpose()
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// Succeeds where nothing is left.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(DecodeError::LeftOver { count }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_as_written() {
        let mut writer = Writer::default();
        writer
            .u8(7)
            .bool(true)
            .u64(u64::MAX)
            .count(300)
            .bytes(b"abc")
            .option_string(Some("x"))
            .option_count(None);
        let mut reader = Reader::new(writer.finish());
        assert_eq!(reader.u8("a"), Ok(7));
        assert_eq!(reader.bool("b"), Ok(true));
        assert_eq!(reader.u64("c"), Ok(u64::MAX));
        assert_eq!(reader.count("d"), Ok(300));
        assert_eq!(reader.bytes("e").unwrap(), "abc");
        assert_eq!(reader.option_string("f").unwrap().as_deref(), Some("x"));
        assert_eq!(reader.option_count("g"), Ok(None));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn counts_of_every_size_come_back() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1, u64::MAX] {
                let mut writer = Writer::default();
                writer.count(value);
                assert_eq!(Reader::new(writer.finish()).count("n"), Ok(value));
            }
        }
    }

    #[test]
    fn a_length_beyond_the_input_is_refused_without_allocating() {
        let mut writer = Writer::default();
        writer.count(u64::MAX);
        assert_eq!(Reader::new(writer.finish()).bytes("x"), Err(DecodeError::Truncated { what: "x" }));
    }

    #[test]
    fn an_overlong_count_is_refused() {
        let padded = Bytes::from_static(&[0x80, 0x00]);
        assert_eq!(Reader::new(padded).count("n"), Err(DecodeError::Malformed { what: "n" }));
        let endless = Bytes::from_static(&[0xff; 11]);
        assert_eq!(Reader::new(endless).count("n"), Err(DecodeError::Malformed { what: "n" }));
    }
}
