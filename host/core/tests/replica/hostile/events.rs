//! Events that may come from anybody: plausible ones with a field that is wrong, and nonsense.

use bytes::Bytes;
use mortise_core::digest::Digest;
use mortise_core::group::{
    BootId, Generation, GroupRecord, Incarnation, LeaseId, Member, MemberKind, NodeId, Nonce,
};
use mortise_core::ids::{Epoch, GroupId, LogIndex};
use mortise_core::replica::{
    Ack, Body, CoordinatorRequest, Effect, EpochTable, Event, Fence, Freshness, LogEntry, Memory, Message,
    MonoTime, OperatorCommand, Position, Proposal, Reach, Read, RequestId, Seen, SessionState, SnapshotMeta,
    StreamId, SwapOutcome, View, WriteId,
};

use super::dice::Dice;
use crate::world::{CLUSTER, GROUP, World, entry};

/// What an attacker may know: numbers in use, and what the replica asked for.
pub(crate) struct Surroundings {
    pub(crate) now: u64,
    me: NodeId,
    streams: Vec<u64>,
    seen: Seen,
    written: u64,
    swaps: Vec<GroupRecord>,
    requests: u64,
    snapshots: Vec<SnapshotMeta>,
}

impl Surroundings {
    pub(crate) fn of(world: &World, me: NodeId) -> Self {
        let streams = world.streams.values().map(|stream| stream.0).collect();
        let seen = world.coordinator.seen();
        let mut now = world.now;
        now += 1;
        Self { now, me, streams, seen, written: 20, swaps: Vec::new(), requests: 5, snapshots: Vec::new() }
    }

