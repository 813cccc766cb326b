//! Carries out what the core wants done, in its order.

use std::sync::atomic::Ordering;

use mortise_core::group::NodeId;
use mortise_core::ids::LogIndex;
use mortise_core::replica::{Effect, Event as CoreEvent, Notice, Refusal};

use super::{Driver, Waiters};
use crate::replica::api::WriteError;
use crate::replica::apply::ApplyJob;
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
                Effect::Write(id, write) => {
                    self.written = id;
                    self.writes.push((id, write));
                }
                Effect::Send { to, message } => self.outside.send(to, message),
                Effect::OpenStream { peer, stream } => self.outside.open_stream(peer, stream),
                Effect::CloseStream { peer, stream } => self.outside.close_stream(peer, stream),
                Effect::Coordinate(request) => self.outside.coordinate(request),
                Effect::FetchSnapshot { from, meta } => self.outside.fetch_snapshot(from, meta),
                Effect::Apply { up_to } => self.give(up_to),
                Effect::Proposed { result, .. } => self.proposed(result),
                Effect::Notice(notice) => self.notice(notice),
                Effect::TakeSnapshot
                | Effect::ReadLog { .. }
                | Effect::Acknowledge { .. }
                | Effect::Fate { .. }
                | Effect::Read { .. }
                | Effect::Operator { .. } => {}
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
        if self.writer.send(WriterJob::Write(std::mem::take(&mut self.writes))).is_err() {
            self.shared.set_fault("the log writer is gone");
        }
    }

    /// Gives the apply thread the entries up to `up_to`: those proposed here as they are, all others to be read from
    /// the log.
    fn give(&mut self, up_to: LogIndex) {
        self.shared.positions.commit.store(up_to.0, Ordering::Release);
        while self.given < up_to {
            let next = self.given.next();
            let first = self.pending.front().map_or(LogIndex(u64::MAX), |pending| pending.entry.index);
            let place = next.0.checked_sub(first.0).and_then(|place| usize::try_from(place).ok());
            let job = match place.and_then(|place| self.pending.get(place)) {
                Some(pending) => {
                    self.given = next;
                    ApplyJob::Entry(pending.entry.clone())
                }
                None => {
                    let before = LogIndex(first.0.saturating_sub(1));
                    self.given = if next < first { up_to.min(before) } else { up_to };
                    ApplyJob::Logged { first: next, last: self.given }
                }
            };
            if self.apply.send(job).is_err() {
                self.shared.set_fault("the apply thread is gone");
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
                tracing::info!(%epoch, index = %applied.index, "this node leads");
                if let Some(started) = self.started.take() {
                    // Whoever waited for the start may be gone.
                    let _ = started.send(Ok(Ok(applied.index)));
                }
            }
            Notice::StepsDown { epoch } => self.step_down(epoch.0),
            Notice::Halted(why) => self.shared.set_fault(&why),
            Notice::Frozen(why) => tracing::error!(why, "the group is frozen"),
            Notice::Quarantined { index } => {
                tracing::error!(%index, "the state differs from the group's: quarantined");
            }
            Notice::Record(record) => tracing::debug!(?record, "a newer record of the group"),
            Notice::Dropped(why) => tracing::debug!(why, "a message or an answer was refused"),
            Notice::Happened(what) => tracing::info!(?what, "a rare thing happened"),
            Notice::Unfrozen { .. } | Notice::Released => {}
        }
    }

    /// Whether what is in flight will be committed is not known here any more.
    fn step_down(&mut self, epoch: u64) {
        tracing::warn!(epoch, "this node does not lead any more");
        self.serving = false;
        self.profile_in_flight = false;
        let (logged, drafts) = (std::mem::take(&mut self.pending), std::mem::take(&mut self.drafts));
        let waiting: Vec<Waiters> = logged.into_iter().map(|pending| pending.waiters).collect();
        waiting.into_iter().for_each(|waiters| self.fail_released(waiters, &WriteError::LeadershipLost));
        let refusal = self.not_leader();
        drafts.into_iter().for_each(|draft| self.fail_released(draft.waiters, &refusal));
    }

    fn fail_released(&mut self, waiters: Waiters, error: &WriteError) {
        if let Waiters::Commands(commands) = &waiters {
            let bytes = commands.iter().map(super::Waiter::bytes).sum();
            self.shared.in_flight.release(commands.len(), bytes);
        }
        self.fail(waiters, error);
    }

    /// The error for who asks a node that does not lead.
    pub(super) fn not_leader(&self) -> WriteError {
        let leader = self.core.view().promised.leader;
        WriteError::NotLeader { leader: leader.filter(|leader: &NodeId| *leader != self.core.node()) }
    }

    /// The error for a proposal that the core refused.
    pub(super) fn refused(&self, refusal: Refusal) -> WriteError {
        match refusal {
            Refusal::NotLeader { leader } => WriteError::NotLeader { leader },
            Refusal::NotReady | Refusal::TimedOut | Refusal::Lost => WriteError::NotLeader { leader: None },
            Refusal::Overloaded => {
                WriteError::Overloaded("too much is proposed and not committed: a member may be slow")
            }
            Refusal::OutOfService => WriteError::Stopped("this replica is out of service".into()),
            Refusal::Malformed => WriteError::Stopped("the core refused an entry of this node".into()),
        }
    }
}
