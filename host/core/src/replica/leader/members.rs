//! Changes of the record by a leader: members that fall behind or catch up, its own lease, an operator's wishes.

use std::collections::BTreeSet;

use super::Leader;
use crate::group::{GroupRecord, NodeId, RecordError};
use crate::replica::coordination::{FROZEN, Purpose};
use crate::replica::effect::Effect;
use crate::replica::event::{OperatorCommand, RequestId};
use crate::replica::mutants::Mutant;
use crate::replica::shared::Shared;

/// An operator's change of the record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Wish {
    pub(super) id: RequestId,
    command: OperatorCommand,
}

impl Leader {
    pub(in crate::replica) fn wish(&mut self, shared: &mut Shared, id: RequestId, command: OperatorCommand) {
        if self.wish.is_some() {
            let why = "another change of the group is under way: ask again when it is done";
            return shared.effects.push(Effect::Operator { id, result: Err(why.to_string()) });
        }
        if shared.hard.frozen {
            return shared.effects.push(Effect::Operator { id, result: Err(FROZEN.to_string()) });
        }
        self.wish = Some(Wish { id, command });
        self.change_members(shared);
    }

    /// Asks for one change of the record, the most urgent one.
    pub(super) fn change_members(&mut self, shared: &mut Shared) {
        if let Some(Wish { id, .. }) = self.wish.take_if(|_| shared.hard.frozen) {
            shared.effects.push(Effect::Operator { id, result: Err(FROZEN.to_string()) });
        }
        // While the leadership is handed over, the record has to stay as the target knows it.
        if !shared.may_swap() || self.handover.is_some() {
            return;
        }
        let Some(record) = shared.record().cloned() else { return };
        let gone = self.behind(shared, &record);
        if !gone.is_empty() {
            let nonce = shared.nonce();
            shared.swap(Purpose::Shrink, record.shrink(&gone, nonce));
        } else if self.wish.is_some() {
            self.carry_out_wish(shared, &record);
        } else if let Some(lease) = shared.coordination.lease.filter(|lease| *lease != record.leader_lease) {
            let nonce = shared.nonce();
            shared.swap(Purpose::Readopt, record.readopt(lease, nonce));
        } else {
            let joined = self.caught_up(shared, &record);
            if !joined.is_empty() {
                let nonce = shared.nonce();
                shared.swap(Purpose::Expand, record.expand(&joined, nonce));
            }
        }
    }

    fn carry_out_wish(&mut self, shared: &mut Shared, record: &GroupRecord) {
        let Some(Wish { id, command }) = self.wish.take() else { return };
        let nonce = shared.nonce();
        let next = match command {
            OperatorCommand::Add(node) => record.add(node, nonce),
            OperatorCommand::Remove(node) => record.remove(node, nonce),
            OperatorCommand::SetMinIsr(min_isr) => record.with_min_isr(min_isr, nonce),
            OperatorCommand::Transfer(_)
            | OperatorCommand::UncleanStart
            | OperatorCommand::AcceptCoordinator { .. } => Err(RecordError("no change of members".into())),
        };
        match next {
            Ok(next) => shared.swap(Purpose::Operator(id), next),
            Err(RecordError(why)) => shared.effects.push(Effect::Operator { id, result: Err(why) }),
        }
    }

    /// In-sync members that have not caught up for too long: the group should not wait for them.
    fn behind(&self, shared: &Shared, record: &GroupRecord) -> BTreeSet<NodeId> {
        let others = record.isr.iter().filter(|node| **node != shared.me());
        let is_behind = |node: &&NodeId| {
            let peer = self.peers.get(*node);
            peer.is_none_or(|peer| shared.now.since(peer.caught_up_at) > shared.options.shrink_after)
        };
        others.filter(is_behind).copied().collect()
    }

    /// Members outside the in-sync set that hold everything committed, acknowledged in this epoch.
    fn caught_up(&self, shared: &Shared, record: &GroupRecord) -> BTreeSet<NodeId> {
        let mut joined = BTreeSet::new();
        for (node, peer) in self.peers.iter().filter(|(node, _)| !record.isr.contains(node)) {
            let holds = peer.acked >= shared.commit && peer.acked >= self.start;
            let alive = shared.now.since(peer.caught_up_at) <= shared.options.shrink_after;
            let stale = shared.breaks(Mutant::ExpandStale);
            // A state that is being rebuilt cannot lead: it waits, unless nothing can be committed without it.
            let waits = peer.rebuilding && record.can_commit();
            if (holds && alive || stale) && peer.is_streaming() && !waits {
                joined.insert(*node);
            }
        }
        joined
    }
}
