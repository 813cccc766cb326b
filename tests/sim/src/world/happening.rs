//! What can happen in the world, and when.

use mortise_core::group::{BootId, NodeId};
use mortise_core::ids::LogIndex;
use mortise_core::replica::{Event, SnapshotMeta, StreamId};

use super::{Answer, Call, Reply, Request};
use crate::faults::Cure;

/// Something that happens to a process, if it is still there.
#[derive(Debug)]
pub(crate) enum Inside {
    Tick,
    Event(Event),
    /// An fsync ends.
    Synced,
    /// The apply thread goes on.
    Apply,
    ReadLog {
        peer: NodeId,
        stream: StreamId,
        first: LogIndex,
        last: LogIndex,
        bytes_max: usize,
    },
    TakeSnapshot {
        drop_log: bool,
    },
    Fetched {
        from: NodeId,
        meta: SnapshotMeta,
    },
    Opened {
        peer: NodeId,
        peer_boot: BootId,
        stream: StreamId,
    },
    Execute {
        read: mortise_core::replica::RequestId,
        permit: mortise_core::replica::ReadPermit,
        installs: u64,
    },
    Renew,
    CallAnswered(u64, Box<Reply>),
    CallTimesOut(u64),
}

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Happening {
    /// To the process `boot` of `node`; `None`: to whichever runs then.
    ToProcess {
        node: NodeId,
        boot: Option<BootId>,
        what: Inside,
    },
    /// A call arrives. It goes over a connection to the coordinator that was there when it was sent: one that was restored
    /// since is another process, and does not hear of it.
    Coordinator {
        coordinator: u64,
        node: NodeId,
        boot: BootId,
        id: u64,
        call: Call,
        answer: bool,
    },
    LeasesEnd,
    ClientWakes(usize),
    ClientArrives {
        node: NodeId,
        request: Request,
    },
    ClientHears {
        client: usize,
        op: u64,
        attempt: u32,
        answer: Answer,
    },
    ClientGivesUp {
        client: usize,
        op: u64,
        attempt: u32,
    },
    ClientRetries {
        client: usize,
        op: u64,
        attempt: u32,
    },
    Start(NodeId),
    Maintain,
    Fault,
    Cure(Cure),
    Operator,
}

#[derive(Debug)]
pub(super) struct Scheduled {
    pub(super) at: u64,
    pub(super) order: u64,
    pub(super) what: Happening,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
