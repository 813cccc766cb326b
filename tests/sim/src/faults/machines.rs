//! Processes that stop, and disks that lose what they held.

use mortise_core::group::{Incarnation, NodeId};

use super::Fault;
use crate::coverage::Seldom;
use crate::world::{Absence, Disk, Happening, World};

impl World {
    pub(super) fn stop(&mut self, fault: Fault, target: NodeId) {
        let lasts = self.while_it_lasts();
        match fault {
            Fault::Pause => {
                let until = self.now + lasts;
                if let Some(process) = &mut self.node_mut(target).process {
                    process.paused_until = until;
                }
            }
            Fault::FsyncFails => self.node_mut(target).fsync_fails = true,
            Fault::DiskStalls => self.node_mut(target).disk_slow_until = self.now + lasts / 2,
            Fault::CrashAll => {
                for id in self.ids() {
                    let lasts = self.while_it_lasts();
                    self.crash_for(id, lasts / 2);
                }
            }
            _ => self.crash_for(target, lasts),
        }
    }

    fn crash_for(&mut self, id: NodeId, lasts: u64) {
        if self.node(id).process.as_ref().is_some_and(|process| !process.failed) {
            self.crash(id);
            self.node_mut(id).absence = Some(Absence::Restarting);
            self.at(self.now + lasts, Happening::Start(id));
        }
    }

    /// Whether the group is to survive the loss of this copy. Every entry is on `min_isr` copies, and whatever swap
    /// may still be applied leaves as many of them eligible; one that lost its data may be among those.
    fn may_lose(&self, id: NodeId) -> bool {
        let record = &self.observed.record;
        if self.observed.contradicted.is_some() || self.operator.survivor.is_some() {
            return false;
        }
        let is_lost = |id: NodeId| !self.is_whole(id);
        if !record.is_eligible(id) {
            return record.isr.iter().any(|member| !is_lost(*member));
        }
        let others = record.members.iter().filter(|member| member.node != id);
        let lost = others.filter(|member| is_lost(member.node)).count();
        let eligible = record.isr.len() + record.elr.len();
        eligible.min(record.min_isr as usize) >= lost + 2
    }

    pub(super) fn damage(&mut self, fault: Fault, target: NodeId) {
        if fault == Fault::OldDisk && self.node(target).backup.is_none() {
            let node = self.node_mut(target);
            node.backup = Some(node.disk.backup());
            return;
        }
        if !self.may_lose(target) {
            return;
        }
        let lasts = self.while_it_lasts();
        self.crash_for(target, lasts);
        if self.node(target).process.is_some() {
            return;
        }
        let random = &mut self.random;
        let node = &mut self.nodes[target.0 as usize - 1];
        match fault {
            Fault::Rot => node.disk.rot(random),
            Fault::OldDisk => node.backup.take().into_iter().for_each(|old| node.disk.restore(old)),
            _ => node.disk = Disk::made(Incarnation(random.next().max(1))),
        }
        self.lost_disk(target);
    }

    fn lost_disk(&mut self, id: NodeId) {
        self.coverage.count(Seldom::DiskLost);
        self.observed.lose(id);
    }

    /// Every copy that holds what is committed is destroyed; an operator lets a survivor go on with what it has.
    pub(super) fn destroy_holders(&mut self, survivor: NodeId) {
        let record = self.observed.record.clone();
        let listed = record.member(survivor).map(|member| member.incarnation);
        let node = self.node(survivor);
        let fit = node.alive().is_some_and(|process| process.view.established)
            && listed == Some(node.disk.incarnation())
            && !record.is_eligible(survivor);
        if !fit || self.observed.contradicted.is_some() || self.operator.survivor.is_some() {
            return;
        }
        self.operator.survivor = Some(survivor);
        for id in record.isr.union(&record.elr).copied().collect::<Vec<_>>() {
            self.crash(id);
            let back = self.now + self.random.between(self.unit * 4, self.unit * 12);
            let number = Incarnation(self.random.next().max(1));
            let node = self.node_mut(id);
            node.disk = Disk::made(number);
            node.absence = Some(Absence::Destroyed);
            self.lost_disk(id);
            self.at(back, Happening::Start(id));
        }
    }

    /// One replica's state machine begins to differ from the others'.
    pub(super) fn diverge(&mut self, target: NodeId) {
        let record = &self.observed.record;
        let tainted = |node: &crate::world::Node| {
            node.disk.state.tainted || node.process.as_ref().is_some_and(|process| process.machine.tainted)
        };
        if record.isr.len() >= 3
            && !self.nodes.iter().any(tainted)
            && let Some(process) = &mut self.node_mut(target).process
        {
            process.machine.taint();
        }
    }
}
