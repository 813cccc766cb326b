//! A node's coordination over any backend.
//!
//! ```text
//!             ┌──────────── Coordination ─────────────┐
//!   requests ─┤ requests ── reads, swaps ───────────┐ │
//!             │ session ─── INIT → REFRESH → OFFLINE┼─┼─▶ Backend (etcd, memory)
//!             │ observe ─── list, watch, list again ┘ │
//!             │   └─▶ view ─▶ board ─▶ Changes        │
//!             └───────────────────────────────────────┘
//! ```
//! Every answer is judged by [`history`] before it is used.

mod backoff;
mod board;
mod history;
mod observe;
mod requests;
mod session;
mod view;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use mortise_core::entry::check_tenant_name;
use mortise_core::group::{BootId, GroupRecord, LeaseId, NodeId};
use mortise_core::ids::GroupId;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::backend::Backend;
use crate::config::Config;
use crate::coordinator::{Coordinator, Read, Swap};
use crate::error::{Broken, CoordinationError};
use crate::keys::{Keys, Name};
use crate::moment::Moment;
use crate::record::{NodeRecord, TenantRecord};
use crate::seen::{ClusterId, Expected, Revision};
use crate::state::{History, Session, SessionState};
use board::Board;
pub use board::{Changes, Interest};
use history::Judge;
pub use history::Known;

/// A node's coordination. Dropping it ends its tasks; its lease then runs out.
pub struct Coordination<B: Backend> {
    shared: Arc<Shared<B>>,
    tasks: Mutex<Tasks>,
}

#[derive(Default)]
struct Tasks {
    observe: Option<JoinHandle<()>>,
    session: Option<JoinHandle<()>>,
}

/// What the tasks share.
struct Shared<B> {
    config: Config,
    keys: Keys,
    backend: B,
    judge: Judge,
    /// Wakes those who wait for the history to break, or for an operator to accept another one.
    history_changed: Notify,
    board: Arc<Board>,
    /// Groups that this node wants to lead.
    wishes: watch::Sender<BTreeSet<GroupId>>,
    /// What the watch says of this node's own session, and at which revision.
    own: watch::Sender<(Option<Session>, Revision)>,
    /// Groups whose candidacy of this process the watch says is gone; the session takes them from here.
    candidacies_gone: watch::Sender<BTreeSet<GroupId>>,
    node: Mutex<Option<(NodeId, BootId)>>,
    lease: Mutex<Option<LeaseId>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is held under these locks is assigned as a whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B> Shared<B> {
    /// Freezes, and tells everybody once.
    fn freeze(&self, broken: &Broken) {
        if self.judge.latch(broken) {
            tracing::error!("{broken}");
            self.board.set_history(History::Broken(broken.clone()));
            self.history_changed.notify_waiters();
        }
    }

    /// Waits while the history is broken.
    async fn unfrozen(&self) {
        loop {
            let changed = self.history_changed.notified();
            if self.judge.history() == History::Continuous {
                return;
            }
            changed.await;
        }
    }

    /// Waits until the history is broken.
    async fn frozen(&self) -> Broken {
        loop {
            let changed = self.history_changed.notified();
            if let History::Broken(broken) = self.judge.history() {
                return broken;
            }
            changed.await;
        }
    }
}

impl<B: Backend> Coordination<B> {
    /// Starts to observe. Must be called within a tokio runtime. `known` is what an earlier start of this node knew
    /// of etcd, if any.
    ///
    /// # Errors
    /// [`CoordinationError::Config`]. An etcd out of reach is none: it is tried until it is there.
    pub fn start(config: Config, known: Option<Known>, backend: B) -> Result<Self, CoordinationError> {
        config.check()?;
        let shared = Arc::new(Shared {
            keys: Keys::new(&config.cluster),
            config,
            backend,
            judge: Judge::new(known),
            history_changed: Notify::new(),
            board: Arc::new(Board::new()),
            wishes: watch::Sender::new(BTreeSet::new()),
            own: watch::Sender::new((None, Revision(0))),
            candidacies_gone: watch::Sender::new(BTreeSet::new()),
            node: Mutex::new(None),
            lease: Mutex::new(None),
        });
        let observe = tokio::spawn(observe::run(shared.clone()));
        let tasks = Mutex::new(Tasks { observe: Some(observe), session: None });
        Ok(Self { shared, tasks })
    }
}

impl<B: Backend> Drop for Coordination<B> {
    fn drop(&mut self) {
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        [tasks.observe, tasks.session].into_iter().flatten().for_each(|task| task.abort());
    }
}

impl<B: Backend> Coordinator for Coordination<B> {
    fn open_session(&self, node: NodeId, boot: BootId) -> Result<(), CoordinationError> {
        if node.0 == 0 || boot.0 == 0 {
            return Err(CoordinationError::Config("node and boot numbers begin with 1".into()));
        }
        let mut tasks = lock(&self.tasks);
        if tasks.session.is_some() {
            return Err(CoordinationError::Config("this process has a session already".into()));
        }
        *lock(&self.shared.node) = Some((node, boot));
        self.shared.board.set_session(SessionState::Init);
        tasks.session = Some(tokio::spawn(session::run(self.shared.clone(), node, boot)));
        Ok(())
    }

