//! Snapshots for those whose entries are no longer in the log, and for those who rebuild their state.

use super::Leader;
use super::peer::{Link, Peer};
use crate::group::NodeId;
use crate::ids::LogIndex;
use crate::replica::effect::Effect;
use crate::replica::message::Body;
use crate::replica::shared::Shared;

impl Leader {
    /// Asks for a snapshot, and not again at once: one that is not good enough must not call for the next.
    fn want_snapshot(&mut self, shared: &mut Shared) {
        let retry = shared.options.retry;
        if self.snapshot_asked_at.is_none_or(|asked| shared.now.since(asked) >= retry) {
            self.snapshot_asked_at = Some(shared.now);
            shared.effects.push(Effect::TakeSnapshot);
        }
    }

    /// Offers the newest snapshot, if the log goes on from it; else asks for one.
    pub(super) fn offer_snapshot(&mut self, shared: &mut Shared, node: NodeId) {
        let now = shared.now;
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let Some(stream) = peer.stream() else { return };
        peer.link = Link::Snapshot { stream, offered_at: now };
        let fence = shared.fence(peer.incarnation(), stream);
        match usable_snapshot(shared, LogIndex(0)) {
            Some(meta) => shared.send(node, fence, Body::Snapshot { meta, replace: false }),
            None => self.want_snapshot(shared),
        }
    }

    /// A snapshot was taken: those who wait for one are offered it.
    pub(in crate::replica) fn on_snapshot_taken(&mut self, shared: &mut Shared) {
        let waits = |peer: &Peer| matches!(peer.link, Link::Snapshot { .. });
        let nodes: Vec<NodeId> =
            self.peers.iter().filter(|(_, peer)| waits(peer)).map(|(node, _)| *node).collect();
        nodes.into_iter().for_each(|node| self.offer_snapshot(shared, node));
        self.offer_rebuilds(shared);
    }

    /// Offers those who rebuild a state that is theirs to replace. Their log streams on meanwhile.
    pub(super) fn offer_rebuilds(&mut self, shared: &mut Shared) {
        let (now, pause) = (shared.now, shared.options.shrink_after);
        let nodes: Vec<(NodeId, LogIndex)> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.is_streaming() && now.since(peer.rebuild_offered_at) > pause)
            .filter_map(|(node, peer)| Some((*node, peer.rebuild_from?)))
            .collect();
        for (node, from) in nodes {
            let Some(meta) = usable_snapshot(shared, from) else {
                return self.want_snapshot(shared);
            };
            let Some(peer) = self.peers.get_mut(&node) else { continue };
            peer.rebuild_offered_at = now;
            let Some(stream) = peer.stream() else { continue };
            let fence = shared.fence(peer.incarnation(), stream);
            shared.send(node, fence, Body::Snapshot { meta, replace: true });
        }
    }
}

/// The newest snapshot, where it is of this history, reaches as far as is wanted, and the log goes on from it.
fn usable_snapshot(shared: &Shared, from: LogIndex) -> Option<crate::replica::SnapshotMeta> {
    let generation = shared.record()?.generation;
    let least = shared.log.base().index.max(from);
    shared.snapshot.clone().filter(|meta| meta.generation == generation && meta.last.index >= least)
}
