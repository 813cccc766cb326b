//! The sections of the configuration.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::settings::section;
use crate::replica::COMPONENT_BYTES_MAX;

section! {
    /// The node itself.
    pub struct NodeSettings {
        /// The node's number in its cluster. Each node has its own, and keeps it.
        id: u64 = 1, min 1, max u64::MAX / 2;
        /// The node's name, in status and logs: 1 to 64 of a-z, 0-9, '-' and '_'.
        name: String = "node-1".into();
        /// The folder with the log, the state and the snapshots. A relative path starts at the working directory.
        data_folder: PathBuf = "mortise-data".into();
        /// Whether an address beyond loopback may be served without TLS or without tokens. Then anybody who
        /// reaches it can read and write everything, or listen.
        insecure: bool = false;
        /// A file with `[[token]]` tables, in addition to those here. It is read once, at start.
        tokens_file: Option<PathBuf> = None;
        /// How long a stop waits for open calls to end before it cuts them off, in milliseconds.
        drain_timeout_ms: u64 = 10_000, min 0, max 600_000;
    }
}

section! {
    /// Where the node listens.
    pub struct ListenerSettings {
        /// Address and port. Without a value: 127.0.0.1:7400 for data, 127.0.0.1:7401 for admin, 127.0.0.1:7402
        /// for peers. Port 0: a free one. An address beyond loopback needs TLS and tokens, or node.insecure. On loopback without any token
        /// configured, every caller may do everything, and commands carry no principal.
        address: Option<SocketAddr> = None;
        /// Where others reach this listener, as host:port, if that is not its address. Told to clients and peers by
        /// a node of a cluster.
        advertise: Option<String> = None;
        /// File with the server's certificate and those that vouch for it, in PEM. Together with tls_key it turns
        /// TLS on.
        tls_cert: Option<PathBuf> = None;
        /// File with the certificate's private key, in PEM.
        tls_key: Option<PathBuf> = None;
        /// File with the authorities, in PEM, one of which must have signed each client's certificate. Without it,
        /// clients need no certificate. Certificates come beside tokens, not instead of them.
        tls_client_ca: Option<PathBuf> = None;
        /// Most connections at once. Further ones are closed as they come.
        connections_max: usize = 1_000, min 1, max 100_000;
        /// Most calls at once on one connection. Further ones wait in the client.
        calls_per_connection_max: u32 = 256, min 1, max 65_536;
    }
}

section! {
    /// The cluster. Without etcd the node is alone: it leads its only group by itself, and has no peers.
    ///
    /// Peers call each other on the listener of section [peer]. There its certificate is shown both to those who call
    /// and to those who are called, and tls_client_ca vouches for both: see peer_certificate_name.
    pub struct ClusterSettings {
        /// The cluster's name: 1 to 64 of a-z, 0-9, '-' and '_'. All its keys in etcd lie below /NAME/.
        name: String = "mortise".into();
        /// URLs of etcd's members, http://HOST:PORT or https://HOST:PORT each.
        etcd: Vec<String> = Vec::new();
        /// etcd's user.
        etcd_user: Option<String> = None;
        /// File with that user's password, in its first line.
        etcd_password_file: Option<PathBuf> = None;
        /// File with the certificates, in PEM, of the authorities that vouch for etcd.
        etcd_ca: Option<PathBuf> = None;
        /// File with the certificate, in PEM, that etcd asks for.
        etcd_cert: Option<PathBuf> = None;
        /// File with that certificate's key, in PEM.
        etcd_key: Option<PathBuf> = None;
        /// Where this node reaches others that it does not reach at the address they advertise: node number =
        /// "host:port" of the peer listener.
        peer_addresses: BTreeMap<String, String> = BTreeMap::new();
        /// The DNS name, among the subject alternative names, of each node's certificate on the peer listener, where
        /// peer.tls_client_ca is set: {node} stands for the node's number, {cluster} for cluster.name. Who calls must
        /// show the certificate of the node that it says it is, and who is called that of the node that was meant. The
        /// same on all nodes. Empty: any certificate of the authority speaks for any node.
        peer_certificate_name: String = "node-{node}.{cluster}".into();
        /// Time to live of the node's session in etcd, in seconds. Failover does not wait for it.
        session_ttl_seconds: u32 = 5, min 2, max 600;
        /// A node counts in its data folder and in etcd this often, in seconds: a copy of the folder that is older than the
        /// last count, put back in its place, is known to be old, and gets its data anew. A younger one is not: never put a
        /// folder back under a node of a cluster, but give it an empty one.
        folder_count_seconds: u32 = 60, min 1, max 86_400;
        /// A leader shows that it is alive this often, in milliseconds.
        beacon_ms: u64 = 100, min 10, max 10_000;
        /// A member of the in-sync set that has not acknowledged for so long leaves it, in milliseconds. At least
        /// twice beacon_ms, and less than grace_ms.
        shrink_after_ms: u64 = 500, min 20, max 50_000;
        /// A follower that has not heard its leader for so long has itself elected, in milliseconds.
        grace_ms: u64 = 900, min 50, max 100_000;
    }
}

