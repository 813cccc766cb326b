//! What goes wrong, when, and when it is mended.

use mortise_core::group::{Generation, Incarnation, NodeId};
use mortise_core::replica::OperatorCommand;

use crate::coverage::Seldom;
use crate::world::{Absence, Checked, Disk, Happening, Weather, World};

/// Something that goes wrong, or that somebody does to the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    Crash,
    CrashAll,
    Pause,
    FsyncFails,
    DiskStalls,
    Wipe,
    OldDisk,
    Rot,
    Isolate,
    OneWay,
    Pair,
    Split,
    BreakStreams,
    Storm,
    WithoutCoordinator,
    CoordinatorDown,
    CoordinatorBackup,
    CoordinatorRestored,
    CoordinatorWiped,
    CoordinatorCompacted,
    LeaseRevoked,
    LeasesRevoked,
    WallClockJumps,
    ExpireSessions,
    Transfer,
    Add,
    Remove,
    MinIsr,
    Diverge,
    Unclean,
}

/// The end of something that goes wrong.
#[derive(Clone, Debug)]
pub(crate) enum Cure {
    /// A process that has stopped working is ended.
    End(NodeId),
    Links(Vec<(NodeId, NodeId)>),
    Weather(Weather),
    Coordinator,
    Reach(NodeId),
    Watch(NodeId),
}

impl World {
    /// Draws the next fault, and the time of the one after it.
    pub(crate) fn next_fault(&mut self) -> Checked {
        if self.healed {
            return Ok(());
        }
        let (low, high) = self.profile.pace;
        let after = self.random.between(self.unit * low / 10, self.unit * high / 10);
        self.at(self.now + after, Happening::Fault);
        let Some(fault) = self.random.pick_weighted(&self.profile.faults) else { return Ok(()) };
        let target = self.target();
        let now = self.now;
        self.trace.note(now, || format!("fault {fault:?}, perhaps on node {target}"));
        match fault {
            Fault::Crash | Fault::CrashAll | Fault::Pause | Fault::FsyncFails | Fault::DiskStalls => {
                self.stop(fault, target);
            }
            Fault::Wipe | Fault::OldDisk | Fault::Rot => self.damage(fault, target),
            Fault::Isolate
            | Fault::OneWay
            | Fault::Pair
            | Fault::Split
            | Fault::BreakStreams
            | Fault::Storm => self.disturb(fault, target),
            Fault::WithoutCoordinator
            | Fault::CoordinatorDown
            | Fault::CoordinatorBackup
            | Fault::CoordinatorRestored
            | Fault::CoordinatorWiped
            | Fault::CoordinatorCompacted
            | Fault::LeaseRevoked
            | Fault::LeasesRevoked => return self.trouble_coordinator(fault, target),
            Fault::WallClockJumps => {
                let ahead = self.random.between(0, 80_000) as i64 - 30_000;
                self.node_mut(target).wall_error = ahead;
            }
            Fault::ExpireSessions => {
                return self.expire_sessions(self.observed.record.leader.unwrap_or(target));
            }
            Fault::Transfer | Fault::Add | Fault::Remove | Fault::MinIsr => {
                return self.change_group(fault, target);
            }
            Fault::Diverge => self.diverge(target),
            Fault::Unclean => self.destroy_holders(target),
        }
        Ok(())
    }

    pub(crate) fn cure(&mut self, cure: Cure) -> Checked {
        match cure {
            Cure::End(id) => self.crash(id),
            Cure::Links(links) => links.iter().for_each(|link| _ = self.network.cut.remove(link)),
            Cure::Weather(weather) => self.network.weather = weather,
            Cure::Coordinator => self.coordinator.up = true,
            Cure::Reach(id) => _ = self.without_coordinator.remove(&id),
            Cure::Watch(id) => self.watch_anew(id),
        }
        Ok(())
    }

    /// Whom a fault hits: the leader more often than others.
    fn target(&mut self) -> NodeId {
        let any = self.any_node();
        let leader = self.observed.record.leader;
        if self.random.chance(400) { leader.unwrap_or(any) } else { any }
    }

    /// How long something goes wrong: mostly briefly, sometimes for long.
    fn while_it_lasts(&mut self) -> u64 {
        let unit = self.unit;
        if self.random.chance(700) {
            self.random.between(unit / 20, unit * 3 / 2)
        } else {
            self.random.between(unit, unit * 5)
        }
    }

    // --- Processes and disks.

