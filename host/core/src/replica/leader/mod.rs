//! A replica that leads: it orders writes, sends them to the others, and decides what is committed.

mod commit;
mod divergence;
mod members;
mod peer;
mod replicate;
mod serve;
mod snapshots;

use std::collections::{BTreeMap, VecDeque};

use self::members::Wish;
use self::peer::Peer;
use self::serve::Handover;
use super::effect::{Effect, Notice, Refusal};
use super::event::{MonoTime, RequestId};
use super::message::{Body, Fence, LogEntry, Message, Position};
use super::mutants::Mutant;
use super::shared::Shared;
use crate::entry::{Body as EntryBody, Entry, Stamp};
use crate::group::NodeId;
use crate::ids::{Epoch, LogIndex};

/// Beacons whose sending time is remembered: an older answer grants no lease.
const ROUNDS_KEPT: usize = 64;

/// A leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leader {
    epoch: Epoch,
    /// The epoch-start entry: nothing is committed below it, and nothing served before it is applied.
    start: LogIndex,
    serving: bool,
    /// Every other member of the known record.
    peers: BTreeMap<NodeId, Peer>,
    /// The last beacon's round.
    round: u64,
    /// When the last beacons were sent.
    rounds: VecDeque<(u64, MonoTime)>,
    beacon_at: MonoTime,
    /// When a snapshot was asked for last.
    snapshot_asked_at: Option<MonoTime>,
    ticked_at: MonoTime,
    /// Proposals that are not committed, with their bytes.
    uncommitted: VecDeque<(LogIndex, usize)>,
    uncommitted_bytes: usize,
    /// `ack = leader` proposals that are not durable here.
    to_acknowledge: VecDeque<(RequestId, Position)>,
    /// Questions about tokens that cannot be decided yet, with their deadlines.
    fates: Vec<(RequestId, Position, MonoTime)>,
    /// Questions of followers that wait for a confirmation: who, which, the round, the commit index.
    questions: VecDeque<(NodeId, u64, u64, LogIndex)>,
    handover: Option<Handover>,
    /// Reads were permitted under a lease until then.
    permitted_until: MonoTime,
    /// Somebody was asked to take over in this epoch: it may commit while a lease lasts.
    leases_ended: bool,
    /// An operator's change of the record that waits for its turn.
    wish: Option<Wish>,
}

