//! The model that stateright searches: where it begins, what can happen, and what that does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mortise_core::group::{GroupRecord, Incarnation, NodeId, Nonce};
use mortise_core::replica::{Ack, Event};
use stateright::{Model, Property};

use crate::action::Action;
use crate::bounds::{Bounds, Budget, Counts, Start};
use crate::coverage::Coverage;
use crate::invariants;
use crate::node::Node;
use crate::step::Step;
use crate::world::World;

/// A group of replicas within bounds.
pub struct Group {
    /// The bounds.
    pub bounds: Bounds,
    /// What happened in all steps so far.
    pub coverage: Arc<Coverage>,
    /// An invariant was found broken: nothing more has to be searched.
    pub is_broken: AtomicBool,
}

impl Group {
    /// A group within bounds.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, coverage: Arc::default(), is_broken: AtomicBool::new(false) }
    }

    /// Whether an invariant holds in a world. The first one that does not ends the search, so that the way to it is the
    /// shortest one.
    pub fn holds(&self, world: &World, invariant: fn(&World) -> bool) -> bool {
        if self.is_broken.load(Ordering::Relaxed) || invariant(world) {
            return true;
        }
        self.is_broken.store(true, Ordering::Relaxed);
        false
    }

    fn step(&self, world: World) -> Step<'_> {
        Step { world, bounds: &self.bounds, coverage: &self.coverage }
    }

    /// The world in which node 1 leads, and everybody has everything that was committed.
    fn begin(&self) -> World {
        let ids: Vec<NodeId> = (1..=self.bounds.nodes).map(NodeId).collect();
        let voters: Vec<_> = ids.iter().map(|id| (*id, Incarnation(id.0))).collect();
        let nodes = voters.iter().map(|voter| Node::new(*voter, self.bounds.mutant)).collect();
        let record = match GroupRecord::create(1, &voters, self.bounds.min_isr, Nonce(1)) {
            Ok(record) => record,
            Err(error) => panic!("the bounds of {} make no group: {error}", self.bounds.name),
        };
        let mut step = self.step(World::new(record, nodes));
        for id in &ids {
            // Reads the record.
            step.feed(*id, Event::Tick);
        }
        step.settle();
        for id in &ids {
            let session = step.world.node(*id).session();
            step.feed(*id, session);
        }
        let leader = NodeId(1);
        step.feed(leader, Event::Tick);
        self.rest(&mut step);
        match self.bounds.start {
            Start::InSync => {}
            Start::LastOut => self.leave_last_out(&mut step, &ids),
            Start::Alone => {
                step.perform(Action::Wait(leader));
                step.perform(Action::Tend(leader));
                self.rest(&mut step);
            }
        }
        step.world.spent = Counts::default();
        if self.bounds.mutant.is_some() {
            // What the beginning broke already shows no way to it.
            step.world.history.breaches.clear();
        }
        step.world
    }

    /// Lets everything come to its end.
    fn rest(&self, step: &mut Step<'_>) {
        loop {
            step.settle();
            let mut actions = Vec::new();
            self.actions_of_itself(&step.world, &mut actions);
            let Some(action) = actions.first() else { return };
            step.perform(*action);
        }
    }

    /// The last node misses an entry that the others have, and the leader finds it too slow.
    fn leave_last_out(&self, step: &mut Step<'_>, ids: &[NodeId]) {
        let (leader, peer) = (ids[0], ids[ids.len() - 1]);
        step.perform(Action::Wait(leader));
        step.perform(Action::Propose { node: leader, ack: Ack::Committed });
        step.perform(Action::Break { leader, peer });
        self.rest(step);
        step.perform(Action::Tend(leader));
        step.perform(Action::Break { leader, peer });
        self.rest(step);
    }

    /// Messages, fsyncs, swaps and news of the record: what comes to an end without anybody's doing.
    fn actions_of_itself(&self, world: &World, actions: &mut Vec<Action>) {
        for (channel, place, message) in world.network.heads() {
            if world.is_ready(channel, message) {
                actions.push(Action::Deliver { channel, place });
            }
        }
        for node in &world.nodes {
            if !node.disk.queue.is_empty() {
                actions.push(Action::Sync(node.id));
            }
            if !world.is_informed(node) && !node.view.frozen {
                actions.push(Action::Learn(node.id));
            }
        }
        for (place, swap) in world.coordinator.swaps.iter().enumerate() {
            actions.push(Action::Swap { node: swap.node, place });
        }
    }

    fn actions_of_node(&self, world: &World, node: &Node, actions: &mut Vec<Action>) {
        let id = node.id;
        let may = |kind| world.may(&self.bounds, kind);
        let swap = world.coordinator.swaps.iter().find(|swap| (swap.node, swap.boot) == (id, node.boot));
        if swap.is_some_and(|swap| !swap.unknown) && may(Budget::Unknown) {
            actions.push(Action::Unknown(id));
        }
        // A swap that expects an older record is not worth asking for.
        if !node.leads() && swap.is_none() && world.is_informed(node) && may(Budget::Elect) {
            actions.push(Action::Elect(id));
        }
        if may(Budget::Crash) {
            actions.push(Action::Crash(id));
        }
        if may(Budget::Wipe) {
            actions.push(Action::Wipe(id));
        }
        if may(Budget::Lease) {
            actions.push(Action::Relet(id));
        }
        if may(Budget::Ask) {
            let tokens = world.history.tokens.iter().filter(|token| token.asked.is_none());
            actions.extend(tokens.map(|token| Action::Ask { node: id, token: token.at }));
        }
    }

    fn actions_of_leader(&self, world: &World, node: &Node, actions: &mut Vec<Action>) {
        let id = node.id;
        let may = |kind| world.may(&self.bounds, kind);
        actions.push(Action::Tend(id));
        if may(Budget::Wait) {
            actions.push(Action::Wait(id));
        }
        for stream in world.streams.iter().filter(|stream| stream.leader == id) {
            if stream.broken {
                actions.push(Action::Reconnect { leader: id, peer: stream.peer });
            } else if may(Budget::Break) {
                actions.push(Action::Break { leader: id, peer: stream.peer });
            }
        }
        if node.view.serving {
            if may(Budget::Propose) {
                actions.push(Action::Propose { node: id, ack: Ack::Committed });
            }
            if may(Budget::ProposeAck) {
                actions.push(Action::Propose { node: id, ack: Ack::Leader });
            }
            if may(Budget::Read) {
                actions.push(Action::Read(id));
            }
        }
        let Some(record) = &node.view.record else { return };
        if may(Budget::Transfer) {
            let others = record.members.iter().map(|member| member.node).filter(|target| *target != id);
            actions.extend(others.map(|target| Action::Transfer { leader: id, target }));
        }
        if may(Budget::MinIsr) {
            let others = (1..=record.members.len() as u32).filter(|min_isr| *min_isr != record.min_isr);
            actions.extend(others.map(|min_isr| Action::SetMinIsr { leader: id, min_isr }));
        }
    }
}

impl Model for Group {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![self.begin()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if self.is_broken.load(Ordering::Relaxed) {
            return;
        }
        self.actions_of_itself(world, actions);
        if !world.may(&self.bounds, Budget::Swap) {
            actions.retain(|action| !matches!(action, Action::Swap { .. }));
        }
        for node in &world.nodes {
            self.actions_of_node(world, node, actions);
            if node.leads() {
                self.actions_of_leader(world, node, actions);
            }
        }
        if world.may(&self.bounds, Budget::Restore) {
            actions.extend((0..world.coordinator.past.len()).map(|place| Action::Restore { place }));
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut step = self.step(world.clone());
        step.perform(action);
        let next = step.world;
        // Where nothing came of it, it is not worth its price.
        let same = next.nodes == world.nodes
            && next.coordinator == world.coordinator
            && next.network == world.network
            && next.streams == world.streams
            && next.history == world.history;
        (!same).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        invariants::all()
    }
}
