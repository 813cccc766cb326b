//! A tenant's state, lent to the plugin for the length of a call.

use std::ops::Deref;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backend::{Reader, Writer};
use crate::{Direction, Encode, Json, KeyRange, Pair, Rejection, Scan};

/// Reading. [`Transaction`] can do all of this too, and turns into a `&View` where a function wants one.
pub struct View<'a> {
    reader: Reader<'a>,
}

impl<'a> View<'a> {
    pub(crate) fn new(reader: Reader<'a>) -> Self {
        Self { reader }
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.reader.get(key)
    }

    /// The values of `keys`, in their order, in one call of the host.
    pub fn get_many(&self, keys: &[Vec<u8>]) -> Vec<Option<Vec<u8>>> {
        self.reader.get_many(keys)
    }

    /// The value of `key`, read as JSON.
    ///
    /// # Errors
    /// `unreadable_record`: what is stored is no `T`; an older schema may have written it.
    pub fn get_json<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, Rejection> {
        self.get(key).map(|bytes| read_json(&bytes)).transpose()
    }

    /// The pairs of `range`, smallest key first. Pages are fetched as the iterator gets to them; make it go
    /// backwards with [`Scan::descending`].
    pub fn scan(&self, range: impl Into<KeyRange>) -> Scan<'_> {
        Scan::new(self, range.into())
    }

    /// The pairs whose keys begin with `prefix`, smallest key first.
    pub fn prefix(&self, prefix: impl Into<Vec<u8>>) -> Scan<'_> {
        self.scan(KeyRange::prefix(prefix))
    }

    /// The first pair of `range`.
    pub fn first(&self, range: impl Into<KeyRange>) -> Option<Pair> {
        Scan::one(self, range.into(), Direction::Ascending)
    }

    /// The last pair of `range`.
    pub fn last(&self, range: impl Into<KeyRange>) -> Option<Pair> {
        Scan::one(self, range.into(), Direction::Descending)
    }

    /// One page of a scan, as the host packs it: for each pair the lengths of key and value (u32, little endian),
    /// key, value. At most `bytes_max` bytes, but one pair at least where there is one. The second part is set where
    /// more may follow: the start of the rest (ascending), or its end (descending).
    pub fn page(&self, range: &KeyRange, direction: Direction, bytes_max: u32) -> (Vec<u8>, Option<Vec<u8>>) {
        self.reader.page(range, direction, bytes_max)
    }
}

/// Reading and writing. Reads see this call's own writes. All writes take effect together when the call returns
/// without a rejection, or not at all.
pub struct Transaction<'a> {
    view: View<'a>,
    writer: Writer<'a>,
}

impl<'a> Transaction<'a> {
    pub(crate) fn new(reader: Reader<'a>, writer: Writer<'a>) -> Self {
        Self { view: View::new(reader), writer }
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.writer.put(key, value);
    }

    /// Sets `key` to `value`, written as JSON.
    ///
    /// # Errors
    /// `unencodable`: JSON has no form for it, as for a map whose keys are no strings.
    pub fn put_json<T: Serialize>(&mut self, key: &[u8], value: &T) -> Result<(), Rejection> {
        let bytes = Json::encode(value)?;
        self.put(key, &bytes);
        Ok(())
    }

    /// Removes `key`. Nothing happens where it is not there.
    pub fn delete(&mut self, key: &[u8]) {
        self.writer.delete(key);
    }

    /// Removes every key of `range`, without moving them through the plugin. The host charges a little fuel for each.
    pub fn delete_range(&mut self, range: impl Into<KeyRange>) {
        self.writer.delete_range(&range.into());
    }

    /// Sets when [`Plugin::expire`](crate::Plugin::expire) should next be called, in milliseconds of log time; none:
    /// never. It stays as it was where a call does not set it, and is cleared just before `expire` is called.
    pub fn next_due(&mut self, time_ms: Option<u64>) {
        self.writer.next_due(time_ms);
    }
}

impl<'a> Deref for Transaction<'a> {
    type Target = View<'a>;

    fn deref(&self) -> &View<'a> {
        &self.view
    }
}

/// Reads stored JSON, as [`View::get_json`] does.
///
/// # Errors
/// `unreadable_record`: it is no `T`.
pub fn read_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Rejection> {
    serde_json::from_slice(bytes).map_err(|error| {
        Rejection::unsupported("unreadable_record", format!("a stored record is not of this schema: {error}"))
    })
}
