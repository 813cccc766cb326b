//! Streams to the other members: matching, appends within a window, entries read back, beacons.

use std::collections::VecDeque;

use super::peer::{Link, Peer, Streaming};
use super::{Leader, ROUNDS_KEPT};
use crate::digest::Digest;
use crate::group::NodeId;
use crate::ids::LogIndex;
use crate::replica::effect::Effect;
use crate::replica::message::{Body, LogEntry, Position, StreamId};
use crate::replica::mutants::Mutant;
use crate::replica::shared::{Shared, is_possible};

impl Leader {
    /// The record changed: peers come, go, or go on in another life.
    pub(in crate::replica) fn on_record(&mut self, shared: &mut Shared) {
        let Some(record) = shared.record().cloned() else { return };
        let gone = |node: &NodeId, peer: &mut Peer| {
            record.member(*node).is_none_or(|member| member.incarnation != peer.incarnation())
        };
        for (node, peer) in self.peers.extract_if(.., gone) {
            if let Some(stream) = peer.stream() {
                shared.effects.push(Effect::CloseStream { peer: node, stream });
            }
        }
        for member in record.members.iter().filter(|member| member.node != shared.me()) {
            self.peers.entry(member.node).or_insert_with(|| {
                let mut peer = Peer::new(member.incarnation, shared.now);
                if shared.breaks(Mutant::AcksFromBefore) {
                    peer.acked = shared.log.last().index;
                }
                peer
            });
        }
        self.open_streams(shared);
    }

    // --- Streams.

    /// Opens what is closed and gives up what does not move.
    pub(super) fn tend_streams(&mut self, shared: &mut Shared) {
        let (now, stall) = (shared.now, shared.options.shrink_after);
        let mut stalled = Vec::new();
        for (node, peer) in &mut self.peers {
            let since = match &mut peer.link {
                Link::Closed { .. } => continue,
                Link::Opening { since, .. } | Link::Matching { since, .. } => *since,
                // A transfer may take long; the offer is repeated, and ignored while it goes on.
                Link::Snapshot { offered_at, .. } => *offered_at,
                Link::Streaming(streaming) => {
                    if streaming.flying.is_empty() {
                        streaming.progress_at = now;
                    }
                    streaming.progress_at
                }
            };
            if now.since(since) > stall {
                stalled.push((*node, peer.stream()));
            }
        }
        for (node, stream) in stalled {
            if self.peers.get(&node).is_some_and(|peer| matches!(peer.link, Link::Snapshot { .. })) {
                self.offer_snapshot(shared, node);
            } else if let Some(stream) = stream {
                shared.effects.push(Effect::CloseStream { peer: node, stream });
                self.close(shared, node, stream);
            }
        }
        self.open_streams(shared);
    }

    fn open_streams(&mut self, shared: &mut Shared) {
        let now = shared.now;
        for (node, peer) in &mut self.peers {
            if matches!(peer.link, Link::Closed { retry_at } if retry_at <= now) {
                shared.streams = StreamId(shared.streams.0 + 1);
                let stream = shared.streams;
                peer.link = Link::Opening { stream, since: now };
                shared.effects.push(Effect::OpenStream { peer: *node, stream });
            }
        }
    }

    fn close(&mut self, shared: &Shared, node: NodeId, stream: StreamId) {
        let retry_at = shared.now.after(shared.options.retry);
        if let Some(peer) = self.peers.get_mut(&node).filter(|peer| peer.stream() == Some(stream)) {
            peer.link = Link::Closed { retry_at };
        }
    }

