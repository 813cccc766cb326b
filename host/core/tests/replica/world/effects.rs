//! What replicas want done, and how it comes about.

use mortise_core::group::NodeId;
use mortise_core::ids::LogIndex;
use mortise_core::replica::{
    CoordinatorRequest, Effect, Event, LogEntry, Message, MonoTime, Notice, Position, ReadPermit, Refusal,
    RequestId, SnapshotMeta, SwapOutcome, Write,
};

use super::{Happening, World};
use crate::render::{Topic, changes, message, notice, refusal, write};

impl World {
    pub(super) fn carry_out(&mut self, id: NodeId, effect: Effect) {
        let boot = self.node(id).boot;
        match effect {
            Effect::Write(number, order) => {
                if self.shown.contains(&Topic::Writes) || matches!(order, Write::Truncate { .. }) {
                    self.say(format!("{id}: {}", write(&order)));
                }
                let node = self.node(id);
                node.installing |= matches!(order, Write::Install { .. });
                node.disk.write(number, order);
                self.soon(Happening::Flush { node: id, boot });
            }
            Effect::Send { to, message } => self.send(id, to, message),
            Effect::OpenStream { peer, stream } => {
                self.streams.insert((id, peer), stream);
                let is_up = self.nodes.get(&peer).is_some_and(|node| node.replica.is_some());
                let event = match is_up && !self.cut.contains(&(id, peer)) {
                    true => Event::StreamOpened { peer, stream },
                    false => Event::StreamClosed { peer, stream },
                };
                self.soon(Happening::Tell { node: id, boot, event });
            }
            Effect::CloseStream { peer, stream } => {
                if self.shown.contains(&Topic::Messages) {
                    self.say(format!("{id}: gives up stream {} to {peer}", stream.0));
                }
            }
            Effect::ReadLog { peer, stream, first, last, bytes_max } => {
                let entries = self.node(id).disk.read(first, last, bytes_max);
                self.say(format!("{id}: reads {} entries from {first} on back for {peer}", entries.len()));
                let event = Event::LogRead { peer, stream, entries };
                self.soon(Happening::Tell { node: id, boot, event });
            }
            Effect::Apply { up_to } => self.soon(Happening::Apply { node: id, boot, up_to }),
            Effect::Proposed { id: request, result } => self.proposed(id, request, result),
            Effect::Acknowledge { id: request, token } => {
                let name = self.name(request);
                self.say(format!("{id}: {name} is durable here: token {}", place(token)));
            }
            Effect::Fate { id: request, result } => {
                let name = self.name(request);
                let fate = result.map_or_else(refusal, |fate| format!("{fate:?}"));
                self.say(format!("{id}: {name}: {fate}"));
            }
            Effect::Read { id: request, result } => self.read(id, request, result),
            Effect::Coordinate(request) => self.coordinate(id, request),
            Effect::FetchSnapshot { from, meta } => {
                self.say(format!("{id}: fetches the snapshot at {} from {from}", place(meta.last)));
                self.soon(Happening::Fetch { node: id, boot, from, meta });
            }
            Effect::TakeSnapshot => {
                let meta = self.node(id).disk.take_snapshot();
                self.say(format!("{id}: takes a snapshot at {}", place(meta.last)));
                self.soon(Happening::Tell { node: id, boot, event: Event::SnapshotTaken(meta) });
            }
            Effect::Operator { id: request, result } => {
                let name = self.name(request);
                self.say(match result {
                    Ok(()) => format!("{id}: {name}: done"),
                    Err(why) => format!("{id}: {name}: refused, {why}"),
                });
            }
            Effect::Notice(told) => self.notice(id, &told),
        }
    }

