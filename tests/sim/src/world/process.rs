//! Processes of nodes: they start on what the disk holds, and end.

use mortise_core::group::{BootId, NodeId};
use mortise_core::ids::GroupId;
use mortise_core::replica::{Event, Options, Replica};

use super::{Checked, Inside, Machine, Process, Violation, World, node};
use crate::coverage::Seldom;

impl World {
    /// Starts a node's process on what its disk holds.
    pub(super) fn start(&mut self, id: NodeId) -> Checked {
        let (now, seed, origin) = (self.now, self.random.next(), self.random.below(1 << 40));
        let options = self.options(id, seed);
        let node = self.node_mut(id);
        if node.process.is_some() {
            return Ok(());
        }
        node.boots += 1;
        node.absence = None;
        node.fsync_fails = false;
        let state = Machine::restore(&node.disk.state).or_else(|what| Violation::of("disk", what))?;
        let boot = BootId(node.boots);
        let options = Options { boot, ..options };
        let stored = node.disk.stored();
        let clock = node::mono(origin, 0, node.drift);
        let replica = Replica::new(options, stored, clock);
        node.process = Some(Process::new(boot, replica, state, now, origin));
        self.trace.note(now, || format!("node {id} starts, boot {boot}"));
        self.tell_process(id, 0, Inside::Tick);
        self.tell_process(id, 10, Inside::Renew);
        Ok(())
    }

    fn options(&self, id: NodeId, seed: u64) -> Options {
        let haste = self.profile.haste;
        let options = Options::new(1, GroupId(1), id, BootId(0), seed);
        Options {
            beacon: options.beacon / haste,
            shrink_after: options.shrink_after / haste,
            grace: options.grace / haste,
            lease: options.lease / haste,
            lease_margin: options.lease_margin / haste,
            reread: options.reread / haste,
            retry: options.retry / haste,
            transfer_max: options.transfer_max / haste,
            window_bytes_max: 2048,
            append_bytes_max: 512,
            tail_bytes_max: 2048,
            uncommitted_bytes_max: 1536,
            waiting_max: 64,
            #[cfg(feature = "mutants")]
            mutant: self.mutant,
            ..options
        }
    }

    /// A node's process ends, and its disk loses what was not synced. Power goes with it, or only the process.
    pub(crate) fn crash(&mut self, id: NodeId) {
        let now = self.now;
        let random = &mut self.random;
        let node = &mut self.nodes[id.0 as usize - 1];
        let Some(process) = node.process.take() else { return };
        let lost = node.disk.crash(random);
        self.coverage.count_if(lost.torn, Seldom::TornAppend);
        self.coverage.count_if(lost.writes > 0, Seldom::UnsyncedLost);
        // The state database is not synced, yet what it was given may survive.
        let survives = process.machine.at.index > node.disk.state.at.index
            && node.disk.durable.holds(process.machine.at)
            && !process.installing
            && random.chance(500);
        if survives {
            node.disk.state = process.machine.checkpoint();
        }
        for key in self.network.end_process(id) {
            let after = self.random.between(1000, self.unit / 4);
            let (opener, _, stream) = key;
            self.tell_process(opener, after, Inside::Event(Event::StreamClosed { peer: id, stream }));
        }
        self.observed.disk_changed = true;
        self.trace.note(now, || format!("node {id} ends: {lost:?}"));
    }
}
