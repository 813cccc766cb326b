//! The world that the replicas live in: one thread, one queue of things to happen, one source of chance.
//!
//! ```text
//!            faults ──┐                    ┌── network ──┐
//!   clients ──────────┼─▶ queue ─▶ driver ─┤   disk      ├─▶ queue
//!   operator ─────────┘          │    ▲    └── coordinator ┘
//!                                ▼    │
//!                          Replica::step, then invariants and oracle
//! ```

mod apply;
mod client;
mod coordination;
mod coordinator;
mod disk;
mod driver;
mod happening;
mod machine;
mod network;
mod node;
mod operator;
mod process;
mod reads;
mod requests;
mod session;
mod streams;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use mortise_core::group::{BootId, GroupRecord, Incarnation, NodeId, Nonce};
use mortise_core::ids::GroupId;
use mortise_core::replica::{Event, Options};

pub(crate) use client::{Answer, Client, Request, Wish};
pub(crate) use coordinator::{Call, Coordinator, Reply};
pub(crate) use disk::Disk;
pub(crate) use happening::{Happening, Inside};
pub(crate) use machine::{Applied, Checkpoint, Done, Key, Machine, Payload, Register};
pub(crate) use network::{Network, Weather};
pub(crate) use node::{Absence, Node, Process};
pub(crate) use operator::Operator;

use self::happening::Scheduled;
use crate::Run;
use crate::coverage::Coverage;
use crate::invariants::Observed;
use crate::oracle::{DRIFT_MAX, Oracle};
use crate::random::Random;
use crate::scenario::Profile;
use crate::trace::Trace;

/// How often a replica hears of time, in microseconds.
const TICK: u64 = 10_000;

/// A rule that was broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule's name: that of `protocol.md` for I1 to I16.
    pub rule: &'static str,
    /// What happened.
    pub what: String,
}

impl Violation {
    pub(crate) fn of<T>(rule: &'static str, what: String) -> Result<T, Self> {
        Err(Self { rule, what })
    }
}

/// Nothing is broken yet, or something is.
pub(crate) type Checked = Result<(), Violation>;

/// A group of replicas, and everything around it.
#[derive(Debug)]
pub(crate) struct World {
    /// Microseconds since the world began.
    pub(crate) now: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    pub(crate) random: Random,
    pub(crate) profile: Profile,
    /// What other times are multiples of: the group's grace, in microseconds.
    pub(crate) unit: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Network,
    pub(crate) coordinator: Coordinator,
    /// Nodes that cannot reach the coordinator.
    pub(crate) without_coordinator: BTreeSet<NodeId>,
    /// Nodes whose watch shows nothing, because what it would show is compacted, and how many changes it missed.
    pub(crate) watches_behind: BTreeMap<NodeId, u64>,
    pub(crate) clients: Vec<Client>,
    pub(crate) operator: Operator,
    pub(crate) oracle: Oracle,
    pub(crate) observed: Observed,
    pub(crate) coverage: Coverage,
    pub(crate) trace: Trace,
    pub(crate) steps: u64,
    ops: u64,
    requests: u64,
    calls: u64,
    /// Nothing goes wrong any more.
    pub(crate) healed: bool,
    /// Clients begin nothing new.
    pub(crate) quiet: bool,
    #[cfg(feature = "mutants")]
    mutant: Option<mortise_core::replica::Mutant>,
}

impl World {
    pub(crate) fn new(run: &Run) -> Result<Self, Violation> {
        let mut random = Random::new(run.seed);
        let profile = Profile::draw(run, &mut random);
        let unit = Options::new(1, GroupId(1), NodeId(1), BootId(1), 0).grace / profile.haste;
        let stores: Vec<_> = (1..=profile.voters + profile.spares)
            .map(|id| (NodeId(id), Incarnation(random.next().max(1))))
            .collect();
        let voters = &stores[..profile.voters as usize];
        let record = GroupRecord::create(1, voters, profile.min_isr, Nonce(random.next()));
        let record = record.or_else(|error| Violation::of("record", error.to_string()))?;
        let drift = |random: &mut Random| random.between(0, 2 * DRIFT_MAX.unsigned_abs()) as i64 - DRIFT_MAX;
        let nodes: Vec<Node> =
            stores.iter().map(|(id, number)| Node::new(*id, *number, drift(&mut random))).collect();
        let clients = (0..profile.clients).map(|_| Client::new(NodeId(1))).collect();
        let mut world = Self {
            now: 0,
            queue: BinaryHeap::new(),
            order: 0,
            unit,
            network: Network::new(profile.weather),
            coordinator: Coordinator::new(record.clone(), unit * 5),
            without_coordinator: BTreeSet::new(),
            watches_behind: BTreeMap::new(),
            nodes,
            clients,
            operator: Operator::default(),
            oracle: Oracle::default(),
            observed: Observed::new(record),
            coverage: Coverage::default(),
            trace: Trace::new(run.tracing),
            steps: 0,
            ops: 0,
            requests: 0,
            calls: 0,
            healed: false,
            quiet: false,
            #[cfg(feature = "mutants")]
            mutant: run.mutant,
            random,
            profile,
        };
        world.begin();
        Ok(world)
    }

