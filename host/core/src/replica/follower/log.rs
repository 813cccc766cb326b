//! A follower's log beside the leader's: matched, appended to, or replaced by a snapshot.

use super::Follower;
use crate::entry::Stamp;
use crate::group::{Incarnation, NodeId};
use crate::ids::{Epoch, LogIndex};
use crate::replica::effect::{Effect, Rare};
use crate::replica::message::{Body, Fence, LogEntry, Position, StreamId};
use crate::replica::mutants::Mutant;
use crate::replica::shared::{Shared, is_possible};
use crate::replica::snapshot::{Fetch, SnapshotMeta};

impl Follower {
    pub(super) fn on_open(&mut self, shared: &mut Shared, from: NodeId, fence: Fence) {
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
        self.say_last(shared, from, fence.from, false);
    }

    fn say_last(&self, shared: &mut Shared, to: NodeId, incarnation: Incarnation, reinstall: bool) {
        let fence = shared.fence(incarnation, self.stream);
        let last = shared.log.last();
        shared.send_when_saved(to, fence, Body::Last { last, reinstall });
    }

    pub(super) fn on_match(
        &mut self,
        shared: &mut Shared,
        from: NodeId,
        fence: Fence,
        answered: Position,
        end: Position,
    ) {
        if self.matched || !is_possible(end) {
            return shared.dropped("a match for a stream that is matched");
        }
        if answered != shared.log.last() {
            // The log was truncated, or a snapshot took its place; the leader was told where it ends since.
            return shared.dropped("a match for a log that has changed");
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
            return self.say_last(shared, from, fence.from, true);
        }
        if cut < last.index {
            shared.truncate(cut);
        }
        self.say_last(shared, from, fence.from, false);
    }

    pub(super) fn on_append(
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
                self.say_last(shared, from, fence.from, false);
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
    pub(in crate::replica) fn acknowledge(&mut self, shared: &mut Shared) {
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

    pub(super) fn on_snapshot(
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
            return self.say_last(shared, from, fence.from, false);
        }
        let replace = reinstalls || rebuilds;
        shared.fetch = Some(Fetch { meta: meta.clone(), replace, began_in: fence.epoch });
        shared.effects.push(Effect::FetchSnapshot { from, meta });
    }

    /// The log or its beginning has changed: the leader has to hear where it ends now.
    pub(in crate::replica) fn tell_last(&self, shared: &mut Shared) {
        let Some(leader) = self.leader(shared) else { return };
        let Some(to) = shared.record().and_then(|record| record.member(leader)) else { return };
        let incarnation = to.incarnation;
        // Without a stream there is nobody to tell.
        if self.stream != StreamId(0) {
            self.say_last(shared, leader, incarnation, false);
        }
    }

    /// A snapshot takes the log's place: what was verified is gone.
    pub(in crate::replica) fn forget_match(&mut self) {
        self.matched = false;
        self.verified = (Epoch(0), LogIndex(0));
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
