//! What a driver does around a replica: it gives it events and carries out its effects, in the order that they demand.

use mortise_core::group::{BootId, NodeId};
use mortise_core::ids::LogIndex;
use mortise_core::replica::{
    CoordinatorRequest, Effect, Event, LogAtInstall, Message, Notice, Rare, RoleKind, SessionState,
    SnapshotMeta, StreamId, Write,
};

use super::disk::Snapshot;
use super::machine::Machine;
use super::network::StreamKey;
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

    fn boot(&self, id: NodeId) -> Option<BootId> {
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

    // --- The state.

    fn begin_apply(&mut self, id: NodeId, up_to: LogIndex) {
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

    // --- The network.

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        let Some(boot) = self.boot(from) else { return };
        let (now, random) = (self.now, &mut self.random);
        if to.0 == 0 || to.0 as usize > self.nodes.len() {
            return;
        }
        let times = if message.fence.stream == StreamId(0) {
            self.network.beside(now, from, to, random)
        } else {
            match self.network.on_stream(now, (from, boot), to, &message, random) {
                Ok(times) => times,
                Err(broken) => return self.tell_opener(broken),
            }
        };
        let listener = self.boot(to);
        for (copy, at) in times.into_iter().enumerate() {
            // A copy may reach another process than the one it was meant for.
            let boot = if copy == 0 { listener } else { None };
            let what = Inside::Event(Event::Message { from, message: message.clone() });
            self.at(at, Happening::ToProcess { node: to, boot, what });
        }
    }

    /// A stream breaks.
    pub(crate) fn break_stream(&mut self, key: StreamKey) {
        if let Some(stream) = self.network.streams.get_mut(&key) {
            stream.broken = true;
        }
        self.tell_opener(key);
    }

    /// A stream is broken: its opener finds out, sooner or later.
    fn tell_opener(&mut self, (opener, boot, stream): StreamKey) {
        let Some(peer) = self.network.streams.get(&(opener, boot, stream)).map(|stream| stream.peer) else {
            return;
        };
        let after = self.random.between(self.unit / 100, self.unit);
        self.tell_process(opener, after, Inside::Event(Event::StreamClosed { peer, stream }));
    }

    fn open_stream(&mut self, id: NodeId, peer: NodeId, stream: StreamId) {
        let known = peer.0 > 0 && peer.0 as usize <= self.nodes.len();
        let alive = known.then(|| self.node(peer).alive().map(|process| process.boot)).flatten();
        let passes = self.network.passes(id, peer) && self.network.passes(peer, id);
        let way = self.network.latency(&mut self.random) + self.network.latency(&mut self.random);
        match alive.filter(|_| passes) {
            Some(peer_boot) => self.tell_process(id, way, Inside::Opened { peer, peer_boot, stream }),
            None => {
                // Refused at once by a machine without the process; without an answer it takes longer.
                let after = if passes { way } else { self.random.between(self.unit / 8, self.unit) };
                self.tell_process(id, after, Inside::Event(Event::StreamClosed { peer, stream }));
            }
        }
    }

    pub(super) fn opened(
        &mut self,
        id: NodeId,
        peer: NodeId,
        peer_boot: BootId,
        stream: StreamId,
    ) -> Checked {
        let Some(boot) = self.boot(id) else { return Ok(()) };
        if self.boot(peer) != Some(peer_boot) {
            return self.step(id, Event::StreamClosed { peer, stream });
        }
        self.network.open((id, boot, stream), peer, peer_boot);
        self.step(id, Event::StreamOpened { peer, stream })
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
