//! What the tests share: a data folder, a replica in it, and kv commands.

use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use mortise_commands::kv::{self, command, request, response};
use mortise_core::ids::{Sequence, SessionId, TenantId};
use mortise_core::replica::{Ack, Freshness};
use mortise_node::metrics::Metrics;
use mortise_node::replica::{
    Answer, AnswerSink, Replica, ReplicaOptions, StartError, Told, Write, WriteError, Written,
};
use mortise_runtime::{Runtime, RuntimeOptions};
use mortise_storage::disk::Disk;
use prost::Message;
use tempfile::TempDir;
use tokio::sync::mpsc;

/// One runtime for all tests: components compile once.
pub(crate) fn runtime() -> Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new(RuntimeOptions::default()).unwrap()).clone()
}

pub(crate) struct Node {
    pub(crate) folder: TempDir,
    pub(crate) options: ReplicaOptions,
    pub(crate) disk: Option<Arc<dyn Disk>>,
    pub(crate) runtime: Runtime,
}

impl Node {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = ReplicaOptions::new(folder.path().join("data"));
        options.segment_bytes = 1 << 20;
        options.free_disk_bytes_min = 0;
        Self { folder, options, disk: None, runtime: runtime() }
    }

    pub(crate) fn on(disk: Arc<dyn Disk>) -> Self {
        Self { disk: Some(disk), ..Self::new() }
    }

    /// Starts the replica; what it takes blocks, so it happens on a blocking thread.
    pub(crate) async fn try_start(&self) -> Result<Replica, StartError> {
        let (options, disk, runtime) = (self.options.clone(), self.disk.clone(), self.runtime.clone());
        let metrics = Arc::new(Metrics::new());
        let start = move || match disk {
            Some(disk) => Replica::start_on(options, disk, runtime, metrics),
            None => Replica::start(options, runtime, metrics),
        };
        tokio::task::spawn_blocking(start).await.unwrap()
    }

    pub(crate) async fn start(&self) -> Replica {
        self.try_start().await.unwrap()
    }

    /// Starts the replica with a `kv` tenant named `kv`.
    pub(crate) async fn start_kv(&self) -> (Replica, TenantId) {
        let replica = self.start().await;
        upload(&replica, "mortise-plugin-kv").await;
        replica.create_tenant("kv", "kv", false).await.unwrap();
        let tenant = replica.tenant("kv").unwrap();
        (replica, tenant)
    }
}

pub(crate) async fn upload(replica: &Replica, package: &'static str) {
    let component =
        tokio::task::spawn_blocking(move || mortise_artifacts::bytes(package).unwrap()).await.unwrap();
    replica.upload_plugin(component.into()).await.unwrap();
}

pub(crate) async fn upload_bad(replica: &Replica, name: &'static str) -> String {
    let component =
        tokio::task::spawn_blocking(move || mortise_artifacts::bad_guest(name).unwrap()).await.unwrap();
    replica.upload_plugin(component.into()).await.unwrap().0.digest.to_string()
}

pub(crate) fn put(key: &str, value: &str) -> Bytes {
    put_ttl(key, value, 0)
}

pub(crate) fn put_ttl(key: &str, value: &str, ttl_ms: u64) -> Bytes {
    let put = kv::Put { key: key.to_owned().into(), value: value.to_owned().into(), ttl_ms };
    kv::Command { operation: Some(command::Operation::Put(put)) }.encode_to_vec().into()
}

pub(crate) fn put_if_absent(key: &str, value: &str) -> Bytes {
    let put = kv::PutIfAbsent { key: key.to_owned().into(), value: value.to_owned().into(), ttl_ms: 0 };
    kv::Command { operation: Some(command::Operation::PutIfAbsent(put)) }.encode_to_vec().into()
}

pub(crate) fn delete_all() -> Bytes {
    let delete = kv::DeleteRange { keys: None, everything: true, count: false };
    kv::Command { operation: Some(command::Operation::DeleteRange(delete)) }.encode_to_vec().into()
}

/// A write outside any session.
pub(crate) fn write(tenant: TenantId, payload: Bytes) -> Write {
    session_write(tenant, SessionId::NONE, 0, 0, payload)
}

pub(crate) fn session_write(
    tenant: TenantId,
    session: SessionId,
    sequence: u64,
    up_to: u64,
    payload: Bytes,
) -> Write {
    let (sequence, answered_up_to) = (Sequence(sequence), Sequence(up_to));
    let (principal, ack, token) = (None, Ack::Committed, None);
    Write { tenant, session, sequence, answered_up_to, principal, payload, ack, token }
}

struct Sink(Mutex<mpsc::UnboundedSender<Answer>>);

impl AnswerSink for Sink {
    fn answers(&self, answers: Vec<Answer>) {
        let sender = self.0.lock().unwrap();
        answers.into_iter().for_each(|answer| sender.send(answer).unwrap());
    }
}

/// A place for answers, and what comes there.
pub(crate) fn sink() -> (Arc<dyn AnswerSink>, mpsc::UnboundedReceiver<Answer>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Arc::new(Sink(Mutex::new(sender))), receiver)
}

/// What became of the write, and not merely its token.
pub(crate) fn outcome(answer: Answer) -> Result<Written, WriteError> {
    match answer.told {
        Told::Outcome(outcome) => outcome,
        Told::Token(token) => panic!("a token only: {token:?}"),
    }
}

pub(crate) async fn put_ok(replica: &Replica, tenant: TenantId, key: &str, value: &str) -> Written {
    replica.write(write(tenant, put(key, value))).await.unwrap()
}

pub(crate) async fn get(replica: &Replica, tenant: TenantId, key: &str) -> Option<String> {
    let get = kv::Get { key: key.to_owned().into() };
    let request = kv::Request { operation: Some(request::Operation::Get(get)) }.encode_to_vec();
    let (reply, _) = replica.query(tenant, None, request.into(), Freshness::Linearizable).await.unwrap();
    match kv::Response::decode(reply).unwrap().result.unwrap() {
        response::Result::Get(get) => {
            get.record.map(|record| String::from_utf8(record.value.to_vec()).unwrap())
        }
        response::Result::Range(_) => panic!("a get answered as a range"),
    }
}

/// Waits for a condition, and fails when it takes longer than any machine should need.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "{what} did not happen");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

pub(crate) fn is_stopped(error: &WriteError) -> bool {
    matches!(error, WriteError::Stopped(_))
}
