//! What goes wrong, when, and when it is mended.

mod machines;
mod network;

use mortise_core::group::{Generation, NodeId};
use mortise_core::replica::OperatorCommand;

use crate::world::{Checked, Happening, Weather, World};

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
    HeardAgain,
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

/// The end of something that goes wrong, or its next part.
#[derive(Clone, Debug)]
pub(crate) enum Cure {
    /// A process that has stopped working is ended.
    End(NodeId),
    Links(Vec<(NodeId, NodeId)>),
    Weather(Weather),
    Coordinator,
    Reach(NodeId),
    Watch(NodeId),
    Isolate(NodeId),
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
            | Fault::HeardAgain
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
            Cure::Isolate(id) if !self.healed => self.disturb(Fault::Isolate, id),
            Cure::Isolate(_) => {}
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
