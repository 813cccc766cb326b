//! The observer: what steps show of the invariants that a state alone does not.

use mortise_core::group::NodeId;
use mortise_core::ids::LogIndex;
use mortise_core::replica::{Body, Effect, Fate, Message, Position, View};

use crate::coverage::Seen;
use crate::history::{Breach, Token};
use crate::step::Step;

impl Step<'_> {
    /// Looks at a node after a step.
    pub fn observe(&mut self, id: NodeId, before: &View) {
        let node = self.world.node(id);
        let (view, boot, leads) = (&node.view, node.boot, node.leads());
        let (epoch, commit) = (view.promised.epoch, view.commit);
        if epoch < before.promised.epoch || view.generation < before.generation {
            self.world.history.breach(Breach::I7);
        }
        if leads {
            self.world.history.leads(epoch, id, boot);
        }
        if commit > before.commit {
            self.observe_commit(id, leads, commit);
        }
    }

    fn observe_commit(&mut self, id: NodeId, leads: bool, commit: LogIndex) {
        let node = self.world.node(id);
        let count = usize::try_from(commit.0).unwrap_or(usize::MAX);
        let Some(entries) = node.disk.written.log.get(..count).map(<[_]>::to_vec) else {
            return self.world.history.breach(Breach::I2);
        };
        if !leads {
            // A follower knows of no commit that no leader has made.
            if self.world.history.committed.get(..count) != Some(entries.as_slice()) {
                self.world.history.breach(Breach::I2);
            }
            return;
        }
        self.coverage.saw(Seen::Commit);
        let mut breaches = Vec::new();
        if let Some(last) = entries.last() {
            let holders = self.world.nodes.iter().filter(|node| node.disk.durable.holds(last)).count();
            let wiped = self.world.history.wiped as usize;
            let needed = node.view.record.as_ref().map_or(1, |record| record.min_isr as usize);
            if holders + wiped < needed {
                breaches.push(Breach::I6);
            }
            let counted = node.view.maximal_isr.iter();
            let mut present = counted.filter(|(member, life)| self.world.node(*member).is_intact(*life));
            if present.any(|(member, _)| !self.world.node(*member).disk.durable.holds(last)) {
                breaches.push(Breach::I10);
            }
        }
        if node.view.epoch_start.is_some_and(|start| commit < start) {
            breaches.push(Breach::I11);
        }
        breaches.into_iter().for_each(|breach| self.world.history.breach(breach));
        self.world.history.commit(&entries);
    }

    /// Looks at a message that is being sent.
    pub fn observe_message(&mut self, from: NodeId, message: &Message) {
        let durable = &self.world.node(from).disk.durable;
        // What speaks for a promise needs it on disk.
        let promised = durable.hard.promised.epoch >= message.fence.epoch;
        let saved = match message.body {
            Body::Durable { index, .. } => index <= durable.last(),
            _ => true,
        };
        if !promised {
            self.world.history.breach(Breach::I7);
        }
        if !saved {
            self.world.history.breach(Breach::I8);
        }
    }

    /// Looks at an answer to a client.
    pub fn answer(&mut self, id: NodeId, effect: &Effect) {
        let view = &self.world.node(id).view;
        let started = view.epoch_start.is_none_or(|start| view.applied >= start);
        match effect {
            Effect::Proposed { result: Ok(_), .. } if !started => {
                self.world.history.breach(Breach::I11);
            }
            Effect::Acknowledge { token, .. } => self.observe_token(id, *token),
            Effect::Fate { id: request, result } => {
                let asked = Some((id, *request));
                self.observe_fate(asked, result.ok());
            }
            Effect::Read { id: request, result } => {
                let Some(place) = self.world.history.reads.iter().position(|read| read.id == *request) else {
                    return;
                };
                let applied = view.applied;
                let read = self.world.history.reads.remove(place);
                if let Ok(permit) = result {
                    self.coverage.saw(Seen::Read);
                    if !started {
                        self.world.history.breach(Breach::I11);
                    }
                    if permit.index.0 < read.floor || applied < permit.index {
                        self.world.history.breach(Breach::I9);
                    }
                }
            }
            _ => {}
        }
    }

    fn observe_token(&mut self, id: NodeId, at: Position) {
        if self.world.node(id).disk.durable.last() < at.index {
            self.world.history.breach(Breach::I8);
        }
        self.world.history.tokens.push(Token { at, asked: None, told: None });
    }

    fn observe_fate(
        &mut self,
        asked: Option<(NodeId, mortise_core::replica::RequestId)>,
        fate: Option<Fate>,
    ) {
        let history = &mut self.world.history;
        let Some(token) = history.tokens.iter_mut().find(|token| token.asked == asked) else { return };
        token.asked = None;
        let contradicts = token.told.is_some() && fate.is_some() && token.told != fate;
        token.told = token.told.or(fate);
        if contradicts {
            history.breach(Breach::I13);
        }
    }
}
