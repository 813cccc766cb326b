//! The network between nodes: streams that keep their order or break, and messages beside them that keep nothing.

use std::collections::{BTreeMap, BTreeSet};

use mortise_core::group::{BootId, NodeId};
use mortise_core::replica::{Message, StreamId};

use crate::random::Random;

/// Names a stream: who opened it, in which process, and that process's number for it.
pub(crate) type StreamKey = (NodeId, BootId, StreamId);

/// A stream that was opened.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) peer: NodeId,
    pub(crate) peer_boot: BootId,
    /// A message was lost on it, or an end of it is gone: nothing arrives any more.
    pub(crate) broken: bool,
    /// When the last message in each direction arrives: the next one arrives later.
    arrives: [u64; 2],
}

/// How well messages travel at the moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Shortest and longest way of a message, in microseconds.
    pub(crate) latency: (u64, u64),
    /// Messages lost, in a thousand. A loss breaks a stream.
    pub(crate) lost: u64,
    /// Messages that arrive twice, in a thousand.
    pub(crate) twice: u64,
    /// Messages of which a second copy arrives very much later, in a thousand.
    pub(crate) ghosts: u64,
}

#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) weather: Weather,
    /// Directed links on which nothing passes.
    pub(crate) cut: BTreeSet<(NodeId, NodeId)>,
    pub(crate) streams: BTreeMap<StreamKey, Stream>,
}

impl Network {
    pub(crate) fn new(weather: Weather) -> Self {
        Self { weather, cut: BTreeSet::new(), streams: BTreeMap::new() }
    }

    /// How long a message is on its way.
    pub(crate) fn latency(&self, random: &mut Random) -> u64 {
        let (low, high) = self.weather.latency;
        // Most messages are quick; a few take ten times as long.
        let slow = if random.chance(10) { 10 } else { 1 };
        random.between(low, high) * slow
    }

    pub(crate) fn passes(&self, from: NodeId, to: NodeId) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// When a message arrives beside all streams: never, once, or more often.
    pub(crate) fn beside(&self, now: u64, from: NodeId, to: NodeId, random: &mut Random) -> Vec<u64> {
        if !self.passes(from, to) || random.chance(self.weather.lost) {
            return Vec::new();
        }
        let mut times = vec![now + self.latency(random)];
        times.extend(self.again(now, random));
        times
    }

    /// When copies of a message arrive.
    fn again(&self, now: u64, random: &mut Random) -> Vec<u64> {
        let mut times = Vec::new();
        if random.chance(self.weather.twice) {
            times.push(now + self.latency(random) * 2);
        }
        if random.chance(self.weather.ghosts) {
            times.push(now + self.latency(random) * random.between(20, 400));
        }
        times
    }

    /// When a message on a stream arrives, if it does; `Err` names the stream that broke by its loss.
    pub(crate) fn on_stream(
        &mut self,
        now: u64,
        (from, boot): (NodeId, BootId),
        to: NodeId,
        message: &Message,
        random: &mut Random,
    ) -> Result<Vec<u64>, StreamKey> {
        let own = (from, boot, message.fence.stream);
        let (key, direction) = match self.streams.get(&own) {
            Some(stream) if stream.peer == to => (own, 0),
            _ => ((to, message.fence.boot, message.fence.stream), 1),
        };
        let passes = self.passes(from, to) && !random.chance(self.weather.lost);
        let latency = self.latency(random);
        let copies = self.again(now, random);
        let Some(stream) = self.streams.get_mut(&key) else { return Ok(Vec::new()) };
        let ends_match = direction == 0 || (stream.peer == from && stream.peer_boot == boot);
        if stream.broken || !ends_match {
            return Ok(Vec::new());
        }
        if !passes {
            stream.broken = true;
            return Err(key);
        }
        let arrives = (now + latency).max(stream.arrives[direction] + 1);
        stream.arrives[direction] = arrives;
        let copies = copies.into_iter().map(|copy| copy.max(arrives + 1));
        Ok(std::iter::once(arrives).chain(copies).collect())
    }

    pub(crate) fn open(&mut self, key: StreamKey, peer: NodeId, peer_boot: BootId) {
        self.streams.insert(key, Stream { peer, peer_boot, broken: false, arrives: [0; 2] });
    }

    /// A process is gone: its streams break. Returns those whose opener has to hear of it.
    pub(crate) fn end_process(&mut self, node: NodeId) -> Vec<StreamKey> {
        self.streams.retain(|(opener, ..), _| *opener != node);
        let ends = self.streams.iter_mut().filter(|(_, stream)| stream.peer == node && !stream.broken);
        ends.map(|(key, stream)| {
            stream.broken = true;
            *key
        })
        .collect()
    }

    /// Streams on which nothing is lost yet.
    pub(crate) fn whole(&self) -> Vec<StreamKey> {
        self.streams.iter().filter(|(_, stream)| !stream.broken).map(|(key, _)| *key).collect()
    }
}
