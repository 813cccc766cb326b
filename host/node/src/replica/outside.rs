//! What a replica needs of the world beyond its data folder: the other members of its group, and the coordinator.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mortise_core::group::{BootId, GroupRecord, LeaseId, NodeId, Nonce, RecordError};
use mortise_core::ids::LogIndex;
use mortise_core::replica::{
    Body, CoordinatorRequest, Event as CoreEvent, HardState, Message, Seen, SessionState, StreamId,
    SwapOutcome,
};

use tokio::sync::Semaphore;

use super::driver::Event;
use super::fetch::Incoming;
use super::shared::lock;

/// The world beyond a replica's data folder. Called by its driver, on whichever thread that
/// runs: nothing here may block. What comes back goes
/// into the replica's [`Inbox`].
pub(crate) trait Outside: Send + Sync {
    /// Sends a message; it may be lost.
    fn send(&self, to: NodeId, message: Message);

    /// Opens a stream; answered by `StreamOpened` or `StreamClosed`.
    fn open_stream(&self, peer: NodeId, stream: StreamId);

    /// Gives a stream up.
    fn close_stream(&self, peer: NodeId, stream: StreamId);

    /// Asks the coordinator; answered by `RecordRead` or `Swapped`.
    fn coordinate(&self, request: CoordinatorRequest);

    /// How often the replica's clock ticks.
    fn tick(&self) -> Duration;

    /// Gets the file of the snapshot that ends with the entry `index`. Called on a thread of its own, which it blocks.
    ///
    /// # Errors
    /// It cannot be had whole, or the sink fails.
    fn fetch_snapshot(&self, from: NodeId, index: LogIndex, sink: Incoming) -> anyhow::Result<Incoming>;

    /// The replica has stopped: nothing more comes of it.
    fn close(&self);
}

/// Where a replica takes what happens outside of it.
#[derive(Clone)]
pub(crate) struct Inbox {
    events: Sender<Event>,
    /// Bytes of peers' messages that wait to be handled.
    room: Arc<Semaphore>,
}

/// Most bytes of peers' messages that wait to be handled: beyond it, peers wait. More than a leader's windows to all the
/// members a group can have, so that nobody honest waits for long.
const ROOM_BYTES: u32 = 64 << 20;
/// What a message takes besides its entries.
const MESSAGE_BYTES: u32 = 256;

impl Inbox {
    pub(super) fn new(events: Sender<Event>) -> Self {
        Self { events, room: Arc::new(Semaphore::new(ROOM_BYTES as usize)) }
    }

    /// Hands a peer's message over, once there is room for it.
    pub(crate) async fn deliver_message(&self, from: NodeId, message: Message) {
        let bytes = match &message.body {
            Body::Append { entries, .. } => entries.iter().map(|entry| entry.payload.len() + 64).sum(),
            _ => 0,
        };
        let bytes = u32::try_from(bytes).unwrap_or(ROOM_BYTES).saturating_add(MESSAGE_BYTES).min(ROOM_BYTES);
        if let Ok(room) = self.room.clone().acquire_many_owned(bytes).await {
            // As below.
            let _ = self.events.send(Event::Message(from, message, room));
        }
    }

    /// Hands an event over. A replica that has stopped takes no more.
    pub(crate) fn deliver(&self, event: CoreEvent) {
        // A replica that has stopped needs none.
        let _ = self.events.send(Event::Outside(event));
    }
}

/// The outside of a group of one node: there is nobody to talk to, and the record is what the node remembers.
pub(crate) struct Alone {
    inbox: Inbox,
    seen: Mutex<Seen>,
}

/// What is its own coordinator.
const OWN_MEMORY: u64 = 0;
/// The one node of a group without others.
pub(crate) const ALONE: NodeId = NodeId(1);

impl Alone {
    /// Begins with the record that the replica saw last, or with that of a new group.
    pub(crate) fn new(inbox: Inbox, hard: &HardState) -> Result<Self, RecordError> {
        let seen = match &hard.seen {
            Some(seen) => seen.clone(),
            None => Seen {
                coordinator: OWN_MEMORY,
                revision: 1,
                mod_revision: 1,
                record: Some(GroupRecord::create(OWN_MEMORY, &[(ALONE, hard.incarnation)], 1, Nonce(0))?),
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

    fn tick(&self) -> Duration {
        Duration::from_millis(100)
    }

    fn fetch_snapshot(&self, _from: NodeId, _index: LogIndex, _sink: Incoming) -> anyhow::Result<Incoming> {
        anyhow::bail!("there is no other node in this group")
    }

    fn close(&self) {}

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
