//! The way to the coordinator and back: calls that get lost, answers that get lost, calls that arrive when nobody waits
//! for them any more, and watches that show things late, twice or not at all.

use mortise_core::group::{BootId, NodeId};
use mortise_core::replica::{Event, SwapOutcome};

use super::node::Asked;
use super::{Call, Checked, Happening, Inside, Reply, World};
use crate::coverage::Seldom;

impl World {
    /// Sends a call. It is answered, or times out.
    pub(super) fn call(&mut self, id: NodeId, call: Call, asked: Asked) {
        self.calls += 1;
        let (number, now, unit) = (self.calls, self.now, self.unit);
        let Some(process) = &mut self.node_mut(id).process else { return };
        process.calls.insert(number, asked);
        let boot = process.boot;
        self.tell_process(id, unit / 2, Inside::CallTimesOut(number));
        let way = self.random.between(200, 5000);
        let troubled = !self.healed;
        let lost = troubled && self.random.chance(self.profile.calls_lost);
        let answer = !(troubled && self.random.chance(self.profile.answers_lost));
        let late =
            troubled && matches!(call, Call::Swap { .. }) && self.random.chance(self.profile.calls_late);
        let arrives = if late {
            now + self.random.between(unit / 2, unit * 4)
        } else if !lost && self.reaches_coordinator(id) {
            now + way
        } else {
            return;
        };
        let coordinator = self.coordinator.id;
        self.at(arrives, Happening::Coordinator { coordinator, node: id, boot, id: number, call, answer });
    }

    fn reaches_coordinator(&self, id: NodeId) -> bool {
        self.coordinator.up && !self.without_coordinator.contains(&id)
    }

    /// A call arrives, whether or not its caller still waits or lives.
    pub(super) fn coordinator_called(
        &mut self,
        id: NodeId,
        boot: BootId,
        number: u64,
        call: &Call,
        answer: bool,
    ) -> Checked {
        if !self.coordinator.up {
            return Ok(());
        }
        let reply = self.coordinator.call(self.now, id, call);
        let process = self.node(id).process.as_ref().filter(|process| process.boot == boot);
        let awaited = process.is_some_and(|process| process.calls.contains_key(&number));
        match &reply {
            Reply::Swapped(SwapOutcome::Applied(_)) => {
                self.coverage.count_if(!awaited, Seldom::LateSwapApplied);
                self.record_changed()?;
            }
            Reply::Done => self.candidates_changed(),
            _ => {}
        }
        if answer && self.reaches_coordinator(id) {
            let way = self.random.between(200, 5000);
            let what = Inside::CallAnswered(number, Box::new(reply));
            self.at(self.now + way, Happening::ToProcess { node: id, boot: Some(boot), what });
        }
        Ok(())
    }

    pub(super) fn call_answered(&mut self, id: NodeId, number: u64, reply: Reply) -> Checked {
        let Some(process) = &mut self.node_mut(id).process else { return Ok(()) };
        let Some(asked) = process.calls.remove(&number) else { return Ok(()) };
        // The call took at most its time-out, so the lease was renewed no earlier than that.
        let sent = self.now.saturating_sub(self.unit / 2);
        match (asked, reply) {
            (Asked::Read(request), Reply::Seen(seen)) => {
                self.step(id, Event::RecordRead { request, seen: Some(seen) })
            }
            (Asked::Swap(nonce), Reply::Swapped(outcome)) => self.step(id, Event::Swapped { nonce, outcome }),
            (Asked::Session, Reply::Granted(lease) | Reply::Alive(lease, true)) => {
                self.session_granted(id, lease, sent)
            }
            (Asked::Session, Reply::Alive(_, false)) => self.session_lost(id),
            _ => Ok(()),
        }
    }

    pub(super) fn call_times_out(&mut self, id: NodeId, number: u64) -> Checked {
        let Some(process) = &mut self.node_mut(id).process else { return Ok(()) };
        match process.calls.remove(&number) {
            Some(Asked::Read(request)) => self.step(id, Event::RecordRead { request, seen: None }),
            Some(Asked::Swap(nonce)) => {
                self.coverage.count(Seldom::SwapUnknown);
                self.step(id, Event::Swapped { nonce, outcome: SwapOutcome::Unknown })
            }
            Some(Asked::Session | Asked::Candidacy) | None => Ok(()),
        }
    }

    /// The record has another revision: the world takes note of it, and every watch shows it some time.
    pub(crate) fn record_changed(&mut self) -> Checked {
        self.observe_record()?;
        let seen = self.coordinator.seen();
        for event in self.watches() {
            let (id, after) = event;
            self.tell_process(id, after, Inside::Event(Event::RecordChanged(seen.clone())));
        }
        Ok(())
    }

    pub(crate) fn candidates_changed(&mut self) {
        let candidates = self.coordinator.candidates();
        for (id, after) in self.watches() {
            self.tell_process(id, after, Inside::Event(Event::Candidates(candidates.clone())));
        }
    }

    /// Which nodes are shown a change, and after how long. A node can be shown it twice.
    fn watches(&mut self) -> Vec<(NodeId, u64)> {
        let mut shown = Vec::new();
        for id in self.ids() {
            let troubled = !self.healed;
            if let Some(missed) = self.watches_behind.get_mut(&id) {
                *missed += 1;
                continue;
            }
            if !self.reaches_coordinator(id) || (troubled && self.random.chance(self.profile.watches_lost)) {
                continue;
            }
            let late = troubled && self.random.chance(self.profile.watches_late);
            let after =
                if late { self.random.between(5000, self.unit * 2) } else { self.random.between(200, 5000) };
            shown.push((id, after));
            if self.random.chance(self.profile.watches_twice) {
                shown.push((id, after + self.random.between(0, self.unit)));
            }
        }
        shown
    }

    /// A watch that missed changes begins anew, with the present state.
    pub(crate) fn watch_anew(&mut self, id: NodeId) {
        let Some(missed) = self.watches_behind.remove(&id) else { return };
        self.coverage.count_if(missed > 1, Seldom::WatchCompacted);
        if self.reaches_coordinator(id) {
            let (seen, candidates) = (self.coordinator.seen(), self.coordinator.candidates());
            self.tell_process(id, 0, Inside::Event(Event::RecordChanged(seen)));
            self.tell_process(id, 0, Inside::Event(Event::Candidates(candidates)));
        }
    }

    pub(super) fn end_leases(&mut self) {
        self.at(self.now + self.unit / 8, Happening::LeasesEnd);
        if self.coordinator.up && self.coordinator.expire(self.now) {
            self.candidates_changed();
        }
    }
}
