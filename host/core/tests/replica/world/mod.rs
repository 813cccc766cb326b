//! A small world without chance: everything that is asked for happens at once and in order, except what a script holds
//! back, cuts off or breaks.

mod coordinator;
mod disk;
mod effects;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Display;

use mortise_core::group::{BootId, GroupRecord, Incarnation, LeaseId, NodeId};
use mortise_core::ids::{GroupId, LogIndex};
use mortise_core::replica::{
    Event, Message, MonoTime, Options, Position, Replica, RequestId, Seen, SessionState, SnapshotMeta,
    StreamId, View,
};

pub(crate) use coordinator::{Coordinator, SwapMode};
pub(crate) use disk::{Disk, command, entry};

use crate::render::Topic;

pub(crate) const CLUSTER: u64 = 77;
pub(crate) const GROUP: GroupId = GroupId(5);
/// How often replicas are told the time, and how far it goes at once, in microseconds.
const TICK: u64 = 10_000;
/// How long a session outlives its node, in microseconds.
const SESSION_TTL: u64 = 5_000_000;
/// More happenings at one moment mean that replicas go round in a circle.
const HAPPENINGS_MAX: usize = 20_000;

/// Something that will happen at this moment.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    Deliver { from: NodeId, to: NodeId, message: Message },
    Flush { node: NodeId, boot: u64 },
    Apply { node: NodeId, boot: u64, up_to: LogIndex },
    Watch { node: NodeId, boot: u64, seen: Seen },
    Fetch { node: NodeId, boot: u64, from: NodeId, meta: SnapshotMeta },
    Tell { node: NodeId, boot: u64, event: Event },
}

/// What a script can hold back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Gate {
    Messages(NodeId, NodeId),
    Disk(NodeId),
    Apply(NodeId),
    Watch(NodeId),
    Fetch(NodeId),
    /// The whole process sleeps.
    Node(NodeId),
}

impl Happening {
    fn gates(&self) -> impl Iterator<Item = Gate> {
        [self.gate(), Some(Gate::Node(self.node()))].into_iter().flatten()
    }

    fn node(&self) -> NodeId {
        match self {
            Self::Deliver { to: node, .. }
            | Self::Flush { node, .. }
            | Self::Apply { node, .. }
            | Self::Watch { node, .. }
            | Self::Fetch { node, .. }
            | Self::Tell { node, .. } => *node,
        }
    }

    fn gate(&self) -> Option<Gate> {
        match self {
            Self::Deliver { from, to, .. } => Some(Gate::Messages(*from, *to)),
            Self::Flush { node, .. } => Some(Gate::Disk(*node)),
            Self::Apply { node, .. } => Some(Gate::Apply(*node)),
            Self::Watch { node, .. } => Some(Gate::Watch(*node)),
            Self::Fetch { node, .. } => Some(Gate::Fetch(*node)),
            Self::Tell { .. } => None,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    pub(crate) boot: u64,
    pub(crate) replica: Option<Replica>,
    pub(crate) disk: Disk,
    /// A snapshot is being installed: nothing is applied meanwhile.
    installing: bool,
    /// Proposals that wait for their entry to be applied.
    proposals: BTreeMap<Position, String>,
    /// Its state machine goes wrong from now on.
    pub(crate) differs: bool,
    crashed_at: u64,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) coordinator: Coordinator,
    /// Nodes that the coordinator does not reach.
    pub(crate) away: BTreeSet<NodeId>,
    /// Links on which messages are lost.
    pub(crate) cut: BTreeSet<(NodeId, NodeId)>,
    pub(crate) held: BTreeSet<Gate>,
    waiting: Vec<Happening>,
    due: VecDeque<Happening>,
    /// The newest stream from a leader to a peer.
    pub(crate) streams: BTreeMap<(NodeId, NodeId), StreamId>,
    /// What requests are called in the script.
    requests: Vec<String>,
    options: Options,
    pub(crate) shown: BTreeSet<Topic>,
    /// Time passes: lines begin with it.
    pub(crate) is_stamped: bool,
    lines: Vec<String>,
}

impl Node {
    fn new(id: NodeId) -> Self {
        Self { disk: Disk::made(first_life(id)), ..Self::default() }
    }
}

/// The number that a node's first store was made with.
pub(crate) fn first_life(node: NodeId) -> Incarnation {
    Incarnation(node.0)
}

impl World {
    pub(crate) fn new(record: GroupRecord, others: &[NodeId], options: Options) -> Self {
        let nodes: Vec<NodeId> = record.members.iter().map(|member| member.node).collect();
        Self {
            now: 0,
            nodes: nodes.iter().chain(others).map(|node| (*node, Node::new(*node))).collect(),
            coordinator: Coordinator::new(record),
            away: BTreeSet::new(),
            cut: BTreeSet::new(),
            held: BTreeSet::new(),
            waiting: Vec::new(),
            due: VecDeque::new(),
            streams: BTreeMap::new(),
            requests: Vec::new(),
            options,
            shown: BTreeSet::new(),
            is_stamped: false,
            lines: Vec::new(),
        }
    }

    // --- What is told.

    pub(crate) fn say(&mut self, line: impl Display) {
        let line = if self.is_stamped {
            format!("{}.{:03} {line}", self.now / 1_000_000, self.now / 1000 % 1000)
        } else {
            line.to_string()
        };
        self.lines.push(line);
    }

    pub(crate) fn take_lines(&mut self) -> String {
        self.lines.drain(..).map(|line| line + "\n").collect()
    }

    /// Gives a request a number.
    pub(crate) fn request(&mut self, name: String) -> RequestId {
        self.requests.push(name);
        RequestId(self.requests.len() as u64 - 1)
    }

