//! Comparing what replicas made of the same entries. The majority of those that applied them is believed.

use super::Leader;
use super::peer::Peer;
use crate::group::NodeId;
use crate::ids::LogIndex;
use crate::replica::message::{Body, StreamId};
use crate::replica::shared::Shared;

impl Leader {
    /// Compares the digests that were reported with this replica's own, as far as it has applied.
    pub(in crate::replica) fn compare(&mut self, shared: &mut Shared) {
        let mut is_news = false;
        for peer in self.peers.values_mut() {
            let Some((index, digest)) = peer.report.take_if(|(index, _)| *index <= shared.applied) else {
                continue;
            };
            if let Some(own) = shared.digest_at(index) {
                peer.compared = Some((index, own == digest));
                is_news = true;
            }
        }
        if is_news {
            self.judge(shared);
        }
    }

    /// Counts who agrees with this replica as far as the first difference, and who does not. Every member that has
    /// applied so much has a vote, in sync or not; the verdict waits for the in-sync ones whose vote could change it.
    /// Who is being rebuilt has none.
    fn judge(&mut self, shared: &mut Shared) {
        let of = |peer: &Peer, same: bool| {
            peer.compared.filter(|(_, agrees)| *agrees == same && !peer.rebuilding).map(|(index, _)| index)
        };
        let differing: Vec<(NodeId, LogIndex)> =
            self.peers.iter().filter_map(|(node, peer)| Some((*node, of(peer, false)?))).collect();
        let Some(first) = differing.iter().map(|(_, index)| *index).min() else { return };
        let Some(record) = shared.record() else { return };
        let agrees = |peer: &&Peer| of(peer, true).is_some_and(|index| index >= first);
        let (with, against) = (1 + self.peers.values().filter(agrees).count(), differing.len());
        let is_silent = |peer: &&Peer| !peer.rebuilding && !agrees(peer) && of(peer, false).is_none();
        let members = record.isr.iter().filter_map(|node| self.peers.get(node));
        let silent = members.filter(is_silent).count();
        let undecidable = silent == 0 && with == against;
        if against > with + silent || undecidable {
            // The leader differs from the majority; or half differs from half, and nobody can tell who is right.
            shared.quarantine(first);
        }
        if with > against + silent || undecidable {
            for (node, index) in differing {
                self.tell_diverged(shared, node, index);
            }
        }
        self.offer_rebuilds(shared);
    }

    /// The peer says whether it waits for a snapshot to replace its state, and from where on that must reach. Only the
    /// peer knows when that is done.
    pub(super) fn on_rebuild(&mut self, node: NodeId, rebuild: Option<LogIndex>) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if peer.rebuilding && rebuild.is_none() {
            peer.compared = None;
        }
        peer.rebuilding = rebuild.is_some();
        peer.rebuild_from = rebuild;
    }

    fn tell_diverged(&mut self, shared: &mut Shared, node: NodeId, index: LogIndex) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.rebuilding = true;
        let fence = shared.fence(peer.incarnation(), StreamId(0));
        shared.send(node, fence, Body::Diverged { index });
    }
}
