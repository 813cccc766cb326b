//! Reads and questions that wait: for a confirmation, for something to be applied, or for news of the leader.

use super::effect::{Effect, ReadPermit, Refusal};
use super::event::{Freshness, MonoTime, Read, RequestId};
use super::message::Position;
use super::shared::Shared;
use crate::ids::LogIndex;

/// What a read waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Need {
    /// Leader: every member answers a beacon of at least this round; then `index` has to be applied.
    Round { round: u64, index: LogIndex },
    /// Follower: the leader tells a commit index that was true at `since` or later.
    News { since: MonoTime },
    /// This much has to be applied.
    Applied { index: LogIndex },
    /// What stands at this position has to be applied, and be that position.
    Token(Position),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct WaitingRead {
    id: RequestId,
    deadline: MonoTime,
    need: Need,
}

/// The reads that wait. Bounded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Waiting {
    reads: Vec<WaitingRead>,
    max: usize,
    /// The newest commit index the leader told, and when it was asked.
    news: Option<(MonoTime, LogIndex)>,
    /// The question without an answer, and when it was asked.
    asked: Option<(u64, MonoTime)>,
    questions: u64,
}

impl Waiting {
    pub(super) fn new(max: usize) -> Self {
        Self { reads: Vec::new(), max, news: None, asked: None, questions: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.reads.is_empty()
    }

    /// Whether a read waits for a confirmation that a beacon of this round would give.
    pub(super) fn wants_round(&self, last_sent: u64) -> bool {
        self.reads.iter().any(|read| matches!(read.need, Need::Round { round, .. } if round > last_sent))
    }

    /// A question to the leader, if a read waits for news and none is on its way since `again_after`.
    pub(super) fn question(&mut self, now: MonoTime, again_after: u64) -> Option<u64> {
        let wanted = self.reads.iter().any(|read| matches!(read.need, Need::News { .. }));
        if !wanted || self.asked.is_some_and(|(_, at)| now.since(at) < again_after) {
            return None;
        }
        self.questions += 1;
        self.asked = Some((self.questions, now));
        Some(self.questions)
    }

    /// The leader answered a question. `None` if it was not the last one asked.
    pub(super) fn on_news(&mut self, question: u64, commit: LogIndex) -> Option<()> {
        let (_, at) = self.asked.take_if(|(asked, _)| *asked == question)?;
        self.news = Some((at, commit));
        Some(())
    }
}

impl Shared {
    /// Takes a read that any replica can serve; gives back one that only a leader can.
    pub(super) fn read_anywhere(&mut self, read: Read) -> Option<Read> {
        if !self.is_established() || self.hard.quarantined.is_some() || self.is_installing() {
            self.refuse_read(read.id, Refusal::OutOfService);
            return None;
        }
        match read.freshness {
            Freshness::AtLeast(token) => self.wait(read.id, read.deadline, Need::Token(token)),
            Freshness::Bounded(micros) => {
                let since = MonoTime(self.now.0.saturating_sub(micros));
                self.wait(read.id, read.deadline, Need::News { since });
            }
            Freshness::Linearizable | Freshness::Lease => return Some(read),
        }
        None
    }

    pub(super) fn wait(&mut self, id: RequestId, deadline: MonoTime, need: Need) {
        if self.waiting.reads.len() >= self.waiting.max {
            return self.refuse_read(id, Refusal::Overloaded);
        }
        self.waiting.reads.push(WaitingRead { id, deadline, need });
    }

    pub(super) fn refuse_read(&mut self, id: RequestId, refusal: Refusal) {
        self.effects.push(Effect::Read { id, result: Err(refusal) });
    }

    pub(super) fn permit_read(&mut self, id: RequestId, index: LogIndex, valid_until: MonoTime) {
        self.effects.push(Effect::Read { id, result: Ok(ReadPermit { index, valid_until }) });
    }

    /// Lets every read go on whose need is met. `confirmed`: the round that every member has answered.
    pub(super) fn wake_reads(&mut self, confirmed: u64) {
        let mut reads = std::mem::take(&mut self.waiting.reads);
        reads.retain_mut(|read| !self.wake(read, confirmed));
        self.waiting.reads = reads;
    }

    /// Returns whether the read has its answer.
    fn wake(&mut self, read: &mut WaitingRead, confirmed: u64) -> bool {
        match read.need {
            Need::Round { round, index } if confirmed >= round => read.need = Need::Applied { index },
            Need::News { since } => {
                if let Some((_, index)) = self.waiting.news.filter(|(asked, _)| *asked >= since) {
                    read.need = Need::Applied { index };
                }
            }
            _ => {}
        }
        // What was applied of a history that is given up says nothing of the one that counts, however far it reaches.
        let given_up = self.record().is_some_and(|record| record.generation > self.hard.generation);
        let shows = |index| self.applied >= index && !given_up && !self.is_installing();
        let result = match read.need {
            Need::Applied { index } if shows(index) => Ok(index),
            Need::Token(token) if shows(token.index) => {
                let same = self.log.epochs().epoch_at(token.index) == token.epoch;
                if same { Ok(token.index) } else { Err(Refusal::Lost) }
            }
            _ if self.now >= read.deadline => Err(Refusal::TimedOut),
            _ => return false,
        };
        match result {
            Ok(index) => self.permit_read(read.id, index, MonoTime::MAX),
            Err(refusal) => self.refuse_read(read.id, refusal),
        }
        true
    }

    /// Refuses the reads that wait for a confirmation or for news: the role they were asked in has ended.
    pub(super) fn refuse_unconfirmed(&mut self, refusal: Refusal) {
        let reads = std::mem::take(&mut self.waiting.reads);
        let (gone, kept): (Vec<_>, Vec<_>) =
            reads.into_iter().partition(|read| matches!(read.need, Need::Round { .. } | Need::News { .. }));
        self.waiting.reads = kept;
        gone.into_iter().for_each(|read| self.refuse_read(read.id, refusal));
        self.waiting.asked = None;
    }

    /// Refuses every read that waits.
    pub(super) fn refuse_all_reads(&mut self, refusal: Refusal) {
        let reads = std::mem::take(&mut self.waiting.reads);
        reads.into_iter().for_each(|read| self.refuse_read(read.id, refusal));
    }
}
