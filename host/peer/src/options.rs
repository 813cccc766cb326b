//! Who a node is, and the times and bounds of its links.

use std::time::Duration;

use mortise_core::group::NodeId;

/// The version of what peers say to each other. Neighbouring versions understand each other.
pub const PROTOCOL: u32 = 1;

/// Bytes that a peer may send on one call before they are read. What the peers' listener should grant, and what links grant.
pub const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// The same for all calls of a connection: more than all replication streams together, so that those nobody reads leave room for
/// pings and control messages.
pub const CONNECTION_WINDOW_BYTES: u32 = 512 << 20;
/// Calls at once on one connection, what the peers' listener should allow: replication streams, and as many of the others.
pub const CALLS_PER_CONNECTION_MAX: u32 = 2 * STREAMS_MAX as u32;
/// Replication streams that one peer may have open here: one a group.
pub const STREAMS_MAX: usize = 128;

const _: () = assert!(STREAMS_MAX as u64 * STREAM_WINDOW_BYTES as u64 * 2 <= CONNECTION_WINDOW_BYTES as u64);

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The Mortise cluster.
    pub cluster: u64,
    /// This node.
    pub node: NodeId,
}

/// The times and bounds of a node's links.
#[derive(Clone, Debug)]
pub struct Options {
    /// A link that is connected is pinged this often. Default 500 ms.
    pub ping_every: Duration,
    /// A ping that is not answered within this time breaks the link. Default 1 s: a machine that pauses for less is not
    /// cut off, and failover does not wait for links.
    pub ping_timeout: Duration,
    /// A dial, with its TLS handshake and its first ping, takes no longer than this, and so does the beginning of a call.
    /// Default 1 s.
    pub connect_timeout: Duration,
    /// A question to a peer, for its memory or its status, is given up after this time, on both sides. Default 5 s.
    pub answer_timeout: Duration,
    /// The first wait before a broken link is dialled again. Doubles with each failure. Default 50 ms.
    pub redial_min: Duration,
    /// No wait is longer. Default 2 s.
    pub redial_max: Duration,
    /// Most bytes of one message. Default 80 MiB: an entry of 64 MiB and what goes with it. A hostile member can make this
    /// node hold [`STREAMS_MAX`] times as much: where entries are smaller, in all of the cluster, give less.
    pub message_bytes_max: usize,
    /// Most messages that wait in one queue, of a replication stream or of a link's control messages. Default 1024.
    pub queue_messages_max: usize,
    /// Most bytes of payload that wait in one queue. Default 80 MiB; the core's windows keep it below 5 MiB but for entries that
    /// are larger. A message that is larger than this is taken where nothing else waits.
    pub queue_bytes_max: usize,
    /// How long a control message may wait for room in its group before it is lost: a group that hangs must not silence
    /// the others. Default 100 ms, the time of a beacon.
    pub control_wait_max: Duration,
    /// A stream of a peer on which nothing whole has come for so long is closed; a leader opens it again where it is
    /// still wanted. Default 5 min.
    pub stream_idle_max: Duration,
    /// How many streams, control calls and snapshot transfers a peer may begin a second, and at once after a pause. Default
    /// 500.
    pub opens_per_second_max: u32,
    /// Snapshots that this node sends at once. Default 4.
    pub snapshots_max: usize,
    /// A snapshot transfer during which nothing moves for so long is broken off. Default 10 s.
    pub snapshot_idle_max: Duration,
    /// A snapshot is given up after so many attempts in a row that brought nothing. Default 5.
    pub snapshot_attempts_max: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ping_every: Duration::from_millis(500),
            ping_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
            answer_timeout: Duration::from_secs(5),
            redial_min: Duration::from_millis(50),
            redial_max: Duration::from_secs(2),
            message_bytes_max: 80 << 20,
            queue_messages_max: 1024,
            queue_bytes_max: 80 << 20,
            control_wait_max: Duration::from_millis(100),
            stream_idle_max: Duration::from_secs(5 * 60),
            opens_per_second_max: 500,
            snapshots_max: 4,
            snapshot_idle_max: Duration::from_secs(10),
            snapshot_attempts_max: 5,
        }
    }
}
