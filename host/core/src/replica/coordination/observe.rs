//! What the coordinator shows: whether it can be believed, and what follows from it.

use super::{Purpose, Sets, Swap};
use crate::group::{GroupRecord, Nonce};
use crate::replica::contradiction::{RESTORED, Source, Verdict, contradiction};
use crate::replica::effect::{Effect, Notice, Rare};
use crate::replica::event::{Seen, SessionState, SwapOutcome};
use crate::replica::message::Position;
use crate::replica::mutants::Mutant;
use crate::replica::shared::Shared;
use crate::replica::stored::Promise;

/// Why an operator's change of a group is refused while it is frozen.
pub(in crate::replica) const FROZEN: &str =
    "the group is frozen, because the coordinator contradicts itself: see `cluster accept-etcd`";

impl Shared {
    pub(in crate::replica) fn on_session(&mut self, session: SessionState) {
        self.coordination.lease = match session {
            SessionState::Live(lease) => Some(lease),
            SessionState::Offline => None,
        };
        // A candidacy goes with the lease it was made under.
        self.coordination.candidacy = false;
        self.coordination.want_read();
    }

    pub(in crate::replica) fn on_record_read(&mut self, request: u64, seen: Option<Seen>) {
        let Some(read) = self.coordination.read.take_if(|read| read.request == request) else {
            return self.dropped("an answer to no question");
        };
        match seen {
            None => self.coordination.want_read(),
            Some(seen) => {
                self.coordination.was_read = true;
                self.observe(seen, Source::Answer { floor: read.floor });
            }
        }
    }

    pub(in crate::replica) fn on_record_changed(&mut self, seen: Seen) {
        self.observe(seen, Source::Watch);
    }

    pub(in crate::replica) fn on_swapped(&mut self, nonce: Nonce, outcome: SwapOutcome) {
        let retry_at = self.now.after(self.options.retry);
        let Some(swap) = self.coordination.swap.as_mut().filter(|swap| swap.record.nonce == nonce) else {
            // Its end was read before the answer came.
            return;
        };
        let source = Source::Answer { floor: swap.floor };
        match outcome {
            SwapOutcome::Unknown => {
                swap.was_unknown = true;
                swap.retry_at = Some(retry_at);
                self.coordination.want_read();
            }
            SwapOutcome::Refused(seen) if swap.purpose.begins_anew() => {
                self.observe(seen, source);
                // What an operator decided on is no longer so. Where it had been applied, it is settled by now.
                if self.coordination.swap.as_ref().is_some_and(|swap| swap.record.nonce == nonce) {
                    self.overtake_swap(
                        "the coordinator shows something else by now: look at the group, and ask again",
                    );
                    self.coordination.want_read();
                }
            }
            SwapOutcome::Applied(seen) | SwapOutcome::Refused(seen) => {
                self.observe(seen, source);
                // What the answer shows did not settle it: it was stale, or could not be believed.
                if let Some(swap) = self.coordination.swap.as_mut().filter(|swap| swap.record.nonce == nonce)
                {
                    swap.retry_at = Some(retry_at);
                    self.coordination.want_read();
                }
            }
        }
    }

    /// Takes note of what the coordinator shows, unless that contradicts what it showed before.
    fn observe(&mut self, seen: Seen, source: Source) {
        if let Some(record) = &seen.record
            && record.check().is_err()
            && !self.breaks(Mutant::ElrKept)
        {
            return self.dropped("a group record that cannot be");
        }
        let answer = source != Source::Watch;
        if self.coordination.latest.as_ref().is_none_or(|latest| answer || *latest != seen) {
            self.coordination.latest = Some(seen.clone());
        }
        let Some(known) = &self.hard.seen else {
            match (seen.is_restored(), answer) {
                (false, _) if seen.record.is_some() => self.learn(seen),
                (true, true) if !self.hard.frozen => self.freeze(RESTORED),
                (true, false) => self.coordination.want_read(),
                _ => {}
            }
            return;
        };
        let newer_history = match (&seen.record, &known.record) {
            (Some(record), Some(known)) => record.generation > known.generation && record.epoch > known.epoch,
            _ => false,
        };
        if newer_history && !seen.is_restored() && (answer || seen.coordinator == known.coordinator) {
            return self.learn(seen);
        }
        if self.hard.frozen {
            return;
        }
        match contradiction(known, &seen, source) {
            Verdict::Newer => self.learn(seen),
            Verdict::Same => {
                let settles = answer && self.breaks(Mutant::SameRevisionRefuses);
                if settles && self.coordination.swap.as_ref().is_some_and(|swap| swap.was_unknown) {
                    self.coordination.swap = None;
                }
                if let Some(known) = &mut self.hard.seen {
                    known.revision = known.revision.max(seen.revision);
                }
            }
            Verdict::Stale => {}
            Verdict::Doubtful => self.coordination.want_read(),
            Verdict::Contradicts(_) if self.breaks(Mutant::NeverFreeze) => {
                if seen.record.is_some() {
                    self.learn(seen);
                }
            }
            Verdict::Contradicts(why) => self.freeze(why),
        }
    }

