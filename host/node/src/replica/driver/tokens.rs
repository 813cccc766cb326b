//! Writes that the leader alone acknowledges: their tokens, and what becomes of them.

use mortise_core::replica::{Event as CoreEvent, Fate, MonoTime, Position, Refusal, RequestId};
use tokio::sync::oneshot;

use super::{Driver, Waiters};
use crate::replica::answers::Waiter;
use crate::replica::api::WriteError;
use crate::replica::shared::uptime;

/// How long a stream waits for the fate of a token that cannot be told at once, in microseconds: its client asks
/// elsewhere then.
const FATE_TIME_MAX: u64 = 10_000_000;

/// Where the fate of a token goes, or why it cannot be told. [`Refusal::TimedOut`]: it is pending.
pub(crate) type FateReply = oneshot::Sender<Result<Fate, Refusal>>;

/// Who asks for the fate of a token.
pub(super) enum Asker {
    /// A call.
    Call(FateReply),
    /// A stream that was told the token, for the write's outcome.
    Write(Waiter),
}

impl Driver {
    /// Asks the core. Only a leader that serves is asked: it has applied everything of earlier epochs, so that the session
    /// table shows what of it was executed.
    pub(super) fn ask_fate(&mut self, token: Position, deadline: MonoTime, asker: Asker) {
        let id = self.next_request();
        self.askers.insert(id, asker);
        if !self.serving {
            return self.fate(id, Err(Refusal::NotLeader { leader: None }));
        }
        self.step(CoreEvent::AskFate { id, token, deadline });
    }

    /// A stream asks for a write that is neither in flight nor recorded.
    pub(super) fn ask_for_write(&mut self, token: Position, waiter: Waiter) {
        self.ask_fate(token, uptime().after(FATE_TIME_MAX), Asker::Write(waiter));
    }

    /// The core's answer.
    pub(super) fn fate(&mut self, id: RequestId, result: Result<Fate, Refusal>) {
        match (self.askers.remove(&id), result) {
            (None, _) => {}
            // Whoever asked may be gone.
            (Some(Asker::Call(reply)), result) => drop(reply.send(result)),
            (Some(Asker::Write(waiter)), Ok(Fate::Lost)) => {
                self.admission.tell(vec![waiter], &Err(WriteError::Lost))
            }
            // Its outcome would be recorded, had the entry held this write.
            (Some(Asker::Write(waiter)), Ok(Fate::Committed)) => {
                let problem = "the log entry with this token does not carry this write";
                self.admission.tell(vec![waiter], &Err(WriteError::Invalid(problem.into())));
            }
            (Some(Asker::Write(waiter)), Err(refusal)) => {
                let error = self.refused(refusal);
                self.admission.tell(vec![waiter], &Err(error));
            }
        }
    }

    /// An entry that was proposed with `ack = leader` is durable here.
    pub(super) fn acknowledged(&mut self, token: Position) {
        let first = self.pending.front().map(|pending| pending.entry.index);
        let place = first.and_then(|first| token.index.0.checked_sub(first.0));
        let place = place.and_then(|place| usize::try_from(place).ok());
        let pending = place.and_then(|place| self.pending.get(place));
        if let Some(Waiters::Commands(waiters)) = pending.map(|pending| &pending.waiters) {
            self.admission.acknowledge(token, waiters);
        }
    }

    /// The replica stops: nobody is told any more.
    pub(super) fn leave_askers(&mut self, error: &WriteError) {
        for asker in std::mem::take(&mut self.askers).into_values() {
            if let Asker::Write(waiter) = asker {
                self.admission.tell(vec![waiter], &Err(error.clone()));
            }
        }
    }
}
