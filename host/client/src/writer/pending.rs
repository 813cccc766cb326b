//! Answers to come.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{BatchAnswer, Shared};
use crate::error::ClientError;

/// The answer to a write that was sent.
#[derive(Debug)]
#[must_use = "the write's answer is here"]
pub struct Pending {
    answer: oneshot::Receiver<Result<Bytes, ClientError>>,
    shared: Arc<Shared>,
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

impl Future for PendingBatch {
    type Output = Result<BatchAnswer, ClientError>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = Pin::new(&mut self.answer).poll(task);
        answer.map(|answer| answer.map_err(|_| self.shared.end().effect_unknown()))
    }
}