    fn stop(&mut self, fault: Fault, target: NodeId) {
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

    fn damage(&mut self, fault: Fault, target: NodeId) {
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
    fn destroy_holders(&mut self, survivor: NodeId) {
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
    fn diverge(&mut self, target: NodeId) {
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

    // --- The network.

    fn disturb(&mut self, fault: Fault, target: NodeId) {
        let other = self.any_node();
        let links: Vec<(NodeId, NodeId)> = match fault {
            Fault::Isolate => self.ids().iter().flat_map(|id| [(target, *id), (*id, target)]).collect(),
            Fault::OneWay if self.random.chance(500) => vec![(target, other)],
            Fault::OneWay => self.ids().iter().map(|id| (target, *id)).collect(),
            Fault::Pair => vec![(target, other), (other, target)],
            Fault::Split => {
                let sides: Vec<bool> = self.ids().iter().map(|_| self.random.chance(500)).collect();
                let apart = |a: NodeId, b: NodeId| sides[a.0 as usize - 1] != sides[b.0 as usize - 1];
                let ids = self.ids();
                let all = ids.iter().flat_map(|a| ids.iter().map(move |b| (*a, *b)));
                all.filter(|(a, b)| apart(*a, *b)).collect()
            }
            Fault::BreakStreams => return self.break_streams(),
            _ => return self.storm(),
        };
        let links: Vec<_> = links.into_iter().filter(|(from, to)| from != to).collect();
        self.network.cut.extend(links.iter().copied());
        let lasts = self.while_it_lasts();
        self.at(self.now + lasts, Happening::Cure(Cure::Links(links)));
    }

    fn break_streams(&mut self) {
        for key in self.network.whole() {
            if self.random.chance(500) {
                self.break_stream(key);
            }
        }
    }

    fn storm(&mut self) {
        let calm = self.profile.weather;
        let longest = self.random.between(calm.latency.1, self.unit / 4);
        self.network.weather = Weather {
            latency: (calm.latency.0, longest),
            lost: self.random.between(10, 150),
            twice: self.random.between(0, 200),
            ghosts: self.random.between(0, 30),
        };
        let lasts = self.while_it_lasts();
        self.at(self.now + lasts, Happening::Cure(Cure::Weather(calm)));
    }

    // --- The coordinator.

    fn trouble_coordinator(&mut self, fault: Fault, target: NodeId) -> Checked {
        let lasts = self.while_it_lasts();
        match fault {
            Fault::WithoutCoordinator => {
                self.without_coordinator.insert(target);
                self.at(self.now + lasts, Happening::Cure(Cure::Reach(target)));
            }
            Fault::CoordinatorDown => {
                self.coordinator.up = false;
                self.at(self.now + lasts * 2, Happening::Cure(Cure::Coordinator));
            }
            Fault::CoordinatorBackup => self.coordinator.make_backup(),
            Fault::CoordinatorRestored | Fault::CoordinatorWiped => {
                let backup = self.coordinator.backup.clone().filter(|_| fault == Fault::CoordinatorRestored);
                // One disaster after the other: the last one was accepted, though not everybody may have heard of it.
                let nothing = fault == Fault::CoordinatorRestored && backup.is_none();
                if self.observed.contradicted.is_some() || nothing {
                    return Ok(());
                }
                self.coordinator.restore(backup);
                // A backup of the present record contradicts nothing, though whoever saw the other coordinator freezes.
                let record = self.coordinator.record();
                let same = record.is_some_and(|record| record.nonce == self.observed.record.nonce);
                let back_to = record.map_or(Generation(0), |record| record.generation);
                self.observed.contradicted = (!same).then_some(back_to);
                self.record_changed()?;
                self.candidates_changed();
            }
            Fault::CoordinatorCompacted => {
                self.watches_behind.entry(target).or_default();
                self.at(self.now + lasts, Happening::Cure(Cure::Watch(target)));
            }
            Fault::LeaseRevoked if self.coordinator.revoke(|node| node == target) => {
                self.candidates_changed()
            }
            Fault::LeasesRevoked if self.coordinator.revoke(|_| true) => self.candidates_changed(),
            _ => {}
        }
        Ok(())
    }

    // --- The group.

    fn change_group(&mut self, fault: Fault, target: NodeId) -> Checked {
        let record = &self.observed.record;
        let command = match fault {
            Fault::Transfer => OperatorCommand::Transfer(target),
            Fault::Add if record.member(target).is_none() => OperatorCommand::Add(target),
            Fault::Remove if record.members.len() > 2 => OperatorCommand::Remove(target),
            Fault::MinIsr => {
                let most = record.members.len() as u64;
                OperatorCommand::SetMinIsr(self.random.between(1, most) as u32)
            }
            _ => return Ok(()),
        };
        self.command_leader(command)
    }

    // --- The end of it all.

    /// Mends everything; from now on nothing goes wrong any more.
    pub(crate) fn heal(&mut self) {
        let now = self.now;
        self.trace.note(now, || "everything is mended".into());
        self.healed = true;
        self.network.cut.clear();
        self.network.weather = Weather { lost: 0, twice: 0, ghosts: 0, ..self.profile.weather };
        self.profile.client_loss = 0;
        self.profile.slow_syncs = 0;
        self.coordinator.up = true;
        self.without_coordinator.clear();
        for id in self.ids() {
            self.watch_anew(id);
            let node = self.node_mut(id);
            node.fsync_fails = false;
            node.disk_slow_until = 0;
            if let Some(process) = &mut node.process {
                process.paused_until = process.paused_until.min(now);
            }
            self.at(now, Happening::Start(id));
        }
    }
}
