//! Sessions and candidates.

use std::time::Duration;

use mortise_coordination::{Change, Interest, Moment, NodeState, SessionLoss, SessionState};
use mortise_core::group::{BootId, LeaseId, NodeId};
use mortise_core::ids::GroupId;

use crate::world::{GROUP, Node, World, create, group, live, until};

/// Waits until an observer sees the node with a session, or without.
async fn seen(observer: &Node, node: u64, alive: bool) {
    let mut changes = observer.changes(Interest::All);
    let what = if alive { "the node's session" } else { "the end of the node's session" };
    until(&mut changes, what, |change| match change {
        Change::Nodes(nodes) => {
            let session = |node: &NodeState| node.session.is_some();
            (nodes.get(&NodeId(node)).is_some_and(session) == alive).then_some(())
        }
        _ => None,
    })
    .await;
}

async fn loss(node: &Node) -> SessionLoss {
    until(&mut node.changes(Interest::All), "the loss of the session", |change| match change {
        Change::Session(SessionState::Offline(loss)) => Some(loss),
        _ => None,
    })
    .await
}

pub(crate) async fn a_session_is_renewed_beyond_its_ttl(world: World) {
    let begun = Moment::now();
    let node = world.live_node(1, 1).await;
    let mut changes = node.changes(Interest::All);
    let first = live(&mut changes).await;
    let ttl = Duration::from_secs(2);
    let renewed = until(&mut changes, "a deadline beyond the first TTL", |change| match change {
        Change::Session(SessionState::Live { lease, deadline }) => {
            assert!(deadline <= Moment::now().after(ttl), "a deadline counts from sending");
            (deadline > begun.after(3 * ttl)).then_some(lease)
        }
        Change::Session(other) => panic!("{other:?}"),
        _ => None,
    });
    assert_eq!(renewed.await, first);
    assert_eq!(node.session().live(), Some(first));
}

pub(crate) async fn a_session_whose_lease_is_revoked_begins_anew(world: World) {
    let node = world.live_node(1, 1).await;
    let mut changes = node.changes(Interest::All);
    let first = live(&mut changes).await;
    world.revoke(first).await;
    let again = until(&mut changes, "another lease", |change| match change {
        Change::Session(SessionState::Live { lease, .. }) if lease != first => Some(lease),
        _ => None,
    });
    again.await;
    seen(&world.node(), 1, true).await;
}

pub(crate) async fn a_session_whose_key_is_deleted_begins_anew(world: World) {
    let node = world.live_node(1, 1).await;
    let mut changes = node.changes(Interest::All);
    let first = live(&mut changes).await;
    world.delete(&world.key("sessions/1"));
    // Nothing but the watch can tell.
    assert_eq!(loss(&node).await, SessionLoss::KeyGone);
    assert_ne!(live(&mut node.changes(Interest::All)).await, first);
    seen(&world.node(), 1, true).await;
}

pub(crate) async fn a_node_that_vanishes_is_gone_after_its_ttl(world: World) {
    let observer = world.node();
    let node = world.live_node(1, 1).await;
    seen(&observer, 1, true).await;
    drop(node);
    seen(&observer, 1, false).await;
}

pub(crate) async fn a_node_that_closes_is_gone_at_once(world: World) {
    let observer = world.node();
    let node = world.live_node(1, 1).await;
    seen(&observer, 1, true).await;
    node.close().await;
    assert_eq!(world.value(&world.key("sessions/1")).await, None);
    assert_eq!(node.session(), SessionState::Closed);
    seen(&observer, 1, false).await;
}

async fn superseded(node: &Node) -> BootId {
    until(&mut node.changes(Interest::All), "the end of an older process", |change| match change {
        Change::Session(SessionState::Superseded(by)) => Some(by),
        _ => None,
    })
    .await
}

fn nodes_of(state: &mortise_coordination::GroupState) -> Vec<u64> {
    state.candidates.iter().map(|candidate| candidate.node.0).collect()
}

