//! Faults on demand, between a node and any backend: for tests, also those of the crates above.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mortise_core::group::LeaseId;
use tokio::sync::watch;

use super::{
    Answer, Backend, BackendError, Committed, Grant, KeyValue, Operation, Range, Transaction, Watch,
    WatchEvent,
};
use crate::seen::{ClusterId, Revision};

/// What becomes of a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwapFault {
    /// It is applied, and the answer is lost.
    AnswerLost,
    /// No answer comes, and it is tried when [`Faults::deliver_late`] says so.
    Late,
    /// It never reaches etcd, and nobody says so.
    Lost,
    /// It is applied, and the answer names another cluster: etcd was exchanged between the reading and the swap.
    Foreign,
}

/// What becomes of the events of a watch. etcd has done both (etcd 17529, 18089).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchFault {
    /// They are lost, and nobody says so.
    Lost,
    /// Those that were told before are told again, after the next.
    Repeated,
}

#[derive(Default)]
struct Plan {
    watch: Option<WatchFault>,
    unreachable: bool,
    renewals_lost: bool,
    renewals_take: Duration,
    lease_gone: bool,
    swaps: VecDeque<SwapFault>,
    late: Vec<Transaction>,
}

/// Switches the faults of one [`Faulty`] backend.
#[derive(Clone)]
pub struct Faults {
    plan: Arc<Mutex<Plan>>,
    /// Whether watches are held back.
    held: watch::Sender<bool>,
}

impl Faults {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nothing gets through, and watches break; or all is well again.
    pub fn unreachable(&self, unreachable: bool) {
        self.plan().unreachable = unreachable;
        // Wakes the watches, so that they see it.
        self.held.send_modify(|_| {});
    }

    /// From now on no renewal is answered, or all are again.
    pub fn lose_renewals(&self, lost: bool) {
        self.plan().renewals_lost = lost;
    }

    /// From now on the answer of a renewal takes this long.
    pub fn delay_renewals(&self, take: Duration) {
        self.plan().renewals_take = take;
    }

    /// The next renewal says that the lease is gone.
    pub fn lose_lease(&self) {
        self.plan().lease_gone = true;
    }

    /// The fault of the next swap of a group's or a tenant's record that has none yet.
    pub fn next_swap(&self, fault: SwapFault) {
        self.plan().swaps.push_back(fault);
    }

    /// Holds back what watches tell, or lets it go.
    pub fn hold_watch(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// From now on events have this fault, or none.
    pub fn watch(&self, fault: Option<WatchFault>) {
        self.plan().watch = fault;
    }

    fn check(&self) -> Result<(), BackendError> {
        let endpoint = || "faulty".to_owned();
        if self.plan().unreachable {
            return Err(BackendError::NotDone { endpoint: endpoint(), why: "unreachable by order".into() });
        }
        Ok(())
    }

    fn swap_fault(&self, transaction: &Transaction) -> Option<SwapFault> {
        let is_record = |operation: &Operation| match operation {
            Operation::Put(key, _, _) | Operation::Delete(key) => {
                key.contains("/groups/") || key.contains("/tenants/")
            }
        };
        let is_swap = transaction.operations.iter().any(is_record);
        is_swap.then(|| self.plan().swaps.pop_front()).flatten()
    }
}

/// A backend with faults.
#[derive(Clone)]
pub struct Faulty<B> {
    inner: B,
    faults: Faults,
}

impl<B: Backend> Faulty<B> {
    /// `inner`, without any fault yet.
    pub fn new(inner: B) -> Self {
        Self { inner, faults: Faults { plan: Arc::default(), held: watch::Sender::new(false) } }
    }

    /// Switches its faults.
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// Tries the swaps that were late, in their order, and says how many were applied.
    ///
    /// # Errors
    /// The backend does not answer.
    pub async fn deliver_late(&self) -> Result<usize, BackendError> {
        let late = std::mem::take(&mut self.faults.plan().late);
        let mut applied = 0;
        for transaction in late {
            applied += usize::from(matches!(self.inner.commit(transaction).await?.value, Committed::Applied));
        }
        Ok(applied)
    }
}

fn unanswered() -> BackendError {
    BackendError::Unanswered { endpoint: "faulty".into(), why: "the answer is lost by order".into() }
}

impl<B: Backend> Backend for Faulty<B> {
    type Watch = FaultyWatch<B::Watch>;

    async fn read(&self, range: Range) -> Result<Answer<Vec<KeyValue>>, BackendError> {
        self.faults.check()?;
        self.inner.read(range).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Answer<Committed>, BackendError> {
        self.faults.check()?;
        match self.faults.swap_fault(&transaction) {
            None => self.inner.commit(transaction).await,
            Some(SwapFault::AnswerLost) => {
                self.inner.commit(transaction).await?;
                Err(unanswered())
            }
            Some(SwapFault::Late) => {
                self.faults.plan().late.push(transaction);
                Err(unanswered())
            }
            Some(SwapFault::Lost) => Err(unanswered()),
            Some(SwapFault::Foreign) => {
                let answer = self.inner.commit(transaction).await?;
                Ok(Answer { cluster: ClusterId(answer.cluster.0.wrapping_add(1)), ..answer })
            }
        }
    }

    async fn grant(&self, ttl_seconds: u32) -> Result<Answer<Grant>, BackendError> {
        self.faults.check()?;
        self.inner.grant(ttl_seconds).await
    }

    async fn renew(&self, lease: LeaseId) -> Result<Answer<Duration>, BackendError> {
        self.faults.check()?;
        if std::mem::take(&mut self.faults.plan().lease_gone) {
            return Err(BackendError::LeaseGone);
        }
        if self.faults.plan().renewals_lost {
            return Err(unanswered());
        }
        let (answer, take) = (self.inner.renew(lease).await, self.faults.plan().renewals_take);
        tokio::time::sleep(take).await;
        answer
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), BackendError> {
        self.faults.check()?;
        self.inner.revoke(lease).await
    }

    async fn watch(&self, prefix: String, from: Revision) -> Result<Self::Watch, BackendError> {
        self.faults.check()?;
        let inner = self.inner.watch(prefix, from).await?;
        Ok(FaultyWatch {
            inner,
            faults: self.faults.clone(),
            held: self.faults.held.subscribe(),
            told: Vec::new(),
        })
    }

    fn turn_away(&self) {
        self.inner.turn_away();
    }
}

/// A watch with faults.
pub struct FaultyWatch<W> {
    inner: W,
    faults: Faults,
    held: watch::Receiver<bool>,
    /// The last events, to be told again.
    told: Vec<WatchEvent>,
}

impl<W> FaultyWatch<W> {
    fn garble(&mut self, mut answer: Answer<Vec<WatchEvent>>) -> Answer<Vec<WatchEvent>> {
        let before = std::mem::replace(&mut self.told, answer.value.clone());
        let fault = self.faults.plan().watch;
        match fault {
            None => {}
            Some(WatchFault::Lost) => answer.value.clear(),
            Some(WatchFault::Repeated) => answer.value.extend(before),
        }
        answer
    }
}

impl<W: Watch> Watch for FaultyWatch<W> {
    async fn next(&mut self) -> Result<Answer<Vec<WatchEvent>>, BackendError> {
        loop {
            self.faults.check()?;
            let held = *self.held.borrow_and_update();
            tokio::select! {
                next = self.inner.next(), if !held => return next.map(|answer| self.garble(answer)),
                // The sender lives in `faults`.
                _ = self.held.changed() => {}
            }
        }
    }
}
