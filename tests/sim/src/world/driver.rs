//! What a driver does around a replica: it gives it events and carries out its effects, in the order that they demand.

use mortise_core::group::{BootId, NodeId};
use mortise_core::ids::LogIndex;
use mortise_core::replica::{
    CoordinatorRequest, Effect, Event, LogAtInstall, Notice, Rare, RoleKind, SessionState, SnapshotMeta,
    StreamId, Write,
};

use super::machine::Machine;
use super::node::{Asked, Session};
use super::{Absence, Call, Checked, Happening, Inside, Violation, World};
use crate::coverage::Seldom;

impl World {
    /// One step of a replica, and all that follows from it. The invariants are checked afterwards.
    pub(crate) fn step(&mut self, id: NodeId, event: Event) -> Checked {
        let now = self.now;
        let node = &mut self.nodes[id.0 as usize - 1];
        let Some(process) = &mut node.process else { return Ok(()) };
        self.steps += 1;
        self.trace.event(now, id, &event);
        let ticked = event == Event::Tick;
        let effects = process.replica.step(process.clock(now, node.drift), event);
        for effect in &effects {
            self.trace.effect(now, id, effect);
        }
        if ticked && effects.is_empty() {
            return Ok(());
        }
        process.view = process.replica.view();
        let (writes, others): (Vec<_>, Vec<_>) =
            effects.into_iter().partition(|effect| matches!(effect, Effect::Write(..)));
        for effect in writes {
            self.carry_out(id, effect)?;
        }
        self.observe_step(id)?;
        for effect in others {
            self.carry_out(id, effect)?;
        }
        self.check_invariants(id)
    }

    fn carry_out(&mut self, id: NodeId, effect: Effect) -> Checked {
        match effect {
            Effect::Write(write, what) => {
                self.check_write(id, &what)?;
                self.write(id, write, what);
            }
            Effect::Send { to, message } => {
                self.check_send(id, &message)?;
                self.send(id, to, message);
            }
            Effect::OpenStream { peer, stream } => self.open_stream(id, peer, stream),
            Effect::CloseStream { stream, .. } => {
                if let Some(boot) = self.boot(id) {
                    self.network.streams.remove(&(id, boot, stream));
                }
            }
            Effect::ReadLog { peer, stream, first, last, bytes_max } => {
                let after = self.random.between(100, 2000);
                self.tell_process(id, after, Inside::ReadLog { peer, stream, first, last, bytes_max });
            }
            Effect::Apply { up_to } => self.begin_apply(id, up_to),
            Effect::Proposed { id: request, result } => self.proposed(id, request, result)?,
            Effect::Acknowledge { id: request, token } => self.acknowledge_token(id, request, token)?,
            Effect::Fate { id: request, result } => self.tell_fate(id, request, result)?,
            Effect::Read { id: request, result } => self.permit_read(id, request, result)?,
            Effect::Coordinate(request) => self.coordinate(id, request),
            Effect::FetchSnapshot { from, meta } => {
                if let Some(process) = &mut self.node_mut(id).process {
                    process.fetching = true;
                }
                let long = self.random.between(1000, 2 * self.unit);
                let after = if self.random.chance(300) { long } else { long / 16 };
                self.tell_process(id, after, Inside::Fetched { from, meta });
            }
            Effect::TakeSnapshot => {
                let after = self.random.between(1000, self.unit / 4);
                self.tell_process(id, after, Inside::TakeSnapshot { drop_log: false });
            }
            Effect::Operator { id: request, result } => self.operator_hears(request, result),
            Effect::Notice(notice) => self.notice(id, notice)?,
        }
        Ok(())
    }

    pub(super) fn boot(&self, id: NodeId) -> Option<BootId> {
        self.node(id).process.as_ref().map(|process| process.boot)
    }

    // --- The log.

    fn write(&mut self, id: NodeId, write: mortise_core::replica::WriteId, what: Write) {
        let node = self.node_mut(id);
        if let (Write::Install { .. }, Some(process)) = (&what, &mut node.process) {
            process.installing = true;
            process.installs += 1;
            process.apply_up_to = LogIndex(0);
        }
        node.disk.write(write, what);
        self.sync(id);
    }

    fn sync(&mut self, id: NodeId) {
        let slow = self.node(id).disk_slow_until;
        if !self.node_mut(id).disk.begin_sync() {
            return;
        }
        let mut after = self.random.between(50, 1500);
        if self.random.chance(self.profile.slow_syncs) {
            after += self.random.below(self.unit);
        }
        let waits = slow.saturating_sub(self.now);
        self.tell_process(id, after + waits, Inside::Synced);
    }

