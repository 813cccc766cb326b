//! The operator: changes the group, and is called when the group cannot help itself.

use std::collections::BTreeMap;

use mortise_core::group::NodeId;
use mortise_core::replica::{Event, OperatorCommand, RequestId};

use super::{Absence, Checked, Happening, World};
use crate::coverage::Seldom;

#[derive(Debug, Default)]
pub(crate) struct Operator {
    /// Commands without an answer.
    pending: BTreeMap<RequestId, String>,
    /// Every member that held committed entries is destroyed: this node is to go on with what it has.
    pub(crate) survivor: Option<NodeId>,
    /// How often one of them did.
    pub(crate) unclean_starts: u64,
    /// A node whose snapshots were found to be wrong, and since when that is known.
    doubted: Option<(NodeId, u64)>,
}

/// How long a group has to find out by itself that a state is wrong, in units.
const DOUBT: u64 = 8;

impl World {
    /// Gives a command to a node.
    pub(crate) fn command(&mut self, id: NodeId, command: OperatorCommand) -> Checked {
        self.requests += 1;
        let number = RequestId(self.requests);
        self.operator.pending.insert(number, format!("{command:?}"));
        self.step(id, Event::Operator { id: number, command })
    }

    /// Gives a command to whoever leads.
    pub(crate) fn command_leader(&mut self, command: OperatorCommand) -> Checked {
        match self.observed.record.leader.filter(|leader| self.node(*leader).alive().is_some()) {
            Some(leader) => self.command(leader, command),
            None => Ok(()),
        }
    }

    pub(super) fn operator_hears(&mut self, number: RequestId, result: Result<(), String>) {
        let now = self.now;
        if let Some(command) = self.operator.pending.remove(&number) {
            self.trace.note(now, || format!("the operator hears {result:?} to {command}"));
        }
    }

    /// Looks after what only an operator can decide.
    pub(super) fn operator_looks(&mut self) -> Checked {
        self.at(self.now + self.unit / 2, Happening::Operator);
        // A change of the set that was under way may have brought in a copy that holds everything: nothing is to be given
        // up then, and what the operator asked for before cannot come true, because the record is another one now.
        let record = &self.observed.record;
        if record.isr.union(&record.elr).any(|id| self.is_whole(*id)) {
            self.operator.survivor = None;
        }
        if let Some(survivor) = self.operator.survivor {
            // What it has is known once it is on its disk.
            let ready = self.node(survivor).alive().is_some() && !self.node(survivor).disk.is_installing();
            return if ready { self.command(survivor, OperatorCommand::UncleanStart) } else { Ok(()) };
        }
        let frozen = |node: &super::Node| node.alive().is_some_and(|process| process.view.frozen);
        if self.nodes.iter().any(frozen) && self.random.chance(700) {
            return self.accept_coordinator();
        }
        if let Some((doubted, since)) = self.operator.doubted
            && self.now >= since + DOUBT * self.unit
        {
            self.operator.doubted = None;
            let wrong = self.node(doubted).alive().is_some_and(|process| process.machine.tainted);
            return if wrong { self.replay_state(doubted) } else { Ok(()) };
        }
        self.arbitrate()
    }

    /// A snapshot of this node turned out to be wrong when it was verified. Mostly the group finds out by itself whose
    /// state differs; but a leader that is alone in sync, and has no log left that others could apply, is compared
    /// with nobody.
    pub(super) fn doubt(&mut self, id: NodeId) {
        if self.operator.doubted.is_none_or(|(doubted, _)| doubted != id) {
            self.operator.doubted = Some((id, self.now));
        }
    }

    /// Half of the holders differs from the other half, and all have stopped: the operator knows whose state is right.
    fn arbitrate(&mut self) -> Checked {
        let record = &self.observed.record;
        let (mut right, mut wrong) = (None, None);
        for id in record.isr.union(&record.elr) {
            let Some(process) = self.node(*id).alive() else { return Ok(()) };
            if process.view.quarantined.is_none() {
                return Ok(());
            }
            let side = if process.machine.tainted { &mut wrong } else { &mut right };
            side.get_or_insert(*id);
        }
        match (right, wrong) {
            (Some(right), _) => {
                self.coverage.count(Seldom::Arbitrated);
                self.command(right, OperatorCommand::UncleanStart)
            }
            (None, Some(wrong)) => self.replay_state(wrong),
            (None, None) => Ok(()),
        }
    }

    /// Nobody else holds what is committed, and this state is wrong: it is rebuilt out of the log, offline.
    fn replay_state(&mut self, id: NodeId) -> Checked {
        self.crash(id);
        let durable = &self.node(id).disk.durable;
        let end = durable.last().index.min(self.oracle.reference.last().index);
        let state = self.oracle.reference.state_at(end)?;
        let disk = &mut self.node_mut(id).disk;
        disk.state = state;
        disk.snapshot = disk.snapshot.take().filter(|snapshot| !snapshot.state.tainted);
        self.at(self.now, Happening::Start(id));
        Ok(())
    }

    /// Asks every member what it remembers, and has one of them begin anew, if it finds that it misses nothing.
    fn accept_coordinator(&mut self) -> Checked {
        let (mut heard, mut gone) = (Vec::new(), Vec::new());
        let record = self.observed.record.clone();
        for member in &record.members {
            let node = self.node(member.node);
            match (node.alive().filter(|process| process.paused_until <= self.now), node.absence) {
                (Some(process), _) => heard.push(process.view.memory.clone()),
                (None, Some(Absence::Destroyed)) => gone.push(member.node),
                // It comes back: without hearing it nothing may be decided.
                (None, _) => return Ok(()),
            }
        }
        // Whom the coordinator shows to lead may believe that, when others never will.
        let leader = self.coordinator.record().and_then(|record| record.leader);
        let leader = leader.filter(|leader| self.node(*leader).alive().is_some());
        let frozen = record.members.iter().map(|member| member.node).filter(|id| self.is_frozen(*id));
        let able: Vec<NodeId> = frozen.chain(leader).collect();
        let Some(chosen) = self.random.pick(&able) else { return Ok(()) };
        heard.retain(|memory| memory.node != chosen);
        self.command(chosen, OperatorCommand::AcceptCoordinator { heard, gone })
    }

    fn is_frozen(&self, id: NodeId) -> bool {
        self.node(id).alive().is_some_and(|process| process.view.frozen)
    }
}
