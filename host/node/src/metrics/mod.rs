//! What this node measures, for Prometheus to fetch.
//!
//! ```text
//! log writer, apply, snapshots ─▶ Metrics ──encode──▶ GET /metrics on the admin listener
//! gRPC services ────────────────▶   │         ▲
//!                                   │         └─ Now: replicas and links to peers, asked when the page is
//!                                   └─ TenantMetrics: counters of one tenant, held by whoever counts for it
//! ```
//! Every method is a few atomic operations or one short lock, cheap enough for once an entry, fsync or call; none is
//! meant for once a write. All names start with `mortise_`. The number of series is bounded whatever clients do:
//! labels are fixed sets of words, except the tenant's name, see [`TenantMetrics`], and the numbers of groups and peers, of
//! which there are as many as operators have made. Counters of the log, of applying and of snapshots are sums over a node's
//! groups; what is of one group or one peer is in [`Now`].

mod now;
mod tenant;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use mortise_core::replica::Rare;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

pub use now::Now;
pub use tenant::{TENANTS_NAMED_MAX, TENANTS_OTHER, TenantMetrics};

use tenant::TenantFamilies;

type Number = Gauge<u64, AtomicU64>;

/// All metrics of a node. See the module's documentation.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    tenants: TenantFamilies,
    log: LogMetrics,
    apply: ApplyMetrics,
    grpc: GrpcMetrics,
    writes_refused: Family<Reason, Counter>,
    free_disk_bytes: Number,
    snapshots: SnapshotMetrics,
    happened: Family<What, Counter>,
}

#[derive(Debug)]
struct SnapshotMetrics {
    seconds: Histogram,
    bytes: Counter,
}

#[derive(Debug)]
struct LogMetrics {
    fsync_seconds: Histogram,
    fsync_records: Histogram,
    fsync_failures: Counter,
    bytes: Counter,
}

#[derive(Debug)]
struct ApplyMetrics {
    entry_seconds: Histogram,
    entry_commands: Histogram,
}

