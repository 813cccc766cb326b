//! What a leader does for clients and operators: proposals, reads, and handing the leadership over.

use super::Leader;
use crate::entry::Stamp;
use crate::group::NodeId;
use crate::ids::LogIndex;
use crate::replica::effect::{Effect, Refusal};
use crate::replica::event::{Ack, Freshness, MonoTime, Proposal, Read, RequestId};
use crate::replica::message::{Body, LogEntry, Position, StreamId};
use crate::replica::mutants::Mutant;
use crate::replica::reads::Need;
use crate::replica::shared::Shared;

/// A hand-over of leadership under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Handover {
    id: RequestId,
    target: NodeId,
    give_up_at: MonoTime,
    ask_at: MonoTime,
}

impl Handover {
    pub(super) fn id(&self) -> RequestId {
        self.id
    }

    pub(super) fn target(&self) -> NodeId {
        self.target
    }
}

impl Leader {
    // --- Writes.

    pub(in crate::replica) fn on_propose(&mut self, shared: &mut Shared, proposal: Proposal) {
        let Proposal { id, payload, ack } = proposal;
        match self.check_proposal(shared, &payload) {
            Err(refusal) => shared.effects.push(Effect::Proposed { id, result: Err(refusal) }),
            Ok(stamp) => {
                let at = Position { epoch: self.epoch, index: shared.log.last().index.next() };
                self.uncommitted.push_back((at.index, payload.len()));
                self.uncommitted_bytes += payload.len();
                if ack == Ack::Leader {
                    self.to_acknowledge.push_back((id, at));
                }
                shared.append(vec![LogEntry { at, payload }], stamp);
                shared.effects.push(Effect::Proposed { id, result: Ok(at) });
                self.send_all_appends(shared);
            }
        }
    }

    fn check_proposal(&self, shared: &Shared, payload: &bytes::Bytes) -> Result<Stamp, Refusal> {
        if !self.serving || self.handover.is_some() {
            return Err(Refusal::NotReady);
        }
        let stamp = Stamp::peek(payload).map_err(|_| Refusal::Malformed)?;
        if stamp.time < shared.log.stamp().time {
            return Err(Refusal::Malformed);
        }
        let bytes = self.uncommitted_bytes.saturating_add(payload.len());
        if bytes > shared.options.uncommitted_bytes_max && !self.uncommitted.is_empty() {
            return Err(Refusal::Overloaded);
        }
        Ok(stamp)
    }

    // --- Reads.

    pub(in crate::replica) fn on_read(&mut self, shared: &mut Shared, read: Read) {
        if !self.serving {
            return shared.refuse_read(read.id, Refusal::NotReady);
        }
        if let Freshness::AtLeast(_) = read.freshness {
            _ = shared.read_anywhere(read);
            return shared.wake_reads(self.confirmed_round(shared));
        }
        if read.freshness != Freshness::Linearizable
            && let Some(until) = self.lease_until(shared).filter(|until| *until > shared.now)
            && shared.applied >= shared.commit
        {
            self.permitted_until = self.permitted_until.max(until);
            return shared.permit_read(read.id, shared.commit, until);
        }
        let (round, index) = (self.next_round(shared), shared.commit);
        shared.wait(read.id, read.deadline, Need::Round { round, index });
        self.serve_reads(shared);
    }

    /// A round that begins from now on. Sends its beacons at once where no earlier round is still on its way; else it
    /// follows that one, and serves all that came meanwhile.
    fn next_round(&mut self, shared: &mut Shared) -> u64 {
        if self.confirmed_round(shared) >= self.round {
            self.send_beacons(shared);
            return self.round;
        }
        self.round + 1
    }

    /// The round that everybody has answered who might know of another leader.
    fn confirmed_round(&self, shared: &Shared) -> u64 {
        if shared.breaks(Mutant::ReadUnconfirmed) {
            return u64::MAX;
        }
        let elr = shared.maximal_elr().filter(|_| !shared.breaks(Mutant::ConfirmByIsr));
        let others = shared.maximal_isr().chain(elr).filter(|(node, _)| *node != shared.me());
        let answered = others.map(|(node, incarnation)| {
            let peer = self.peers.get(&node).filter(|peer| peer.incarnation() == incarnation);
            peer.map_or(0, |peer| peer.round)
        });
        answered.min().unwrap_or(u64::MAX)
    }

