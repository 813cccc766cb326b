//! What an observer of everything remembers: what was committed, told and promised. No node sees it.

use mortise_core::group::{BootId, NodeId};
use mortise_core::ids::Epoch;
use mortise_core::replica::{Fate, LogEntry, Position, RequestId};

/// An invariant that a step broke. Those that a state alone shows are not noted here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Breach {
    /// A second leader of an epoch.
    I1,
    /// A committed entry changed.
    I2,
    /// A commit on too few disks.
    I6,
    /// A promise, an epoch or a generation went back.
    I7,
    /// An acknowledgement of what is not durable.
    I8,
    /// A stale read.
    I9,
    /// An acknowledgement counted that this copy did not give.
    I10,
    /// Something served or committed before the epoch-start entry.
    I11,
    /// Two answers to one question.
    I13,
    /// A core stopped, froze or asked for something without a cause in the model.
    Unforeseen,
}

/// A write that only the leader had acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// Its place.
    pub at: Position,
    /// The question about it that waits for an answer, and at whom.
    pub asked: Option<(NodeId, RequestId)>,
    /// What the client was told.
    pub told: Option<Fate>,
}

/// A linearizable read that waits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Read {
    /// The request.
    pub id: RequestId,
    /// At whom.
    pub node: NodeId,
    /// How much was committed when it began: it must not see less.
    pub floor: u64,
}

/// The history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct History {
    /// The committed entries, from index 1 on.
    pub committed: Vec<LogEntry>,
    /// Who led which epoch, by epoch.
    pub leaders: Vec<(Epoch, NodeId, BootId)>,
    /// Tokens, in the order they were given out.
    pub tokens: Vec<Token>,
    /// Reads without an answer.
    pub reads: Vec<Read>,
    /// How many disks were wiped.
    pub wiped: u32,
    /// An operator asked for a greater `min_isr`.
    pub raised: bool,
    /// The coordinator was restored: its record says nothing any more.
    pub restored: bool,
    /// Requests so far.
    pub requests: u64,
    /// What steps broke.
    pub breaches: Vec<Breach>,
}

impl History {
    /// The next request's number.
    pub fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    /// Notes a broken invariant.
    pub fn breach(&mut self, breach: Breach) {
        if let Err(place) = self.breaches.binary_search(&breach) {
            self.breaches.insert(place, breach);
        }
    }

    /// Whether a step broke this.
    pub fn broke(&self, breach: Breach) -> bool {
        self.breaches.contains(&breach)
    }

    /// Notes that `node` leads `epoch`.
    pub fn leads(&mut self, epoch: Epoch, node: NodeId, boot: BootId) {
        match self.leaders.binary_search_by_key(&epoch, |(epoch, ..)| *epoch) {
            Ok(place) if self.leaders[place] != (epoch, node, boot) => self.breach(Breach::I1),
            Ok(_) => {}
            Err(place) => self.leaders.insert(place, (epoch, node, boot)),
        }
    }

    /// Notes that `entries`, a log from index 1 on, are committed.
    pub fn commit(&mut self, entries: &[LogEntry]) {
        let known = self.committed.len().min(entries.len());
        if self.committed[..known] != entries[..known] {
            self.breach(Breach::I2);
        }
        self.committed.extend(entries.iter().skip(self.committed.len()).cloned());
    }
}
