//! The commit rule, and what follows from a commit.

use super::Leader;
use crate::group::{Incarnation, NodeId};
use crate::ids::{Epoch, LogIndex};
use crate::replica::effect::{Effect, Fate, Notice, Rare, Refusal};
use crate::replica::event::{MonoTime, RequestId};
use crate::replica::message::Position;
use crate::replica::mutants::Mutant;
use crate::replica::shared::Shared;

impl Leader {
    /// Commits up to k iff the confirmed in-sync set has at least `min_isr` members; every member of the *maximal*
    /// in-sync set, this replica included, has k durable, acknowledged in this epoch under its listed incarnation; and
    /// k is not below this epoch's start.
    pub(in crate::replica) fn advance(&mut self, shared: &mut Shared) {
        self.acknowledge(shared);
        let confirmed = shared.record().is_some_and(|record| record.can_commit());
        let reached = shared.maximal_isr().map(|member| self.durable_on(shared, member)).min();
        let alone = shared.breaks(Mutant::CommitAlone);
        let reached = if alone { shared.log.durable() } else { reached.unwrap_or_default() };
        let started = reached >= self.start || shared.breaks(Mutant::CommitBeforeStart);
        if confirmed && started && reached > shared.commit {
            shared.advance_commit(reached);
            while let Some((_, bytes)) = self.uncommitted.pop_front_if(|(index, _)| *index <= reached) {
                self.uncommitted_bytes -= bytes;
            }
        }
        self.begin_to_serve(shared);
        self.decide_fates(shared);
    }

    fn durable_on(&self, shared: &Shared, (node, incarnation): (NodeId, Incarnation)) -> LogIndex {
        if node == shared.me() {
            return if incarnation == shared.hard.incarnation { shared.log.durable() } else { LogIndex(0) };
        }
        let peer = self.peers.get(&node);
        let counts =
            |incarnation_there| incarnation_there == incarnation || shared.breaks(Mutant::AnswersUnfenced);
        peer.filter(|peer| counts(peer.incarnation())).map_or(LogIndex(0), |peer| peer.acked)
    }

    /// Serves from when its first entry is applied: then it has applied all that was ever acknowledged.
    fn begin_to_serve(&mut self, shared: &mut Shared) {
        if !self.serving && (shared.applied >= self.start || shared.breaks(Mutant::ServeBeforeStart)) {
            self.serving = true;
            shared.notice(Notice::Leads { epoch: self.epoch });
        }
    }

    /// Answers `ack = leader` proposals that are durable here.
    fn acknowledge(&mut self, shared: &mut Shared) {
        let durable = shared.log.durable();
        while let Some((id, token)) = self.to_acknowledge.pop_front_if(|(_, token)| token.index <= durable) {
            shared.effects.push(Effect::Acknowledge { id, token });
        }
    }

    pub(in crate::replica) fn ask_fate(
        &mut self,
        shared: &mut Shared,
        id: RequestId,
        token: Position,
        deadline: MonoTime,
    ) {
        if self.fates.len() >= shared.options.waiting_max {
            return shared.effects.push(Effect::Fate { id, result: Err(Refusal::Overloaded) });
        }
        self.fates.push((id, token, deadline));
        self.decide_fates(shared);
    }

    pub(super) fn decide_fates(&mut self, shared: &mut Shared) {
        if self.fates.is_empty() {
            return;
        }
        let decided: Vec<_> = self
            .fates
            .extract_if(.., |(_, token, _)| is_decidable(self.epoch, self.start, shared, *token))
            .collect();
        for (id, token, _) in decided {
            let result = self.fate(shared, token);
            if result == Fate::Lost {
                shared.happened(Rare::TokenLost);
            }
            shared.effects.push(Effect::Fate { id, result: Ok(result) });
        }
        for (id, ..) in self.fates.extract_if(.., |(_, _, deadline)| *deadline <= shared.now) {
            shared.effects.push(Effect::Fate { id, result: Err(Refusal::TimedOut) });
        }
    }

    fn fate(&self, shared: &Shared, token: Position) -> Fate {
        if shared.log.holds(token) && token.index <= shared.commit { Fate::Committed } else { Fate::Lost }
    }
}

/// Whether a token can be decided: its epoch is not above this one, this epoch's start is committed, and it is not
/// merely on its way to be committed.
fn is_decidable(epoch: Epoch, start: LogIndex, shared: &Shared, token: Position) -> bool {
    let of_the_past = token.epoch <= epoch || shared.breaks(Mutant::LostBelowEpoch);
    let started = shared.commit >= start || shared.breaks(Mutant::LostBeforeStart);
    let pending = shared.log.holds(token) && token.index > shared.commit;
    of_the_past && started && !pending
}
