//! A real etcd, 3.4 or later, through `etcd-client`.
//!
//! What that client leaves to its user is done here: `connect` is lazy, so the first call finds a dead endpoint;
//! its timeouts end with a stream's headers, so each wait has a bound of ours; a lease is renewed on one stream,
//! one bounded answer a time; a watch knows neither its revision nor that its server hangs. One endpoint serves all
//! requests until one fails; then the next endpoint does. Its own balancing would send requests to a hanging member
//! again and again, and no error could name the endpoint.

mod config;
mod connection;
mod errors;
mod lease;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Compare, CompareOp, GetOptions, PutOptions, ResponseHeader, Txn, TxnOp, TxnOpResponse};
use mortise_core::group::LeaseId;

pub use config::{EtcdConfig, Tls};
use connection::{ANSWER_BYTES_MAX, Connections};
use lease::Keeper;
pub use watch::EtcdWatch;

use super::{
    Answer, Backend, BackendError, Committed, Condition, Grant, KeyValue, Operation, Range, Transaction,
};
use crate::error::CoordinationError;
use crate::seen::{ClusterId, Revision};

/// Keys in one answer. Ours have values of 3 KiB at most.
const PAGE_KEYS: i64 = 1_000;

/// A connection to etcd.
pub struct Etcd {
    connections: Arc<Connections>,
    /// The stream on which the node's one lease is renewed.
    keeper: tokio::sync::Mutex<Option<Keeper>>,
}

impl Etcd {
    /// Checks the settings. The first request connects.
    ///
    /// # Errors
    /// [`CoordinationError::Config`] names the setting that cannot be.
    pub fn new(config: EtcdConfig) -> Result<Self, CoordinationError> {
        config.check()?;
        Ok(Self { connections: Arc::new(Connections::new(config)), keeper: tokio::sync::Mutex::new(None) })
    }
}

/// Who answered, and when.
pub(super) fn stamp<T>(
    header: Option<&ResponseHeader>,
    endpoint: &str,
    value: T,
) -> Result<Answer<T>, BackendError> {
    let header = header.ok_or_else(|| BackendError::Unanswered {
        endpoint: endpoint.to_owned(),
        why: "an answer without a header".into(),
    })?;
    let revision = Revision(u64::try_from(header.revision()).unwrap_or(0));
    Ok(Answer { cluster: ClusterId(header.cluster_id()), revision, value })
}

/// etcd's numbers are signed, and never negative where they count.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn key_value(from: &etcd_client::KeyValue) -> KeyValue {
    KeyValue {
        key: from.key().to_vec(),
        value: from.value().to_vec(),
        create_revision: Revision(unsigned(from.create_revision())),
        mod_revision: Revision(unsigned(from.mod_revision())),
        // Leases are 63 bits of luck.
        lease: (from.lease() != 0).then(|| LeaseId(unsigned(from.lease()))),
    }
}

fn compare(condition: Condition) -> Vec<Compare> {
    match condition {
        Condition::Absent(key) => vec![Compare::create_revision(key, CompareOp::Equal, 0)],
        Condition::Is(key, revision, value) => vec![
            Compare::mod_revision(key.clone(), CompareOp::Equal, signed(revision.0)),
            Compare::value(key, CompareOp::Equal, value),
        ],
    }
}

fn operation(operation: Operation) -> TxnOp {
    match operation {
        Operation::Put(key, value, lease) => {
            let options = lease.map(|lease| PutOptions::new().with_lease(signed(lease.0)));
            TxnOp::put(key, value, options)
        }
        Operation::Delete(key) => TxnOp::delete(key, None),
    }
}

impl Backend for Etcd {
    type Watch = EtcdWatch;

    async fn read(&self, range: Range) -> Result<Answer<Vec<KeyValue>>, BackendError> {
        let (key, options) = match range {
            Range::Key(key) => (key, GetOptions::new()),
            Range::Prefix(prefix) => {
                let end = connection::prefix_end(&prefix);
                (prefix, GetOptions::new().with_range(end).with_limit(PAGE_KEYS))
            }
        };
        let mut answer: Option<Answer<Vec<KeyValue>>> = None;
        let mut from = key.into_bytes();
        loop {
            // Further pages are of the first one's revision.
            let pinned = answer.as_ref().map(|answer| signed(answer.revision.0));
            let options = pinned.map_or(options.clone(), |revision| options.clone().with_revision(revision));
            let (start, request) = (from.clone(), Some(options));
            let page = self.connections.call(async move |client, endpoint| {
                let mut kv = client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX);
                let mut page = kv.get(start, request).await?;
                let more = page.more();
                let keys: Vec<KeyValue> = page.take_kvs().iter().map(key_value).collect();
                Ok((stamp(page.header(), endpoint, keys), more))
            });
            let (page, more) = page.await?;
            let page = page?;
            let last = page.value.last().map(|at| at.key.clone());
            match &mut answer {
                None => answer = Some(page),
                Some(answer) => answer.value.extend(page.value),
            }
            match (more, last, &mut answer) {
                (true, Some(last), Some(_)) => from = [&last[..], &[0]].concat(),
                (_, _, Some(answer)) => {
                    return Ok(Answer { value: std::mem::take(&mut answer.value), ..*answer });
                }
                (_, _, None) => {}
            }
        }
    }

    async fn commit(&self, transaction: Transaction) -> Result<Answer<Committed>, BackendError> {
        let compares: Vec<Compare> = transaction.conditions.into_iter().flat_map(compare).collect();
        let operations: Vec<TxnOp> = transaction.operations.into_iter().map(operation).collect();
        let otherwise: Vec<TxnOp> =
            transaction.otherwise.map(|key| TxnOp::get(key, None)).into_iter().collect();
        let request = Txn::new().when(compares).and_then(operations).or_else(otherwise);
        let committed = self.connections.call(async move |client, endpoint| {
            let response = client.kv_client().txn(request).await?;
            let committed = if response.succeeded() {
                Committed::Applied
            } else {
                let current = response.op_responses().into_iter().find_map(|response| match response {
                    TxnOpResponse::Get(get) => get.kvs().first().map(key_value),
                    _ => None,
                });
                Committed::Refused(current)
            };
            Ok(stamp(response.header(), endpoint, committed))
        });
        committed.await?
    }

    async fn grant(&self, ttl_seconds: u32) -> Result<Answer<Grant>, BackendError> {
        let granted = self.connections.call(async move |client, endpoint| {
            let response = client.lease_client().grant(ttl_seconds.into(), None).await?;
            let ttl = Duration::from_secs(unsigned(response.ttl()));
            let grant = Grant { lease: LeaseId(unsigned(response.id())), ttl };
            Ok(stamp(response.header(), endpoint, grant))
        });
        granted.await?
    }

    async fn renew(&self, lease: LeaseId) -> Result<Answer<Duration>, BackendError> {
        let mut keeper = self.keeper.lock().await;
        // Only an answered renewal leaves the stream as it should be: a late answer must not count for the next one.
        let used = keeper.take().filter(|keeper| keeper.is_for(lease));
        let (answer, used) = lease::renew(&self.connections, lease, used).await?;
        *keeper = Some(used);
        Ok(answer)
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), BackendError> {
        let id = signed(lease.0);
        let revoked =
            self.connections.call(async move |client, _| client.lease_client().revoke(id).await.map(drop));
        revoked.await
    }

    async fn watch(&self, prefix: String, from: Revision) -> Result<EtcdWatch, BackendError> {
        watch::open(self.connections.clone(), prefix, signed(from.0)).await
    }

    fn turn_away(&self) {
        self.connections.turn_away();
    }
}