    /// Until when nobody else can have been elected. A lease runs from when the answered beacon was *sent*.
    fn lease_until(&self, shared: &Shared) -> Option<MonoTime> {
        if self.leases_ended || self.handover.is_some() {
            return None;
        }
        let length = shared.options.lease.saturating_sub(shared.options.lease_margin);
        let mut until = shared.now.after(length);
        for (node, incarnation) in shared.maximal_isr().chain(shared.maximal_elr()) {
            if node == shared.me() {
                continue;
            }
            let peer = self.peers.get(&node).filter(|peer| peer.incarnation() == incarnation)?;
            until = until.min(peer.leased_from?.after(length));
        }
        Some(until)
    }

    pub(super) fn on_question(&mut self, shared: &mut Shared, from: NodeId, question: u64) {
        let leased = self.lease_until(shared).is_some_and(|until| until > shared.now);
        if self.serving && leased {
            return self.tell_commit(shared, from, question, shared.commit);
        }
        if self.serving && self.questions.len() < shared.options.waiting_max {
            let (round, index) = (self.next_round(shared), shared.commit);
            self.questions.push_back((from, question, round, index));
            self.serve_reads(shared);
        }
    }

    fn tell_commit(&self, shared: &mut Shared, to: NodeId, question: u64, commit: LogIndex) {
        let Some(peer) = self.peers.get(&to) else { return };
        let fence = shared.fence(peer.incarnation(), StreamId(0));
        shared.send(to, fence, Body::TellCommit { question, commit });
    }

    /// Goes on with reads and questions that are confirmed; begins the next round for those that came meanwhile.
    pub(in crate::replica) fn serve_reads(&mut self, shared: &mut Shared) {
        if self.questions.is_empty() && shared.waiting.is_empty() {
            return;
        }
        let confirmed = self.confirmed_round(shared);
        shared.wake_reads(confirmed);
        while let Some((to, question, _, commit)) =
            self.questions.pop_front_if(|(_, _, round, _)| *round <= confirmed)
        {
            self.tell_commit(shared, to, question, commit);
        }
        let asked = self.questions.iter().any(|(_, _, round, _)| *round > self.round);
        if confirmed >= self.round && (asked || shared.waiting.wants_round(self.round)) {
            self.send_beacons(shared);
            // A leader alone confirms its own rounds.
            if self.confirmed_round(shared) >= self.round {
                self.serve_reads(shared);
            }
        }
    }

    // --- Handing over.

    pub(in crate::replica) fn hand_over(&mut self, shared: &mut Shared, id: RequestId, target: NodeId) {
        let in_sync = shared.record().is_some_and(|record| record.isr.contains(&target));
        let refusal = if target == shared.me() {
            return shared.effects.push(Effect::Operator { id, result: Ok(()) });
        } else if self.handover.is_some() {
            Some("the leadership is being handed over already")
        } else if !in_sync && !shared.breaks(Mutant::TransferOutsideIsr) {
            Some("the target is not in the in-sync set: it could miss acknowledged writes")
        } else if shared.hard.frozen {
            Some(
                "the group is frozen, because the coordinator contradicts itself: no change of leader is possible",
            )
        } else {
            None
        };
        if let Some(why) = refusal {
            return shared.effects.push(Effect::Operator { id, result: Err(why.to_string()) });
        }
        let give_up_at = shared.now.after(shared.options.transfer_max);
        self.handover = Some(Handover { id, target, give_up_at, ask_at: shared.now });
        self.tend_handover(shared);
    }

    /// Asks the target to take over once it has everything, and again while it does not answer.
    pub(super) fn tend_handover(&mut self, shared: &mut Shared) {
        let Some(handover) = &mut self.handover else { return };
        if shared.now >= handover.give_up_at {
            let (id, target) = (handover.id, handover.target);
            self.handover = None;
            let result = Err(format!("node {target} did not take over in time; this node goes on"));
            return shared.effects.push(Effect::Operator { id, result });
        }
        let Some(peer) = self.peers.get(&handover.target) else { return };
        let outside = shared.breaks(Mutant::TransferOutsideIsr);
        let complete = peer.acked >= shared.log.last().index || outside;
        let settled = shared.coordination.swap.is_none();
        // Reads that a lease permitted may still be on their way.
        let expired = shared.now >= self.permitted_until;
        if complete && settled && expired && shared.now >= handover.ask_at {
            handover.ask_at = shared.now.after(shared.options.beacon);
            self.leases_ended = true;
            let fence = shared.fence(peer.incarnation(), StreamId(0));
            shared.send(handover.target, fence, Body::Campaign);
        }
    }
}
