//! What rare things a run has met. A simulation in which nothing rare ever happens proves nothing.

use std::collections::BTreeMap;

use mortise_core::replica::Rare;

/// Rare things that the world sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seldom {
    /// A crash lost writes that were not synced.
    UnsyncedLost,
    /// A crash left a part of an append.
    TornAppend,
    /// An fsync failed.
    FsyncFailed,
    /// A disk was wiped, replaced by an old one, or found damaged.
    DiskLost,
    /// Entries for a follower were read back from the log.
    LogReadBack,
    /// A swap had no answer in time.
    SwapUnknown,
    /// A swap was applied when its sender did not wait for it any more.
    LateSwapApplied,
    /// A watch of the coordinator's record missed changes, and began anew with the present state.
    WatchCompacted,
    /// Another node was elected before a leader had committed anything.
    DoubleFailover,
    /// The leader was replaced by election.
    Failover,
    /// A truncation removed entries of two epochs or more.
    TruncatedOverEpochs,
    /// A new leader was found while a snapshot was on its way.
    SnapshotDuringFailover,
    /// The coordinator was seen to contradict itself.
    Frozen,
    /// An operator accepted a restored coordinator.
    Accepted,
    /// An unclean start gave up acknowledged writes.
    AcknowledgedGivenUp,
    /// A write that only the leader acknowledged was lost, and called so.
    LooseWriteLost,
    /// A retry was answered from the session table.
    RetryAnswered,
    /// A retry met its original in the log.
    RetryAttached,
    /// Client sessions were ended by log time.
    SessionsExpired,
    /// A replica refused work because too much was in flight.
    Overloaded,
    /// A permit to read ran out before the read was done.
    PermitExpired,
    /// A replica's state was found to differ from the group's.
    Quarantined,
    /// It was rebuilt.
    Released,
    /// Half of the holders differed from the other half, and an operator said who is right.
    Arbitrated,
    /// A member was added.
    MemberAdded,
    /// A member was removed.
    MemberRemoved,
    /// The least number of in-sync members was changed.
    MinIsrChanged,
    /// The in-sync set was smaller than commits need.
    BelowMinIsr,
}

impl Seldom {
    /// All of them.
    pub const ALL: [Self; 28] = [
        Self::UnsyncedLost,
        Self::TornAppend,
        Self::FsyncFailed,
        Self::DiskLost,
        Self::LogReadBack,
        Self::SwapUnknown,
        Self::LateSwapApplied,
        Self::WatchCompacted,
        Self::DoubleFailover,
        Self::Failover,
        Self::TruncatedOverEpochs,
        Self::SnapshotDuringFailover,
        Self::Frozen,
        Self::Accepted,
        Self::AcknowledgedGivenUp,
        Self::LooseWriteLost,
        Self::RetryAnswered,
        Self::RetryAttached,
        Self::SessionsExpired,
        Self::Overloaded,
        Self::PermitExpired,
        Self::Quarantined,
        Self::Released,
        Self::Arbitrated,
        Self::MemberAdded,
        Self::MemberRemoved,
        Self::MinIsrChanged,
        Self::BelowMinIsr,
    ];
}

/// How often each rare thing happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    seldom: BTreeMap<Seldom, u64>,
    rare: BTreeMap<Rare, u64>,
    dropped: BTreeMap<&'static str, u64>,
}

impl Coverage {
    pub(crate) fn count(&mut self, what: Seldom) {
        *self.seldom.entry(what).or_default() += 1;
    }

    pub(crate) fn count_if(&mut self, happened: bool, what: Seldom) {
        if happened {
            self.count(what);
        }
    }

    pub(crate) fn happened(&mut self, what: Rare) {
        *self.rare.entry(what).or_default() += 1;
    }

    pub(crate) fn dropped(&mut self, why: &'static str) {
        *self.dropped.entry(why).or_default() += 1;
    }

    /// Adds what another run has met.
    pub fn add(&mut self, other: &Self) {
        other.seldom.iter().for_each(|(what, count)| *self.seldom.entry(*what).or_default() += count);
        other.rare.iter().for_each(|(what, count)| *self.rare.entry(*what).or_default() += count);
        other.dropped.iter().for_each(|(what, count)| *self.dropped.entry(*what).or_default() += count);
    }

    /// What never happened of all that should.
    pub fn missing(&self) -> Vec<String> {
        let seldom = Seldom::ALL.iter().filter(|what| !self.seldom.contains_key(what));
        let rare = Rare::ALL.iter().filter(|what| !self.rare.contains_key(what));
        seldom.map(|what| format!("{what:?}")).chain(rare.map(|what| format!("{what:?}"))).collect()
    }
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seldom = self.seldom.iter().map(|(what, count)| (format!("{what:?}"), *count));
        let rare = self.rare.iter().map(|(what, count)| (format!("{what:?}"), *count));
        let dropped = self.dropped.iter().map(|(why, count)| (format!("dropped: {why}"), *count));
        for (what, count) in seldom.chain(rare).chain(dropped) {
            writeln!(f, "{count:>10}  {what}")?;
        }
        Ok(())
    }
}
