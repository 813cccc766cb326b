//! Comparing what replicas made of the same entries. The majority of the in-sync set is believed.

use super::Leader;
use crate::group::NodeId;
use crate::ids::LogIndex;
use crate::replica::message::{Body, StreamId};
use crate::replica::shared::Shared;

impl Leader {
    /// Compares the digests that were reported with this replica's own, as far as it has applied.
    pub(in crate::replica) fn compare(&mut self, shared: &mut Shared) {
        let mut differs = false;
        for peer in self.peers.values_mut() {
            let Some((index, digest)) = peer.report.filter(|(index, _)| *index <= shared.applied) else {
                continue;
            };
            peer.report = None;
            if let Some(own) = shared.digest_at(index) {
                peer.compared = Some((index, own == digest));
                if own == digest {
                    peer.rebuilding = false;
                }
            }
            differs |= matches!(peer.compared, Some((_, false))) && !peer.rebuilding;
        }
        if differs {
            self.judge(shared);
        }
    }

    fn judge(&mut self, shared: &mut Shared) {
        let Some(record) = shared.record() else { return };
        let counted = record.isr.len();
        let of = |same: bool| {
            let votes = record.isr.iter().filter_map(|node| self.peers.get(node)?.compared);
            votes.filter(|(_, compared)| *compared == same).count()
        };
        let (with, against) = (of(true) + 1, of(false));
        let differing: Vec<(NodeId, LogIndex)> = self
            .peers
            .iter()
            .filter(|(_, peer)| !peer.rebuilding)
            .filter_map(|(node, peer)| {
                peer.compared.filter(|(_, same)| !same).map(|(index, _)| (*node, index))
            })
            .collect();
        let first = differing.iter().map(|(_, index)| *index).min().unwrap_or_default();
        let undecidable = with + against == counted && with == against;
        if against * 2 > counted || undecidable {
            // The leader differs from the majority; or half differs from half, and nobody can tell who is right.
            shared.quarantine(first);
        }
        if with * 2 > counted || undecidable {
            for (node, index) in differing {
                self.tell_diverged(shared, node, index);
            }
        }
        self.offer_rebuilds(shared);
    }

    /// The peer's state is to be replaced, by a snapshot of no less than what the peer can have applied until now.
    pub(super) fn begin_rebuild(&mut self, shared: &Shared, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node).filter(|peer| !peer.rebuilding) else { return };
        peer.rebuilding = true;
        peer.rebuild_from = self.start.max(shared.commit);
    }

    fn tell_diverged(&mut self, shared: &mut Shared, node: NodeId, index: LogIndex) {
        self.begin_rebuild(shared, node);
        let Some(peer) = self.peers.get(&node) else { return };
        let fence = shared.fence(peer.incarnation(), StreamId(0));
        shared.send(node, fence, Body::Diverged { index });
    }
}
