//! The state machine of a node: it applies entries, and its snapshots are taken and fetched.

use mortise_core::group::NodeId;
use mortise_core::ids::LogIndex;
use mortise_core::replica::{Event, SnapshotMeta};

use super::disk::Snapshot;
use super::{Checked, Inside, Violation, World};

impl World {
    pub(super) fn begin_apply(&mut self, id: NodeId, up_to: LogIndex) {
        let Some(process) = &mut self.node_mut(id).process else { return };
        process.apply_up_to = process.apply_up_to.max(up_to);
        if !std::mem::replace(&mut process.applying, true) {
            self.apply_soon(id);
        }
    }

    fn apply_soon(&mut self, id: NodeId) {
        let slow = self.random.chance(10);
        let after = if slow { self.random.below(self.unit / 2) } else { self.random.between(20, 500) };
        self.tell_process(id, after, Inside::Apply);
    }

    /// Applies some entries of those that are committed.
    pub(super) fn apply(&mut self, id: NodeId) -> Checked {
        let many = self.random.between(1, 16);
        for _ in 0..many {
            let node = &mut self.nodes[id.0 as usize - 1];
            let Some(process) = node.process.as_mut().filter(|process| !process.failed) else {
                return Ok(());
            };
            let next = process.machine.at.index.next();
            if process.installing || next > process.apply_up_to {
                process.applying = false;
                return Ok(());
            }
            let Some(entry) = node.disk.durable.entry(next).cloned() else {
                return Violation::of("I8", format!("node {id} applies {next}, which is not durable there"));
            };
            let applied = process.machine.apply(&entry).or_else(|what| Violation::of("apply", what))?;
            let digest = process.machine.digest;
            self.check_applied(id)?;
            self.step(id, Event::Applied { index: next, digest })?;
            self.answer_applied(id, entry.at, &applied)?;
        }
        self.apply_soon(id);
        Ok(())
    }

    pub(super) fn take_snapshot(&mut self, id: NodeId, drop_log: bool) -> Checked {
        let keep = self.random.below(8);
        let node = &mut self.nodes[id.0 as usize - 1];
        let Some(process) = &node.process else { return Ok(()) };
        if process.installing || process.view.quarantined.is_some() || !process.view.established {
            return Ok(());
        }
        let machine = &process.machine;
        let meta = SnapshotMeta {
            generation: process.view.generation,
            last: machine.at,
            epochs: node.disk.durable.epochs.up_to(machine.at.index),
            digest: machine.digest,
            stamp: machine.stamp,
        };
        if node.disk.snapshot.as_ref().is_none_or(|snapshot| snapshot.meta != meta) {
            let state = machine.checkpoint();
            node.disk.keep_snapshot(Snapshot { meta: meta.clone(), state });
        }
        let first = LogIndex((meta.last.index.0 + 1).saturating_sub(keep));
        self.check_snapshot(id, &meta)?;
        self.step(id, Event::SnapshotTaken(meta))?;
        if drop_log && let Some(first) = self.node_mut(id).disk.drop_before(first) {
            self.step(id, Event::LogDropped { first })?;
        }
        Ok(())
    }

    /// A snapshot has arrived, or could not be fetched.
    pub(super) fn fetched(&mut self, id: NodeId, from: NodeId, meta: SnapshotMeta) -> Checked {
        let source = self.node(from);
        // A wrong state that half of the group had installed would be the right one.
        let fits = |snapshot: &&Snapshot| snapshot.meta == meta && !snapshot.state.tainted;
        let held = source.disk.snapshot.as_ref();
        let wrong = held.is_some_and(|snapshot| snapshot.meta == meta && snapshot.state.tainted);
        let offered = held.filter(fits).cloned();
        let reached =
            source.alive().is_some() && self.network.passes(id, from) && self.network.passes(from, id);
        if wrong && reached {
            self.doubt(from);
        }
        if let Some(process) = &mut self.node_mut(id).process {
            process.fetching = false;
        }
        match offered.filter(|_| reached) {
            Some(snapshot) => {
                self.node_mut(id).disk.staged = Some(snapshot);
                self.step(id, Event::SnapshotFetched(meta))
            }
            None => self.step(id, Event::SnapshotFailed),
        }
    }
}