    /// The record is newer than the one that was known: it is promised, persisted, and settles a swap of this node.
    fn learn(&mut self, seen: Seen) {
        let Some(record) = seen.record.clone() else { return };
        let settled = self.coordination.swap.take();
        self.unask();
        self.coordination.overtaken = Sets::default();
        self.coordination.asked_before = false;
        if record.epoch >= self.hard.promised.epoch || self.breaks(Mutant::NeverFreeze) {
            self.hard.promised = Promise::of(&record);
        }
        if self.hard.frozen {
            self.hard.frozen = false;
            self.notice(Notice::Unfrozen { generation: record.generation });
        }
        self.hard.seen = Some(seen);
        if self.log.last() == Position::default() {
            // What is empty belongs to every history.
            self.hard.generation = record.generation;
        }
        self.coordination.record_since = self.now;
        self.adopt_incarnation(&record, settled.as_ref());
        let starts =
            |swap: &Swap| matches!(swap.purpose, Purpose::Unclean(_)) && swap.record.nonce == record.nonce;
        if settled.as_ref().is_some_and(starts) {
            // The operator chose this state.
            self.release();
        }
        self.save();
        self.notice(Notice::Record(record.clone()));
        if let Some(swap) = settled {
            self.settle_swap(&swap, &record);
        }
    }

    fn settle_swap(&mut self, swap: &Swap, record: &GroupRecord) {
        let applied = swap.record.nonce == record.nonce;
        if swap.was_unknown {
            self.happened(if applied { Rare::UnknownSwapApplied } else { Rare::UnknownSwapRefused });
        }
        if applied {
            match swap.purpose {
                Purpose::TakeOver => self.happened(Rare::Transferred),
                Purpose::Readopt => self.happened(Rare::Readopted),
                Purpose::Unclean(_) => self.happened(Rare::UncleanStart),
                Purpose::Accept(_) => self.happened(Rare::CoordinatorAccepted),
                Purpose::Renew => self.happened(Rare::NewIncarnation),
                _ => {}
            }
        }
        if let Some(id) = swap.purpose.request() {
            let result = match (applied, swap.was_unknown) {
                (true, _) => Ok(()),
                (false, false) => {
                    Err("the group changed at the same moment: look at it, and ask again".to_string())
                }
                (false, true) => {
                    Err("the coordinator did not answer, and the group has changed since: look whether \
                                      the wish came true, and else ask again"
                        .to_string())
                }
            };
            self.effects.push(Effect::Operator { id, result });
        }
    }

    /// A lost copy has its new incarnation once this node's own swap is confirmed.
    fn adopt_incarnation(&mut self, record: &GroupRecord, settled: Option<&Swap>) {
        let Some(member) = record.member(self.me()) else { return };
        let renewed =
            settled.is_some_and(|swap| swap.purpose == Purpose::Renew && swap.record.nonce == record.nonce);
        if renewed {
            self.hard.incarnation = member.incarnation;
            self.hard.generation = record.generation;
            self.intact = true;
        }
    }

    /// Stops asking for changes until an operator decides.
    fn freeze(&mut self, why: &str) {
        self.hard.frozen = true;
        if self.coordination.swap.as_ref().is_some_and(|swap| matches!(swap.purpose, Purpose::Operator(_))) {
            self.overtake_swap(FROZEN);
        }
        self.save();
        self.notice(Notice::Frozen(why.to_string()));
    }

    /// Gives a copy that may not count an incarnation under which it may. The listed one is never taken up, not even by
    /// an intact copy: an earlier life of this node's copy had it, or is what a restored coordinator remembers.
    pub(in crate::replica) fn establish(&mut self) {
        let Some(record) = self.record() else { return };
        let Some(member) = record.member(self.me()).copied() else { return };
        // What a process before this one remembered is too old to build on.
        if self.is_established() || !self.coordination.was_read {
            return;
        }
        if self.breaks(Mutant::LostCopyKeepsIncarnation) {
            self.hard.incarnation = member.incarnation;
            self.intact = true;
            self.save();
        } else if self.may_swap() {
            let nonce = self.nonce();
            if let Some(record) = self.record().map(|record| record.new_incarnation(self.options.node, nonce))
            {
                self.swap(Purpose::Renew, record);
            }
        }
    }
}
