//! Who waits for what becomes of writes, and how they are told.

use std::sync::Arc;

use mortise_core::ids::{Sequence, SessionId, TenantId};
use mortise_core::outcome::Outcome;
use mortise_core::replica::{Ack, Position};

use super::api::{Answer, AnswerSink, Told, Write, WriteError, Written};
use super::plan::CommandResult;
use super::shared::Shared;

/// Who waits for a command.
pub(crate) struct Waiter {
    sink: Arc<dyn AnswerSink>,
    pub(super) tenant: TenantId,
    pub(super) session: SessionId,
    pub(super) sequence: Sequence,
    /// Of the command.
    pub(super) bytes: usize,
    /// When it wants its acknowledgement.
    pub(super) ack: Ack,
}

/// Those who wait for commands in flight. Whoever is left unanswered, because the replica stops, is told so.
pub(crate) struct Waiting {
    shared: Arc<Shared>,
    waiters: Vec<Waiter>,
}

/// Gathers answers, and hands them over a sink at a time.
#[derive(Default)]
pub(crate) struct Answers {
    sink: Option<Arc<dyn AnswerSink>>,
    answers: Vec<Answer>,
}

impl Waiter {
    pub(super) fn new(write: &Write, sink: &Arc<dyn AnswerSink>) -> Self {
        Self {
            sink: sink.clone(),
            tenant: write.tenant,
            session: write.session,
            sequence: write.sequence,
            bytes: write.payload.len(),
            ack: write.ack,
        }
    }
}

impl Waiting {
    pub(super) fn new(shared: &Arc<Shared>, waiters: Vec<Waiter>) -> Self {
        Self { shared: shared.clone(), waiters }
    }

    /// Answers each with the result of its command, in the entry at this position.
    pub(super) fn answer(&mut self, position: Position, results: &[CommandResult]) {
        self.tell(results.iter().map(|result| outcome(result.clone(), Some(position))));
    }

    /// Tells each what became of its write.
    pub(super) fn tell(&mut self, outcomes: impl Iterator<Item = Result<Written, WriteError>>) {
        let waiters = std::mem::take(&mut self.waiters);
        self.shared.in_flight.release(waiters.len(), waiters.iter().map(|waiter| waiter.bytes).sum());
        let mut answers = Answers { sink: None, answers: Vec::with_capacity(waiters.len()) };
        for (waiter, outcome) in waiters.iter().zip(outcomes) {
            answers.add(waiter, Told::Outcome(outcome));
        }
        answers.send();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.waiters.is_empty() {
            self.tell(std::iter::repeat(Err(self.shared.unanswered())));
        }
    }
}

impl Answers {
    pub(super) fn add(&mut self, waiter: &Waiter, told: Told) {
        if self.sink.as_ref().is_none_or(|sink| !Arc::ptr_eq(sink, &waiter.sink)) {
            self.send();
            self.sink = Some(waiter.sink.clone());
        }
        self.answers.push(Answer {
            tenant: waiter.tenant,
            session: waiter.session,
            sequence: waiter.sequence,
            told,
        });
    }

    pub(super) fn send(&mut self) {
        let answers = std::mem::take(&mut self.answers);
        if let Some(sink) = self.sink.take() {
            sink.answers(answers);
        }
    }
}

/// What a caller is told of a result; `position`: of the entry that it is the result of.
pub(crate) fn outcome(result: CommandResult, position: Option<Position>) -> Result<Written, WriteError> {
    match result {
        CommandResult::Outcome(Outcome::Applied(reply)) => Ok(Written { reply, position }),
        CommandResult::Outcome(Outcome::Rejected(rejection)) => Err(WriteError::Rejected(rejection)),
        CommandResult::Outcome(Outcome::Failed(failure)) => Err(WriteError::Failed(failure)),
        CommandResult::NoSuchTenant => Err(WriteError::NoSuchTenant),
        CommandResult::SessionExpired => Err(WriteError::SessionExpired),
        CommandResult::Answered => Err(WriteError::AlreadyAnswered),
    }
}

/// Answers every write with the same error.
pub(crate) fn refuse(writes: &[Write], sink: &Arc<dyn AnswerSink>, error: &WriteError) {
    let answers = writes.iter().map(|write| Answer {
        tenant: write.tenant,
        session: write.session,
        sequence: write.sequence,
        told: Told::Outcome(Err(error.clone())),
    });
    sink.answers(answers.collect());
}
