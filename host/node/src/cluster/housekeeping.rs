//! Follows what etcd tells: starts and stops replicas, links nodes, and hands each replica what concerns it.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use mortise_coordination::{Addresses, Change, Changes, GroupState, History, Nodes, SessionState, record_of};
use mortise_core::group::NodeId;
use mortise_core::ids::GroupId;
use mortise_core::replica::{Event, SessionState as CoreSession};
use mortise_storage::folder::set_aside;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::Node;
use super::member::{MemberOutside, to_core};
use super::memory::first_incarnation;
use crate::replica::{Inbox, Leader, Member, Outside, Replica, ReplicaOptions, StartError};

/// How long until a replica that could not start is tried again.
const START_RETRY: Duration = Duration::from_secs(5);

/// See the module's documentation.
pub(super) struct Housekeeping {
    node: Arc<Node>,
    changes: Changes,
    session: CoreSession,
    nodes: Arc<Nodes>,
    /// The newest of every group that lists this node, whose replica runs, or is on its way.
    states: BTreeMap<GroupId, Arc<GroupState>>,
    /// Replicas that are on their way, each with how it ended.
    starting: JoinSet<(GroupId, Result<Replica, StartError>)>,
    stopping: JoinSet<()>,
}

impl Housekeeping {
    pub(super) fn new(node: Arc<Node>, changes: Changes) -> Self {
        Self {
            node,
            changes,
            session: CoreSession::Offline,
            nodes: Arc::default(),
            states: BTreeMap::new(),
            starting: JoinSet::new(),
            stopping: JoinSet::new(),
        }
    }

    /// Takes in what etcd holds at present, and waits until the replicas have recovered that this node has by it.
    pub(super) async fn begin(&mut self) {
        while let Some(change) = self.changes.try_next() {
            self.take(change);
        }
        while let Some(started) = self.starting.join_next().await {
            self.on_started(started);
        }
        self.node.groups.set_recovered();
    }

    /// Goes on for ever.
    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                change = self.changes.next() => self.take(change),
                Some(started) = self.starting.join_next() => self.on_started(started),
                Some(_) = self.stopping.join_next() => {}
            }
        }
    }

    fn take(&mut self, change: Change) {
        match change {
            Change::Session(session) => self.on_session(&session),
            Change::History(History::Broken(broken)) => tracing::error!("{broken}"),
            Change::History(History::Continuous) => {}
            Change::Tenants(tenants) => {
                self.node.directory.set_tenants(tenants);
                self.node.names.look();
            }
            Change::Nodes(nodes) => {
                self.nodes = nodes;
                self.link();
            }
            Change::Group(group, state) => self.on_group(group, state),
        }
    }

    fn on_session(&mut self, session: &SessionState) {
        let core = session.live().map_or(CoreSession::Offline, CoreSession::Live);
        if std::mem::replace(&mut self.session, core) == core {
            // Renewed, or still gone.
            return tracing::debug!(%session, "the session with etcd");
        }
        tracing::info!(%session, "the session with etcd");
        for inbox in self.node.inboxes.read().unwrap_or_else(PoisonError::into_inner).values() {
            inbox.deliver(Event::Session(self.session));
        }
    }

    fn on_group(&mut self, group: GroupId, state: Arc<GroupState>) {
        let me = self.node.identity.node;
        let seen = match &state.record {
            Ok(seen) => seen.clone(),
            Err(corrupt) => return tracing::error!(%group, %corrupt, "the group's record cannot be read"),
        };
        if let Some(record) = &seen.record {
            self.node.directory.set_leader(group, record.leader);
            self.node.names.look();
        }
        match &seen.record {
            Some(record) if record.member(me).is_some() => {
                let is_new = self.states.insert(group, state.clone()).is_none();
                if is_new {
                    self.start(group, Duration::ZERO);
                }
            }
            Some(_) if self.states.remove(&group).is_some() => self.stop(group),
            // A record that is gone is no reason to give up data; the replica freezes.
            _ => {}
        }
        if let Some(inbox) = self.node.inbox(group) {
            inbox.deliver(Event::RecordChanged(to_core(seen)));
            inbox.deliver(Event::Candidates(
                state.candidates.iter().map(|candidate| candidate.node).collect(),
            ));
        }
    }

    /// Links this node with the others, and notes where all of them serve.
    fn link(&self) {
        let told = self.nodes.iter().filter_map(|(node, state)| Some((*node, state.addresses()?)));
        let told: Vec<_> = told.collect();
        let leader = |(node, at): &(NodeId, &Addresses)| {
            (*node, Leader { node: *node, data: at.data.clone(), admin: at.admin.clone() })
        };
        self.node.directory.set_nodes(told.iter().map(leader).collect());
        // All of them: a node that is in no group with another still tells an operator of it. Nobody is dialled before he is
        // needed.
        let links = told.into_iter().filter(|(_, at)| !at.peer.is_empty());
        let address = |node, peer| self.node.detours.get(&node).unwrap_or(peer).clone();
        let links = links.map(|(node, at)| (node, address(node, &at.peer)));
        self.node.peers.set_members(links.collect());
    }

    /// How many members the group has, as far as is known.
    fn members(&self, group: GroupId) -> usize {
        let record = self.states.get(&group).and_then(|state| record_of(&state.record));
        record.map_or(0, |record| record.members.len())
    }

    fn start(&mut self, group: GroupId, after: Duration) {
        let node = self.node.clone();
        let members = self.members(group);
        self.starting.spawn(async move {
            tokio::time::sleep(after).await;
            let runtime = Handle::current();
            let run = move || start(&node, group, members, &runtime);
            let started = tokio::task::spawn_blocking(run).await;
            (group, started.unwrap_or_else(|crash| Err(StartError::Crashed(crash.to_string()))))
        });
    }

    fn on_started(
        &mut self,
        started: Result<(GroupId, Result<Replica, StartError>), tokio::task::JoinError>,
    ) {
        let (group, replica) = match started {
            Ok(started) => started,
            Err(error) => return tracing::error!(%error, "start a replica"),
        };
        let replica = match replica {
            Ok(replica) => replica,
            Err(error) => {
                let advice = error.advice(self.members(group) <= 1);
                tracing::error!(%group, error = %format_args!("{error}{advice}"), "start the replica; it is tried again");
                return self.start(group, START_RETRY);
            }
        };
        let Some(state) = self.states.get(&group).cloned() else {
            // The group was given up meanwhile.
            self.stopping.spawn(replica.shutdown());
            return;
        };
        self.node.groups.insert(replica);
        if let Some(inbox) = self.node.inbox(group) {
            inbox.deliver(Event::Session(self.session));
        }
        self.on_group(group, state);
    }

    fn stop(&mut self, group: GroupId) {
        tracing::warn!(%group, "this node is no member of the group any more: its data stays in its folder");
        self.node.inboxes.write().unwrap_or_else(PoisonError::into_inner).remove(&group);
        if let Some(replica) = self.node.groups.remove(group) {
            self.stopping.spawn(replica.shutdown());
        }
    }
}

