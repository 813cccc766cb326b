//! What was refused or lost, counted, and logged once a peer and reason.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use mortise_core::group::NodeId;

use crate::stop::locked;

/// Most (peer, reason) pairs that are remembered as logged: callers may call themselves what they like, and must not fill
/// the log or the memory with it. What comes after is counted only.
const LOGGED_MAX: usize = 1024;

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Count {
            $($(#[$doc])* $name,)+
        }

        impl Count {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its name in metrics and logs.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

counts! {
    /// Calls of another cluster.
    OtherCluster = "other_cluster",
    /// Calls that were meant for another node.
    OtherListener = "other_listener",
    /// Calls of a protocol version beyond ±1.
    OtherProtocol = "other_protocol",
    /// Calls of nodes that are no members.
    UnknownNode = "unknown_node",
    /// Calls under another node's certificate, and dials that were answered with one.
    OtherCertificate = "other_certificate",
    /// Calls without the metadata that every call carries.
    Unmarked = "unmarked",
    /// Messages that are malformed or out of bounds, and such as do not belong to their stream.
    Malformed = "malformed",
    /// Messages larger than allowed.
    TooLarge = "too_large",
    /// Calls beyond what one peer may have open.
    TooManyStreams = "too_many_streams",
    /// Calls beyond what one peer may open a second.
    TooManyOpens = "too_many_opens",
    /// Streams that brought nothing for too long.
    Idle = "idle",
    /// Messages and questions that this node refused.
    Refused = "refused",
    /// Control messages that found no room, here or on their way out, or no connection.
    Lost = "lost",
    /// Streams that were closed because their queue was full.
    Overflow = "overflow",
    /// Dials, failed ones included.
    Dials = "dials",
    /// Links that broke.
    Breaks = "breaks",
}

/// The counts.
#[derive(Debug)]
pub(crate) struct Counters {
    counts: Vec<AtomicU64>,
    logged: Mutex<HashSet<(NodeId, Count)>>,
}

impl Counters {
    pub(crate) fn new() -> Self {
        let counts = Count::ALL.iter().map(|_| AtomicU64::new(0)).collect();
        Self { counts, logged: Mutex::new(HashSet::new()) }
    }

    pub(crate) fn add(&self, count: Count) {
        if let Some(counter) = self.counts.get(count as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts, and logs where this was not said of this peer before.
    pub(crate) fn complain(&self, peer: NodeId, count: Count, why: &dyn std::fmt::Display) {
        self.add(count);
        let mut logged = locked(&self.logged);
        if logged.len() < LOGGED_MAX && logged.insert((peer, count)) {
            drop(logged);
            tracing::warn!(peer = peer.0, reason = count.name(), why = %why, "refused or lost; said once");
        }
    }

    pub(crate) fn all(&self) -> Vec<(Count, u64)> {
        let read = |(count, counter): (&Count, &AtomicU64)| (*count, counter.load(Ordering::Relaxed));
        Count::ALL.iter().zip(&self.counts).map(read).collect()
    }
}