    pub(crate) fn name(&self, id: RequestId) -> String {
        self.requests.get(id.0 as usize).cloned().unwrap_or_else(|| format!("request {}", id.0))
    }

    pub(crate) fn node(&mut self, node: NodeId) -> &mut Node {
        self.nodes.get_mut(&node).expect("a node of this world")
    }

    pub(crate) fn view(&self, node: NodeId) -> Option<View> {
        self.nodes.get(&node)?.replica.as_ref().map(Replica::view)
    }

    fn running(&self) -> Vec<NodeId> {
        self.nodes.iter().filter(|(_, node)| node.replica.is_some()).map(|(id, _)| *id).collect()
    }

    // --- Time.

    /// Time passes, in steps of a tick, until `done` or for `micros`.
    pub(crate) fn pass(&mut self, micros: u64, done: impl Fn(&Self) -> bool) {
        let end = self.now + micros;
        while self.now < end && !done(self) {
            self.now += TICK;
            self.expire_sessions();
            for node in self
                .running()
                .into_iter()
                .filter(|node| !self.held.contains(&Gate::Node(*node)))
                .collect::<Vec<_>>()
            {
                self.step(node, Event::Tick);
            }
            self.settle();
        }
    }

    /// Lets everything happen that is due at this moment.
    pub(crate) fn settle(&mut self) {
        for _ in 0..HAPPENINGS_MAX {
            let Some(happening) = self.due.pop_front() else { return };
            if happening.gates().any(|gate| self.held.contains(&gate)) {
                self.waiting.push(happening);
            } else {
                self.happen(happening);
            }
        }
        panic!("it never ends: {:?}", self.due.front());
    }

    pub(crate) fn soon(&mut self, happening: Happening) {
        self.due.push_back(happening);
    }

    /// What was held back goes on.
    pub(crate) fn release(&mut self, gate: Gate) {
        self.held.remove(&gate);
        let waiting = std::mem::take(&mut self.waiting);
        let (due, waiting): (Vec<_>, _) =
            waiting.into_iter().partition(|happening| happening.gates().any(|other| other == gate));
        self.waiting = waiting;
        self.due.extend(due);
    }

    /// What was held back is lost.
    pub(crate) fn lose(&mut self, gate: Gate) {
        self.waiting.retain(|happening| happening.gates().all(|other| other != gate));
    }

    pub(crate) fn step(&mut self, id: NodeId, event: Event) {
        let now = MonoTime(self.now);
        let Some(replica) = &mut self.node(id).replica else { return };
        let effects = replica.step(now, event);
        for effect in effects {
            self.carry_out(id, effect);
        }
    }

    // --- Processes.

    pub(crate) fn start(&mut self, id: NodeId) {
        let (mut options, now) = (self.options.clone(), MonoTime(self.now));
        let node = self.node(id);
        node.boot += 1;
        node.installing = false;
        options.node = id;
        options.boot = BootId(node.boot);
        options.seed = id.0 << 32 | node.boot;
        node.replica = Some(Replica::new(options, node.disk.stored(), now));
        self.step(id, Event::Tick);
        if !self.away.contains(&id) {
            self.connect(id);
        }
        self.settle();
    }

    /// A node has a new session, and its watches show the present.
    pub(crate) fn connect(&mut self, id: NodeId) {
        let lease: LeaseId = self.coordinator.open_session(id);
        self.step(id, Event::Session(SessionState::Live(lease)));
        self.tell_candidates();
    }

    /// The process ends. Its streams break.
    pub(crate) fn crash(&mut self, id: NodeId, keeps_unsynced: bool) {
        let now = self.now;
        let node = self.node(id);
        node.replica = None;
        node.crashed_at = now;
        if keeps_unsynced {
            node.disk.flush();
        }
        node.disk.lose_unsynced();
        for name in std::mem::take(&mut node.proposals).into_values() {
            self.say(format!("{id}: {name} is unknown"));
        }
        let streams: Vec<_> = self.streams.iter().filter(|((_, peer), _)| *peer == id).collect();
        let streams: Vec<_> = streams.into_iter().map(|(link, stream)| (*link, *stream)).collect();
        for ((leader, peer), stream) in streams {
            let boot = self.node(leader).boot;
            self.soon(Happening::Tell { node: leader, boot, event: Event::StreamClosed { peer, stream } });
        }
        self.settle();
    }

    /// A new disk takes the place of a node's.
    pub(crate) fn wipe(&mut self, id: NodeId) {
        let node = self.node(id);
        node.disk = Disk::made(Incarnation(id.0 * 100 + node.boot));
    }

    fn expire_sessions(&mut self) {
        let now = self.now;
        let is_over = |node: &Node| node.replica.is_none() && now >= node.crashed_at + SESSION_TTL;
        let over: Vec<NodeId> =
            self.nodes.iter().filter(|(_, node)| is_over(node)).map(|(id, _)| *id).collect();
        for id in over {
            if self.coordinator.close_session(id) {
                self.tell_candidates();
            }
        }
    }

    // --- The coordinator's watches.

    pub(crate) fn tell_candidates(&mut self) {
        let candidates = self.coordinator.candidates();
        for node in self.running().into_iter().filter(|node| !self.away.contains(node)).collect::<Vec<_>>() {
            let boot = self.node(node).boot;
            self.soon(Happening::Tell { node, boot, event: Event::Candidates(candidates.clone()) });
        }
    }

    pub(crate) fn tell_record(&mut self) {
        let seen = self.coordinator.seen();
        for node in self.running().into_iter().filter(|node| !self.away.contains(node)).collect::<Vec<_>>() {
            let boot = self.node(node).boot;
            self.soon(Happening::Watch { node, boot, seen: seen.clone() });
        }
    }
}