/// Starts a replica. A copy that is damaged is put aside where others have the data, too: it is kept, and the replica gets
/// a new one from them.
fn start(node: &Arc<Node>, group: GroupId, members: usize, runtime: &Handle) -> Result<Replica, StartError> {
    match join(node, group, runtime) {
        Err(error) if error.is_damage() && members > 1 => {
            let folder = node.group_folder(group);
            let aside = set_aside(&folder)?;
            tracing::error!(%group, %error, aside = %aside.display(), "the data is damaged: put aside; it comes anew from the others");
            join(node, group, runtime)
        }
        started => started,
    }
}

fn join(node: &Arc<Node>, group: GroupId, runtime: &Handle) -> Result<Replica, StartError> {
    let is_first = !node.remembered.lock().unwrap_or_else(PoisonError::into_inner).made.contains(&group);
    // Noted before the store is made: a second one must not pass for the first.
    node.remember(|remembered| _ = remembered.made.insert(group))?;
    let options = ReplicaOptions { data: node.group_folder(group), group, ..node.replica.clone() };
    let (this, runtime) = (node.clone(), runtime.clone());
    let outside = move |inbox: Inbox| -> Arc<dyn Outside> {
        let mut inboxes = this.inboxes.write().unwrap_or_else(PoisonError::into_inner);
        inboxes.insert(group, inbox.clone());
        Arc::new(MemberOutside {
            group,
            inbox,
            peers: this.peers.clone(),
            coordinator: this.coordinator.clone(),
            runtime,
            closed: Arc::new(AtomicBool::new(false)),
        })
    };
    let registered = node.registered.get().copied();
    let registered = registered.ok_or_else(|| StartError::Crashed("the node is not registered".into()))?;
    let member = Member {
        cluster: node.identity.cluster,
        node: node.identity.node,
        boot: registered.boot,
        fresh: is_first.then(|| first_incarnation(node.storage, group)),
        restored: registered.restored,
        directory: node.directory.clone(),
        times: node.times,
        outside: Box::new(outside),
    };
    Replica::join(options, node.runtime.clone(), node.metrics.clone(), member)
}
