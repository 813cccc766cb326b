//! What peers reach on this node.

use std::io;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use mortise_core::group::NodeId;
use mortise_core::ids::{GroupId, LogIndex};
use mortise_core::replica::{Event, Memory, Message, StreamId, View};
use mortise_peer::{Count, LinkStatus, Local, MemberStatus, Refusal, SnapshotSource};
use mortise_storage::disk::DiskFile;

use super::Node;
use crate::replica::{Replica, open_snapshot};

impl Node {
    async fn view(&self, group: GroupId) -> Result<(Replica, View), Refusal> {
        let replica = self.groups.get(group).ok_or(Refusal::NoSuchGroup(group))?;
        let view = replica.view().await.ok_or_else(|| Refusal::Unavailable("it has stopped".into()))?;
        Ok((replica, view))
    }

    /// How this node's member of a group is.
    pub(super) async fn member_status(&self, group: GroupId) -> Result<MemberStatus, Refusal> {
        let (replica, view) = self.view(group).await?;
        let digest = replica.digest();
        Ok(MemberStatus {
            node: self.identity.node,
            role: view.role,
            serving: view.serving,
            epoch: view.promised.epoch,
            generation: view.generation,
            incarnation: view.incarnation,
            last: view.last,
            durable: view.durable,
            commit: view.commit,
            applied: view.applied,
            digest: Some(digest),
            frozen: view.frozen,
            quarantined: view.quarantined,
            isr: view.record.map(|record| record.isr.into_iter().collect()).unwrap_or_default(),
            links: self.peers.links(),
        })
    }

    /// How the links to the other nodes are, and what was refused of them or lost.
    pub(crate) fn peer_metrics(&self) -> (Vec<LinkStatus>, Vec<(Count, u64)>) {
        (self.peers.links(), self.peers.counters())
    }

    fn tell(&self, group: GroupId, event: Event) {
        if let Some(inbox) = self.inbox(group) {
            inbox.deliver(event);
        }
    }
}

impl Local for Node {
    fn deliver(&self, from: NodeId, message: Message) -> BoxFuture<'_, Result<(), Refusal>> {
        let group = message.fence.group;
        let inbox = self.inbox(group);
        let deliver = async move {
            inbox.ok_or(Refusal::NoSuchGroup(group))?.deliver_message(from, message).await;
            Ok(())
        };
        deliver.boxed()
    }

    fn stream_opened(&self, group: GroupId, peer: NodeId, stream: StreamId) {
        self.tell(group, Event::StreamOpened { peer, stream });
    }

    fn stream_closed(&self, group: GroupId, peer: NodeId, stream: StreamId) {
        self.tell(group, Event::StreamClosed { peer, stream });
    }

    fn snapshot(&self, group: GroupId, index: LogIndex) -> Result<Arc<dyn SnapshotSource>, Refusal> {
        let replica = self.groups.get(group).ok_or(Refusal::NoSuchGroup(group))?;
        let file = open_snapshot(&replica, index).map_err(|_| Refusal::NoSuchSnapshot(index))?;
        let bytes = file.len().map_err(|error| Refusal::Unavailable(error.to_string()))?;
        Ok(Arc::new(SnapshotFile { file, bytes }))
    }

    fn memory(&self, group: GroupId) -> BoxFuture<'_, Result<Memory, Refusal>> {
        let memory = async move {
            let (_, view) = self.view(group).await?;
            Ok(view.memory)
        };
        memory.boxed()
    }

    fn status(&self, group: GroupId) -> BoxFuture<'_, Result<MemberStatus, Refusal>> {
        self.member_status(group).boxed()
    }
}

/// A snapshot file on its way to a peer. Removing it does not disturb who has it open.
struct SnapshotFile {
    file: Arc<dyn DiskFile>,
    bytes: u64,
}

impl SnapshotSource for SnapshotFile {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buffer)
    }
}