pub(crate) async fn candidates_stand_in_the_order_of_creation(world: World) {
    let observer = world.node();
    let mut changes = observer.changes(Interest::Group(GROUP));
    let mut nodes = Vec::new();
    for order in [&[3][..], &[3, 1], &[3, 1, 2]] {
        let node = world.live_node(order[nodes.len()], 1).await;
        node.campaign(GROUP);
        group(&mut changes, "the candidate", |state| nodes_of(state) == order).await;
        nodes.push(node);
    }
    nodes[1].withdraw(GROUP);
    group(&mut changes, "the withdrawal", |state| nodes_of(state) == [3, 2]).await;
    nodes[1].campaign(GROUP);
    group(&mut changes, "the end of the queue", |state| nodes_of(state) == [3, 2, 1]).await;
    nodes[0].close().await;
    group(&mut changes, "the end of a candidacy", |state| nodes_of(state) == [2, 1]).await;
}

pub(crate) async fn candidates_return_with_a_new_session(world: World) {
    let observer = world.node();
    let node = world.live_node(1, 1).await;
    // More than go into one transaction.
    (1..=250).for_each(|number| node.campaign(GroupId(number)));
    let count = |lease: Option<LeaseId>| {
        let observer = observer.clone();
        async move {
            let mut there = std::collections::BTreeSet::new();
            until(&mut observer.changes(Interest::All), "250 candidacies", |change| {
                if let Change::Group(number, state) = change
                    && state.candidates.iter().any(|candidate| Some(candidate.lease) != lease)
                {
                    there.insert(number);
                }
                (there.len() == 250).then_some(())
            })
            .await;
        }
    };
    count(None).await;
    let first = node.session().live().unwrap();
    world.revoke(first).await;
    count(Some(first)).await;
}

pub(crate) async fn a_candidacy_that_others_delete_returns(world: World) {
    let observer = world.node();
    let node = world.live_node(1, 1).await;
    let other = world.live_node(2, 1).await;
    let mut changes = observer.changes(Interest::Group(GROUP));
    node.campaign(GROUP);
    group(&mut changes, "the candidate", |state| nodes_of(state) == [1]).await;
    other.campaign(GROUP);
    group(&mut changes, "the second one", |state| nodes_of(state) == [1, 2]).await;
    let lease = node.session().live();
    world.delete(&world.key("candidates/0001/1-1"));
    group(&mut changes, "its return, behind the other", |state| nodes_of(state) == [2, 1]).await;
    // Overwritten, it would live without our lease.
    world.put(&world.key("candidates/0001/1-1"), "{}");
    let returned = group(&mut changes, "its return under the lease", |state| {
        state.candidates.iter().any(|candidate| candidate.node == NodeId(1) && Some(candidate.lease) == lease)
    });
    returned.await;
    node.withdraw(GROUP);
    group(&mut changes, "the withdrawal", |state| nodes_of(state) == [2]).await;
    assert_eq!(node.session().live(), lease, "the session is the same");
}

pub(crate) async fn the_newer_of_two_processes_under_one_name_stays(world: World) {
    let older = world.live_node(1, 7).await;
    older.campaign(GROUP);
    let newer = world.live_node(1, 8).await;
    assert_eq!(superseded(&older).await, BootId(8));
    let late = world.node();
    late.open_session(NodeId(1), BootId(6)).unwrap();
    assert_eq!(superseded(&late).await, BootId(8));
    assert!(newer.session().live().is_some());
    let observer = world.node();
    let mut changes = observer.changes(Interest::Group(GROUP));
    group(&mut changes, "no candidacy of the older one", |state| state.candidates.is_empty()).await;
}

pub(crate) async fn a_session_opens_once(world: World) {
    let node = world.live_node(1, 1).await;
    assert!(node.open_session(NodeId(2), BootId(1)).is_err());
    assert!(world.node().open_session(NodeId(0), BootId(1)).is_err());
    create(&node).await;
    let mut changes = node.changes(Interest::Group(GROUP));
    let state = group(&mut changes, "the member's session", |state| !state.sessions.is_empty()).await;
    assert_eq!(
        state.sessions.get(&NodeId(1)).map(|s| (s.boot, Some(s.lease))),
        Some((BootId(1), node.session().live()))
    );
}