    /// Remembers what the replica asked for.
    pub(crate) fn look(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Write(id, _) => self.written = id.0,
                Effect::OpenStream { stream, .. } => self.streams = vec![stream.0, stream.0 - 1],
                Effect::Coordinate(CoordinatorRequest::Swap { record, .. }) => {
                    self.swaps = vec![record.clone()]
                }
                Effect::Coordinate(CoordinatorRequest::Read { request }) => self.requests = *request,
                Effect::FetchSnapshot { meta, .. } => self.snapshots = vec![meta.clone()],
                _ => {}
            }
        }
    }

    /// The next event.
    pub(crate) fn event(&self, dice: &mut Dice, view: &View) -> Event {
        match dice.below(20) {
            0..=1 => Event::Tick,
            2..=9 => Event::Message { from: self.node(dice), message: self.message(dice, view) },
            10 => Event::Durable(WriteId(dice.near(self.written))),
            11 => Event::Durable(WriteId(self.written)),
            12 => {
                let index = LogIndex(dice.near(view.applied.next().0));
                Event::Applied { index, digest: digest(dice) }
            }
            13 => self.coordinators(dice, view),
            14 => self.clients(dice, view),
            15 => Event::Operator { id: RequestId(dice.any()), command: self.command(dice, view) },
            16 => {
                let (peer, stream) = (self.node(dice), self.stream(dice));
                match dice.below(3) {
                    0 => Event::StreamOpened { peer, stream },
                    1 => Event::StreamClosed { peer, stream },
                    _ => Event::LogRead { peer, stream, entries: entries(dice, view, Position::default()) },
                }
            }
            17 => match dice.below(4) {
                0 => Event::SnapshotTaken(self.snapshot(dice, view)),
                1 => Event::SnapshotFailed,
                2 => Event::LogDropped { first: LogIndex(dice.near(view.applied.0)) },
                _ => Event::SnapshotFetched(self.snapshot(dice, view)),
            },
            18 => match dice.below(3) {
                0 => Event::Session(SessionState::Offline),
                1 => Event::Candidates((0..dice.below(5)).map(|_| self.node(dice)).collect()),
                _ => Event::Session(SessionState::Live(LeaseId(dice.near(1)))),
            },
            _ => match dice.once_in(64) {
                true => Event::Fault("a file is damaged".into()),
                false => Event::Tick,
            },
        }
    }

    fn node(&self, dice: &mut Dice) -> NodeId {
        NodeId(dice.pick(&[1, 2, 3, 1, 2, 3, 4, 0, u64::MAX]))
    }

    fn stream(&self, dice: &mut Dice) -> StreamId {
        let known = dice.pick(&[&self.streams[..], &[0]].concat());
        StreamId(dice.mostly(known))
    }

    // --- Messages.

    fn message(&self, dice: &mut Dice, view: &View) -> Message {
        let incarnation = |node: u64| {
            let record = view.record.as_ref().or(self.seen.record.as_ref());
            record.and_then(|record| record.member(NodeId(node))).map_or(1, |member| member.incarnation.0)
        };
        let from = incarnation(dice.below(3) + 1);
        let fence = Fence {
            cluster: dice.mostly(CLUSTER),
            group: GroupId(dice.mostly(GROUP.0)),
            generation: Generation(dice.mostly(view.record.as_ref().map_or(1, |record| record.generation.0))),
            epoch: Epoch(dice.mostly(view.promised.epoch.0)),
            boot: BootId(dice.mostly(view.promised.boot.0)),
            from: Incarnation(dice.mostly(from)),
            to: Incarnation(dice.mostly(view.incarnation.0)),
            stream: self.stream(dice),
        };
        Message { fence, body: self.body(dice, view) }
    }

    fn body(&self, dice: &mut Dice, view: &View) -> Body {
        let last = LogIndex(dice.near(view.last.index.0));
        let commit = LogIndex(dice.near(view.commit.0));
        match dice.below(16) {
            0 => Body::Open,
            1 => Body::Last { last: position(dice, view), reinstall: dice.once_in(4) },
            2 => {
                let last = if dice.once_in(4) { position(dice, view) } else { view.last };
                Body::Match { last, end: position(dice, view) }
            }
            3..=5 => {
                let previous = position(dice, view);
                Body::Append { previous, entries: entries(dice, view, previous), commit }
            }
            6..=7 => {
                let applied = (!dice.once_in(3)).then(|| (LogIndex(dice.near(view.applied.0)), digest(dice)));
                let rebuild = dice.once_in(8).then(|| LogIndex(dice.near(view.base.index.0)));
                Body::Durable { index: last, applied, rebuild }
            }
            8 => Body::Snapshot { meta: self.snapshot(dice, view), replace: dice.once_in(2) },
            9 => Body::Beacon { round: dice.near(3), commit },
            10 => Body::BeaconAnswer { round: dice.near(8), lease: dice.once_in(2) },
            11 => Body::AskCommit { question: dice.near(1) },
            12 => Body::TellCommit { question: dice.near(1), commit },
            13 => Body::Campaign,
            14 => Body::Diverged { index: last },
            _ => Body::Refused { promised: Epoch(dice.near(view.promised.epoch.0)) },
        }
    }

    fn snapshot(&self, dice: &mut Dice, view: &View) -> SnapshotMeta {
        if let Some(asked) = self.snapshots.first().filter(|_| dice.once_in(2)) {
            return asked.clone();
        }
        let last = position(dice, view);
        let mut epochs = EpochTable::default();
        epochs.append(Position { epoch: Epoch(1), index: LogIndex(1) });
        epochs.append(Position { epoch: last.epoch, index: LogIndex(dice.near(last.index.0).max(2)) });
        let epochs = if dice.once_in(4) { epochs } else { epochs.up_to(last.index) };
        let generation = Generation(dice.mostly(view.generation.0));
        SnapshotMeta { generation, last, epochs, digest: digest(dice), stamp: Default::default() }
    }

    // --- The coordinator.

    fn coordinators(&self, dice: &mut Dice, view: &View) -> Event {
        let seen = self.seen(dice, view);
        let nonce = match (self.swaps.first(), dice.once_in(4)) {
            (Some(record), false) => record.nonce,
            _ => Nonce(dice.any()),
        };
        match dice.below(6) {
            0 => Event::RecordChanged(seen),
            1 => Event::Swapped { nonce, outcome: SwapOutcome::Applied(seen) },
            2 => Event::Swapped { nonce, outcome: SwapOutcome::Refused(seen) },
            3 => Event::Swapped { nonce, outcome: SwapOutcome::Unknown },
            _ => {
                let request = dice.near(self.requests);
                Event::RecordRead { request, seen: (!dice.once_in(4)).then_some(seen) }
            }
        }
    }

    /// Later revisions of the record, mostly: the replica's own wish, or one that somebody else could have written.
    fn seen(&self, dice: &mut Dice, view: &View) -> Seen {
        let known = view.record.as_ref().or(self.seen.record.as_ref());
        let revision = self.seen.mod_revision + dice.below(200);
        let record = match dice.below(4) {
            0 => self.swaps.first().cloned().or(known.cloned()),
            1 => known.cloned(),
            2 => known.map(|known| self.changed(dice, known)),
            _ => known.map(|known| scrambled(dice, known)),
        };
        Seen {
            coordinator: dice.mostly(self.seen.coordinator),
            revision: dice.mostly(revision),
            mod_revision: dice.mostly(revision),
            record: record.filter(|_| !dice.once_in(16)),
        }
    }

    fn changed(&self, dice: &mut Dice, known: &GroupRecord) -> GroupRecord {
        let (node, nonce) = (self.node(dice), Nonce(dice.any()));
        let epoch = Epoch(known.epoch.0.saturating_add(dice.below(3)));
        let (boot, lease) = (BootId(dice.near(1)), LeaseId(dice.near(1)));
        match dice.below(7) {
            0 => known.elect(node, epoch, boot, lease, nonce),
            1 => known.shrink(&[node].into(), nonce),
            2 => known.expand(&[node].into(), nonce),
            3 => known.new_incarnation(node, nonce),
            4 => known.unclean_start(node, epoch, boot, lease, nonce),
            5 => known.remove(node, nonce).unwrap_or_else(|_| known.readopt(lease, nonce)),
            _ => {
                known.with_min_isr(dice.near(2) as u32, nonce).unwrap_or_else(|_| known.readopt(lease, nonce))
            }
        }
    }

    // --- Clients and operators.

    fn clients(&self, dice: &mut Dice, view: &View) -> Event {
        let id = RequestId(dice.any());
        match dice.below(6) {
            0..=1 => {
                let ack = if dice.once_in(2) { Ack::Leader } else { Ack::Committed };
                Event::Propose(Proposal { id, payload: payload(dice), ack })
            }
            2 => {
                let deadline = MonoTime(dice.near(self.now));
                Event::AskFate { id, token: position(dice, view), deadline }
            }
            _ => {
                let freshness = match dice.below(4) {
                    0 => Freshness::Linearizable,
                    1 => Freshness::Lease,
                    2 => Freshness::Bounded(dice.near(100_000)),
                    _ => Freshness::AtLeast(position(dice, view)),
                };
                Event::Read(Read { id, freshness, deadline: MonoTime(dice.near(self.now)) })
            }
        }
    }

    fn command(&self, dice: &mut Dice, view: &View) -> OperatorCommand {
        let node = self.node(dice);
        match dice.below(6) {
            0 => OperatorCommand::Transfer(node),
            1 => OperatorCommand::Add(node),
            2 => OperatorCommand::Remove(node),
            3 => OperatorCommand::SetMinIsr(dice.near(2) as u32),
            4 => OperatorCommand::UncleanStart,
            _ => {
                let heard = (0..dice.below(4)).map(|_| {
                    let node = self.node(dice);
                    let incarnation = Incarnation(dice.mostly(node.0));
                    let reach = Reach { incarnation, last: position(dice, view) };
                    Memory {
                        node,
                        epoch: Epoch(dice.near(2)),
                        seen: (!dice.once_in(4)).then(|| self.seen.clone()),
                        reach: (!dice.once_in(4)).then_some(reach),
                        frozen: dice.once_in(2),
                    }
                });
                let heard: Vec<Memory> = heard.collect();
                let gone = (1..=3).filter(|_| dice.once_in(2)).map(NodeId);
                let gone = gone.filter(|node| *node != self.me).collect();
                OperatorCommand::AcceptCoordinator { heard, gone }
            }
        }
    }
}