impl Leader {
    /// Begins to lead in the promised epoch. What earlier leaderships knew of the others counts for nothing.
    pub(super) fn new(shared: &mut Shared) -> Self {
        let epoch = shared.hard.promised.epoch;
        let start = shared.log.last().index.next();
        let mut leader = Self {
            epoch,
            start,
            serving: false,
            peers: BTreeMap::new(),
            round: 0,
            rounds: VecDeque::new(),
            beacon_at: shared.now,
            snapshot_asked_at: None,
            ticked_at: shared.now,
            uncommitted: VecDeque::new(),
            uncommitted_bytes: 0,
            to_acknowledge: VecDeque::new(),
            fates: Vec::new(),
            questions: VecDeque::new(),
            handover: None,
            permitted_until: MonoTime(0),
            leases_ended: false,
            wish: None,
        };
        leader.take_history(shared);
        leader.append_start(shared);
        leader.on_record(shared);
        leader.on_tick(shared);
        leader
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn start(&self) -> LogIndex {
        self.start
    }

    pub(super) fn is_serving(&self) -> bool {
        self.serving
    }

    /// What this replica holds is the history from now on, where an operator began a new one.
    fn take_history(&self, shared: &mut Shared) {
        let generation = shared.record().map(|record| record.generation);
        if let Some(generation) = generation.filter(|generation| *generation > shared.hard.generation) {
            shared.hard.generation = generation;
            shared.save();
        }
    }

    /// Log time goes on from the log's last entry; the first proposal brings it up to the clock.
    fn append_start(&self, shared: &mut Shared) {
        let stamp = shared.log.stamp();
        let Stamp { time, profile } = stamp;
        let at = Position { epoch: self.epoch, index: self.start };
        let entry = Entry { epoch: at.epoch, index: at.index, time, profile, body: EntryBody::EpochStart };
        shared.append(vec![LogEntry { at, payload: entry.encode() }], stamp);
    }

    /// The leadership ends: what waits for it is told so.
    pub(super) fn step_down(self, shared: &mut Shared) {
        let leader = shared.hard.promised.leader.filter(|leader| *leader != shared.me());
        let refusal = Refusal::NotLeader { leader };
        for (id, ..) in self.fates {
            shared.effects.push(Effect::Fate { id, result: Err(refusal) });
        }
        if let Some(handover) = self.handover {
            let done = leader == Some(handover.target());
            let result =
                if done { Ok(()) } else { Err(format!("another node than {} leads now", handover.target())) };
            shared.effects.push(Effect::Operator { id: handover.id(), result });
        }
        if let Some(wish) = self.wish {
            let result = Err("this node does not lead any more: ask the leader".to_string());
            shared.effects.push(Effect::Operator { id: wish.id, result });
        }
        for (node, peer) in self.peers {
            if let Some(stream) = peer.stream() {
                shared.effects.push(Effect::CloseStream { peer: node, stream });
            }
        }
        shared.refuse_unconfirmed(refusal);
        shared.notice(Notice::StepsDown { epoch: self.epoch });
    }

    pub(super) fn on_tick(&mut self, shared: &mut Shared) {
        self.forgive_pause(shared);
        if shared.now >= self.beacon_at {
            self.send_beacons(shared);
        }
        self.tend_streams(shared);
        self.offer_rebuilds(shared);
        self.tend_handover(shared);
        self.change_members(shared);
        self.decide_fates(shared);
    }

    /// A leader that was itself asleep must not take the others for dead.
    fn forgive_pause(&mut self, shared: &Shared) {
        let pause = shared.now.since(self.ticked_at);
        if pause > shared.options.beacon.saturating_mul(2) {
            self.peers.values_mut().for_each(|peer| peer.forgive(pause));
        }
        self.ticked_at = shared.now;
    }

    pub(super) fn on_message(&mut self, shared: &mut Shared, from: NodeId, message: Message) {
        let Message { fence, body } = message;
        let incarnation = shared.hard.incarnation;
        if let Body::Refused { promised } = body {
            if promised > self.epoch {
                // Somebody else may lead: the record knows.
                shared.coordination.want_read();
            }
            return;
        }
        if fence.epoch > self.epoch {
            shared.coordination.want_read();
            shared.keep_early(from, fence, &body);
            return shared.dropped("an epoch that no record names yet");
        }
        if body.is_of_leader() && fence.epoch < self.epoch {
            let answer = Fence { from: fence.to, to: fence.from, ..fence };
            return shared.send(from, answer, Body::Refused { promised: self.epoch });
        }
        let unfenced = shared.breaks(Mutant::AnswersUnfenced);
        let Some(peer) = self.peers.get_mut(&from) else {
            return shared.dropped("a message of a node that is no member");
        };
        let generation = shared.record().map(|record| record.generation);
        let fits = fence.epoch == self.epoch
            && fence.boot == shared.options.boot
            && fence.to == incarnation
            && fence.from == peer.incarnation()
            && Some(fence.generation) == generation;
        if !fits && !unfenced {
            return shared.dropped("an answer to another leadership");
        }
        let of_stream = matches!(body, Body::Last { .. } | Body::Durable { .. });
        if of_stream && peer.stream() != Some(fence.stream) && !unfenced {
            return shared.dropped("an answer on another stream");
        }
        match body {
            Body::Last { last, reinstall } => self.on_last(shared, from, last, reinstall),
            Body::Durable { index, applied, rebuild } => {
                self.on_peer_durable(shared, from, index, applied, rebuild);
            }
            Body::BeaconAnswer { round, lease } => self.on_beacon_answer(shared, from, round, lease),
            Body::AskCommit { question } => self.on_question(shared, from, question),
            _ => shared.dropped("a leader's message to a leader"),
        }
    }
}
