//! The one watch of a node: list, watch from there, list again now and then; on any failure from the top.

use std::sync::Arc;

use mortise_core::ids::GroupId;

use super::Shared;
use super::backoff::Backoff;
use super::history::Verdict;
use super::view::{Touched, View};
use crate::backend::{Answer, Backend, BackendError, KeyValue, Range, Watch};
use crate::error::CoordinationError;
use crate::moment::Moment;
use crate::seen::Revision;

/// Runs until it is aborted.
pub(super) async fn run<B: Backend>(shared: Arc<Shared<B>>) {
    let mut view = View::new(shared.keys.clone());
    let mut backoff = Backoff::new();
    loop {
        shared.unfrozen().await;
        let error = shared.observe(&mut view, &mut backoff).await;
        match &error {
            Failure::Frozen => {
                view.history_broke();
                continue;
            }
            // Compaction is no fault: a listing is newer than what was compacted.
            Failure::Backend(BackendError::Compacted(at)) => {
                tracing::info!("the watch is behind a compaction at revision {at}: listing again");
            }
            Failure::Backend(error) => {
                tracing::warn!("observe etcd: {error}");
                shared.board.set_problem(Some(CoordinationError::from(error.clone())));
            }
        }
        backoff.wait().await;
    }
}

/// Why observing ended.
enum Failure {
    /// The history broke.
    Frozen,
    /// There is no answer.
    Backend(BackendError),
}

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Self {
        Self::Backend(error)
    }
}

impl<B: Backend> Shared<B> {
    async fn observe(&self, view: &mut View, backoff: &mut Backoff) -> Failure {
        // An endless loop with errors as its only way out.
        let endless: Result<std::convert::Infallible, Failure> = async {
            self.list(view).await?;
            self.board.set_problem(None);
            let prefix = self.keys.prefix().to_owned();
            let mut watch = self.backend.watch(prefix, Revision(view.revision().0 + 1)).await?;
            let mut relist = Moment::now().after(self.config.relist_every);
            loop {
                tokio::select! {
                    told = watch.next() => {
                        let told = told?;
                        // Only a watch that tells something is a success: etcd opens ones that it cancels at once.
                        backoff.reset();
                        if let Some(broken) = self.judge.foreign(told.cluster, told.revision) {
                            self.freeze(&broken);
                            return Err(Failure::Frozen);
                        }
                        let cluster = told.cluster;
                        let touched = view.apply(told);
                        // Whoever asks from now on must be answered at this revision or later.
                        self.judge.judge(None, cluster, view.revision());
                        self.tell(view, touched);
                    }
                    // Whoever noticed it: nothing is told of another history.
                    _ = self.frozen() => return Err(Failure::Frozen),
                    () = relist.reached() => {
                        self.list(view).await?;
                        relist = Moment::now().after(self.config.relist_every);
                    }
                }
            }
        }
        .await;
        match endless {
            Err(failure) => failure,
        }
    }

    async fn list(&self, view: &mut View) -> Result<(), Failure> {
        let listed = self.listed().await?;
        let touched = view.list(listed);
        self.tell(view, touched);
        Ok(())
    }

    async fn listed(&self) -> Result<Answer<Vec<KeyValue>>, Failure> {
        let asked = self.judge.known();
        let listed = self.backend.read(Range::Prefix(self.keys.prefix().to_owned())).await?;
        match self.judge.judge(asked, listed.cluster, listed.revision) {
            Verdict::Continuous => Ok(listed),
            Verdict::Foreign(broken) => {
                self.freeze(&broken);
                Err(Failure::Frozen)
            }
            Verdict::Behind(_) => {
                let again = self.read_again(Range::Prefix(self.keys.prefix().to_owned()), asked).await?;
                again.map_err(|broken| {
                    self.freeze(&broken);
                    Failure::Frozen
                })
            }
        }
    }

    fn tell(&self, view: &View, touched: Touched) {
        for corrupt in &touched.corrupt {
            tracing::warn!("left as it is: {corrupt}");
        }
        if let Some(me @ (node, _)) = *super::lock(&self.node) {
            let now = (view.session(node), view.revision());
            self.own.send_if_modified(|own| std::mem::replace(own, now) != now);
            let ended = &touched.candidates_gone;
            let mine: Vec<GroupId> =
                ended.iter().filter(|(_, who)| *who == me).map(|(group, _)| *group).collect();
            if !mine.is_empty() {
                self.candidacies_gone.send_modify(|gone| gone.extend(mine));
            }
        }
        self.board.publish(view, &touched);
    }
}
