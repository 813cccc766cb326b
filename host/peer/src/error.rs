//! Why something asked of a peer was not done.

use std::io;

use mortise_core::group::NodeId;
use tonic::{Code, Status};

use crate::wire::BadMessage;

/// Why something asked of a peer was not done.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// No member of the cluster has this number, or it is this node itself.
    #[error("node {0} is not among the peers")]
    Unknown(NodeId),
    /// There is no connection, or it ended meanwhile. Whether the call took effect is not known.
    #[error("peer connection broken")]
    Broken,
    /// The peer did not begin to answer in time.
    #[error("the peer does not answer")]
    Timeout,
    /// The peer refuses, and says why.
    #[error("refused by the peer ({code:?}): {message}")]
    Refused {
        /// Its code.
        code: Code,
        /// Its words.
        message: String,
    },
    /// The peer's answer is malformed.
    #[error("the peer's answer: {0}")]
    Malformed(#[from] BadMessage),
    /// Another node answers at the peer's address.
    #[error("node {0} answers there")]
    SomebodyElse(NodeId),
    /// A chunk of a snapshot is not what it should be.
    #[error("a chunk of the snapshot is wrong: {0}")]
    Chunk(&'static str),
    /// The snapshot's bytes cannot be kept.
    #[error("keep the snapshot: {0}")]
    Sink(#[source] io::Error),
    /// A thread of this process failed.
    #[error("a thread failed")]
    Thread,
    /// This node stops.
    #[error("this node stops")]
    Closed,
}

impl From<Status> for PeerError {
    fn from(status: Status) -> Self {
        // A status that came over the wire has no source; one that was made of a failure of the transport has.
        if std::error::Error::source(&status).is_some() {
            return Self::Broken;
        }
        Self::Refused { code: status.code(), message: status.message().to_string() }
    }
}