    pub(in crate::replica) fn on_stream_opened(
        &mut self,
        shared: &mut Shared,
        node: NodeId,
        stream: StreamId,
    ) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if !matches!(peer.link, Link::Opening { stream: asked, .. } if asked == stream) {
            return;
        }
        peer.link = Link::Matching { stream, since: shared.now, rounds: 0 };
        let fence = shared.fence(peer.incarnation(), stream);
        shared.send(node, fence, Body::Open);
    }

    pub(in crate::replica) fn on_stream_closed(
        &mut self,
        shared: &mut Shared,
        node: NodeId,
        stream: StreamId,
    ) {
        self.close(shared, node, stream);
    }

    // --- Matching.

    /// The peer's log ends at `last`: if that is a place in this log, entries flow from there; else the two go on
    /// looking. One look is not enough (KIP-279).
    pub(super) fn on_last(&mut self, shared: &mut Shared, node: NodeId, last: Position, reinstall: bool) {
        if !is_possible(last) || last.epoch > self.epoch {
            return shared.dropped("a log that cannot be");
        }
        let log = &shared.log;
        let end = log.epochs().end_of(last.epoch, log.last().index);
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let (Some(stream), incarnation) = (peer.stream(), peer.incarnation()) else { return };
        let rounds = match &peer.link {
            Link::Matching { rounds, .. } => *rounds,
            _ => 0,
        };
        if reinstall {
            return self.offer_snapshot(shared, node);
        }
        let matched = end.epoch == last.epoch && last.index <= end.index;
        if matched || (rounds > 0 && shared.breaks(Mutant::MatchOnce)) {
            if last.index < log.base().index {
                return self.offer_snapshot(shared, node);
            }
            return self.start_streaming(shared, node, stream, last.index);
        }
        if end.index < log.base().index {
            return self.offer_snapshot(shared, node);
        }
        peer.link = Link::Matching { stream, since: shared.now, rounds: rounds + 1 };
        let fence = shared.fence(incarnation, stream);
        shared.send(node, fence, Body::Match { last, end });
    }

    fn start_streaming(&mut self, shared: &mut Shared, node: NodeId, stream: StreamId, matched: LogIndex) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if shared.breaks(Mutant::OpenAcknowledges) {
            peer.acked = peer.acked.max(matched);
        }
        peer.link = Link::Streaming(Streaming {
            stream,
            next: matched.next(),
            flying: VecDeque::new(),
            flying_bytes: 0,
            reading: false,
            progress_at: shared.now,
        });
        self.send_appends(shared, node);
        // Where there is nothing to send, an empty append asks how much of it is durable.
        let idle = |peer: &mut Peer| peer.streaming().is_some_and(|s| s.flying.is_empty() && !s.reading);
        if self.peers.get_mut(&node).is_some_and(idle) {
            self.send_append(shared, node, matched, Vec::new());
        }
    }

    // --- Appends.

    pub(super) fn send_all_appends(&mut self, shared: &mut Shared) {
        let nodes: Vec<NodeId> = self.peers.keys().copied().collect();
        nodes.into_iter().for_each(|node| self.send_appends(shared, node));
    }

    /// Sends what the window has room for.
    fn send_appends(&mut self, shared: &mut Shared, node: NodeId) {
        let (window, batch) = (shared.options.window_bytes_max, shared.options.append_bytes_max);
        loop {
            let last = shared.log.last().index;
            let (base, tail_first) = (shared.log.base().index, shared.log.tail_first());
            let Some(streaming) = self.peers.get_mut(&node).and_then(Peer::streaming) else { return };
            let full = streaming.flying_bytes >= window && !streaming.flying.is_empty();
            if streaming.next > last || full || streaming.reading {
                return;
            }
            let (next, stream) = (streaming.next, streaming.stream);
            if next <= base {
                return self.offer_snapshot(shared, node);
            }
            if next < tail_first {
                streaming.reading = true;
                let last = LogIndex(tail_first.0 - 1);
                let read = Effect::ReadLog { peer: node, stream, first: next, last, bytes_max: batch };
                return shared.effects.push(read);
            }
            let entries = shared.log.recent(next, batch);
            self.send_append(shared, node, LogIndex(next.0 - 1), entries);
        }
    }

    fn send_append(&mut self, shared: &mut Shared, node: NodeId, previous: LogIndex, entries: Vec<LogEntry>) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let incarnation = peer.incarnation();
        let Some(streaming) = peer.streaming() else { return };
        let bytes = entries.iter().map(|entry| entry.payload.len()).sum();
        let reached = entries.last().map_or(previous, |entry| entry.at.index);
        streaming.next = reached.next();
        streaming.flying.push_back((reached, bytes));
        streaming.flying_bytes += bytes;
        let fence = shared.fence(incarnation, streaming.stream);
        let (previous, commit) = (shared.log.position(previous), shared.commit);
        shared.send(node, fence, Body::Append { previous, entries, commit });
    }

    pub(in crate::replica) fn on_log_read(
        &mut self,
        shared: &mut Shared,
        node: NodeId,
        stream: StreamId,
        entries: Vec<LogEntry>,
    ) {
        let Some(streaming) = self.peers.get_mut(&node).and_then(Peer::streaming) else { return };
        if streaming.stream != stream || !streaming.reading {
            return;
        }
        streaming.reading = false;
        let next = streaming.next;
        let whole = entries.first().is_some_and(|entry| entry.at.index == next)
            && entries.is_sorted_by(|a, b| b.at.index == a.at.index.next())
            && entries.iter().all(|entry| shared.log.holds(entry.at));
        if whole {
            self.send_append(shared, node, LogIndex(next.0 - 1), entries);
            self.send_appends(shared, node);
        } else if next > shared.log.base().index {
            // The log was dropped behind the read, or cannot be read: begin again, with what there is then.
            shared.effects.push(Effect::CloseStream { peer: node, stream });
            self.close(shared, node, stream);
        } else {
            self.offer_snapshot(shared, node);
        }
    }

    pub(super) fn on_peer_durable(
        &mut self,
        shared: &mut Shared,
        node: NodeId,
        index: LogIndex,
        applied: Option<(LogIndex, Digest)>,
        rebuild: Option<LogIndex>,
    ) {
        let last = shared.log.last().index;
        let unfenced = shared.breaks(Mutant::AnswersUnfenced);
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if index > last || (!peer.is_streaming() && !unfenced) {
            return shared.dropped("an acknowledgement of what was never sent");
        }
        peer.on_durable(index, last, shared.now);
        if let Some(report) = applied.filter(|(applied, _)| *applied <= last) {
            peer.report = Some(report);
        }
        self.on_rebuild(node, rebuild);
        self.compare(shared);
        self.send_appends(shared, node);
        self.advance(shared);
    }

    // --- Beacons.

    pub(super) fn send_beacons(&mut self, shared: &mut Shared) {
        self.round += 1;
        self.beacon_at = shared.now.after(shared.options.beacon);
        self.rounds.push_back((self.round, shared.now));
        if self.rounds.len() > ROUNDS_KEPT {
            self.rounds.pop_front();
        }
        for (node, peer) in &self.peers {
            let fence = shared.fence(peer.incarnation(), StreamId(0));
            shared.send(*node, fence, Body::Beacon { round: self.round, commit: shared.commit });
        }
    }

    pub(super) fn on_beacon_answer(&mut self, shared: &mut Shared, node: NodeId, round: u64, lease: bool) {
        let Some(sent) = self.rounds.iter().find(|(sent, _)| *sent == round).map(|(_, at)| *at) else {
            return shared.dropped("an answer to a beacon long past");
        };
        let last = shared.log.last().index;
        let from = if shared.breaks(Mutant::LeaseFromAnswer) { shared.now } else { sent };
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.round = peer.round.max(round);
        if lease {
            peer.leased_from = peer.leased_from.max(Some(from));
        }
        if peer.is_streaming() && peer.acked >= last {
            peer.caught_up_at = peer.caught_up_at.max(sent);
        }
        self.serve_reads(shared);
    }
}
