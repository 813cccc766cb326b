//! One node: a process of the real replica core, and its disk.

use std::hash::{BuildHasher, Hash, Hasher};

use ahash::RandomState;
use mortise_core::group::{BootId, Incarnation, LeaseId, NodeId, Nonce};
use mortise_core::ids::GroupId;
use mortise_core::replica::{
    Effect, Event, MonoTime, Mutant, Options, Replica, RoleKind, SessionState, View,
};

use crate::disk::Disk;

/// A time that never passes in a model.
const NEVER: u64 = 1 << 40;
/// The cluster and the group of every model.
const CLUSTER: u64 = 1;

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Which.
    pub id: NodeId,
    /// Its process: the disk counts them.
    pub boot: BootId,
    /// The node's own clock: it moves only where an action says so.
    pub clock: MonoTime,
    /// The lease its session has.
    pub lease: LeaseId,
    /// The swap it asked for last, until it sees a record.
    pub asked: Option<Nonce>,
    /// The cluster id of the coordinator that it saw last.
    pub coordinator: u64,
    /// Its disk.
    pub disk: Disk,
    /// The core seen from outside, after the last step.
    pub view: View,
    replica: Replica,
    /// The hash of all of the above, taken once a step: a state holds several nodes, and most stay as they are.
    print: u64,
}

impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.print.hash(state);
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

impl Eq for Node {}

/// The times of a model: clocks stand still unless an action moves them, so what a replica does "after a while" it does
/// in the tick that the model chooses. A follower's tick elects it, a leader's tick after a step of its clock finds the
/// others too slow. Beacons come only at the start of a leadership and for reads. Every entry travels alone.
fn options(node: NodeId, boot: BootId, mutant: Option<Mutant>) -> Options {
    let seed = node.0 * 1000 + boot.0;
    Options {
        beacon: NEVER,
        shrink_after: 0,
        grace: 0,
        lease: 0,
        lease_margin: 0,
        reread: NEVER,
        retry: 0,
        transfer_max: NEVER,
        append_bytes_max: 1,
        mutant,
        ..Options::new(CLUSTER, GroupId(1), node, boot, seed)
    }
}

impl Node {
    /// The first process of a node, on an empty disk that was made with `number`.
    pub fn new((id, number): (NodeId, Incarnation), mutant: Option<Mutant>) -> Self {
        Self::start(id, BootId(1), MonoTime(0), Disk::made(number), mutant)
    }

    /// The next process of this node, on what its disk kept.
    #[must_use]
    pub fn restart(&self, disk: Disk, mutant: Option<Mutant>) -> Self {
        Self::start(self.id, BootId(self.boot.0 + 1), self.clock, disk, mutant)
    }

    fn start(id: NodeId, boot: BootId, clock: MonoTime, disk: Disk, mutant: Option<Mutant>) -> Self {
        let replica = Replica::new(options(id, boot, mutant), disk.stored(), clock);
        let lease = LeaseId(id.0 * 1000 + boot.0 * 10);
        let view = replica.view();
        let mut node =
            Self { id, boot, clock, lease, asked: None, coordinator: 1, disk, view, replica, print: 0 };
        node.fingerprint();
        node
    }

    /// Gives the core an event. The caller carries the effects out, and then takes the fingerprint.
    pub fn step(&mut self, event: Event) -> Vec<Effect> {
        let effects = self.replica.step(self.clock, event);
        self.view = self.replica.view();
        effects
    }

    /// What the core would do, without doing it; and whether it would change.
    pub fn probe(&self, event: Event) -> (Vec<Effect>, bool) {
        let mut replica = self.replica.clone();
        let effects = replica.step(self.clock, event);
        (effects, replica != self.replica)
    }

    /// Takes note of the node as it is now.
    pub fn fingerprint(&mut self) {
        let mut hasher = RandomState::with_seeds(1, 2, 3, 4).build_hasher();
        self.replica.hash(&mut hasher);
        self.disk.hash(&mut hasher);
        (self.clock, self.lease, self.asked, self.coordinator).hash(&mut hasher);
        self.print = hasher.finish();
    }

    /// Whether it leads.
    pub fn leads(&self) -> bool {
        self.view.role == RoleKind::Leader
    }

    /// Whether its copy is the one that `incarnation` names, with all it ever made durable.
    pub fn is_intact(&self, incarnation: Incarnation) -> bool {
        self.view.established && self.view.incarnation == incarnation
    }

    /// The event of its session being alive.
    pub fn session(&self) -> Event {
        Event::Session(SessionState::Live(self.lease))
    }
}