    pub(super) fn synced(&mut self, id: NodeId) -> Checked {
        let node = &mut self.nodes[id.0 as usize - 1];
        if std::mem::take(&mut node.fsync_fails) {
            self.coverage.count(Seldom::FsyncFailed);
            self.step(id, Event::Fault("an fsync failed".into()))?;
            if let Some(process) = &mut self.node_mut(id).process {
                process.failed = true;
            }
            return Ok(());
        }
        let Some((write, published)) = node.disk.end_sync() else { return Ok(()) };
        self.observed.disk_changed = true;
        if let (Some(state), Some(process)) = (published, &mut node.process) {
            let machine = Machine::restore(&state).or_else(|what| Violation::of("disk", what))?;
            process.apply_up_to = machine.at.index;
            process.machine = machine;
            process.installing = false;
        }
        self.step(id, Event::Durable(write))?;
        self.sync(id);
        Ok(())
    }

    pub(super) fn read_log(
        &mut self,
        id: NodeId,
        peer: NodeId,
        stream: StreamId,
        first: LogIndex,
        last: LogIndex,
        bytes_max: usize,
    ) -> Checked {
        let log = &self.node(id).disk.written;
        let mut bytes = 0;
        let mut entries = Vec::new();
        let wanted = (first.0..=last.0).map_while(|index| log.entry(LogIndex(index)));
        for entry in wanted {
            bytes += entry.payload.len();
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        self.coverage.count(Seldom::LogReadBack);
        self.step(id, Event::LogRead { peer, stream, entries })
    }

    // --- The coordinator.

    fn coordinate(&mut self, id: NodeId, request: CoordinatorRequest) {
        let Some(process) = &self.node(id).process else { return };
        match request {
            CoordinatorRequest::Read { request } => self.call(id, Call::Read, Asked::Read(request)),
            CoordinatorRequest::Swap { expected, record } => {
                let asked = Asked::Swap(record.nonce);
                self.call(id, Call::Swap { expected, record: Box::new(record) }, asked);
            }
            CoordinatorRequest::Candidacy(wanted) => {
                if let Session::Live { lease, .. } = process.session {
                    let lease = wanted.then_some(lease);
                    self.call(id, Call::Candidacy(lease), Asked::Candidacy);
                }
            }
        }
    }

    pub(super) fn session(&mut self, id: NodeId, session: Session) -> Checked {
        let Some(process) = &mut self.node_mut(id).process else { return Ok(()) };
        process.session = session;
        let state = match session {
            Session::Offline => SessionState::Offline,
            Session::Live { lease, .. } => SessionState::Live(lease),
        };
        self.step(id, Event::Session(state))
    }

    // --- Notices.

    fn notice(&mut self, id: NodeId, notice: Notice) -> Checked {
        match notice {
            Notice::StepsDown { .. } => self.give_up_waiting(id),
            Notice::Happened(rare) => {
                self.coverage.happened(rare);
                if rare == Rare::NewIncarnation {
                    return self.check_new_incarnation(id);
                }
            }
            Notice::Dropped(why) => self.coverage.dropped(why),
            Notice::Frozen(_) => self.coverage.count(Seldom::Frozen),
            Notice::Quarantined { .. } => self.coverage.count(Seldom::Quarantined),
            Notice::Released => self.coverage.count(Seldom::Released),
            Notice::Halted(why) => return self.halted(id, &why),
            Notice::Leads { .. } | Notice::Record(_) | Notice::Unfrozen { .. } => {}
        }
        Ok(())
    }

    /// A replica stops for good only where this world gave it a reason; its operator starts it again.
    fn halted(&mut self, id: NodeId, why: &str) -> Checked {
        let process = self.node_mut(id).process.as_mut();
        let fault = process.is_some_and(|process| {
            process.failed = true;
            process.view.role == RoleKind::Halted
        });
        if !fault || why != "an fsync failed" {
            return Violation::of("HALT", format!("node {id} halts: {why}"));
        }
        let after = self.random.between(self.unit / 8, self.unit * 2);
        self.restart_after(id, after);
        Ok(())
    }

    /// The node's process ends now, and another starts later.
    pub(crate) fn restart_after(&mut self, id: NodeId, after: u64) {
        self.at(self.now, Happening::Cure(crate::faults::Cure::End(id)));
        self.node_mut(id).absence = Some(Absence::Restarting);
        self.at(self.now + after, Happening::Start(id));
    }

    /// Whether a snapshot that is to be installed was fetched.
    pub(crate) fn is_staged(&self, id: NodeId, meta: &SnapshotMeta, log: LogAtInstall) -> bool {
        let disk = &self.node(id).disk;
        let staged = disk.staged.as_ref().is_some_and(|staged| staged.meta == *meta);
        staged && (log != LogAtInstall::Stays || disk.written.holds(meta.last))
    }
}