    fn session(&self) -> SessionState {
        self.shared.board.session()
    }

    fn campaign(&self, group: GroupId) {
        self.shared.wishes.send_if_modified(|wishes| wishes.insert(group));
    }

    fn withdraw(&self, group: GroupId) {
        self.shared.wishes.send_if_modified(|wishes| wishes.remove(&group));
    }

    fn read_group(&self, group: GroupId) -> Read<'_, GroupRecord> {
        self.shared.read_record(Name::Group(group)).boxed()
    }

    fn swap_group(&self, group: GroupId, expected: Expected, next: GroupRecord) -> Swap<'_, GroupRecord> {
        let has_session = lock(&self.shared.node).is_none() || self.session().live().is_some();
        if !has_session {
            return std::future::ready(Err(CoordinationError::NoSession)).boxed();
        }
        self.shared.swap_record(Name::Group(group), expected, Some(next)).boxed()
    }

    fn read_node(&self, node: NodeId) -> Read<'_, NodeRecord> {
        self.shared.read_record(Name::Node(node)).boxed()
    }

    fn swap_node(&self, node: NodeId, expected: Expected, next: NodeRecord) -> Swap<'_, NodeRecord> {
        self.shared.swap_record(Name::Node(node), expected, Some(next)).boxed()
    }

    fn read_tenant(&self, name: &str) -> Read<'_, TenantRecord> {
        match tenant(name) {
            Ok(name) => self.shared.read_record(name).boxed(),
            Err(error) => std::future::ready(Err(error)).boxed(),
        }
    }

    fn swap_tenant(
        &self,
        name: &str,
        expected: Expected,
        next: Option<TenantRecord>,
    ) -> Swap<'_, TenantRecord> {
        match tenant(name) {
            Ok(name) => self.shared.swap_record(name, expected, next).boxed(),
            Err(error) => std::future::ready(Err(error)).boxed(),
        }
    }

    fn changes(&self, interest: Interest) -> Changes {
        self.shared.board.read(interest)
    }

    fn history(&self) -> History {
        self.shared.judge.history()
    }

    fn known(&self) -> Option<Known> {
        self.shared.judge.known()
    }

    fn accept(&self, cluster: ClusterId) -> Result<(), CoordinationError> {
        self.shared.judge.accept(cluster).map_err(|there| {
            CoordinationError::Config(format!("etcd's cluster id is {there}, not {cluster}"))
        })?;
        tracing::warn!("an operator accepted etcd's cluster {cluster} as it is");
        self.shared.board.set_history(History::Continuous);
        self.shared.history_changed.notify_waiters();
        Ok(())
    }

    fn problem(&self) -> Option<CoordinationError> {
        self.shared.board.problem()
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), CoordinationError>> {
        let ready = async {
            let deadline = Moment::now().after(self.shared.config.request_timeout);
            let mut listed = self.shared.board.listed();
            tokio::select! {
                biased;
                // The sender lives as long as `self`.
                _ = listed.wait_for(|listed| *listed) => Ok(()),
                broken = self.shared.frozen() => Err(broken.into()),
                () = deadline.reached() => Err(self.problem().unwrap_or_else(|| CoordinationError::Unavailable {
                    endpoint: "etcd".into(),
                    why: format!("no listing within {:?}", self.shared.config.request_timeout),
                })),
            }
        };
        ready.boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        let closing = async move {
            let session = lock(&self.tasks).session.take();
            if let Some(session) = session {
                session.abort();
                // It ends by being aborted, which is an error that says nothing.
                let _ = session.await;
            }
            let lease = lock(&self.shared.lease).take();
            if let Some(lease) = lease
                && let Err(error) = self.shared.backend.revoke(lease).await
            {
                tracing::debug!("revoke lease {lease}: {error}");
            }
            self.shared.board.set_session(SessionState::Closed);
        };
        closing.boxed()
    }
}

fn tenant(name: &str) -> Result<Name, CoordinationError> {
    check_tenant_name(name).map_err(CoordinationError::Config)?;
    Ok(Name::Tenant(name.to_owned()))
}
