//! The session: one lease, renewed by a loop of our own.
//!
//! ```text
//!        ┌──────────────────────── wait ◀──────────────────────┐
//!        ▼                                                      │
//!      INIT ── lease granted, key written ──▶ REFRESH ──▶ OFFLINE
//!        │                                     (live)      ▲  │
//!        └── not granted, not written ─────────────────────┘  └─▶ Superseded: a newer process has this name
//! ```
//! Live ends at the latest when TTL has passed since the last answered renewal was *sent*. It ends at once when etcd
//! says that the lease is gone, when the key is, or when etcd's history breaks: an answered renewal alone proves nothing, etcd has answered ones
//! of revoked leases (etcd 14758).

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use mortise_core::group::{BootId, LeaseId, NodeId};
use mortise_core::ids::GroupId;

use super::backoff::Backoff;
use super::history::Verdict;
use super::{Shared, lock};
use crate::backend::{
    Answer, Backend, BackendError, Committed, Condition, KeyValue, OPERATIONS_MAX, Operation, Transaction,
};
use crate::error::{CoordinationError, SessionLoss};
use crate::keys::Name;
use crate::moment::Moment;
use crate::record::SessionRecord;
use crate::seen::Revision;
use crate::state::SessionState;

/// Renewals in a TTL: two may fail, and the third still comes in time.
const RENEWALS_PER_TTL: u32 = 3;
/// Between a failed renewal and the next.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Between attempts to write candidates.
const CANDIDATES_AFTER: Duration = Duration::from_millis(500);
/// Another process may write the session's key between reading and writing it; each time it is judged anew.
const KEY_ATTEMPTS_MAX: usize = 5;

/// A session that lives.
struct Live {
    lease: LeaseId,
    ttl: Duration,
    deadline: Moment,
    /// When its key was written.
    written: Revision,
}

/// Runs until the process is superseded, or it is aborted.
pub(super) async fn run<B: Backend>(shared: Arc<Shared<B>>, node: NodeId, boot: BootId) {
    let mut backoff = Backoff::new();
    loop {
        shared.unfrozen().await;
        shared.board.set_session(SessionState::Init);
        let loss = match shared.init(node, boot).await {
            Ok(mut live) => {
                backoff.reset();
                tracing::info!("session of node {node} (boot {boot}) is live under lease {:x}", live.lease.0);
                shared.refresh(node, boot, &mut live).await
            }
            Err(loss) => loss,
        };
        if let SessionLoss::Superseded(by) = loss {
            tracing::error!("{loss}: this one must stop");
            shared.board.set_session(SessionState::Superseded(by));
            // Takes our candidates away; the newer process's key lives with its own lease.
            let lease = lock(&shared.lease).take();
            if let Some(lease) = lease
                && let Err(error) = shared.backend.revoke(lease).await
            {
                tracing::debug!("revoke lease {lease}: {error}");
            }
            return;
        }
        tracing::warn!("session of node {node} is offline: {loss}");
        shared.board.set_session(SessionState::Offline(loss));
        backoff.wait().await;
    }
}

fn not_begun(error: impl Into<CoordinationError>) -> SessionLoss {
    SessionLoss::NotBegun(error.into())
}

impl<B: Backend> Shared<B> {
    /// Creates the lease and the key.
    async fn init(&self, node: NodeId, boot: BootId) -> Result<Live, SessionLoss> {
        let former = lock(&self.lease).take();
        if let Some(former) = former {
            // Takes the old keys away at once; a lease that is gone already is as good.
            match self.backend.revoke(former).await {
                Ok(()) | Err(BackendError::LeaseGone) => {}
                Err(error) => {
                    *lock(&self.lease) = Some(former);
                    return Err(not_begun(error));
                }
            }
        }
        let sent = Moment::now();
        let granted = self.backend.grant(self.config.ttl_seconds).await.map_err(not_begun)?;
        if let Some(broken) = self.judge.foreign(granted.cluster, granted.revision) {
            self.freeze(&broken);
            return Err(not_begun(broken));
        }
        let (lease, ttl) = (granted.value.lease, granted.value.ttl);
        *lock(&self.lease) = Some(lease);
        let written = self.write_key(node, boot, lease).await?;
        // etcd may give a longer TTL than was asked for; the shorter one is right for both.
        let ttl = ttl.min(self.config.ttl());
        Ok(Live { lease, ttl, deadline: sent.after(ttl), written })
    }

    /// Writes the session's key, unless a newer process did.
    async fn write_key(&self, node: NodeId, boot: BootId, lease: LeaseId) -> Result<Revision, SessionLoss> {
        let name = Name::Session(node);
        let key = self.keys.key(&name);
        let value = SessionRecord::new(boot.0).write().map_err(not_begun)?;
        let mut current = self.read_key(&name, false).await.map_err(not_begun)?.value;
        for _ in 0..KEY_ATTEMPTS_MAX {
            let condition = self.may_replace(boot, &key, current.as_ref())?;
            let transaction = Transaction {
                conditions: vec![condition],
                operations: vec![Operation::Put(key.clone(), value.clone(), Some(lease))],
                otherwise: Some(key.clone()),
            };
            let answer = self.commit_judged(transaction).await.map_err(not_begun)?;
            match answer.value {
                Committed::Applied => return Ok(answer.revision),
                Committed::Refused(there) => current = there,
            }
        }
        Err(SessionLoss::KeyGone)
    }

