//! One step of a world: an event for a node, its effects, and what follows of itself.

use std::collections::VecDeque;
use std::sync::Arc;

use mortise_core::group::NodeId;
use mortise_core::ids::LogIndex;
use mortise_core::replica::{
    Body, CoordinatorRequest, Effect, Event, LogEntry, Message, Notice, SwapOutcome, Write,
};

use crate::bounds::{Bounds, Budget, Fsync};
use crate::coverage::{Coverage, Seen};
use crate::history::Breach;
use crate::network::Channel;
use crate::world::{Stream, World};

/// A world that is about to change.
pub struct Step<'a> {
    /// The world.
    pub world: World,
    /// The configuration.
    pub bounds: &'a Bounds,
    /// What happened, over all steps.
    pub coverage: &'a Coverage,
}

/// Events that follow at once.
type Next = VecDeque<Event>;

impl Step<'_> {
    /// Gives a node an event, carries its effects out, and what follows at the same node.
    pub fn feed(&mut self, id: NodeId, event: Event) {
        let mut events = Next::from([event]);
        while let Some(event) = events.pop_front() {
            let node = self.world.node_mut(id);
            let before = node.view.clone();
            let effects = node.step(event);
            for effect in effects {
                self.carry_out(id, effect, &mut events);
            }
            self.observe(id, &before);
        }
    }

    /// Lets everything happen that happens of itself. The last thing that is done to a world.
    pub fn settle(&mut self) {
        while self.sync_at_once() || self.match_at_once() || self.forget_message() {}
        for node in &mut self.world.nodes {
            // A node that is shared with the state before was not touched.
            if let Some(node) = Arc::get_mut(node) {
                node.fingerprint();
            }
        }
    }

    /// Makes a disk's writes durable.
    pub fn sync(&mut self, id: NodeId) -> bool {
        let Some(write) = self.world.node_mut(id).disk.sync() else { return false };
        self.feed(id, Event::Durable(write));
        true
    }

    /// Delivers a message.
    pub fn deliver(&mut self, channel: Channel, place: usize) {
        let Some(message) = self.world.network.take(channel, place) else { return };
        let campaign = matches!(message.body, Body::Campaign);
        self.feed(channel.to, Event::Message { from: channel.from, message: (*message).clone() });
        if campaign {
            self.feed(channel.to, Event::Tick);
        }
    }

    /// Shows a node the record as it is now: as the answer to its swap, if it waits for one, else by its watch.
    pub fn learn(&mut self, id: NodeId) {
        let (seen, nonce) = (self.world.coordinator.seen(), self.world.coordinator.record.nonce);
        self.world.node_mut(id).coordinator = seen.coordinator;
        if let Some(asked) = self.world.node_mut(id).asked.take() {
            let applied = asked == nonce;
            let outcome =
                if applied { SwapOutcome::Applied(seen.clone()) } else { SwapOutcome::Refused(seen.clone()) };
            self.feed(id, Event::Swapped { nonce: asked, outcome });
        }
        if !self.world.is_informed(self.world.node(id)) {
            self.feed(id, Event::RecordChanged(seen));
        }
        self.establish(id);
    }

    /// A copy without an incarnation asks for one as soon as it knows the record.
    pub fn establish(&mut self, id: NodeId) {
        let view = &self.world.node(id).view;
        if !view.established && view.record.is_some() {
            self.feed(id, Event::Tick);
        }
    }

    // --- What a node wants done.

    fn carry_out(&mut self, id: NodeId, effect: Effect, events: &mut Next) {
        match effect {
            Effect::Write(_, Write::Install { .. }) | Effect::FetchSnapshot { .. } | Effect::TakeSnapshot => {
                self.world.history.breach(Breach::Unforeseen);
            }
            Effect::Write(write, what) => self.world.node_mut(id).disk.write(write, what),
            Effect::Send { to, message } => self.send(id, to, message),
            Effect::OpenStream { peer, stream } => {
                self.world.streams.retain(|known| (known.leader, known.peer) != (id, peer));
                self.world.streams.push(Stream { leader: id, peer, stream, broken: false });
                self.world.streams.sort();
                events.push_back(Event::StreamOpened { peer, stream });
            }
            Effect::CloseStream { peer, stream } => {
                self.world.streams.retain(|known| (known.leader, known.stream) != (id, stream));
                let epoch = self.world.node(id).view.promised.epoch;
                self.world.network.lose(|channel| {
                    (channel.from, channel.to, channel.stream) == (id, peer, stream) && channel.epoch == epoch
                });
            }
            Effect::ReadLog { peer, stream, first, last, .. } => {
                let log = &self.world.node(id).disk.written.log;
                let wanted = |entry: &&LogEntry| first <= entry.at.index && entry.at.index <= last;
                let entries = log.iter().filter(wanted).cloned().collect();
                events.push_back(Event::LogRead { peer, stream, entries });
            }
            Effect::Apply { up_to } => {
                let node = self.world.node(id);
                for index in node.view.applied.0 + 1..=up_to.0 {
                    let index = LogIndex(index);
                    events.push_back(Event::Applied { index, digest: node.disk.digest(index) });
                }
            }
            Effect::Coordinate(request) => self.coordinate(id, request, events),
            Effect::Notice(notice) => self.note(notice),
            Effect::Operator { .. } => {}
            Effect::Proposed { .. }
            | Effect::Acknowledge { .. }
            | Effect::Fate { .. }
            | Effect::Read { .. } => {
                self.answer(id, &effect);
            }
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        self.observe_message(from, &message);
        // Beacons and refusals only bring about what time and the watch bring about here.
        let kept = match message.body {
            Body::Beacon { .. } | Body::BeaconAnswer { .. } => self.bounds.limits.of(Budget::Read) > 0,
            Body::Refused { .. } => false,
            _ => true,
        };
        if kept {
            self.world.network.send(from, to, message);
        }
    }

    fn coordinate(&mut self, id: NodeId, request: CoordinatorRequest, events: &mut Next) {
        match request {
            CoordinatorRequest::Read { request } => {
                let seen = self.world.coordinator.seen();
                self.world.node_mut(id).coordinator = seen.coordinator;
                events.push_back(Event::RecordRead { request, seen: Some(seen) });
            }
            CoordinatorRequest::Swap { expected, record } => {
                let node = self.world.node_mut(id);
                node.asked = Some(record.nonce);
                let boot = node.boot;
                self.world.coordinator.ask(id, boot, expected, record);
            }
            CoordinatorRequest::Candidacy(_) => {}
        }
    }

    fn note(&mut self, notice: Notice) {
        match notice {
            Notice::Happened(rare) => self.coverage.happened(rare),
            Notice::Leads { .. } => self.coverage.saw(Seen::Leadership),
            Notice::Frozen(_) if self.world.history.restored => self.coverage.saw(Seen::Freeze),
            Notice::Frozen(_) | Notice::Halted(_) | Notice::Quarantined { .. } => {
                self.world.history.breach(Breach::Unforeseen);
            }
            _ => {}
        }
    }

    // --- What happens of itself.

    /// Syncs the first disk whose writes this configuration does not hold back.
    fn sync_at_once(&mut self) -> bool {
        let at_once = self.world.nodes.iter().find(|node| {
            let late = match self.bounds.fsync {
                Fsync::Eager => false,
                Fsync::LeaderLate => node.leads(),
                Fsync::LogLate => true,
                Fsync::AllLate => return false,
            };
            !node.disk.queue.is_empty() && (!late || node.disk.waits_with_saves_only())
        });
        at_once.map(|node| node.id).is_some_and(|id| self.sync(id))
    }

    /// Delivers the first message that belongs to the matching of two logs. When it begins, which may cost the follower
    /// entries, is a matter of chance.
    fn match_at_once(&mut self) -> bool {
        let of_matching = |message: &Message| matches!(message.body, Body::Last { .. } | Body::Match { .. });
        let next = self
            .world
            .network
            .heads()
            .find(|(channel, _, message)| of_matching(message) && self.world.is_ready(*channel, message));
        let Some((channel, place, _)) = next else { return false };
        self.deliver(channel, place);
        true
    }

    /// Forgets the first message of the past that its listener would drop, now and for ever.
    fn forget_message(&mut self) -> bool {
        let world = &self.world;
        let useless = world.network.heads().find(|(channel, _, message)| {
            let node = world.node(channel.to);
            let past = message.fence.epoch < node.view.promised.epoch
                || message.fence.to != node.view.incarnation && !world.is_listed(*channel, message);
            past && {
                let event = Event::Message { from: channel.from, message: (***message).clone() };
                let (effects, changed) = node.probe(event);
                let trivial = |effect: &Effect| match effect {
                    Effect::Notice(Notice::Dropped(_)) => true,
                    Effect::Send { message, .. } => matches!(message.body, Body::Refused { .. }),
                    _ => false,
                };
                !changed && effects.iter().all(trivial)
            }
        });
        let Some((channel, place, _)) = useless else { return false };
        self.world.network.take(channel, place);
        true
    }
}

impl World {
    /// Whether the listener has seen the record of the message's epoch, and does not yet have to begin the life that the
    /// message is meant for. It would drop the message otherwise, and its sender would try again later: here the
    /// message waits.
    pub fn is_ready(&self, channel: Channel, message: &Message) -> bool {
        let view = &self.node(channel.to).view;
        let begun = message.fence.to == view.incarnation || !self.is_listed(channel, message);
        message.fence.epoch <= view.promised.epoch && begun
    }

    /// Whether a message is meant for the life of its listener that the record lists.
    fn is_listed(&self, channel: Channel, message: &Message) -> bool {
        let member = self.coordinator.record.member(channel.to);
        member.is_some_and(|member| member.incarnation == message.fence.to)
    }
}
