//! What the replica needs to know about a snapshot, and what it does with one that it fetched. Its bytes are the business
//! of storage and driver.

use super::effect::{LogAtInstall, Notice, Rare, Write};
use super::epochs::EpochTable;
use super::message::Position;
use super::shared::Shared;
use crate::digest::Digest;
use crate::entry::Stamp;
use crate::group::Generation;
use crate::ids::{Epoch, LogIndex};

/// A snapshot: committed state only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotMeta {
    /// The history it belongs to.
    pub generation: Generation,
    /// The last entry it includes.
    pub last: Position,
    /// Where each epoch up to `last` began.
    pub epochs: EpochTable,
    /// The effect digest at `last`.
    pub digest: Digest,
    /// Time and profile of the entry at `last`.
    pub stamp: Stamp,
}

/// A snapshot on its way to this replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fetch {
    pub(super) meta: SnapshotMeta,
    pub(super) replace: bool,
    pub(super) began_in: Epoch,
}

impl Shared {
    /// This replica's state differs from the group's since `index`.
    pub(super) fn quarantine(&mut self, index: LogIndex) {
        if self.hard.quarantined.is_none() {
            self.hard.quarantined = Some(index);
            self.save();
            self.notice(Notice::Quarantined { index });
        }
    }

    /// The state is the group's again. The caller saves.
    pub(super) fn release(&mut self) {
        if self.hard.quarantined.take().is_some() {
            self.notice(Notice::Released);
        }
    }

    pub(super) fn is_installing(&self) -> bool {
        self.installing.is_some()
    }

    /// This snapshot has come: whoever leads by now, it is not waited for any longer.
    pub(super) fn take_fetched(&mut self, meta: &SnapshotMeta) -> Option<Fetch> {
        self.fetch.take_if(|fetch| fetch.meta == *meta)
    }

    /// Installs a fetched snapshot if it is still wanted. Returns whether it was.
    pub(super) fn install_if_wanted(&mut self, fetch: Fetch) -> bool {
        let meta = fetch.meta;
        let generation = self.record().map(|record| record.generation);
        let reaches_log = meta.last.index >= self.log.base().index || meta.generation > self.hard.generation;
        let is_behind = meta.last.index > self.commit || (fetch.replace && reaches_log);
        let fits = generation == Some(meta.generation) && !self.contradicts_commit(&meta);
        if !fits || !is_behind || self.installing.is_some() {
            self.happened(Rare::SnapshotDropped);
            return false;
        }
        if self.hard.promised.epoch > fetch.began_in {
            self.happened(Rare::SnapshotOverEpochs);
        }
        self.install(meta);
        true
    }

    /// Whether a snapshot of this history ends with another entry than the one that is committed there.
    pub(super) fn contradicts_commit(&self, meta: &SnapshotMeta) -> bool {
        let same_history = meta.generation == self.hard.generation;
        same_history && meta.last.index <= self.commit && !self.log.holds(meta.last)
    }

    fn install(&mut self, meta: SnapshotMeta) {
        let same_history = self.hard.generation == meta.generation;
        let log = if same_history && self.log.holds(meta.last) && self.log.base().index <= meta.last.index {
            LogAtInstall::Stays
        } else if same_history {
            LogAtInstall::BeginsAnew
        } else {
            LogAtInstall::IsKeptAside
        };
        let write = self.write(Write::Install { meta: meta.clone(), log });
        if log != LogAtInstall::Stays {
            self.log.restart(write, &meta);
            self.commit = LogIndex(0);
        }
        // A snapshot holds what is committed only.
        self.advance_commit(meta.last.index);
        self.hard.generation = meta.generation;
        self.release();
        self.save();
        self.installing = Some((write, meta));
        self.happened(Rare::SnapshotInstalled);
    }
}
