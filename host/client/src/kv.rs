//! The commands of the shipped `kv` plugin, typed: what `mortise_commands::kv` says in messages, as functions.

mod watch;

use bytes::Bytes;
use mortise_commands::kv::{
    Batch, Command, CompareAndSwap, Condition, Delete, DeleteRange, Get, Operation, Put, PutIfAbsent, Range,
    Request, Response, command, condition, operation, request, response,
};
pub use mortise_commands::kv::{KeyRange, RangeResponse, Record, Reply};
use prost::Message;
pub use watch::{Change, KvEvent, KvWatch};

use crate::client::{Freshness, Tenant};
use crate::error::ClientError;
use crate::typed::{Protobuf, Typed, unexpected};
use crate::writer::Writer;

/// A tenant that runs `kv`. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Kv(Typed<Protobuf<Command, Reply, Request, Response>>);

/// What a key must hold for a compare-and-swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nothing: the key must not be there.
    Absent,
    /// Anything: the key must be there.
    Present,
    /// The version of its last write.
    Version(u64),
    /// Its value.
    Value(Vec<u8>),
}

/// A part of a [`Kv::batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// As [`Kv::put`].
    Put {
        /// The key.
        key: Vec<u8>,
        /// What it is to hold.
        value: Vec<u8>,
        /// Milliseconds until it vanishes; 0: it stays.
        ttl_ms: u64,
    },
    /// As [`Kv::delete`].
    Delete {
        /// The key.
        key: Vec<u8>,
    },
    /// As [`Kv::delete_range`], without counting.
    DeleteRange {
        /// The keys.
        keys: KeyRange,
    },
}

impl From<Write> for operation::Operation {
    fn from(write: Write) -> Self {
        match write {
            Write::Put { key, value, ttl_ms } => {
                Self::Put(Put { key: key.into(), value: value.into(), ttl_ms })
            }
            Write::Delete { key } => Self::Delete(Delete { key }),
            Write::DeleteRange { keys } => Self::DeleteRange(delete_range(keys, false)),
        }
    }
}

/// How to read a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeOptions {
    /// At most so many records in one answer. 0, the default: 1,000. An answer also ends at 1 MiB.
    pub limit: u32,
    /// From the last key to the first. Default: no.
    pub reverse: bool,
    /// Leaves the values out. Default: no.
    pub keys_only: bool,
    /// Leaves the records out; only their number is answered. Default: no.
    pub count_only: bool,
    /// To go on where an answer ended: its `next`. Default: from the beginning.
    pub after: Vec<u8>,
}

impl Expected {
    fn of(self, key: Vec<u8>) -> Condition {
        let expected = match self {
            Self::Absent => condition::Expected::Absent(true),
            Self::Present => condition::Expected::Absent(false),
            Self::Version(version) => condition::Expected::Version(version),
            Self::Value(value) => condition::Expected::Value(value),
        };
        Condition { key, expected: Some(expected) }
    }
}

impl Kv {
    /// Over the tenant itself: each write is one call; see [`Tenant::write`].
    pub fn new(tenant: Tenant) -> Self {
        Self(Typed::new(tenant))
    }

    /// Over a writer of this tenant: many writes can be in flight, each exactly once.
    pub fn with_writer(tenant: Tenant, writer: Writer) -> Self {
        Self(Typed::with_writer(tenant, writer))
    }

    /// The same, but reads are as fresh as said here. Default: linearizable.
    #[must_use]
    pub fn reading(self, freshness: Freshness) -> Self {
        Self(self.0.reading(freshness))
    }

    /// Sets a key, whatever it held. It vanishes after `ttl_ms` milliseconds, if that is not 0.
    ///
    /// # Errors
    /// Those of a write; [`ErrorKind::Rejected`](crate::ErrorKind::Rejected) as `kv.proto` lists. So for the others.
    pub async fn put(
        &self,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
        ttl_ms: u64,
    ) -> Result<Reply, ClientError> {
        self.write(put_operation(key, value, ttl_ms)).await
    }

    /// Sets a key that must not be there.
    ///
    /// # Errors
    /// As [`Kv::put`].
    pub async fn put_if_absent(
        &self,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
        ttl_ms: u64,
    ) -> Result<Reply, ClientError> {
        let put = PutIfAbsent { key: key.into(), value: value.into(), ttl_ms };
        self.write(command::Operation::PutIfAbsent(put)).await
    }