/// A record as a broken writer might leave it.
fn scrambled(dice: &mut Dice, known: &GroupRecord) -> GroupRecord {
    let mut record = known.clone();
    record.nonce = Nonce(dice.any());
    match dice.below(7) {
        0 => record.epoch = Epoch(dice.near(record.epoch.0)),
        1 => record.generation = Generation(dice.near(record.generation.0)),
        2 => record.leader = Some(NodeId(dice.near(2))),
        3 => record.min_isr = dice.near(2) as u32,
        4 => record.members.push(Member {
            node: NodeId(dice.near(4)),
            incarnation: Incarnation(dice.near(4)),
            kind: MemberKind::Learner,
        }),
        5 => _ = record.isr.insert(NodeId(dice.near(3))),
        _ => _ = record.elr.insert(NodeId(dice.near(3))),
    }
    record
}

fn digest(dice: &mut Dice) -> Digest {
    Digest([dice.below(2) as u8; 32])
}

fn position(dice: &mut Dice, view: &View) -> Position {
    let epoch = Epoch(dice.pick(&[view.last.epoch.0, view.last.epoch.0, 1, view.promised.epoch.0]));
    Position { epoch: Epoch(dice.mostly(epoch.0)), index: LogIndex(dice.near(view.last.index.0)) }
}

fn entries(dice: &mut Dice, view: &View, previous: Position) -> Vec<LogEntry> {
    let first = dice.mostly(previous.index.0.wrapping_add(1));
    let epoch = dice.mostly(view.promised.epoch.0);
    let count = dice.below(4);
    let entry = |offset| LogEntry {
        at: Position { epoch: Epoch(epoch), index: LogIndex(first.wrapping_add(offset)) },
        payload: payload(dice),
    };
    (0..count).map(entry).collect()
}

fn payload(dice: &mut Dice) -> Bytes {
    match dice.below(8) {
        0 => Bytes::new(),
        1 => Bytes::copy_from_slice(&dice.any().to_le_bytes()),
        _ => entry(
            dice.pick(&["x", "y", "a longer one than the others"]),
            dice.pick(&[1000, 1000, 0, u64::MAX]),
        )
        .encode(),
    }
}
