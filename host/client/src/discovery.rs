//! Nodes and groups found through etcd, and followed as they come, change leader and go (feature `etcd`).
//!
//! ```no_run
//! # async fn example() -> Result<(), mortise_client::ClientError> {
//! use mortise_client::discovery::{Discovery, DiscoveryOptions, GroupEvent};
//! use mortise_client::{Client, Options};
//!
//! let discovery = Discovery::start(&DiscoveryOptions::new("mortise", ["http://127.0.0.1:2379"])).await?;
//! // Calls find their leaders by themselves, wherever nodes are by then.
//! let client = Client::discover(&Options::default(), &discovery)?;
//! // Callers who keep connections of their own are told what to connect to.
//! let mut events = discovery.events();
//! while let Some(event) = events.next().await {
//!     match event {
//!         GroupEvent::Added(group) | GroupEvent::Changed(group) => println!("{group:?}"),
//!         GroupEvent::Removed(group) => println!("group {group} is gone"),
//!     }
//! }
//! # Ok(()) }
//! ```
//! One watch serves all clones. While etcd does not answer, what was known last stays; where its history is broken (see
//! `mortise-coordination`), nothing new is told until the process starts again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use mortise_coordination::{Addresses, EtcdConfig, Tls};
use mortise_coordination::{
    Change, Changes, Config, Coordination, CoordinationError, Coordinator, Etcd, GroupState, Interest, Nodes,
    record_of,
};
pub use mortise_core::group::NodeId;
pub use mortise_core::ids::{Epoch, GroupId};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::backoff::random;
use crate::error::{ClientError, ErrorKind};

/// How long a leader that failed is left out by [`Discovery::any_leader`], where there is another.
const AVOID_FOR: Duration = Duration::from_secs(5);
/// Most leaders that are remembered as failed. When they are more, all are forgotten.
const AVOIDED_MAX: usize = 1_024;

/// Which cluster, and where its etcd is.
#[derive(Clone, Debug)]
pub struct DiscoveryOptions {
    /// The cluster's name, the first part of all its keys.
    pub cluster: String,
    /// Where etcd is, and how to talk to it.
    pub etcd: EtcdConfig,
    /// How long [`Discovery::start`] waits for etcd's first answer. Default 10 s.
    pub timeout: Duration,
}

impl DiscoveryOptions {
    /// The cluster of this name, by URLs of etcd's members.
    pub fn new(cluster: impl Into<String>, etcd: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { cluster: cluster.into(), etcd: EtcdConfig::new(etcd), timeout: Duration::from_secs(10) }
    }
}

/// A node that has registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// Where it is reached, each as host:port.
    pub addresses: Addresses,
}

/// A group, as it is at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its number.
    pub id: GroupId,
    /// Counts its leaderships.
    pub epoch: Epoch,
    /// Who leads it. `None`: nobody, or somebody whose session with etcd has ended, or who is not registered.
    pub leader: Option<Node>,
    /// Its members that are registered, in the order of their numbers.
    pub members: Vec<Node>,
}

/// Something that happened to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupEvent {
    /// There is a group.
    Added(Group),
    /// Its epoch, leader or members, or their addresses, are others.
    Changed(Group),
    /// There is none any more.
    Removed(GroupId),
}

/// See the module's documentation. Cheap to clone; ends with its last clone.
#[derive(Clone, Debug)]
pub struct Discovery {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    known: watch::Receiver<Arc<Known>>,
    /// Leaders that failed, and when.
    avoided: Mutex<BTreeMap<NodeId, Instant>>,
    follower: JoinHandle<()>,
}