    fn notice(&mut self, id: NodeId, told: &Notice) {
        if let Notice::Record(_) = told
            && !self.shown.contains(&Topic::Records)
        {
            return;
        }
        self.say(format!("{id}: {}", notice(told)));
        if let Notice::StepsDown { .. } | Notice::Halted(_) = told {
            for name in std::mem::take(&mut self.node(id).proposals).into_values() {
                self.say(format!("{id}: {name} is unknown"));
            }
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, sent: Message) {
        let topic = Topic::of(&sent.body);
        let is_lost = self.cut.contains(&(from, to));
        if topic.is_some_and(|topic| self.shown.contains(&topic)) {
            let end = if is_lost { " (lost)" } else { "" };
            self.say(format!("{from}: to {to}: {}{end}", message(&sent)));
        }
        if !is_lost {
            self.soon(Happening::Deliver { from, to, message: sent });
        }
    }

    // --- Answers to clients.

    fn proposed(&mut self, id: NodeId, request: RequestId, result: Result<Position, Refusal>) {
        let name = self.name(request);
        match result {
            Ok(at) => {
                self.say(format!("{id}: {name} at {}", place(at)));
                self.node(id).proposals.insert(at, name);
            }
            Err(why) => self.say(format!("{id}: {name}: {}", refusal(why))),
        }
    }

    fn read(&mut self, id: NodeId, request: RequestId, result: Result<ReadPermit, Refusal>) {
        let name = self.name(request);
        match result {
            Ok(permit) => {
                let machine = &self.node(id).disk.machine;
                assert!(machine.applied >= permit.index, "a permit says what is applied");
                let state = machine.commands.join(" ");
                let until = match permit.valid_until {
                    MonoTime::MAX => String::new(),
                    MonoTime(until) => {
                        format!(", valid until {}.{:03}", until / 1_000_000, until / 1000 % 1000)
                    }
                };
                self.say(format!("{id}: {name} sees \"{state}\" at {}{until}", permit.index));
            }
            Err(why) => self.say(format!("{id}: {name}: {}", refusal(why))),
        }
    }

    // --- The coordinator.

    fn coordinate(&mut self, id: NodeId, request: CoordinatorRequest) {
        let boot = self.node(id).boot;
        let is_away = self.away.contains(&id);
        match request {
            CoordinatorRequest::Read { request } => {
                let seen = (!is_away).then(|| self.coordinator.seen());
                let event = Event::RecordRead { request, seen };
                self.soon(Happening::Tell { node: id, boot, event });
            }
            CoordinatorRequest::Swap { expected, record } => {
                let nonce = record.nonce;
                let change = changes(self.coordinator.record.as_ref(), &record);
                let (outcome, what) = if is_away {
                    (SwapOutcome::Unknown, "the coordinator does not answer")
                } else {
                    self.coordinator.swap(expected, record)
                };
                self.say(format!("{id}: swaps {change}: {what}"));
                self.soon(Happening::Tell { node: id, boot, event: Event::Swapped { nonce, outcome } });
                if !is_away {
                    self.tell_record();
                }
            }
            CoordinatorRequest::Candidacy(wanted) => {
                if !is_away {
                    self.coordinator.candidacy(id, wanted);
                    self.tell_candidates();
                }
            }
        }
    }

    // --- What happens.

    pub(super) fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Deliver { from, to, message } => self.step(to, Event::Message { from, message }),
            Happening::Flush { node, boot } if self.node(node).boot == boot => {
                if let Some(write) = self.node(node).disk.flush() {
                    self.node(node).installing = false;
                    self.step(node, Event::Durable(write));
                }
            }
            Happening::Apply { node, boot, up_to } if self.node(node).boot == boot => self.apply(node, up_to),
            Happening::Watch { node, boot, seen }
                if self.node(node).boot == boot && !self.away.contains(&node) =>
            {
                self.step(node, Event::RecordChanged(seen));
            }
            Happening::Fetch { node, boot, from, meta } if self.node(node).boot == boot => {
                self.fetch(node, from, meta);
            }
            Happening::Tell { node, boot, event } if self.node(node).boot == boot => self.step(node, event),
            // The process that it was for has ended, or the watch is cut off.
            _ => {}
        }
    }

    fn apply(&mut self, id: NodeId, up_to: LogIndex) {
        while self.nodes.get(&id).is_some_and(|node| {
            node.replica.is_some() && !node.installing && node.disk.machine.applied < up_to
        }) {
            let node = self.node(id);
            let next = node.disk.machine.applied.next();
            let entry: LogEntry = node.disk.entry(next).expect("what is applied is durable here").clone();
            let differs = node.differs;
            node.disk.machine.apply(&entry, differs);
            let digest = node.disk.machine.digest;
            if let Some(name) = node.proposals.remove(&entry.at) {
                self.say(format!("{id}: {name} is acknowledged"));
            }
            self.step(id, Event::Applied { index: next, digest });
        }
    }

    fn fetch(&mut self, id: NodeId, from: NodeId, meta: SnapshotMeta) {
        let is_reached = self.nodes.get(&from).is_some_and(|node| node.replica.is_some())
            && !self.cut.contains(&(from, id));
        let found = self.node(from).disk.snapshot.clone().filter(|(kept, _)| is_reached && *kept == meta);
        let event = match found {
            Some(snapshot) => {
                self.node(id).disk.fetched = Some(snapshot);
                Event::SnapshotFetched(meta)
            }
            None => Event::SnapshotFailed,
        };
        self.step(id, event);
    }
}

pub(crate) fn place(at: Position) -> String {
    format!("{}.{}", at.epoch, at.index)
}