section! {
    /// Bounds on what clients may ask of the node. They keep its memory bounded; what changes the outcome of a
    /// command is no setting of a node, but in the group's profile.
    pub struct Limits {
        /// Most bytes of one gRPC message that the node takes.
        message_bytes_max: usize = 16 << 20, min 64 << 10, max 256 << 20;
        /// Most bytes of one command. At most message_bytes_max less 1,024.
        command_bytes_max: usize = 8 << 20, min 1 << 10, max 64 << 20;
        /// Writes of one stream accepted but not yet answered; beyond it the stream is not read. Also the most
        /// writes in one message.
        stream_writes_in_flight_max: usize = 16_384, min 1, max 1 << 20;
        /// Bytes of commands of one stream accepted but not yet answered; beyond it the stream is not read.
        stream_bytes_in_flight_max: usize = 32 << 20, min 64 << 10, max 1 << 30;
        /// Writes of all clients accepted but not yet answered; beyond it writes are refused as OVERLOADED.
        writes_in_flight_max: usize = 65_536, min 1, max 1 << 24;
        /// Bytes of commands of all clients accepted but not yet answered; beyond it writes are refused as
        /// OVERLOADED.
        bytes_in_flight_max: usize = 128 << 20, min 1 << 20, max 16 << 30;
        /// Queries that run at once, each on a thread of its own.
        queries_max: usize = 4, min 1, max 512;
        /// Queries that wait to run; beyond it they are refused as OVERLOADED.
        queries_waiting_max: usize = 1_024, min 0, max 1 << 20;
        /// Watches open at once, over all clients; beyond it they are refused as OVERLOADED.
        watches_max: usize = 1_000, min 1, max 100_000;
        /// Most bytes of a plugin's component.
        component_bytes_max: usize = 32 << 20, min 64 << 10, max COMPONENT_BYTES_MAX as u64;
        /// Longest that compiling a component may take, in milliseconds.
        compile_ms_max: u64 = 30_000, min 100, max 600_000;
    }
}

section! {
    /// The log, the snapshots and the disk.
    pub struct StorageSettings {
        /// Bytes of a log segment, preallocated.
        log_segment_bytes: u64 = 64 << 20, min 1 << 20, max 4 << 30;
        /// Bytes of commands in one log entry, beyond which it is closed and the next one begins. A larger command
        /// has an entry of its own.
        entry_bytes_max: usize = 1 << 20, min 4 << 10, max 64 << 20;
        /// Bytes of log after which the node takes a snapshot and drops the log it covers. 0: only when asked.
        snapshot_log_bytes: u64 = 512 << 20, min 0, max 1 << 50;
        /// Newest snapshots kept.
        snapshots_kept: usize = 2, min 1, max 1_000;
        /// Writes are refused as DISK_FULL while fewer bytes than this are free where the data folder is. Reads
        /// go on.
        free_disk_bytes_min: u64 = 512 << 20, min 0, max 1 << 50;
    }
}

section! {
    /// What the node writes to its standard error.
    pub struct LoggingSettings {
        /// text: for people. json: one object a line.
        format: LogFormat = LogFormat::Text;
        /// The least severe level written: error, warn, info, debug or trace; or a list by module, such as
        /// "info,mortise_node=debug".
        level: String = "info".into();
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people; with colours on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}
