//! The default snapshot: every pair, in key order.
//!
//! ```text
//! "MTS1" │ key length u32 │ value length u32 │ key │ value │ … │ u32::MAX │ pair count u32 │
//! ```
//! Numbers are little endian. The count, modulo 2³², closes the snapshot, so that a shortened one is noticed. Pages
//! of a scan have the same form, so dumping copies them through; nothing larger than a page or a pair is in memory.

use crate::backend::{Input, Output};
use crate::{Direction, KeyRange, Transaction, View};

/// Bytes of a chunk: a host call is amortised, and a chunk still fits any cache.
pub const CHUNK_BYTES: usize = 64 << 10;

const MAGIC: &[u8; 4] = b"MTS1";
const END: u32 = u32::MAX;

/// Where a snapshot goes: gathers what is written into chunks of [`CHUNK_BYTES`].
pub struct Sink<'a> {
    output: Output<'a>,
    chunk: Vec<u8>,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(output: Output<'a>) -> Self {
        Self { output, chunk: Vec::new() }
    }

    /// Appends to the snapshot.
    pub fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (head, rest) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.chunk.len()));
            if self.chunk.is_empty() && head.len() == CHUNK_BYTES {
                self.output.write(head);
            } else {
                self.chunk.extend_from_slice(head);
                if self.chunk.len() == CHUNK_BYTES {
                    self.flush();
                }
            }
            bytes = rest;
        }
    }

    /// Sends what is gathered. The SDK does this when [`Plugin::snapshot`](crate::Plugin::snapshot) returns.
    pub(crate) fn flush(&mut self) {
        if !self.chunk.is_empty() {
            self.output.write(&self.chunk);
            self.chunk.clear();
        }
    }
}

/// Where a snapshot comes from.
pub struct Source<'a> {
    input: Input<'a>,
    chunk: Vec<u8>,
    at: usize,
}

impl<'a> Source<'a> {
    pub(crate) fn new(input: Input<'a>) -> Self {
        Self { input, chunk: Vec::new(), at: 0 }
    }

    /// Fills `buffer` with the next `count` bytes, replacing what it held. Memory grows with bytes that are really
    /// there, whatever `count` says.
    ///
    /// # Errors
    /// The snapshot ends before.
    pub fn read(&mut self, count: usize, buffer: &mut Vec<u8>) -> Result<(), String> {
        buffer.clear();
        while buffer.len() < count {
            if !self.fill() {
                return Err("the snapshot ends too early".to_owned());
            }
            let end = self.chunk.len().min(self.at + (count - buffer.len()));
            buffer.extend_from_slice(&self.chunk[self.at..end]);
            self.at = end;
        }
        Ok(())
    }

    /// Whether nothing is left.
    pub fn is_at_end(&mut self) -> bool {
        !self.fill()
    }

    fn fill(&mut self) -> bool {
        while self.at >= self.chunk.len() {
            let Some(chunk) = self.input.read(CHUNK_BYTES as u32) else { return false };
            self.chunk = chunk;
            self.at = 0;
        }
        true
    }
}

/// Writes every pair to `sink`. What [`Plugin::snapshot`](crate::Plugin::snapshot) does by default.
///
/// # Errors
/// None at present.
pub fn dump(view: &View<'_>, sink: &mut Sink<'_>) -> Result<(), String> {
    sink.write(MAGIC);
    let mut count = 0u32;
    let mut range = KeyRange::all();
    loop {
        let (pairs, next) = view.page(&range, Direction::Ascending, CHUNK_BYTES as u32);
        count = count.wrapping_add(count_pairs(&pairs));
        sink.write(&pairs);
        let Some(next) = next else { break };
        range.start = next;
    }
    sink.write(&END.to_le_bytes());
    sink.write(&count.to_le_bytes());
    Ok(())
}

/// Puts every pair of `source`. What [`Plugin::restore`](crate::Plugin::restore) does by default.
///
/// # Errors
/// `source` is no such snapshot, or not a whole one.
pub fn load(tx: &mut Transaction<'_>, source: &mut Source<'_>) -> Result<(), String> {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    source.read(MAGIC.len(), &mut key)?;
    if key != MAGIC {
        return Err("this is not a snapshot of key-value pairs".to_owned());
    }
    let mut count = 0u32;
    loop {
        source.read(8, &mut key)?;
        let (key_bytes, value_bytes) = (u32_at(&key, 0), u32_at(&key, 4));
        if key_bytes == END {
            return match value_bytes == count && source.is_at_end() {
                true => Ok(()),
                false => Err("the snapshot does not end where it says".to_owned()),
            };
        }
        source.read(key_bytes as usize, &mut key)?;
        source.read(value_bytes as usize, &mut value)?;
        tx.put(&key, &value);
        count = count.wrapping_add(1);
    }
}

fn count_pairs(page: &[u8]) -> u32 {
    let (mut at, mut count) = (0, 0u32);
    while at < page.len() {
        at += 8 + u32_at(page, at) as usize + u32_at(page, at + 4) as usize;
        count = count.wrapping_add(1);
    }
    count
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
