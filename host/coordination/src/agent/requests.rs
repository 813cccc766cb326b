//! Reads and swaps, bounded in time and judged before they are used.

use std::time::Duration;

use tokio::time::timeout;

use super::Shared;
use super::history::{Known, Verdict};
use crate::backend::{
    Answer, Backend, BackendError, Committed, Condition, KeyValue, Operation, Range, Transaction,
};
use crate::error::{Broken, CoordinationError};
use crate::keys::Name;
use crate::moment::Moment;
use crate::record::{self, Record};
use crate::seen::{Expected, Revision, Seen, Source, SwapOutcome};
use crate::state::History;

/// Between two attempts of a request, so that an endpoint that refuses at once is not asked a thousand times a second.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// A linearizable read that is behind what was known is asked so many times more: etcd had a member answer from before
/// its restart (etcd 20418), and another member does not.
const READ_AGAIN_MAX: usize = 3;

impl<B: Backend> Shared<B> {
    /// Reads a record, linearizably. While the history is broken, what etcd holds now is answered all the same: an
    /// operator must see it, and cluster and revision tell the caller.
    pub(super) async fn read_record<R: Record>(&self, name: Name) -> Result<Seen<R>, CoordinationError> {
        let answer = self.read_key(&name, true).await?;
        seen(answer, Source::Read)
    }

    /// Reads a key, within `request_timeout`. `broken` is whether an answer from a broken history is wanted, too.
    pub(super) async fn read_key(
        &self,
        name: &Name,
        broken: bool,
    ) -> Result<Answer<Option<KeyValue>>, CoordinationError> {
        let range = Range::Key(self.keys.key(name));
        let end = Moment::now().after(self.config.request_timeout);
        let asked = self.judge.known();
        let answer = self.read_in_time(range.clone(), end).await?;
        let verdict = self.judge.judge(asked, answer.cluster, answer.revision);
        let (answer, break_) = match verdict {
            Verdict::Continuous => (answer, None),
            Verdict::Foreign(broken) => (answer, Some(broken)),
            Verdict::Behind(_) => {
                let again = timeout(end.remaining(), self.read_again(range, asked)).await;
                match again.unwrap_or_else(|_| Err(self.late()))? {
                    Ok(newer) => (newer, None),
                    Err(broken) => (answer, Some(broken)),
                }
            }
        };
        if let Some(found) = break_ {
            self.freeze(&found);
            if !broken {
                return Err(found.into());
            }
        }
        Ok(Answer {
            cluster: answer.cluster,
            revision: answer.revision,
            value: answer.value.into_iter().next(),
        })
    }

    /// Reads once more, elsewhere, after an answer that was behind `asked`; a break where they all are.
    pub(super) async fn read_again(
        &self,
        range: Range,
        asked: Option<Known>,
    ) -> Result<Result<Answer<Vec<KeyValue>>, Broken>, BackendError> {
        let mut last = None;
        for _ in 0..READ_AGAIN_MAX {
            self.backend.turn_away();
            let answer = self.backend.read(range.clone()).await?;
            match self.judge.judge(asked, answer.cluster, answer.revision) {
                Verdict::Continuous => return Ok(Ok(answer)),
                Verdict::Foreign(broken) => return Ok(Err(broken)),
                Verdict::Behind(broken) => last = Some(broken),
            }
        }
        last.map(Err).ok_or(BackendError::NotDone { endpoint: "etcd".into(), why: "not asked again".into() })
    }

    async fn read_in_time(
        &self,
        range: Range,
        end: Moment,
    ) -> Result<Answer<Vec<KeyValue>>, CoordinationError> {
        let mut last = None;
        loop {
            let error = match timeout(end.remaining(), self.backend.read(range.clone())).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error @ BackendError::Denied { .. })) => return Err(error.into()),
                Ok(Err(error)) => error,
                Err(_) => return Err(last.unwrap_or_else(|| self.late()).into()),
            };
            if end.remaining() <= RETRY_AFTER {
                return Err(error.into());
            }
            last = Some(error);
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    fn late(&self) -> BackendError {
        let why = format!("no answer within {:?}", self.config.request_timeout);
        BackendError::Unanswered { endpoint: "etcd".into(), why }
    }

    /// Replaces a record; with `None` it is removed.
    ///
    /// It is read first: so that etcd is judged before anything is sent to it, a record that cannot be read is left
    /// alone, and most refusals leave nothing in doubt.
    pub(super) async fn swap_record<R: Record>(
        &self,
        name: Name,
        expected: Expected,
        next: Option<R>,
    ) -> Result<SwapOutcome<R>, CoordinationError> {
        if let History::Broken(broken) = self.judge.history() {
            return Err(broken.into());
        }
        let value = next.as_ref().map(Record::write).transpose()?;
        let before = self.read_key(&name, false).await?;
        let current = before.value.clone();
        let seen_before: Seen<R> = seen(before, Source::Read)?;
        let key = self.keys.key(&name);
        let condition = match (expected, current, &seen_before.record) {
            (Expected::Absent, None, _) => Condition::Absent(key.clone()),
            (Expected::Present { mod_revision, nonce }, Some(at), Some(record))
                if at.mod_revision == mod_revision && record.nonce() == nonce =>
            {
                // The value as it lies there holds the nonce, however another release wrote it.
                Condition::Is(key.clone(), mod_revision, at.value)
            }
            _ => return Ok(SwapOutcome::Refused(seen_before)),
        };
        let transaction = Transaction {
            conditions: vec![condition],
            operations: vec![match value {
                Some(value) => Operation::Put(key.clone(), value, None),
                None => Operation::Delete(key.clone()),
            }],
            otherwise: Some(key),
        };
        self.send_swap(transaction, next).await
    }

    async fn send_swap<R: Record>(
        &self,
        transaction: Transaction,
        next: Option<R>,
    ) -> Result<SwapOutcome<R>, CoordinationError> {
        let asked = self.judge.known();
        let answer = match self.backend.commit(transaction).await {
            Ok(answer) => answer,
            Err(BackendError::Unanswered { endpoint, why }) => {
                tracing::warn!("the outcome of a swap is unknown: {endpoint}: {why}");
                return Ok(SwapOutcome::Unknown);
            }
            Err(error) => return Err(error.into()),
        };
        if let Verdict::Foreign(broken) | Verdict::Behind(broken) =
            self.judge.judge(asked, answer.cluster, answer.revision)
        {
            // The answer is that of another history, and tells nothing of ours.
            tracing::warn!("the outcome of a swap is unknown: another history answered");
            self.freeze(&broken);
            return Ok(SwapOutcome::Unknown);
        }
        let (cluster, revision) = (answer.cluster, answer.revision);
        match answer.value {
            Committed::Applied => Ok(SwapOutcome::Applied(Seen {
                cluster,
                revision,
                mod_revision: revision,
                record: next,
                source: Source::Read,
            })),
            Committed::Refused(current) => {
                seen(Answer { cluster, revision, value: current }, Source::Read).map(SwapOutcome::Refused)
            }
        }
    }
}

fn seen<R: Record>(answer: Answer<Option<KeyValue>>, source: Source) -> Result<Seen<R>, CoordinationError> {
    let (cluster, revision) = (answer.cluster, answer.revision);
    let mod_revision = answer.value.as_ref().map_or(Revision(0), |at| at.mod_revision);
    let record = answer.value.as_ref().map(record::decode).transpose()?;
    Ok(Seen { cluster, revision, mod_revision, record, source })
}
