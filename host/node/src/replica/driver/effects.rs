//! Carries out what the core wants done, in its order.

use std::sync::atomic::Ordering;

use mortise_core::ids::{Epoch, LogIndex};
use mortise_core::replica::{
    Effect, Event as CoreEvent, LogAtInstall, Notice, Position, Rare, Refusal, SnapshotMeta, Write, WriteId,
};

use super::{Driver, Pending};
use crate::replica::answers::Waiting;
use crate::replica::api::WriteError;
use crate::replica::apply::ApplyJob;
use crate::replica::fetch::{self, Fetched};
use crate::replica::log_reader::ReadJob;
use crate::replica::shared::uptime;
use crate::replica::writer::WriterJob;

impl Driver {
    /// One step of the core, carried out.
    pub(super) fn step(&mut self, event: CoreEvent) {
        let effects = self.core.step(uptime(), event);
        self.carry_out(effects);
        self.send_writes();
    }

    /// Writes are gathered, for [`send_writes`](Self::send_writes).
    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Write(id, Write::Install { meta, log }) => self.install(id, meta, log),
                Effect::Write(id, write) => {
                    self.written = id;
                    self.writes.push((id, write));
                }
                Effect::Send { to, message } => self.outside.send(to, message),
                Effect::OpenStream { peer, stream } => self.outside.open_stream(peer, stream),
                Effect::CloseStream { peer, stream } => self.outside.close_stream(peer, stream),
                Effect::Coordinate(request) => self.outside.coordinate(request),
                Effect::FetchSnapshot { from, meta } => {
                    self.newest_state = self.newest_state.next();
                    let (outside, inbox) = (&self.outside, &self.channels.inbox);
                    fetch::start(&self.shared, outside, inbox, from, meta, self.newest_state);
                }
                Effect::Apply { up_to } => self.give(up_to),
                Effect::Proposed { result, .. } => self.proposed(result),
                Effect::Notice(notice) => self.notice(notice),
                Effect::TakeSnapshot => self.take_snapshot(None),
                Effect::ReadLog { peer, stream, first, last, bytes_max } => {
                    // It is gone only when the replica stops.
                    let _ = self.channels.reader.send(ReadJob { peer, stream, first, last, bytes_max });
                }
                Effect::Read { id, result } => {
                    // Whoever wanted to read may be gone.
                    let _ = self.reads.remove(&id).map(|reply| reply.send(result));
                }
                Effect::Operator { id, result } => {
                    // As above.
                    let _ = self.operators.remove(&id).map(|reply| reply.send(result));
                }
                Effect::Acknowledge { token, .. } => self.acknowledged(token),
                Effect::Fate { id, result } => self.fate(id, result),
            }
        }
    }

    /// Gives the log writer what was gathered, as one job.
    pub(super) fn send_writes(&mut self) {
        if self.writes.is_empty() {
            return;
        }
        let progress = self.core.progress();
        self.shared.positions.last.store(progress.last.index.0, Ordering::Relaxed);
        if self.channels.writer.send(WriterJob::Write(std::mem::take(&mut self.writes))).is_err() {
            self.shared.set_fault("the log writer is gone");
        }
    }

    /// A snapshot is fetched and restored: the core decides whether it is installed.
    pub(super) fn fetched(&mut self, fetched: Option<Fetched>) {
        let Some(fetched) = fetched else { return self.step(CoreEvent::SnapshotFailed) };
        let meta = fetched.meta.clone();
        self.fetched = Some(fetched);
        self.step(CoreEvent::SnapshotFetched(meta));
        if let Some(unused) = self.fetched.take() {
            self.shared.discard(unused.state);
        }
    }

    /// The fetched snapshot takes the place of the state. The apply thread goes over to it at once; what it had been
    /// given before counts for a state that is gone.
    fn install(&mut self, id: WriteId, meta: SnapshotMeta, log: LogAtInstall) {
        let Some(Fetched { state, tables, .. }) = self.fetched.take_if(|fetched| fetched.meta == meta) else {
            return self.shared.set_fault("a snapshot is to be installed that was not fetched");
        };
        // What was asked for before it comes before it.
        self.send_writes();
        self.written = id;
        self.installing = Some((id, self.state));
        self.state = state;
        self.given = meta.last.index;
        self.shared.positions.commit.fetch_max(meta.last.index.0, Ordering::Release);
        let replaced = self.channels.apply.send(ApplyJob::Replace(state, tables)).is_ok();
        let installs = self.channels.writer.send(WriterJob::Install { id, meta, log, state }).is_ok();
        if !replaced || !installs {
            self.shared.set_fault("the log writer or the apply thread is gone");
        }
    }

    /// Once the install is durable, the state that it replaced can go.
    pub(super) fn installed(&mut self, durable: WriteId) {
        if let Some((_, old)) = self.installing.take_if(|(id, _)| *id <= durable) {
            // It is gone only when the replica stops.
            let _ = self.channels.apply.send(ApplyJob::Discard(old));
        }
    }

    /// Gives the apply thread the entries up to `up_to`: those proposed here as they are, others as they were appended,
    /// and what is too old for that to be read from the log.
    fn give(&mut self, up_to: LogIndex) {
        self.shared.positions.commit.store(up_to.0, Ordering::Release);
        while self.given < up_to {
            let next = self.given.next();
            let first = self.pending.front().map_or(LogIndex(u64::MAX), |pending| pending.entry.index);
            let place = next.0.checked_sub(first.0).and_then(|place| usize::try_from(place).ok());
            let pending = place.and_then(|place| self.pending.get_mut(place));
            let job = match (pending, self.core.to_apply(next)) {
                (Some(pending), _) => {
                    self.given = next;
                    ApplyJob::Entry(pending.entry.clone(), Waiting::new(&self.shared, pending.waiters.give()))
                }
                (None, Some(entry)) => {
                    self.given = next;
                    ApplyJob::Encoded(entry.clone())
                }
                (None, None) => {
                    let before = LogIndex(first.0.saturating_sub(1));
                    self.given = if next < first { up_to.min(before) } else { up_to };
                    ApplyJob::Logged { first: next, last: self.given }
                }
            };
            if let Err(unsent) = self.channels.apply.send(job) {
                self.shared.set_fault("the apply thread is gone");
                // Now whoever waits for it is told why.
                drop(unsent);
            }
        }
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Leads { epoch } => {
                let applied = self.shared.tables().applied;
                self.shared.positions.epoch.store(epoch.0, Ordering::Relaxed);
                self.numbers.last_tenant = applied.last_tenant;
                self.last_time = applied.time;
                self.serving = true;
                self.note_leader(Some(epoch));
                tracing::info!(%epoch, index = %applied.index, "this node leads");
                if let Some(started) = self.started.take() {
                    // Whoever waited for the start may be gone.
                    let _ = started.send(Ok(Ok(Position { epoch, index: applied.index })));
                }
            }
            Notice::StepsDown { epoch } => self.step_down(epoch.0),
            Notice::Halted(why) => self.shared.set_fault(&why),
            Notice::Frozen(why) => tracing::error!(why, "the group is frozen"),
            Notice::Quarantined { index } => {
                tracing::error!(%index, "the state differs from the group's: quarantined");
            }
            Notice::Record(record) => {
                self.note_leader(self.shared.leading());
                self.shared.positions.epoch.fetch_max(record.epoch.0, Ordering::Relaxed);
                tracing::debug!(?record, "a newer record of the group");
            }
            Notice::Dropped(why) => tracing::debug!(why, "a message or an answer was refused"),
            // Whoever asks can make it happen at will.
            Notice::Happened(Rare::TokenLost) => tracing::debug!("a token was found lost"),
            Notice::Happened(what) => {
                self.shared.metrics.happened(what);
                tracing::info!(?what, "a rare thing happened");
            }
            Notice::Unfrozen { .. } | Notice::Released => {}
        }
    }

    /// Whether what is in flight will be committed is not known here any more.
    fn step_down(&mut self, epoch: u64) {
        tracing::warn!(epoch, "this node does not lead any more");
        self.serving = false;
        self.note_leader(None);
        self.profile_in_flight = false;
        self.upkeep.forget();
        let (logged, drafts) = (std::mem::take(&mut self.pending), std::mem::take(&mut self.drafts));
        for Pending { entry, waiters } in logged {
            self.fail(&entry.body, waiters, &WriteError::LeadershipLost);
        }
        let refusal = self.shared.not_leader();
        drafts.into_iter().for_each(|draft| self.fail(&draft.body, draft.waiters, &refusal));
    }

    /// Shows everybody who leads: this replica in an epoch, or another one.
    fn note_leader(&self, leading: Option<Epoch>) {
        let leading = leading.map_or(0, |epoch| epoch.0);
        let led = self.shared.leads.swap(leading, Ordering::AcqRel);
        // Nobody is sent here by this node itself.
        let leader = self.core.leader().filter(|leader| *leader != self.core.node());
        self.shared.leader.store(leader.map_or(0, |leader| leader.0), Ordering::Release);
        if led != leading {
            self.shared.watchers.wake_all();
        }
    }

    /// The error for a proposal that the core refused.
    pub(super) fn refused(&self, refusal: Refusal) -> WriteError {
        match refusal {
            Refusal::NotLeader { .. } => self.shared.not_leader(),
            Refusal::NotReady | Refusal::TimedOut | Refusal::Lost => {
                WriteError::NotLeader { group: self.shared.group, leader: None }
            }
            Refusal::Overloaded => {
                WriteError::Overloaded("too much is proposed and not committed: a member may be slow")
            }
            Refusal::OutOfService => WriteError::Stopped("this replica is out of service".into()),
            Refusal::Malformed => WriteError::Stopped("the core refused an entry of this node".into()),
        }
    }
}
