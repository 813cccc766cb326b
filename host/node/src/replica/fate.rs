//! What became of a write that the leader alone had acknowledged.

use std::time::Duration;

use mortise_core::ids::{Sequence, SessionId, TenantId};
use mortise_core::replica::{Fate, Freshness, Position, Refusal};
use tokio::sync::oneshot;

use super::Replica;
use super::answers::outcome;
use super::api::{QueryError, WriteFate};
use super::driver::Event;
use super::plan::CommandResult;
use super::query::{self, PERMIT_TIME_MAX};
use super::shared::uptime;

/// Longest wait for the end of a pending write.
pub(crate) const FATE_WAIT_MAX: Duration = Duration::from_secs(10);

impl Replica {
    /// What became of the write with this token. It waits up to `wait`, and never longer than `FATE_WAIT_MAX`, for the end
    /// of one that is pending. `of`: the write's session and sequence, for its outcome, and because a write that was sent more
    /// than once may have been executed in another place than the one with the token.
    ///
    /// # Errors
    /// [`QueryError::NotLeader`]: as far as this node knows it is pending, and the leader can tell. Else see [`QueryError`].
    pub async fn ask_fate(
        &self,
        tenant: TenantId,
        token: Position,
        of: Option<(SessionId, Sequence)>,
        wait: Duration,
    ) -> Result<WriteFate, QueryError> {
        let micros = u64::try_from(wait.min(FATE_WAIT_MAX).as_micros()).unwrap_or(u64::MAX);
        let (sender, receiver) = oneshot::channel();
        let gone = || query::gone(&self.shared);
        let asked = Event::AskFate(token, uptime().after(micros), sender);
        self.events.send(asked).map_err(|_| gone())?;
        match receiver.await.map_err(|_| gone())? {
            Err(Refusal::TimedOut) => Ok(WriteFate::Pending),
            Err(refusal) => Err(query::refused(&self.shared, refusal)),
            Ok(Fate::Committed) if of.is_none() => Ok(WriteFate::Committed(None)),
            Ok(Fate::Committed) => {
                // Recorded when it is applied, which is a moment after it is committed.
                let deadline = uptime().after(PERMIT_TIME_MAX);
                self.queries.permit(Freshness::AtLeast(token), deadline).await?;
                Ok(self.recorded(tenant, of).unwrap_or(WriteFate::Committed(None)))
            }
            Ok(Fate::Lost) => Ok(self.recorded(tenant, of).unwrap_or(WriteFate::Lost)),
        }
    }

    fn recorded(&self, tenant: TenantId, of: Option<(SessionId, Sequence)>) -> Option<WriteFate> {
        let (session, sequence) = of?;
        let standing = self.shared.tables().sessions.check((tenant, session), sequence);
        let result = CommandResult::of(standing)?;
        let executed = matches!(result, CommandResult::Outcome(_));
        executed.then(|| WriteFate::Committed(Some(outcome(result, None).map(|written| written.reply))))
    }
}
