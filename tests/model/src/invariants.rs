//! The protocol's invariants, by their numbers in the core's `PROTOCOL.md`. Clocks, snapshots and digests are not modelled, so I12,
//! I14 and I15 are not here.

use mortise_core::group::{GroupRecord, NodeId};
use mortise_core::replica::Fate;
use stateright::Property;

use crate::history::Breach;
use crate::model::Group;
use crate::node::Node;
use crate::world::World;

/// All of them, with the names by which a search reports them. Of several that one state breaks, the first is told.
pub fn all() -> Vec<Property<Group>> {
    vec![
        Property::always("I1 one leader an epoch", |group, world| group.holds(world, one_leader_an_epoch)),
        Property::always("I2 committed entries never change", |group, world| {
            group.holds(world, committed_entries_never_change)
        }),
        Property::always("I3 log matching", |group, world| group.holds(world, logs_match)),
        Property::always("I4 every intact eligible member holds all committed entries", |group, world| {
            group.holds(world, eligible_members_hold_committed_entries)
        }),
        Property::always("I5 the maximal in-sync set contains the coordinator's", |group, world| {
            group.holds(world, maximal_isr_contains_the_recorded)
        }),
        Property::always("I6 committed is durable on min_isr replicas", |group, world| {
            group.holds(world, committed_is_durable_on_min_isr)
        }),
        Property::always("I7 promises, epochs and generations never go back", |group, world| {
            group.holds(world, promises_never_go_back)
        }),
        Property::always("I8 no acknowledgement before fsync", |group, world| {
            group.holds(world, no_acknowledgement_before_fsync)
        }),
        Property::always("I9 linearizable reads", |group, world| group.holds(world, reads_are_linearizable)),
        Property::always("I10 no copy counts for another", |group, world| {
            group.holds(world, no_copy_counts_for_another)
        }),
        Property::always("I11 nothing before the epoch-start entry", |group, world| {
            group.holds(world, nothing_before_the_epoch_start)
        }),
        Property::always("I13 what clients were told is true", |group, world| {
            group.holds(world, what_clients_were_told_is_true)
        }),
        Property::always("I16 enough intact eligible members", |group, world| {
            group.holds(world, enough_intact_eligible_members)
        }),
        Property::always("nothing unforeseen", |group, world| group.holds(world, nothing_unforeseen)),
    ]
}

/// I1.
pub fn one_leader_an_epoch(world: &World) -> bool {
    !world.history.broke(Breach::I1)
}

/// I2: what any replica ever took for committed is what every other took for it.
pub fn committed_entries_never_change(world: &World) -> bool {
    !world.history.broke(Breach::I2)
}

/// I3: two logs with the same position are the same up to it.
pub fn logs_match(world: &World) -> bool {
    let matches = |a: &Node, b: &Node| {
        let (a, b) = (&a.disk.written.log, &b.disk.written.log);
        let same = a.iter().zip(b).rposition(|(a, b)| a.at == b.at);
        same.is_none_or(|last| a[..=last] == b[..=last])
    };
    let nodes = &world.nodes;
    nodes.iter().enumerate().all(|(place, a)| nodes.iter().skip(place + 1).all(|b| matches(a, b)))
}

/// I4. A disk that was wiped holds nothing; its node is not intact until it has a new incarnation.
pub fn eligible_members_hold_committed_entries(world: &World) -> bool {
    let committed = &world.history.committed;
    world.history.restored
        || eligible(&world.coordinator.record)
            .map(|(id, incarnation)| (world.node(id), incarnation))
            .filter(|(node, incarnation)| node.is_intact(*incarnation))
            .all(|(node, _)| {
                let holds =
                    |log: &[_]| log.len() >= committed.len() && log[..committed.len()] == committed[..];
                holds(&node.disk.durable.log) && holds(&node.disk.written.log)
            })
}

/// I5, for the leader of the coordinator's epoch.
pub fn maximal_isr_contains_the_recorded(world: &World) -> bool {
    let record = &world.coordinator.record;
    let leads = |node: &&std::sync::Arc<Node>| {
        node.leads() && record.leader == Some(node.id) && record.epoch == node.view.promised.epoch
    };
    world.history.restored
        || world.nodes.iter().filter(leads).all(|node| {
            let mut listed = record.isr.iter().filter_map(|id| record.member(*id));
            listed.all(|member| node.view.maximal_isr.contains(&(member.node, member.incarnation)))
        })
}

/// I6.
pub fn committed_is_durable_on_min_isr(world: &World) -> bool {
    !world.history.broke(Breach::I6)
}

/// I7: neither those of a process nor, by what it told others, those of a node over its crashes.
pub fn promises_never_go_back(world: &World) -> bool {
    !world.history.broke(Breach::I7)
}

/// I8.
pub fn no_acknowledgement_before_fsync(world: &World) -> bool {
    !world.history.broke(Breach::I8)
}

/// I9: a read sees everything that was committed when it began.
pub fn reads_are_linearizable(world: &World) -> bool {
    !world.history.broke(Breach::I9)
}

/// I10: who is counted for a commit under an incarnation holds it under that incarnation.
pub fn no_copy_counts_for_another(world: &World) -> bool {
    !world.history.broke(Breach::I10)
}

/// I11: nothing is served before the epoch-start entry is applied, and nothing commits before it does.
pub fn nothing_before_the_epoch_start(world: &World) -> bool {
    let serves = |node: &Node| node.view.serving;
    let started = |node: &Node| node.view.epoch_start.is_none_or(|start| node.view.applied >= start);
    !world.history.broke(Breach::I11) && world.nodes.iter().all(|node| !serves(node) || started(node))
}

/// I13, as far as no client tries again: a write is in the history once; a token that was called committed is in it, one
/// that was called lost never comes.
pub fn what_clients_were_told_is_true(world: &World) -> bool {
    let committed = &world.history.committed;
    let once = committed.iter().enumerate().all(|(place, entry)| entry.at.index.0 == place as u64 + 1);
    let is_committed = |at| committed.iter().any(|entry| entry.at == at);
    let told_true = world.history.tokens.iter().all(|token| match token.told {
        None => true,
        Some(Fate::Committed) => is_committed(token.at),
        Some(Fate::Lost) => !is_committed(token.at),
    });
    once && told_true && !world.history.broke(Breach::I13)
}

/// I16: without it, two wrong rules of who is eligible would go unnoticed.
pub fn enough_intact_eligible_members(world: &World) -> bool {
    let record = &world.coordinator.record;
    let intact = eligible(record).filter(|(id, incarnation)| world.node(*id).is_intact(*incarnation)).count();
    let enough = intact + world.history.wiped as usize >= record.min_isr as usize;
    enough || world.history.raised || world.history.restored
}

/// No core stopped, froze or asked for a snapshot where nothing in the model is a cause of that.
pub fn nothing_unforeseen(world: &World) -> bool {
    !world.history.broke(Breach::Unforeseen)
}

fn eligible(record: &GroupRecord) -> impl Iterator<Item = (NodeId, mortise_core::group::Incarnation)> + '_ {
    let listed = record.isr.iter().chain(&record.elr).filter_map(|id| record.member(*id));
    listed.map(|member| (member.node, member.incarnation))
}
