//! What all links, streams and calls of a node share.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock, Weak};

use mortise_core::group::NodeId;
use mortise_core::ids::GroupId;
use mortise_core::replica::StreamId;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use crate::certificate::Tls;
use crate::counters::Counters;
use crate::link::Link;
use crate::local::Local;
use crate::options::{Identity, Options};
use crate::service::Guest;
use crate::stop::Stop;
use crate::streams::Streams;

pub(crate) struct Shared {
    pub(crate) identity: Identity,
    pub(crate) options: Options,
    pub(crate) tls: Option<Tls>,
    /// Weak: the node holds the links, not the links the node.
    local: Weak<dyn Local>,
    runtime: Handle,
    pub(crate) counters: Counters,
    pub(crate) streams: Streams,
    /// Snapshots that may be sent at once.
    pub(crate) snapshots: Arc<Semaphore>,
    members: RwLock<BTreeMap<NodeId, Arc<Member>>>,
    /// Given when everything has to end.
    pub(crate) stop: Stop,
    /// How many tasks are running.
    tasks: watch::Sender<usize>,
}

/// A peer, as long as it is a member under one address.
pub(crate) struct Member {
    pub(crate) node: NodeId,
    pub(crate) link: Link,
    pub(crate) guest: Guest,
    /// Given when it is a member no longer.
    pub(crate) stop: Stop,
}

impl Shared {
    pub(crate) fn new(
        identity: Identity,
        options: Options,
        tls: Option<Tls>,
        local: Weak<dyn Local>,
    ) -> Self {
        let snapshots = Arc::new(Semaphore::new(options.snapshots_max));
        Self {
            identity,
            options,
            tls,
            local,
            runtime: Handle::current(),
            counters: Counters::new(),
            streams: Streams::new(),
            snapshots,
            members: RwLock::default(),
            stop: Stop::new(),
            tasks: watch::Sender::new(0),
        }
    }

    /// Runs a task that ends with everything else, at its next wait.
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let counted = Counted::new(Arc::clone(self));
        self.runtime.spawn(async move {
            tokio::select! {
                // What ends with everything tells nothing more.
                biased;
                () = counted.0.stop.stopped() => {}
                () = task => {}
            }
        });
    }

    /// The node; `None` while it goes away.
    pub(crate) fn local(&self) -> Option<Arc<dyn Local>> {
        self.local.upgrade()
    }

    /// Tells that a stream is closed, unless everything ends.
    pub(crate) fn stream_closed(&self, group: GroupId, peer: NodeId, stream: StreamId) {
        if !self.stop.is_stopped()
            && let Some(local) = self.local()
        {
            local.stream_closed(group, peer, stream);
        }
    }

    pub(crate) fn member(&self, node: NodeId) -> Option<Arc<Member>> {
        let members = self.members.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        members.get(&node).cloned()
    }

    pub(crate) fn members(&self) -> Vec<Arc<Member>> {
        let members = self.members.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        members.values().cloned().collect()
    }

    /// Members that stay at their address keep their links and calls; all others begin anew or end.
    pub(crate) fn set_members(&self, wanted: BTreeMap<NodeId, String>) {
        let mut members = self.members.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        members.retain(|node, member| {
            let stays = wanted.get(node).is_some_and(|address| address == member.link.address());
            if !stays {
                member.end();
            }
            stays
        });
        // Looked at under the lock, under which the end of everything empties the members, too.
        if self.stop.is_stopped() {
            return;
        }
        for (node, address) in wanted {
            if node != self.identity.node {
                members.entry(node).or_insert_with(|| Arc::new(Member::new(node, address, &self.options)));
            }
        }
    }

    /// Ends everything. Tasks end at their next wait.
    pub(crate) fn end(&self) {
        self.stop.stop();
        self.set_members(BTreeMap::new());
    }

    /// Waits until no task is left.
    pub(crate) async fn ended(&self) {
        // The sender lives as long as `self`.
        let _ = self.tasks.subscribe().wait_for(|tasks| *tasks == 0).await;
    }
}

impl Member {
    fn new(node: NodeId, address: String, options: &Options) -> Self {
        Self { node, link: Link::new(address), guest: Guest::new(options), stop: Stop::new() }
    }

    fn end(&self) {
        self.stop.stop();
        self.link.dispose();
    }
}

/// Counts a task while it lives.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: Arc<Shared>) -> Self {
        shared.tasks.send_modify(|tasks| *tasks += 1);
        Self(shared)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.tasks.send_modify(|tasks| *tasks -= 1);
    }
}