    fn begin(&mut self) {
        let ids = self.ids();
        // Not everybody: a record that was lost before anybody saw it does not come back.
        let late = self.profile.late_start.then(|| self.random.pick(&ids)).flatten();
        if late.is_some() {
            // To such a node nothing contradicts what this holds.
            self.coordinator.make_backup();
        }
        for id in ids {
            let latest = if late == Some(id) { self.profile.length * self.unit } else { self.unit / 4 };
            let at = self.random.between(0, latest);
            self.at(at, Happening::Start(id));
        }
        for client in 0..self.clients.len() {
            let at = self.random.between(self.unit / 2, self.unit * 2);
            self.at(at, Happening::ClientWakes(client));
        }
        self.at(self.unit * 2, Happening::Fault);
        self.at(self.unit, Happening::Maintain);
        self.at(self.unit, Happening::Operator);
        self.at(self.unit / 4, Happening::LeasesEnd);
    }

    // --- Time.

    /// Lets something happen at a time.
    pub(crate) fn at(&mut self, at: u64, what: Happening) {
        self.order += 1;
        self.queue.push(Reverse(Scheduled { at: at.max(self.now), order: self.order, what }));
    }

    /// Lets something happen so many microseconds from now to a process.
    pub(crate) fn tell_process(&mut self, node: NodeId, after: u64, what: Inside) {
        let boot = self.node(node).process.as_ref().map(|process| process.boot);
        self.at(self.now + after, Happening::ToProcess { node, boot, what });
    }

    /// Lets everything happen that is due until then.
    pub(crate) fn run_until(&mut self, end: u64) -> Checked {
        while self.queue.peek().is_some_and(|Reverse(next)| next.at <= end) {
            let Some(Reverse(next)) = self.queue.pop() else { break };
            self.now = next.at;
            self.happen(next.what)?;
        }
        self.now = end;
        Ok(())
    }

    fn happen(&mut self, what: Happening) -> Checked {
        match what {
            Happening::ToProcess { node, boot, what } => return self.happen_inside(node, boot, what),
            Happening::Coordinator { coordinator, node, boot, id, call, answer } => {
                if coordinator == self.coordinator.id {
                    return self.coordinator_called(node, boot, id, &call, answer);
                }
            }
            Happening::LeasesEnd => self.end_leases(),
            Happening::ClientWakes(client) => self.client_wakes(client),
            Happening::ClientArrives { node, request } => return self.request_arrives(node, request),
            Happening::ClientHears { client, op, attempt, answer } => {
                self.client_hears(client, op, attempt, answer);
            }
            Happening::ClientGivesUp { client, op, attempt } => self.client_times_out(client, op, attempt),
            Happening::ClientRetries { client, op, attempt } => self.client_sends_again(client, op, attempt),
            Happening::Start(node) => return self.start(node),
            Happening::Maintain => self.maintain(),
            Happening::Fault => return self.next_fault(),
            Happening::Cure(cure) => return self.cure(cure),
            Happening::Operator => return self.operator_looks(),
        }
        Ok(())
    }

    fn happen_inside(&mut self, node: NodeId, boot: Option<BootId>, what: Inside) -> Checked {
        let now = self.now;
        let Some(process) = &self.node(node).process else { return Ok(()) };
        if process.failed || boot.is_some_and(|boot| boot != process.boot) {
            return Ok(());
        }
        let (boot, paused_until) = (Some(process.boot), process.paused_until);
        if paused_until > now {
            // What arrives at a process that stands still waits for it.
            self.at(paused_until, Happening::ToProcess { node, boot, what });
            return Ok(());
        }
        match what {
            Inside::Tick => {
                let late = self.random.below(TICK / 5);
                self.tell_process(node, TICK + late, Inside::Tick);
                self.step(node, Event::Tick)
            }
            Inside::Event(event) => self.step(node, event),
            Inside::Synced => self.synced(node),
            Inside::Apply => self.apply(node),
            Inside::ReadLog { peer, stream, first, last, bytes_max } => {
                self.read_log(node, peer, stream, first, last, bytes_max)
            }
            Inside::TakeSnapshot { drop_log } => self.take_snapshot(node, drop_log),
            Inside::Fetched { from, meta } => self.fetched(node, from, meta),
            Inside::Opened { peer, peer_boot, stream } => self.opened(node, peer, peer_boot, stream),
            Inside::Execute { read, permit, installs } => self.execute(node, read, permit, installs),
            Inside::Renew => self.renew_session(node),
            Inside::CallAnswered(id, reply) => self.call_answered(node, id, *reply),
            Inside::CallTimesOut(id) => self.call_times_out(node, id),
        }
    }

    // --- Nodes.

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    pub(crate) fn any_node(&mut self) -> NodeId {
        NodeId(1 + self.random.below(self.nodes.len() as u64))
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize - 1]
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize - 1]
    }

    /// Snapshots are taken and the log is dropped, as a node does it by itself now and then.
    fn maintain(&mut self) {
        let after = self.random.between(self.unit / 4, self.unit);
        self.at(self.now + after, Happening::Maintain);
        let id = self.any_node();
        let drop_log = self.random.chance(700);
        self.tell_process(id, 0, Inside::TakeSnapshot { drop_log });
    }
}
