//! Renewing a lease: one stream, one question, one bounded answer.

use std::time::Duration;

use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};
use mortise_core::group::LeaseId;
use tokio::time::timeout;

use super::connection::{Connections, Link};
use super::errors::classify;
use super::{signed, stamp, unsigned};
use crate::backend::{Answer, BackendError};

/// An open stream. etcd-client's `keep_alive` only enqueues, so an answer must be awaited before the next question.
pub(super) struct Keeper {
    lease: LeaseId,
    link: Link,
    questions: LeaseKeeper,
    answers: LeaseKeepAliveStream,
}

impl Keeper {
    pub(super) fn is_for(&self, lease: LeaseId) -> bool {
        self.lease == lease
    }

    /// One bounded attempt. A failure makes the next one use the next endpoint.
    async fn open(connections: &Connections, lease: LeaseId) -> Result<Self, BackendError> {
        let (link, within) = (connections.link().await?, connections.attempt_timeout());
        let mut client = link.client.lease_client();
        let opened = match timeout(within, client.keep_alive(signed(lease.0))).await {
            Ok(opened) => opened.map_err(|error| classify(error, &link.endpoint)),
            Err(_) => Err(BackendError::Unanswered {
                endpoint: link.endpoint.clone(),
                why: format!("no stream of renewals within {within:?}"),
            }),
        };
        let (questions, answers) = opened.inspect_err(|error| connections.failed(&link, error))?;
        Ok(Self { lease, link, questions, answers })
    }

    async fn ask(&mut self) -> Result<Answer<Duration>, BackendError> {
        let endpoint = self.link.endpoint.clone();
        self.questions.keep_alive().await.map_err(|_| BackendError::NotDone {
            endpoint: endpoint.clone(),
            why: "the stream of renewals ended".into(),
        })?;
        let answer = self.answers.message().await.map_err(|error| classify(error, &endpoint))?;
        let answer = answer.ok_or_else(|| BackendError::Unanswered {
            endpoint: endpoint.clone(),
            why: "the stream of renewals ended".into(),
        })?;
        if answer.ttl() <= 0 {
            return Err(BackendError::LeaseGone);
        }
        stamp(answer.header(), &endpoint, Duration::from_secs(unsigned(answer.ttl())))
    }
}

/// Renews on the open stream, else on a new one.
pub(super) async fn renew(
    connections: &Connections,
    lease: LeaseId,
    open: Option<Keeper>,
) -> Result<(Answer<Duration>, Keeper), BackendError> {
    let mut keeper = match open {
        Some(keeper) => keeper,
        None => Keeper::open(connections, lease).await?,
    };
    let within = connections.attempt_timeout();
    let answer = timeout(within, keeper.ask()).await.unwrap_or_else(|_| {
        let endpoint = keeper.link.endpoint.clone();
        Err(BackendError::Unanswered { endpoint, why: format!("no renewal within {within:?}") })
    });
    let answer = answer.inspect_err(|error| connections.failed(&keeper.link, error))?;
    Ok((answer, keeper))
}