/// What etcd says.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Known {
    groups: BTreeMap<GroupId, Group>,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl Discovery {
    /// Lists what there is, and follows it from then on.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where the options do not fit together, [`ErrorKind::Unavailable`] where etcd does not answer in
    /// time.
    pub async fn start(options: &DiscoveryOptions) -> Result<Self, ClientError> {
        let invalid = |error: CoordinationError| ClientError::new(ErrorKind::Invalid, error.to_string());
        let etcd = Etcd::new(options.etcd.clone())
            .map_err(|error| ClientError::new(ErrorKind::Invalid, error.to_string()))?;
        let coordination =
            Coordination::start(Config::new(options.cluster.clone()), None, etcd).map_err(invalid)?;
        let unavailable = |problem: String| {
            ClientError::new(ErrorKind::Unavailable, format!("etcd: {problem}")).retryable()
        };
        match timeout(options.timeout, coordination.ready()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(unavailable(error.to_string())),
            Err(_) => {
                let problem = coordination.problem().map(|problem| problem.to_string());
                let silence = format!("no answer within {:?}", options.timeout);
                return Err(unavailable(problem.unwrap_or(silence)));
            }
        }
        let mut changes = coordination.changes(Interest::All);
        let mut seen = Seen::default();
        while let Some(change) = changes.try_next() {
            seen.take(change);
        }
        let (sender, known) = watch::channel(Arc::new(seen.known()));
        let follower = tokio::spawn(follow(coordination, changes, seen, sender));
        Ok(Self { shared: Arc::new(Shared { known, avoided: Mutex::default(), follower }) })
    }

    /// All groups, in the order of their numbers.
    pub fn groups(&self) -> Vec<Group> {
        self.shared.known.borrow().groups.values().cloned().collect()
    }

    /// All nodes that have registered, in the order of their numbers.
    pub fn nodes(&self) -> Vec<Node> {
        self.shared.known.borrow().nodes.values().cloned().collect()
    }

    /// What happens to groups from now on, after those that are there.
    pub fn events(&self) -> GroupEvents {
        let mut known = self.shared.known.clone();
        known.mark_changed();
        GroupEvents { _discovery: self.clone(), known, told: BTreeMap::new(), ready: Vec::new() }
    }

    /// The leader of some group, at random among those that did not fail lately; `None`: nobody leads any.
    pub fn any_leader(&self) -> Option<Node> {
        let known = Arc::clone(&self.shared.known.borrow());
        let leaders: Vec<&Node> = known.groups.values().filter_map(|group| group.leader.as_ref()).collect();
        let avoided = self.avoided();
        let failed_lately = |node: &Node| avoided.get(&node.id).is_some_and(|at| at.elapsed() < AVOID_FOR);
        let healthy: Vec<&Node> = leaders.iter().copied().filter(|node| !failed_lately(node)).collect();
        let choice = if healthy.is_empty() { &leaders } else { &healthy };
        let place = (random() * choice.len() as f64) as usize;
        choice.get(place).map(|node| (*node).clone())
    }

    /// A leader did not answer: others are given for a while, where there are any.
    pub fn failed(&self, leader: NodeId) {
        let mut avoided = self.avoided();
        if avoided.len() >= AVOIDED_MAX {
            avoided.clear();
        }
        avoided.insert(leader, Instant::now());
    }

    /// What is known, and is told whenever it changes.
    pub(crate) fn known(&self) -> watch::Receiver<Arc<Known>> {
        self.shared.known.clone()
    }

    fn avoided(&self) -> MutexGuard<'_, BTreeMap<NodeId, Instant>> {
        // Each change is one insert or a clear.
        self.shared.avoided.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What happens to groups. Who reads late is told the newest state only: what was told, added up, is what is known.
#[derive(Debug)]
pub struct GroupEvents {
    _discovery: Discovery,
    known: watch::Receiver<Arc<Known>>,
    told: BTreeMap<GroupId, Group>,
    /// The next one last.
    ready: Vec<GroupEvent>,
}

impl GroupEvents {
    /// The next event; waits for it. `None`: nothing is found any more. Nothing is lost where the future is dropped.
    pub async fn next(&mut self) -> Option<GroupEvent> {
        loop {
            if let Some(event) = self.ready.pop() {
                return Some(event);
            }
            self.known.changed().await.ok()?;
            let known = Arc::clone(&self.known.borrow_and_update());
            self.ready = events(&self.told, &known.groups);
            self.ready.reverse();
            self.told.clone_from(&known.groups);
        }
    }
}

/// What has to be told to get from one state to the other, in the order of groups.
fn events(before: &BTreeMap<GroupId, Group>, after: &BTreeMap<GroupId, Group>) -> Vec<GroupEvent> {
    let gone = before.keys().filter(|id| !after.contains_key(id)).map(|id| GroupEvent::Removed(*id));
    let others = after.iter().filter_map(|(id, group)| match before.get(id) {
        None => Some(GroupEvent::Added(group.clone())),
        Some(old) if old != group => Some(GroupEvent::Changed(group.clone())),
        Some(_) => None,
    });
    gone.chain(others).collect()
}

/// What the watch says, as it says it.
#[derive(Default)]
struct Seen {
    groups: BTreeMap<GroupId, Arc<GroupState>>,
    nodes: Arc<Nodes>,
}

impl Seen {
    fn take(&mut self, change: Change) {
        match change {
            // An unreadable record says nothing: the last one stays.
            Change::Group(id, state) => match &state.record {
                Ok(seen) if seen.record.is_none() => drop(self.groups.remove(&id)),
                Ok(_) => drop(self.groups.insert(id, state)),
                Err(corrupt) => tracing::warn!(group = id.0, %corrupt, "left as it was"),
            },
            Change::Nodes(nodes) => self.nodes = nodes,
            Change::Session(_) | Change::History(_) | Change::Tenants(_) => {}
        }
    }

    fn known(&self) -> Known {
        let node = |id: NodeId| {
            let addresses = self.nodes.get(&id)?.addresses()?.clone();
            Some(Node { id, addresses })
        };
        let group = |(id, state): (&GroupId, &Arc<GroupState>)| {
            let record = record_of(&state.record)?;
            let lives = |node: &NodeId| {
                state.sessions.get(node).is_some_and(|session| session.boot == record.leader_boot)
            };
            let leader = record.leader.filter(lives).and_then(node);
            let members = record.members.iter().filter_map(|member| node(member.node)).collect();
            Some((*id, Group { id: *id, epoch: record.epoch, leader, members }))
        };
        Known {
            groups: self.groups.iter().filter_map(group).collect(),
            nodes: self.nodes.keys().filter_map(|id| Some((*id, node(*id)?))).collect(),
        }
    }
}

/// Until it is aborted; with it ends the watch.
async fn follow(
    _coordination: Coordination<Etcd>,
    mut changes: Changes,
    mut seen: Seen,
    known: watch::Sender<Arc<Known>>,
) {
    loop {
        seen.take(changes.next().await);
        while let Some(change) = changes.try_next() {
            seen.take(change);
        }
        let now = seen.known();
        known.send_if_modified(|known| {
            let differs = **known != now;
            if differs {
                *known = Arc::new(now);
            }
            differs
        });
    }
}