#[derive(Debug)]
struct GrpcMetrics {
    calls: Family<Call, Counter>,
    seconds: Family<Method, Histogram, fn() -> Histogram>,
    connections: Family<ListenerName, Gauge>,
    connections_refused: Family<ListenerName, Counter>,
    streams_open: Gauge,
    stream_messages: Counter,
    stream_writes: Counter,
    stream_answers: Counter,
    watches_open: Gauge,
    watch_events: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct What {
    what: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    method: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Method {
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerName {
    listener: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A set of metrics, all zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("mortise");
        let writes_refused = Family::default();
        let help = "Writes refused before they reached the log, by reason";
        registry.register("writes_refused", help, writes_refused.clone());
        let free_disk_bytes = Number::default();
        let help = "Free disk space where the data folder is";
        registry.register_with_unit("free_disk", help, Unit::Bytes, free_disk_bytes.clone());
        let happened = Family::default();
        let help =
            "Rare things that happened to replicas, by what: snapshots installed, logs truncated and more";
        registry.register("replica_rare", help, happened.clone());
        Self {
            tenants: TenantFamilies::register(&mut registry),
            log: LogMetrics::register(&mut registry),
            apply: ApplyMetrics::register(&mut registry),
            grpc: GrpcMetrics::register(&mut registry),
            snapshots: SnapshotMetrics::register(&mut registry),
            writes_refused,
            free_disk_bytes,
            happened,
            registry,
        }
    }

    /// An fsync of the log finished; it covered `records` records of `bytes` bytes.
    pub fn fsync(&self, took: Duration, records: usize, bytes: usize) {
        self.log.fsync_seconds.observe(took.as_secs_f64());
        self.log.fsync_records.observe(records as f64);
        self.log.bytes.inc_by(bytes as u64);
    }

    /// An fsync of the log failed: the replica stops.
    pub fn fsync_failed(&self) {
        self.log.fsync_failures.inc();
    }

    /// An entry of `commands` commands was applied.
    pub fn entry_applied(&self, took: Duration, commands: usize) {
        self.apply.entry_seconds.observe(took.as_secs_f64());
        self.apply.entry_commands.observe(commands as f64);
    }

    /// A snapshot of `bytes` bytes was written.
    pub fn snapshot(&self, took: Duration, bytes: u64) {
        self.snapshots.seconds.observe(took.as_secs_f64());
        self.snapshots.bytes.inc_by(bytes);
    }

    /// A write was refused before it reached the log. `reason` is one of a fixed set of words.
    pub fn writes_refused(&self, reason: &'static str) {
        self.writes_refused.get_or_create(&Reason { reason }).inc();
    }

    /// A rare thing happened to a replica. There are about a dozen kinds.
    pub fn happened(&self, what: Rare) {
        self.happened.get_or_create(&What { what: format!("{what:?}") }).inc();
    }

    /// Free space where the data folder is.
    pub fn free_disk(&self, bytes: u64) {
        self.free_disk_bytes.set(bytes);
    }

    /// The counters of a tenant. Keep what this returns rather than asking for each count.
    pub fn tenant(&self, name: &str) -> Arc<TenantMetrics> {
        self.tenants.get(name)
    }

    /// A tenant was dropped: its series go, and its name makes room for another.
    pub fn remove_tenant(&self, name: &str) {
        self.tenants.remove(name);
    }

    /// A call of `method` (a name of the protos) ended with `code`. For a stream, `took` is its whole life.
    pub fn grpc_call(&self, method: &'static str, code: tonic::Code, took: Duration) {
        self.grpc.calls.get_or_create(&Call { method, code: code_name(code) }).inc();
        self.grpc.seconds.get_or_create(&Method { method }).observe(took.as_secs_f64());
    }

    /// How many connections a listener (`data` or `admin`) has at present.
    pub fn connections(&self, listener: &'static str, open: usize) {
        let open = i64::try_from(open).unwrap_or(i64::MAX);
        self.grpc.connections.get_or_create(&ListenerName { listener }).set(open);
    }

    /// A listener had too many connections, and closed a new one.
    pub fn connection_refused(&self, listener: &'static str) {
        self.grpc.connections_refused.get_or_create(&ListenerName { listener }).inc();
    }

    /// A write stream opened.
    pub fn stream_opened(&self) {
        self.grpc.streams_open.inc();
    }

    /// A write stream ended.
    pub fn stream_closed(&self) {
        self.grpc.streams_open.dec();
    }

    /// A message of a write stream arrived with `writes` writes.
    pub fn stream_message(&self, writes: usize) {
        self.grpc.stream_messages.inc();
        self.grpc.stream_writes.inc_by(writes as u64);
    }

    /// A message with `answers` answers went out on a write stream.
    pub fn stream_answers(&self, answers: usize) {
        self.grpc.stream_answers.inc_by(answers as u64);
    }

    /// A watch began.
    pub fn watch_opened(&self) {
        self.grpc.watches_open.inc();
    }

    /// A watch ended.
    pub fn watch_closed(&self) {
        self.grpc.watches_open.dec();
    }

    /// So many commands were told to a watcher.
    pub fn watch_events(&self, events: usize) {
        self.grpc.watch_events.inc_by(events as u64);
    }

    /// All metrics as OpenMetrics 1.0 text, with what is so now.
    pub fn encode(&self, now: &Now) -> String {
        let mut text = String::new();
        let encoded = encode_registry(&mut text, &self.registry)
            .and_then(|()| encode_registry(&mut text, &now.registry()))
            .and_then(|()| encode_eof(&mut text));
        match encoded {
            Ok(()) => text,
            // Formatting into a String does not fail; a page that says so beats a panic if it ever does.
            Err(std::fmt::Error) => "# EOF\n".into(),
        }
    }
}

impl SnapshotMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics =
            Self { seconds: Histogram::new(exponential_buckets(0.01, 4.0, 9)), bytes: Counter::default() };
        let seconds = metrics.seconds.clone();
        registry.register_with_unit("snapshot", "Time to write a snapshot", Unit::Seconds, seconds);
        let bytes = metrics.bytes.clone();
        registry.register_with_unit("snapshot_written", "Snapshots written", Unit::Bytes, bytes);
        metrics
    }
}

