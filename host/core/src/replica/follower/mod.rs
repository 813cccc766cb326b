//! A replica that does not lead: it follows the leadership it promised, and has itself elected when that falls silent.

mod election;
mod log;

use super::effect::Refusal;
use super::event::{MonoTime, Read};
use super::message::{Body, Fence, Message, Position, StreamId};
use super::mutants::Mutant;
use super::shared::Shared;
use crate::group::NodeId;
use crate::ids::{Epoch, LogIndex};

/// A follower.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Follower {
    /// When the promised leader was last heard.
    heard: MonoTime,
    /// The leader's stream.
    stream: StreamId,
    /// The stream's first append fitted: the whole log is the leader's, too.
    matched: bool,
    /// How many rounds of matching the stream took.
    rounds: u32,
    /// What was said last about appends that do not fit: once is enough, whatever else is on its way.
    said: Option<Position>,
    /// What was verified in the promised epoch: the log is the leader's up to here.
    verified: (Epoch, LogIndex),
    /// The leadership that asks this replica to take over.
    campaign: Option<(Epoch, NodeId)>,
    /// The leader was told the effect digest up to here.
    told: LogIndex,
}

impl Follower {
    pub(super) fn new(now: MonoTime) -> Self {
        Self {
            heard: now,
            stream: StreamId(0),
            matched: false,
            rounds: 0,
            said: None,
            verified: (Epoch(0), LogIndex(0)),
            campaign: None,
            told: LogIndex(0),
        }
    }

    // --- Clients.

    pub(super) fn on_read(&self, shared: &mut Shared, read: Read) {
        let leader = self.leader(shared);
        if let Some(read) = shared.read_anywhere(read) {
            shared.refuse_read(read.id, Refusal::NotLeader { leader });
        }
        // What was told before may do.
        shared.wake_reads(0);
        self.ask_commit(shared);
    }

    /// Whom to name to clients.
    pub(super) fn leader(&self, shared: &Shared) -> Option<NodeId> {
        shared.hard.promised.leader.filter(|leader| *leader != shared.me())
    }

    /// Asks the leader for a commit index, if a read waits for one.
    fn ask_commit(&self, shared: &mut Shared) {
        let Some(leader) = self.leader(shared) else { return };
        let Some(to) = shared.record().and_then(|record| record.member(leader)) else { return };
        let to = to.incarnation;
        let again_after = shared.options.beacon.saturating_mul(2);
        if let Some(question) = shared.waiting.question(shared.now, again_after) {
            let fence = shared.fence(to, StreamId(0));
            shared.send_when_saved(leader, fence, Body::AskCommit { question });
        }
    }

    // --- The leader.

    pub(super) fn on_message(&mut self, shared: &mut Shared, from: NodeId, message: Message) {
        let Message { fence, body } = message;
        if !shared.is_established() || fence.to != shared.hard.incarnation {
            shared.keep_early(from, fence, &body);
            return shared.dropped("a message to another life of this copy");
        }
        let promised = shared.hard.promised;
        if fence.epoch < promised.epoch {
            // What a follower says is late; answered, two former leaders would refuse each other's refusals for ever.
            if !body.is_of_leader() {
                return shared.dropped("an answer to another leadership");
            }
            let answer = Fence { from: fence.to, to: fence.from, ..fence };
            return shared.send_when_saved(from, answer, Body::Refused { promised: promised.epoch });
        }
        if fence.epoch > promised.epoch {
            // Only the record makes a leader.
            shared.coordination.want_read();
            shared.keep_early(from, fence, &body);
            return shared.dropped("an epoch that no record names yet");
        }
        let Some(record) = shared.record() else { return };
        let listed = record.member(from).map(|member| member.incarnation);
        if !promised.is_to(from, fence.boot)
            || listed != Some(fence.from)
            || record.generation != fence.generation
        {
            return shared.dropped("a message of somebody who does not lead");
        }
        self.heard = shared.now;
        match body {
            Body::Beacon { round, commit } => self.on_beacon(shared, from, fence, round, commit),
            Body::TellCommit { question, commit } => {
                if shared.waiting.on_news(question, commit).is_some() {
                    self.learn_commit(shared, commit);
                }
            }
            Body::Campaign => self.campaign = Some((fence.epoch, from)),
            Body::Diverged { index } => {
                shared.quarantine(index);
                self.campaign = None;
                // The leader hears what this replica needs, although there may be nothing to write for long.
                self.acknowledge(shared);
            }
            Body::Open => self.on_open(shared, from, fence),
            _ if fence.stream != self.stream => shared.dropped("a message of another stream"),
            Body::Match { last, end } => self.on_match(shared, from, fence, last, end),
            Body::Append { previous, entries, commit } => {
                self.on_append(shared, from, fence, previous, entries, commit);
            }
            Body::Snapshot { meta, replace } => self.on_snapshot(shared, from, fence, meta, replace),
            Body::Last { .. }
            | Body::Durable { .. }
            | Body::BeaconAnswer { .. }
            | Body::AskCommit { .. }
            | Body::Refused { .. } => shared.dropped("a follower's message to a follower"),
        }
    }

    fn on_beacon(&mut self, shared: &mut Shared, from: NodeId, fence: Fence, round: u64, commit: LogIndex) {
        self.learn_commit(shared, commit);
        if !shared.is_saved() {
            // The next beacon will find the promise durable.
            return;
        }
        // Who asks to be elected grants no lease, or the old leader could read while the new one commits.
        let electing = self.is_electing(shared) || shared.coordination.asked_before;
        let lease = !electing || shared.breaks(Mutant::LeaseWhileElecting);
        if lease {
            shared.lease_granted_until = shared.now.after(shared.options.lease);
        }
        let answer = shared.fence(fence.from, StreamId(0));
        shared.send(from, answer, Body::BeaconAnswer { round, lease });
        if self.told < shared.applied {
            // No append asks for it, but the newest digest has to be compared, too.
            self.acknowledge(shared);
        }
    }

    /// What is committed is known to be in this log only as far as it was verified against this leader's.
    fn learn_commit(&self, shared: &mut Shared, commit: LogIndex) {
        if self.verified.0 == shared.hard.promised.epoch {
            shared.advance_commit(commit.min(self.verified.1));
        }
    }

    /// Another leadership was promised. Its silence counts from now.
    pub(super) fn on_new_promise(&mut self, now: MonoTime) {
        self.heard = now;
        self.said = None;
        self.stream = StreamId(0);
        self.matched = false;
        self.rounds = 0;
        self.campaign = None;
    }
}
