//! What peers reach on this node, and where what they send is put.

use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use mortise_core::group::NodeId;
use mortise_core::ids::{GroupId, LogIndex};
use mortise_core::replica::{Memory, Message, StreamId};

use crate::status::MemberStatus;

/// The node, as its peers reach it. Methods that return no future never block.
pub trait Local: Send + Sync + 'static {
    /// Hands a message to its group, and waits for room there. Until it returns, the stream that the message came on is
    /// not read further, which stops its sender in the end: this is the flow control. A message outside streams waits no
    /// longer than [`crate::Options::control_wait_max`] and is lost then. May be dropped at any time, and then either delivers
    /// the message or does not.
    fn deliver(&self, from: NodeId, message: Message) -> BoxFuture<'_, Result<(), Refusal>>;

    /// A stream that was asked for by [`crate::Peers::open_stream`] is open.
    fn stream_opened(&self, group: GroupId, peer: NodeId, stream: StreamId);

    /// A stream that was asked for by [`crate::Peers::open_stream`] broke, or could not be opened. Not said of streams that
    /// were closed by [`crate::Peers::close_stream`], nor when all ends.
    fn stream_closed(&self, group: GroupId, peer: NodeId, stream: StreamId);

    /// The snapshot of a group whose last entry is at `index`. May open a file: called on a blocking thread.
    fn snapshot(&self, group: GroupId, index: LogIndex) -> Result<Arc<dyn SnapshotSource>, Refusal>;

    /// What this node remembers of the group's record.
    fn memory(&self, group: GroupId) -> BoxFuture<'_, Result<Memory, Refusal>>;

    /// How this member of the group is.
    fn status(&self, group: GroupId) -> BoxFuture<'_, Result<MemberStatus, Refusal>>;
}

/// Why this node does not do what a peer asks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// This node has no copy of the group.
    #[error("this node has no copy of group {0}")]
    NoSuchGroup(GroupId),
    /// The snapshot is gone, or never was.
    #[error("there is no snapshot at {0}")]
    NoSuchSnapshot(LogIndex),
    /// The copy is not running: it starts, stops, or has failed.
    #[error("not available: {0}")]
    Unavailable(String),
}

/// The bytes of a snapshot, which stay the same and readable while this is held.
pub trait SnapshotSource: Send + Sync {
    /// How many.
    fn bytes(&self) -> u64;

    /// Reads some at `offset`; 0: there are none. Called on blocking threads.
    ///
    /// # Errors
    /// Where the snapshot cannot be read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

/// Where the bytes of a fetched snapshot are put.
pub trait SnapshotSink: Send + 'static {
    /// Takes the bytes at `offset`, which is where those before ended. Called on blocking threads. What it is given is
    /// as its sender read it; whether that is a good snapshot is for the caller to check, at the end.
    ///
    /// # Errors
    /// Where it cannot take them: the fetch ends.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
}