impl LogMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            // 50 µs to 1.6 s: a good disk syncs in 0.1 ms, a bad day takes a second.
            fsync_seconds: Histogram::new(exponential_buckets(0.000_05, 2.0, 16)),
            fsync_records: Histogram::new(exponential_buckets(1.0, 2.0, 8)),
            fsync_failures: Counter::default(),
            bytes: Counter::default(),
        };
        let registry = registry.sub_registry_with_prefix("log");
        let seconds = metrics.fsync_seconds.clone();
        registry.register_with_unit("fsync", "Time of one fsync of the log", Unit::Seconds, seconds);
        let records = metrics.fsync_records.clone();
        registry.register("fsync_records", "Log records that one fsync covered", records);
        let failures = metrics.fsync_failures.clone();
        registry.register("fsync_failures", "Failed fsyncs; one stops the replica", failures);
        registry.register_with_unit("written", "Log written", Unit::Bytes, metrics.bytes.clone());
        metrics
    }
}

impl ApplyMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            entry_seconds: Histogram::new(exponential_buckets(0.000_02, 2.0, 16)),
            entry_commands: Histogram::new(exponential_buckets(1.0, 2.0, 14)),
        };
        let seconds = metrics.entry_seconds.clone();
        registry.register_with_unit("apply_entry", "Time to apply one log entry", Unit::Seconds, seconds);
        let commands = metrics.entry_commands.clone();
        registry.register("apply_entry_commands", "Commands in one applied entry", commands);
        metrics
    }
}

impl GrpcMetrics {
    fn register(registry: &mut Registry) -> Self {
        fn latency() -> Histogram {
            Histogram::new(exponential_buckets(0.000_1, 2.0, 16))
        }
        let metrics = Self {
            calls: Family::default(),
            seconds: Family::new_with_constructor(latency),
            connections: Family::default(),
            connections_refused: Family::default(),
            streams_open: Gauge::default(),
            stream_messages: Counter::default(),
            stream_writes: Counter::default(),
            stream_answers: Counter::default(),
            watches_open: Gauge::default(),
            watch_events: Counter::default(),
        };
        let registry = registry.sub_registry_with_prefix("grpc");
        registry.register("calls", "gRPC calls that ended, by method and code", metrics.calls.clone());
        let seconds = metrics.seconds.clone();
        registry.register_with_unit("call", "Time of a gRPC call, by method", Unit::Seconds, seconds);
        let connections = metrics.connections.clone();
        registry.register("connections", "Connections open, by listener", connections);
        let refused = metrics.connections_refused.clone();
        registry.register("connections_refused", "Connections closed since there were too many", refused);
        registry.register("streams_open", "Write streams open", metrics.streams_open.clone());
        let messages = metrics.stream_messages.clone();
        registry.register("stream_messages", "Messages that arrived on write streams", messages);
        let writes = metrics.stream_writes.clone();
        registry.register("stream_writes", "Writes that arrived on write streams", writes);
        let answers = metrics.stream_answers.clone();
        registry.register("stream_answers", "Answers sent on write streams", answers);
        registry.register("watches_open", "Watches open", metrics.watches_open.clone());
        let events = metrics.watch_events.clone();
        registry.register("watch_events", "Commands told to watchers", events);
        metrics
    }
}

fn code_name(code: tonic::Code) -> &'static str {
    use tonic::Code;
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_carries_what_was_counted_and_ends_as_openmetrics_wants() {
        let metrics = Metrics::new();
        metrics.fsync(Duration::from_micros(120), 3, 4096);
        metrics.writes_refused("overloaded");
        metrics.happened(Rare::SnapshotInstalled);
        metrics.grpc_call("Write", tonic::Code::NotFound, Duration::from_millis(1));
        metrics.tenant("books").applied.inc_by(5);
        let page = metrics.encode(&Now::default());
        for line in [
            "mortise_log_fsync_seconds_count 1",
            "mortise_log_written_bytes_total 4096",
            "mortise_writes_refused_total{reason=\"overloaded\"} 1",
            "mortise_replica_rare_total{what=\"SnapshotInstalled\"} 1",
            "mortise_grpc_calls_total{method=\"Write\",code=\"NOT_FOUND\"} 1",
            "mortise_tenant_applied_total{tenant=\"books\"} 5",
        ] {
            assert!(page.contains(line), "{line} is missing in\n{page}");
        }
        assert!(page.ends_with("# EOF\n"));
    }
}
