//! A replica that does not lead: it follows the leadership it promised, and has itself elected when that falls silent.

use super::coordination::Purpose;
use super::effect::{Effect, Rare, Refusal};
use super::event::{MonoTime, Read};
use super::message::{Body, Fence, LogEntry, Message, Position, StreamId};
use super::mutants::Mutant;
use super::shared::{Fetch, Shared, is_possible};
use super::snapshot::SnapshotMeta;
use crate::entry::Stamp;
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
    /// Where the leader was last told that the log ends.
    last_told: Option<Position>,
    /// It has not answered that. One question at a time, or the answer to an old one is taken for that to the new one.
    asked: bool,
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
            last_told: None,
            asked: false,
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
            Body::Match { end } => self.on_match(shared, from, fence, end),
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

    fn on_open(&mut self, shared: &mut Shared, from: NodeId, fence: Fence) {
        if fence.stream < self.stream || (fence.stream == self.stream && self.matched) {
            return shared.dropped("a stream that was opened before");
        }
        self.stream = fence.stream;
        self.matched = false;
        self.rounds = 0;
        self.said = None;
        if shared.breaks(Mutant::TruncateToCommit) && shared.commit < shared.log.last().index {
            shared.truncate(shared.commit);
        }
        self.say_last(shared, from, fence, false);
    }

    fn say_last(&mut self, shared: &mut Shared, to: NodeId, fence: Fence, reinstall: bool) {
        let answer = shared.fence(fence.from, fence.stream);
        let last = shared.log.last();
        self.last_told = Some(last);
        self.asked = true;
        shared.send_when_saved(to, answer, Body::Last { last, reinstall });
    }

    fn on_match(&mut self, shared: &mut Shared, from: NodeId, fence: Fence, end: Position) {
        if self.matched || !is_possible(end) {
            return shared.dropped("a match for a stream that is matched");
        }
        self.asked = false;
        if self.last_told != Some(shared.log.last()) {
            // A snapshot took the log's place since the leader was told where it ends.
            shared.dropped("a match for a log that has changed");
            return self.say_last(shared, from, fence, false);
        }
        self.rounds += 1;
        if self.rounds == 2 {
            shared.happened(Rare::MatchedOverEpochs);
        }
        let last = shared.log.last();
        let own = shared.log.epochs().end_of(end.epoch, last.index);
        let cut = if own.epoch == end.epoch { own.index.min(end.index) } else { own.index };
        if cut < shared.commit {
            let risen = shared.record().is_some_and(|record| record.generation > shared.hard.generation);
            if !risen {
                return shared.halt(format!(
                    "the leader of epoch {} has other entries after {cut}, but entries up to {} are committed here: \
                     one of the two logs lost acknowledged data",
                    fence.epoch, shared.commit
                ));
            }
            return self.say_last(shared, from, fence, true);
        }
        if cut < last.index {
            shared.truncate(cut);
        }
        self.say_last(shared, from, fence, false);
    }

    fn on_append(
        &mut self,
        shared: &mut Shared,
        from: NodeId,
        fence: Fence,
        previous: Position,
        entries: Vec<LogEntry>,
        commit: LogIndex,
    ) {
        let last = shared.log.last();
        let fits = if self.matched { shared.log.holds(previous) } else { previous == last };
        if !fits || previous.index < shared.log.base().index {
            if self.said.replace(last) != Some(last) {
                shared.happened(Rare::Rematched);
                self.say_last(shared, from, fence, false);
            }
            return;
        }
        let Some((reached, stamp)) = check_entries(previous, &entries, fence.epoch) else {
            return shared.dropped("entries that cannot follow each other");
        };
        let known = entries.iter().take_while(|entry| entry.at.index <= last.index).count();
        if !entries.iter().take(known).all(|entry| shared.log.holds(entry.at)) {
            return shared.dropped("entries that contradict a matched log");
        }
        self.asked = false;
        self.match_log(shared);
        let new: Vec<LogEntry> = entries.into_iter().skip(known).collect();
        let appends = !new.is_empty();
        if appends {
            shared.append(new, stamp);
        }
        let before = if self.verified.0 == fence.epoch { self.verified.1 } else { LogIndex(0) };
        self.verified = (fence.epoch, before.max(reached));
        self.learn_commit(shared, commit);
        if !appends || shared.breaks(Mutant::AcknowledgeBeforeFsync) {
            self.acknowledge(shared);
        }
    }

    /// The log is the leader's, so it belongs to the leader's history.
    fn match_log(&mut self, shared: &mut Shared) {
        self.matched = true;
        let generation = shared.record().map(|record| record.generation);
        if let Some(generation) = generation.filter(|generation| *generation > shared.hard.generation) {
            shared.hard.generation = generation;
            shared.save();
        }
    }

    /// Tells the leader what is durable, as far as it is known to be the leader's.
    pub(super) fn acknowledge(&mut self, shared: &mut Shared) {
        let promised = shared.hard.promised;
        if !self.matched || self.verified.0 != promised.epoch || shared.is_installing() {
            return;
        }
        let Some(leader) = self.leader(shared) else { return };
        let Some(to) = shared.record().and_then(|record| record.member(leader)) else { return };
        let fence = shared.fence(to.incarnation, self.stream);
        let durable = if shared.breaks(Mutant::AcknowledgeBeforeFsync) {
            shared.log.last().index
        } else {
            shared.log.durable()
        };
        let (index, applied) = (durable.min(self.verified.1), shared.newest_digest());
        let rebuild = shared.hard.quarantined.map(|_| shared.log.base().index);
        self.told = applied.map_or(LogIndex(0), |(index, _)| index);
        shared.send_when_saved(leader, fence, Body::Durable { index, applied, rebuild });
    }

    fn on_snapshot(
        &mut self,
        shared: &mut Shared,
        from: NodeId,
        fence: Fence,
        meta: SnapshotMeta,
        replace: bool,
    ) {
        let consistent = is_possible(meta.last)
            && meta.epochs.epoch_at(meta.last.index) == meta.last.epoch
            && meta.epochs == meta.epochs.up_to(meta.last.index);
        let of_leader = meta.last.epoch <= fence.epoch && meta.generation == fence.generation;
        self.asked = false;
        if !consistent || !of_leader || shared.contradicts_commit(&meta) {
            return shared.dropped("a snapshot that cannot be");
        }
        if shared.fetch.is_some() || shared.is_installing() {
            return;
        }
        let reinstalls = meta.generation > shared.hard.generation;
        let diverged = shared.hard.quarantined.is_some();
        // A snapshot from before this log begins would cost the entries that are acknowledged after it.
        let reaches_log = meta.last.index >= shared.log.base().index;
        let rebuilds = replace && diverged && reaches_log;
        if meta.last.index <= shared.commit && !reinstalls && !rebuilds {
            shared.happened(Rare::SnapshotDropped);
            return self.say_last(shared, from, fence, false);
        }
        let replace = reinstalls || rebuilds;
        shared.fetch = Some(Fetch { meta: meta.clone(), replace, began_in: fence.epoch });
        shared.effects.push(Effect::FetchSnapshot { from, meta });
    }

    /// The log or its beginning has changed: the leader has to hear where it ends now.
    pub(super) fn tell_last(&mut self, shared: &mut Shared) {
        let Some(leader) = self.leader(shared) else { return };
        let Some(to) = shared.record().and_then(|record| record.member(leader)) else { return };
        if self.stream == StreamId(0) || self.asked {
            // Without a stream there is nobody to tell; and whoever has been asked is told when it answers.
            return;
        }
        let last = shared.log.last();
        self.last_told = Some(last);
        self.asked = true;
        let fence = shared.fence(to.incarnation, self.stream);
        shared.send_when_saved(leader, fence, Body::Last { last, reinstall: false });
    }

    /// A snapshot takes the log's place: what was verified is gone.
    pub(super) fn forget_match(&mut self) {
        self.matched = false;
        self.verified = (Epoch(0), LogIndex(0));
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

    // --- Time.

    pub(super) fn on_tick(&mut self, shared: &mut Shared) {
        shared.establish();
        self.take_over(shared);
        if self.may_be_elected(shared) {
            self.elect(shared);
        }
        self.ask_commit(shared);
    }

    /// Whether a swap may be under way that makes this replica the leader.
    fn is_electing(&self, shared: &Shared) -> bool {
        let swap = shared.coordination.swap.as_ref();
        swap.is_some_and(|swap| {
            matches!(
                swap.purpose,
                Purpose::Elect | Purpose::TakeOver | Purpose::Unclean(_) | Purpose::Accept(_)
            )
        })
    }

    /// Has itself elected as the leader asked. The swap is refused unless the record is the one looked at here.
    fn take_over(&mut self, shared: &mut Shared) {
        let Some((epoch, leader)) = self.campaign else { return };
        let Some(record) = shared.record() else { return };
        let in_sync = record.isr.contains(&shared.me()) || shared.breaks(Mutant::TransferOutsideIsr);
        let stands = record.leader == Some(leader) && record.epoch == epoch && in_sync;
        if !stands || shared.hard.quarantined.is_some() || !shared.is_established() {
            self.campaign = None;
            return;
        }
        if shared.may_swap() {
            self.campaign = None;
            let (next, nonce) = (self.next_epoch(shared), shared.nonce());
            let (me, boot) = (shared.me(), shared.options.boot);
            let lease = shared.coordination.lease.unwrap_or_default();
            if let Some(record) = shared.record().map(|record| record.transfer(me, next, boot, lease, nonce))
            {
                shared.swap(Purpose::TakeOver, record);
            }
        }
    }

    fn may_be_elected(&self, shared: &Shared) -> bool {
        let Some(record) = shared.record() else { return false };
        let me = shared.me();
        let eligible = record.is_eligible(me) || shared.breaks(Mutant::ElectStale);
        if !eligible || !shared.is_established() || !shared.may_swap() || shared.hard.quarantined.is_some() {
            return false;
        }
        if record.leader == Some(me) {
            // Nobody else can lead this epoch. If an earlier process of this node did, it is gone.
            return record.leader_boot != shared.options.boot;
        }
        let gone = record.leader.is_some_and(|leader| !shared.coordination.candidates.contains(&leader));
        if gone && shared.breaks(Mutant::SessionDeposes) {
            return true;
        }
        let options = &shared.options;
        let silent_since = match record.leader {
            Some(_) => self.heard.max(shared.booted).after(options.grace),
            // There is nobody to be silent.
            None => shared.coordination.record_since.max(shared.booted),
        };
        let turn = silent_since.after(options.beacon.saturating_mul(self.rank(shared)));
        // What was granted before a restart is not remembered.
        let forgotten = shared.booted.after(options.lease + options.lease_margin);
        let no_lease =
            shared.now >= shared.lease_granted_until && (shared.now >= forgotten || record.epoch == Epoch(0));
        shared.now >= turn && no_lease
    }

    /// How many candidates go first: the in-sync ones before the eligible ones, each by age of its candidacy.
    fn rank(&self, shared: &Shared) -> u64 {
        let Some(record) = shared.record() else { return 0 };
        let me = shared.me();
        let candidates = &shared.coordination.candidates;
        let place = |node: NodeId| {
            let listed = candidates.iter().position(|candidate| *candidate == node);
            (!record.isr.contains(&node), listed.unwrap_or(candidates.len()), node)
        };
        let others = candidates.iter().filter(|node| **node != me && record.leader != Some(**node));
        others.filter(|node| record.is_eligible(**node) && place(**node) < place(me)).count() as u64
    }

    fn next_epoch(&self, shared: &Shared) -> Epoch {
        let recorded = shared.record().map_or(Epoch(0), |record| record.epoch);
        recorded.max(shared.hard.promised.epoch).next()
    }

    fn elect(&self, shared: &mut Shared) {
        let (epoch, nonce) = (self.next_epoch(shared), shared.nonce());
        let (me, boot) = (shared.me(), shared.options.boot);
        let Some(lease) = shared.coordination.lease else { return };
        let Some(record) = shared.record() else { return };
        let from_elr = record.elr.contains(&me);
        let record = record.elect(me, epoch, boot, lease, nonce);
        if from_elr {
            shared.happened(Rare::ElectedFromElr);
        }
        shared.swap(Purpose::Elect, record);
    }

    /// Whether the leader was heard so recently that it must be taken to be alive.
    pub(super) fn hears_leader(&self, shared: &Shared) -> bool {
        let led = shared.hard.promised.leader.is_some_and(|leader| leader != shared.me());
        led && shared.now.since(self.heard) < shared.options.grace && self.heard > shared.booted
    }
}

/// Where the log reaches with `entries` after `previous`, and the stamp of the last of them; `None` where they cannot
/// follow it in this epoch.
fn check_entries(previous: Position, entries: &[LogEntry], epoch: Epoch) -> Option<(LogIndex, Stamp)> {
    let (mut last, mut stamp) = (previous, Stamp::default());
    for entry in entries {
        let follows = entry.at.index == last.index.next() && entry.at.index > last.index;
        let in_order = entry.at.epoch >= last.epoch && entry.at.epoch <= epoch && entry.at.epoch.0 > 0;
        if !follows || !in_order {
            return None;
        }
        (last, stamp) = (entry.at, Stamp::peek(&entry.payload).ok()?);
    }
    Some((last.index, stamp))
}
