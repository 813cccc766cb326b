//! One replica's way to the other members of its group, and to the coordinator.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use mortise_coordination::{Coordinator, Expected, Revision, Seen, SwapOutcome};
use mortise_core::group::{GroupRecord, NodeId, Nonce};
use mortise_core::ids::{GroupId, LogIndex};
use mortise_core::replica::{
    CoordinatorRequest, Event, Message, Seen as CoreSeen, StreamId, SwapOutcome as CoreOutcome,
};
use mortise_peer::Peers;
use tokio::runtime::Handle;

use crate::replica::{Inbox, Incoming, Outside};

/// How often the core of a member ticks.
const TICK: Duration = Duration::from_millis(20);
/// How long to wait before a record is read again that could not be.
const READ_RETRY: Duration = Duration::from_millis(200);

/// One replica's way to the others.
pub(super) struct MemberOutside {
    pub(super) group: GroupId,
    pub(super) inbox: Inbox,
    pub(super) peers: Peers,
    pub(super) coordinator: Arc<dyn Coordinator>,
    /// Carries what takes time.
    pub(super) runtime: Handle,
    pub(super) closed: Arc<AtomicBool>,
}

impl Outside for MemberOutside {
    fn send(&self, to: NodeId, message: Message) {
        self.peers.send(to, message);
    }

    fn open_stream(&self, peer: NodeId, stream: StreamId) {
        self.peers.open_stream(self.group, peer, stream);
    }

    fn close_stream(&self, peer: NodeId, stream: StreamId) {
        self.peers.close_stream(self.group, peer, stream);
    }

    /// The core has at most one read and one swap on their way.
    fn coordinate(&self, request: CoordinatorRequest) {
        let (coordinator, inbox, group) = (self.coordinator.clone(), self.inbox.clone(), self.group);
        let closed = self.closed.clone();
        match request {
            CoordinatorRequest::Candidacy(true) => coordinator.campaign(group),
            CoordinatorRequest::Candidacy(false) => coordinator.withdraw(group),
            CoordinatorRequest::Read { request } => {
                self.runtime.spawn(async move {
                    let seen = coordinator.read_group(group).await;
                    let seen = seen.inspect_err(|error| tracing::debug!(%group, %error, "read the record"));
                    inbox.deliver(Event::RecordRead { request, seen: seen.ok().map(to_core) });
                });
            }
            CoordinatorRequest::Swap { expected, record } => {
                self.runtime.spawn(async move {
                    let nonce = record.nonce;
                    let outcome = swap(coordinator.as_ref(), group, expected, record, &closed).await;
                    inbox.deliver(Event::Swapped { nonce, outcome });
                });
            }
        }
    }

    fn tick(&self) -> Duration {
        TICK
    }

    fn fetch_snapshot(&self, from: NodeId, index: LogIndex, sink: Incoming) -> anyhow::Result<Incoming> {
        let fetched = self.runtime.block_on(self.peers.fetch_snapshot(from, self.group, index, sink));
        fetched.map(|(sink, _)| sink).with_context(|| format!("fetch it from node {from}"))
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.coordinator.withdraw(self.group);
    }
}

/// Swaps the record. Nothing is sent unless the history that this node knows is that of the coordinator which the record
/// names: a change that was decided on the answers of another one is out of date. What certainly did not happen is told with
/// the record as it is, however long it takes to read that.
async fn swap(
    coordinator: &dyn Coordinator,
    group: GroupId,
    expected: Option<(u64, Nonce)>,
    record: GroupRecord,
    closed: &AtomicBool,
) -> CoreOutcome {
    let expected = match expected {
        None => Expected::Absent,
        Some((revision, nonce)) => Expected::Present { mod_revision: Revision(revision), nonce },
    };
    if coordinator.known().is_some_and(|known| known.cluster.0 == record.coordinator) {
        match coordinator.swap_group(group, expected, record).await {
            Ok(SwapOutcome::Applied(seen)) => return CoreOutcome::Applied(to_core(seen)),
            Ok(SwapOutcome::Refused(seen)) => return CoreOutcome::Refused(to_core(seen)),
            Ok(SwapOutcome::Unknown) => return CoreOutcome::Unknown,
            Err(error) => tracing::debug!(%group, %error, "the record was not changed"),
        }
    }
    while !closed.load(Ordering::Acquire) {
        match coordinator.read_group(group).await {
            Ok(seen) => return CoreOutcome::Refused(to_core(seen)),
            Err(error) => tracing::debug!(%group, %error, "read the record that was not changed"),
        }
        tokio::time::sleep(READ_RETRY).await;
    }
    CoreOutcome::Unknown
}

/// A record as the core wants to see it.
pub(super) fn to_core(seen: Seen<GroupRecord>) -> CoreSeen {
    CoreSeen {
        coordinator: seen.cluster.0,
        revision: seen.revision.0,
        mod_revision: seen.mod_revision.0,
        record: seen.record,
    }
}
