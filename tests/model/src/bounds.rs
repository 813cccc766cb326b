//! What may happen in a model, and how often. Each configuration is exhaustive within its bounds.

use mortise_core::replica::Mutant;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Budget {
    /// Nodes that ask to be elected.
    Elect,
    /// Swaps that the coordinator applies.
    Swap,
    /// Client writes acknowledged after commit.
    Propose,
    /// Client writes acknowledged by the leader alone.
    ProposeAck,
    /// Questions about what became of those.
    Ask,
    /// Linearizable reads.
    Read,
    /// Crashes with a restart.
    Crash,
    /// Disks that are wiped.
    Wipe,
    /// Steps of a leader's clock: who has not caught up since is too slow.
    Wait,
    /// Swaps whose answer is lost.
    Unknown,
    /// Hand-overs of leadership.
    Transfer,
    /// Changes of `min_isr`.
    MinIsr,
    /// Sessions that are lost and made anew.
    Lease,
    /// Streams that break.
    Break,
    /// Restores of the coordinator from a backup.
    Restore,
}

/// How many kinds of [`Budget`] there are.
const BUDGETS: usize = Budget::Restore as usize + 1;

/// A count for each kind of budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counts([u8; BUDGETS]);

impl Counts {
    /// The count of `kind`.
    pub fn of(&self, kind: Budget) -> u8 {
        self.0[kind as usize]
    }

    /// Raises the count of `kind`.
    pub fn raise(&mut self, kind: Budget, by: u8) {
        self.0[kind as usize] = self.0[kind as usize].saturating_add(by);
    }
}

/// Which writes wait for an action before they are durable; the others are durable at once. A crash loses what waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fsync {
    /// None.
    Eager,
    /// A leader's appends.
    LeaderLate,
    /// Everybody's appends and truncations.
    LogLate,
    /// Everything, promises and records too.
    AllLate,
}

/// How a model begins. Node 1 leads and serves, everybody has everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// All nodes are in sync.
    InSync,
    /// The last node is out of the in-sync set and misses the last entry, which is committed.
    LastOut,
    /// The leader alone is in the in-sync set; the others, which have everything, are eligible besides.
    Alone,
}

/// A configuration.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Its name.
    pub name: &'static str,
    /// How many nodes.
    pub nodes: u64,
    /// The record's `min_isr`.
    pub min_isr: u32,
    /// How it begins.
    pub start: Start,
    /// What a crash can lose.
    pub fsync: Fsync,
    /// How often each thing may happen.
    pub limits: Counts,
    /// The rule that is put out of force.
    pub mutant: Option<Mutant>,
}

impl Bounds {
    /// Three nodes of which two have to be in sync, and nothing happens.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            nodes: 3,
            min_isr: 2,
            start: Start::InSync,
            fsync: Fsync::Eager,
            limits: Counts::default(),
            mutant: None,
        }
    }

    /// Lets something happen so often.
    #[must_use]
    pub fn allow(mut self, kind: Budget, times: u8) -> Self {
        self.limits.raise(kind, times);
        self
    }

    /// Another `min_isr`.
    #[must_use]
    pub fn min_isr(self, min_isr: u32) -> Self {
        Self { min_isr, ..self }
    }

    /// Another number of nodes.
    #[must_use]
    pub fn nodes(self, nodes: u64) -> Self {
        Self { nodes, ..self }
    }

    /// Another beginning.
    #[must_use]
    pub fn start(self, start: Start) -> Self {
        Self { start, ..self }
    }

    /// What a crash can lose.
    #[must_use]
    pub fn fsync(self, fsync: Fsync) -> Self {
        Self { fsync, ..self }
    }

    /// Lets everything that may happen at all happen so much more often; swaps, which most things need, twice that.
    #[must_use]
    pub fn enlarged(mut self, more: u8) -> Self {
        for (kind, limit) in self.limits.0.iter_mut().enumerate().filter(|(_, limit)| **limit > 0) {
            let factor = if kind == Budget::Swap as usize { 2 } else { 1 };
            *limit = limit.saturating_add(more.saturating_mul(factor));
        }
        self
    }

    /// Puts a rule out of force.
    #[must_use]
    pub fn mutant(self, mutant: Mutant) -> Self {
        Self { mutant: Some(mutant), ..self }
    }
}
