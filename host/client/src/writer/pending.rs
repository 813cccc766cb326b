//! Answers to come.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{BatchAnswer, Shared};
use crate::error::ClientError;
use crate::position::Position;

/// The answer to a write that was sent.
#[derive(Debug)]
#[must_use = "the write's answer is here"]
pub struct Pending {
    answer: oneshot::Receiver<Result<Bytes, ClientError>>,
    shared: Arc<Shared>,
}

/// The token and the outcome of a write that the leader alone acknowledges first. As a future it is the outcome: the
/// plugin's reply, or why there is none. [`ErrorKind::Lost`](crate::ErrorKind::Lost): it went with its leader.
#[derive(Debug)]
#[must_use = "the write's outcome is here"]
pub struct PendingEarly {
    tokens: oneshot::Receiver<Position>,
    token: Option<Position>,
    outcome: Pending,
}

/// The answers to a batch that was sent: one for each write, in order. It fails as a whole only where the writer
/// broke off, and then nobody knows what became of its writes.
#[derive(Debug)]
#[must_use = "the answers are here"]
pub struct PendingBatch {
    answer: oneshot::Receiver<BatchAnswer>,
    shared: Arc<Shared>,
}

impl Pending {
    pub(super) fn new(answer: oneshot::Receiver<Result<Bytes, ClientError>>, shared: Arc<Shared>) -> Self {
        Self { answer, shared }
    }
}

impl PendingEarly {
    pub(super) fn new(tokens: oneshot::Receiver<Position>, outcome: Pending) -> Self {
        Self { tokens, token: None, outcome }
    }

    /// Waits for the leader's acknowledgement: the write's token. `None` where its outcome is there without one, because it
    /// was refused, or was executed before its acknowledgement arrived.
    pub async fn token(&mut self) -> Option<Position> {
        if self.token.is_none() && !self.tokens.is_terminated() {
            self.token = (&mut self.tokens).await.ok();
        }
        self.token
    }
}

impl PendingBatch {
    pub(super) fn new(answer: oneshot::Receiver<BatchAnswer>, shared: Arc<Shared>) -> Self {
        Self { answer, shared }
    }
}

impl Future for Pending {
    type Output = Result<Bytes, ClientError>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = Pin::new(&mut self.answer).poll(task);
        answer.map(|answer| answer.unwrap_or_else(|_| Err(self.shared.end().effect_unknown())))
    }
}

impl Future for PendingEarly {
    type Output = Result<Bytes, ClientError>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.outcome).poll(task)
    }
}

impl Future for PendingBatch {
    type Output = Result<BatchAnswer, ClientError>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = Pin::new(&mut self.answer).poll(task);
        answer.map(|answer| answer.map_err(|_| self.shared.end().effect_unknown()))
    }
}
