//! What a replica needs of the world beyond its data folder: the other members of its group, and the coordinator.

use std::sync::Mutex;

use crossbeam_channel::Sender;
use mortise_core::group::{BootId, GroupRecord, LeaseId, NodeId, Nonce, RecordError};
use mortise_core::replica::{
    CoordinatorRequest, Event as CoreEvent, HardState, Message, Seen, SessionState, SnapshotMeta, StreamId,
    SwapOutcome,
};

use super::driver::Event;
use super::shared::lock;

/// The world beyond a replica's data folder. Called from its driver: nothing here may block. What comes back goes
/// into the replica's [`Inbox`].
pub(crate) trait Outside: Send + Sync {
    /// Sends a message; it may be lost.
    fn send(&self, to: NodeId, message: Message);

    /// Opens a stream; answered by `StreamOpened` or `StreamClosed`.
    fn open_stream(&self, peer: NodeId, stream: StreamId);

    /// Gives a stream up.
    fn close_stream(&self, peer: NodeId, stream: StreamId);

    /// Fetches a snapshot; answered by `SnapshotFetched` or `SnapshotFailed`.
    fn fetch_snapshot(&self, from: NodeId, meta: SnapshotMeta);

    /// Asks the coordinator; answered by `RecordRead` or `Swapped`.
    fn coordinate(&self, request: CoordinatorRequest);
}

/// Where a replica takes what happens outside of it.
#[derive(Clone)]
pub(crate) struct Inbox(pub(super) Sender<Event>);

impl Inbox {
    /// Hands an event over. A replica that has stopped takes no more.
    pub(crate) fn deliver(&self, event: CoreEvent) {
        // A replica that has stopped needs none.
        let _ = self.0.send(Event::Outside(event));
    }
}

/// The outside of a group of one node: there is nobody to talk to, and the record is what the node remembers.
pub(crate) struct Alone {
    inbox: Inbox,
    seen: Mutex<Seen>,
}

/// The one node of a group without others.
pub(crate) const ALONE: NodeId = NodeId(1);

impl Alone {
    /// Begins with the record that the replica saw last, or with that of a new group.
    pub(crate) fn new(inbox: Inbox, hard: &HardState) -> Result<Self, RecordError> {
        let seen = match &hard.seen {
            Some(seen) => seen.clone(),
            None => Seen {
                coordinator: 0,
                revision: 1,
                mod_revision: 1,
                record: Some(GroupRecord::create(&[(ALONE, hard.incarnation)], 1, Nonce(0))?),
            },
        };
        inbox.deliver(CoreEvent::Session(SessionState::Live(LeaseId(1))));
        Ok(Self { inbox, seen: Mutex::new(seen) })
    }

    fn swap(&self, expected: Option<(u64, Nonce)>, record: GroupRecord) -> SwapOutcome {
        let mut seen = lock(&self.seen);
        let present = seen.record.as_ref().map(|record| (seen.mod_revision, record.nonce));
        if present != expected {
            return SwapOutcome::Refused(seen.clone());
        }
        seen.revision += 1;
        seen.mod_revision = seen.revision;
        seen.record = Some(record);
        SwapOutcome::Applied(seen.clone())
    }
}

impl Outside for Alone {
    fn send(&self, _to: NodeId, _message: Message) {}

    fn open_stream(&self, peer: NodeId, stream: StreamId) {
        self.inbox.deliver(CoreEvent::StreamClosed { peer, stream });
    }

    fn close_stream(&self, _peer: NodeId, _stream: StreamId) {}

    fn fetch_snapshot(&self, _from: NodeId, _meta: SnapshotMeta) {
        self.inbox.deliver(CoreEvent::SnapshotFailed);
    }

    fn coordinate(&self, request: CoordinatorRequest) {
        let event = match request {
            CoordinatorRequest::Read { request } => {
                CoreEvent::RecordRead { request, seen: Some(lock(&self.seen).clone()) }
            }
            CoordinatorRequest::Swap { expected, record } => {
                CoreEvent::Swapped { nonce: record.nonce, outcome: self.swap(expected, record) }
            }
            CoordinatorRequest::Candidacy(_) => return,
        };
        self.inbox.deliver(event);
    }
}

/// This start of a node that is alone: later than `earlier`, and never the same as one that a lost folder knew.
pub(crate) fn boot_after(earlier: BootId) -> BootId {
    BootId(super::shared::clock().0.max(earlier.0.saturating_add(1)))
}