    /// A key of an older start may be replaced; so may one of this start, whose lease was ours and could not be
    /// revoked. A newer start wins.
    fn may_replace(
        &self,
        boot: BootId,
        key: &str,
        current: Option<&KeyValue>,
    ) -> Result<Condition, SessionLoss> {
        let Some(at) = current else { return Ok(Condition::Absent(key.to_owned())) };
        let there = SessionRecord::read(at).map_err(not_begun)?;
        if there.boot > boot.0 {
            return Err(SessionLoss::Superseded(BootId(there.boot)));
        }
        Ok(Condition::Is(key.to_owned(), at.mod_revision, at.value.clone()))
    }

    /// Commits what must not be used if etcd's history broke.
    async fn commit_judged(&self, transaction: Transaction) -> Result<Answer<Committed>, CoordinationError> {
        let asked = self.judge.known();
        let answer = self.backend.commit(transaction).await?;
        match self.judge.judge(asked, answer.cluster, answer.revision) {
            Verdict::Continuous => Ok(answer),
            Verdict::Foreign(broken) | Verdict::Behind(broken) => {
                self.freeze(&broken);
                Err(broken.into())
            }
        }
    }

    /// Keeps the session until it is lost.
    async fn refresh(&self, node: NodeId, boot: BootId, live: &mut Live) -> SessionLoss {
        let (lease, written) = (live.lease, live.written);
        let lost = tokio::select! {
            lost = self.renewing(live) => lost,
            lost = self.key_lost(boot, lease, written) => lost,
            broken = self.frozen() => not_begun(broken),
            never = self.candidacies(node, boot, lease) => match never {},
        };
        if matches!(lost, SessionLoss::LeaseGone(_)) {
            *lock(&self.lease) = None;
        }
        match lost {
            // etcd's ends later than the node's, and is often heard of before the timer of a busy or stopped process.
            SessionLoss::LeaseGone(_) | SessionLoss::KeyGone if live.deadline <= Moment::now() => {
                SessionLoss::Expired(lease)
            }
            lost => lost,
        }
    }

    async fn renewing(&self, live: &mut Live) -> SessionLoss {
        loop {
            self.board.set_session(SessionState::Live { lease: live.lease, deadline: live.deadline });
            let mut next = Moment::now().after(live.ttl / RENEWALS_PER_TTL).min(live.deadline);
            loop {
                next.reached().await;
                // A process that was stopped comes here after its deadline, and must not renew then.
                let sent = Moment::now();
                let renewed = tokio::select! {
                    biased;
                    () = live.deadline.reached() => return SessionLoss::Expired(live.lease),
                    renewed = self.backend.renew(live.lease) => renewed,
                };
                match renewed {
                    Ok(answer) => {
                        if let Some(broken) = self.judge.foreign(answer.cluster, answer.revision) {
                            self.freeze(&broken);
                            return not_begun(broken);
                        }
                        live.deadline = live.deadline.max(sent.after(answer.value.min(live.ttl)));
                        break;
                    }
                    Err(BackendError::LeaseGone) => return SessionLoss::LeaseGone(live.lease),
                    Err(error) => tracing::debug!("renew lease {}: {error}", live.lease),
                }
                next = Moment::now().after(RETRY_AFTER).min(live.deadline);
            }
        }
    }

    /// Ends when the watch says that the session's key is not the one that was written at `written`.
    async fn key_lost(&self, boot: BootId, lease: LeaseId, written: Revision) -> SessionLoss {
        let mut own = self.own.subscribe();
        loop {
            let (session, revision) = *own.borrow_and_update();
            match session {
                Some(session) if session.boot > boot => return SessionLoss::Superseded(session.boot),
                // What was told before the key was written is old news.
                _ if revision < written => {}
                Some(session) if session.lease == lease && session.boot == boot => {}
                _ => return SessionLoss::KeyGone,
            }
            if own.changed().await.is_err() {
                return SessionLoss::KeyGone;
            }
        }
    }

    /// Keeps the candidates' keys as wished, under this lease; also where others delete them.
    async fn candidacies(&self, node: NodeId, boot: BootId, lease: LeaseId) -> Infallible {
        let (mut wishes, mut gone) = (self.wishes.subscribe(), self.candidacies_gone.subscribe());
        let mut there: BTreeSet<GroupId> = BTreeSet::new();
        loop {
            gone.borrow_and_update();
            // A key that was written again since is just put once more, which keeps its place in the order.
            self.candidacies_gone.send_if_modified(|gone| {
                there.retain(|group| !gone.contains(group));
                gone.clear();
                false
            });
            let wanted = wishes.borrow_and_update().clone();
            let changes: Vec<(GroupId, bool)> = wanted
                .difference(&there)
                .map(|group| (*group, true))
                .chain(there.difference(&wanted).map(|group| (*group, false)))
                .take(OPERATIONS_MAX)
                .collect();
            if changes.is_empty() {
                // The senders live in `self`.
                tokio::select! {
                    _ = wishes.changed() => {}
                    _ = gone.changed() => {}
                }
                continue;
            }
            let operation = |(group, put): &(GroupId, bool)| {
                let key = self.keys.key(&Name::Candidate(*group, node, boot));
                if *put { Operation::Put(key, b"{}".to_vec(), Some(lease)) } else { Operation::Delete(key) }
            };
            let operations = changes.iter().map(operation).collect();
            let transaction = Transaction { operations, ..Transaction::default() };
            match self.commit_judged(transaction).await {
                Ok(_) => {
                    for (group, put) in changes {
                        if put {
                            there.insert(group)
                        } else {
                            there.remove(&group)
                        };
                    }
                }
                // Puts and deletes may be repeated, so an unknown outcome is just tried again.
                Err(error) => {
                    tracing::debug!("write candidates: {error}");
                    tokio::time::sleep(CANDIDATES_AFTER).await;
                }
            }
        }
    }
}
