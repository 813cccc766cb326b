//! What really happened in a search, so that a bound that is too narrow is noticed.

use std::sync::atomic::{AtomicU64, Ordering};

use mortise_core::replica::Rare;

/// Counts of rare events over all steps of a search.
#[derive(Debug, Default)]
pub struct Coverage {
    rare: [AtomicU64; Rare::ALL.len()],
    commits: AtomicU64,
    reads: AtomicU64,
    leaderships: AtomicU64,
    freezes: AtomicU64,
}

/// What is counted beside the core's own rare events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A leader committed something.
    Commit,
    /// A linearizable read was permitted.
    Read,
    /// A leadership began.
    Leadership,
    /// A group froze.
    Freeze,
}

impl Coverage {
    /// A core reports a rare event.
    pub fn happened(&self, rare: Rare) {
        if let Some(place) = Rare::ALL.iter().position(|known| *known == rare) {
            self.rare[place].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Something else happened.
    pub fn saw(&self, seen: Seen) {
        self.counter(seen).fetch_add(1, Ordering::Relaxed);
    }

    /// How often a rare event was reported.
    pub fn of(&self, rare: Rare) -> u64 {
        let place = Rare::ALL.iter().position(|known| *known == rare);
        place.map_or(0, |place| self.rare[place].load(Ordering::Relaxed))
    }

    /// How often something else happened.
    pub fn count(&self, seen: Seen) -> u64 {
        self.counter(seen).load(Ordering::Relaxed)
    }

    fn counter(&self, seen: Seen) -> &AtomicU64 {
        match seen {
            Seen::Commit => &self.commits,
            Seen::Read => &self.reads,
            Seen::Leadership => &self.leaderships,
            Seen::Freeze => &self.freezes,
        }
    }
}