    /// Sets a key that holds what is expected.
    ///
    /// # Errors
    /// As [`Kv::put`]; rejected as `compare_failed` where it holds something else.
    pub async fn compare_and_swap(
        &self,
        key: impl Into<Vec<u8>>,
        expected: Expected,
        value: impl Into<Vec<u8>>,
        ttl_ms: u64,
    ) -> Result<Reply, ClientError> {
        let condition = Some(expected.of(key.into()));
        let swap = CompareAndSwap { condition, value: value.into(), ttl_ms };
        self.write(command::Operation::CompareAndSwap(swap)).await
    }

    /// Removes a key; the reply's `deleted` says whether it was there.
    ///
    /// # Errors
    /// As [`Kv::put`].
    pub async fn delete(&self, key: impl Into<Vec<u8>>) -> Result<Reply, ClientError> {
        self.write(command::Operation::Delete(Delete { key: key.into() })).await
    }

    /// Removes all keys of a range; `count`: the reply's `deleted` says how many. Where the range has no bound, it
    /// empties the tenant.
    ///
    /// # Errors
    /// As [`Kv::put`].
    pub async fn delete_range(&self, keys: KeyRange, count: bool) -> Result<Reply, ClientError> {
        self.write(command::Operation::DeleteRange(delete_range(keys, count))).await
    }

    /// Removes a key that holds what is expected.
    ///
    /// # Errors
    /// As [`Kv::put`]; rejected as `compare_failed` where it holds something else.
    pub async fn delete_if(&self, key: impl Into<Vec<u8>>, expected: Expected) -> Result<Reply, ClientError> {
        let key = key.into();
        self.batch([(key.clone(), expected)], [Write::Delete { key }]).await
    }

    /// Several writes as one: where all conditions hold, all are done, in order; else none.
    ///
    /// # Errors
    /// As [`Kv::put`]; rejected as `compare_failed` where a condition does not hold.
    pub async fn batch(
        &self,
        conditions: impl IntoIterator<Item = (Vec<u8>, Expected)>,
        writes: impl IntoIterator<Item = Write>,
    ) -> Result<Reply, ClientError> {
        let batch = Batch {
            conditions: conditions.into_iter().map(|(key, expected)| expected.of(key)).collect(),
            operations: writes.into_iter().map(|write| Operation { operation: Some(write.into()) }).collect(),
        };
        self.write(command::Operation::Batch(batch)).await
    }

    /// Reads a key; `None` where it is not there.
    ///
    /// # Errors
    /// Those of a query.
    pub async fn get(&self, key: impl Into<Vec<u8>>) -> Result<Option<Record>, ClientError> {
        match self.query(request::Operation::Get(Get { key: key.into() })).await? {
            response::Result::Get(get) => Ok(get.record),
            response::Result::Range(_) => Err(unexpected()),
        }
    }

    /// Reads keys in order, as many as fit into one answer: go on while its `more` is set.
    ///
    /// # Errors
    /// Those of a query.
    pub async fn range(&self, keys: KeyRange, options: RangeOptions) -> Result<RangeResponse, ClientError> {
        let RangeOptions { limit, reverse, keys_only, count_only, after } = options;
        let range = Range { keys: Some(keys), limit, reverse, keys_only, count_only, after };
        match self.query(request::Operation::Range(range)).await? {
            response::Result::Range(range) => Ok(range),
            response::Result::Get(_) => Err(unexpected()),
        }
    }

    async fn write(&self, operation: command::Operation) -> Result<Reply, ClientError> {
        self.0.write(&Command { operation: Some(operation) }).await
    }

    async fn query(&self, operation: request::Operation) -> Result<response::Result, ClientError> {
        self.0.query(&Request { operation: Some(operation) }).await?.result.ok_or_else(unexpected)
    }
}

/// The command that [`Kv::put`] sends, for a [`Writer`] that carries many.
pub fn put(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>, ttl_ms: u64) -> Bytes {
    Command { operation: Some(put_operation(key, value, ttl_ms)) }.encode_to_vec().into()
}

fn put_operation(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>, ttl_ms: u64) -> command::Operation {
    command::Operation::Put(Put { key: key.into().into(), value: value.into().into(), ttl_ms })
}

fn delete_range(keys: KeyRange, count: bool) -> DeleteRange {
    let everything = keys == KeyRange::default();
    DeleteRange { keys: Some(keys), everything, count }
}
