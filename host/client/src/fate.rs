//! Writes that the leader alone acknowledges, outside of sessions, and what became of writes with a token.

use std::time::Duration;

use bytes::Bytes;
use mortise_core::ids::SessionId;
use mortise_proto::v1;
use tokio::time::Instant;

use crate::client::{Tenant, data};
use crate::connection::Repeat;
use crate::error::{ClientError, ErrorKind};
use crate::position::Position;

/// What became of a write with a token.
#[derive(Clone, Debug)]
pub enum Fate {
    /// It may still be committed or lost.
    Pending,
    /// It stays. With its outcome, where its session was named and still records it.
    Committed(Option<Result<Bytes, ClientError>>),
    /// It was not executed, and never will be. Nobody sends it again but the caller.
    Lost,
}

impl Tenant {
    /// [`Tenant::write`], but answered with the write's token as soon as the leader alone has it on disk. It is lost if the
    /// leader goes before the other members have it: [`Tenant::ask_fate`] tells. What the plugin answered is not kept for
    /// it; [`Writer::send_early`](crate::Writer::send_early) gives both.
    ///
    /// # Errors
    /// As [`Tenant::write`].
    pub async fn write_early(&self, command: impl Into<Bytes>) -> Result<Position, ClientError> {
        let response = self.call_write(command.into(), v1::Ack::Leader).await?;
        response.position.map(Position::from).ok_or_else(|| {
            ClientError::new(ErrorKind::Protocol, "the node answered without a token").effect_unknown()
        })
    }

    /// What became of the write with this token, from whoever leads. It waits up to `wait` for the end of one that is
    /// pending. `of`: the session and sequence of the write, for its outcome.
    ///
    /// # Errors
    /// Those of a call: while nobody leads, [`ErrorKind::DeadlineExceeded`].
    pub async fn ask_fate(
        &self,
        token: Position,
        of: Option<(SessionId, u64)>,
        wait: Duration,
    ) -> Result<Fate, ClientError> {
        let until = Instant::now() + wait;
        // A node that says nothing for longer than this is left for another.
        let part_max = self.connection.silence_timeout() / 2;
        let (session, sequence) = of.map_or((0, 0), |(session, sequence)| (session.0, sequence));
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let part = left.min(part_max);
            let request = v1::AskFateRequest {
                tenant: self.name.to_string(),
                token: Some(token.into()),
                session,
                sequence,
                wait_ms: u32::try_from(part.as_millis()).unwrap_or(u32::MAX),
            };
            let call = |channel, request| async move { data(channel).ask_fate(request).await };
            let response = self.connection.call(self.leader(), Repeat::Quickly, request, call).await?;
            match fate(response)? {
                Fate::Pending if part < left => {}
                fate => return Ok(fate),
            }
        }
    }
}

fn fate(response: v1::AskFateResponse) -> Result<Fate, ClientError> {
    use v1::ask_fate_response::Outcome;
    let outcome = response.outcome.map(|outcome| match outcome {
        Outcome::Reply(reply) => Ok(reply),
        Outcome::Error(detail) => Err(detail.into()),
    });
    match v1::Fate::try_from(response.fate) {
        Ok(v1::Fate::Pending) => Ok(Fate::Pending),
        Ok(v1::Fate::Committed) => Ok(Fate::Committed(outcome)),
        Ok(v1::Fate::Lost) => Ok(Fate::Lost),
        Err(_) => {
            Err(ClientError::new(ErrorKind::Protocol, "the node told a fate that this release does not know"))
        }
    }
}
