//! Injected faults, in-process: what no real etcd does on demand.

use std::sync::Arc;
use std::time::Duration;

use mortise_coordination::backend::faulty::{Faults, Faulty, SwapFault, WatchFault};
use mortise_coordination::{
    Change, Config, Coordination, CoordinationError, Coordinator, Expected, History, Interest, Memory,
    Moment, RoleChange, RoleEvents, SessionLoss, SessionState, SwapOutcome, Told, Viewpoint, new_nonce,
};
use mortise_core::group::{BootId, LeaseId, NodeId};
use mortise_core::ids::Epoch;

use crate::kit::{GROUP, Node, TTL, broken, create, elected, live, offline, shown, until};

struct World {
    memory: Memory,
    faulty: Faulty<Memory>,
    faults: Faults,
    node: Node,
}

async fn world() -> World {
    world_with(Config::new("faults").relist_every).await
}

async fn world_with(relist_every: Duration) -> World {
    let memory = Memory::new();
    let faulty = Faulty::new(memory.clone());
    let faults = faulty.faults();
    let config = Config { ttl_seconds: TTL.as_secs() as u32, relist_every, ..Config::new("faults") };
    let node: Node = Arc::new(Coordination::start(config, None, faulty.clone()).unwrap());
    node.open_session(NodeId(1), BootId(1)).unwrap();
    live(&node).await;
    World { memory, faulty, faults, node }
}

#[tokio::test]
async fn a_late_swap_is_applied_only_where_nothing_happened_since() {
    let world = world().await;
    let first = create(&world.node).await;
    let record = first.record.as_ref().unwrap();
    let expected = Expected::Present { mod_revision: first.mod_revision, nonce: record.nonce };
    let mine = record.elect(NodeId(1), Epoch(1), BootId(1), LeaseId(1), new_nonce().unwrap());

    world.faults.next_swap(SwapFault::Late);
    let outcome = world.node.swap_group(GROUP, expected, mine.clone()).await.unwrap();
    assert_eq!(outcome, SwapOutcome::Unknown);
    // The same revision again proves nothing: it is applied now.
    assert_eq!(world.node.read_group(GROUP).await.unwrap().mod_revision, first.mod_revision);
    assert_eq!(world.faulty.deliver_late().await, Ok(1));
    let read = world.node.read_group(GROUP).await.unwrap();
    assert_eq!(read.record.map(|record| record.nonce), Some(mine.nonce), "the nonce says whose it is");

    world.faults.next_swap(SwapFault::Late);
    let expected = Expected::Present { mod_revision: read.mod_revision, nonce: mine.nonce };
    let lost = mine.shrink(&[NodeId(2)].into(), new_nonce().unwrap());
    assert_eq!(world.node.swap_group(GROUP, expected, lost).await, Ok(SwapOutcome::Unknown));
    let other = elected(&world.node, 2).await;
    assert_eq!(world.faulty.deliver_late().await, Ok(0));
    assert_eq!(world.node.read_group(GROUP).await.unwrap().mod_revision, other.mod_revision);
}

#[tokio::test]
async fn a_lost_answer_is_an_unknown_outcome() {
    let world = world().await;
    create(&world.node).await;
    for (fault, applied) in [(SwapFault::AnswerLost, true), (SwapFault::Lost, false)] {
        let before = world.node.read_group(GROUP).await.unwrap();
        let record = before.record.unwrap();
        let expected = Expected::Present { mod_revision: before.mod_revision, nonce: record.nonce };
        let next = record.with_min_isr(record.min_isr % 3 + 1, new_nonce().unwrap()).unwrap();
        world.faults.next_swap(fault);
        let outcome = world.node.swap_group(GROUP, expected, next.clone()).await;
        assert_eq!(outcome, Ok(SwapOutcome::Unknown));
        let after = world.node.read_group(GROUP).await.unwrap();
        assert_eq!(after.record == Some(next), applied);
    }
}

#[tokio::test]
async fn a_watch_that_is_late_tells_the_newest_in_the_end() {
    let world = world().await;
    create(&world.node).await;
    let mut changes = world.node.changes(Interest::Group(GROUP));
    until(&mut changes, "the record", |change| match change {
        Change::Group(_, state) => state.record.as_ref().unwrap().record.is_some().then_some(()),
        _ => None,
    })
    .await;
    world.faults.hold_watch(true);
    let (mut last, mut told) = (elected(&world.node, 1).await, 0);
    for number in [2, 3, 1] {
        last = elected(&world.node, number).await;
    }
    while let Some(change) = changes.try_next() {
        told += usize::from(matches!(change, Change::Group(..)));
    }
    assert_eq!(told, 0, "told though the watch is held");
    world.faults.hold_watch(false);
    shown(&mut changes, &last).await;
}

#[tokio::test]
async fn events_that_a_watch_lost_are_found_by_listing_again() {
    let world = world_with(Duration::from_millis(200)).await;
    create(&world.node).await;
    world.faults.watch(Some(WatchFault::Lost));
    let mut changes = world.node.changes(Interest::Group(GROUP));
    for number in [1, 2] {
        let seen = elected(&world.node, number).await;
        shown(&mut changes, &seen).await;
    }
    world.memory.delete("/faults/sessions/1");
    assert_eq!(offline(&world.node).await, SessionState::Offline(SessionLoss::KeyGone));
}

#[tokio::test]
async fn events_that_a_watch_repeats_happen_once() {
    let world = world().await;
    world.faults.watch(Some(WatchFault::Repeated));
    create(&world.node).await;
    let mut events = RoleEvents::new(world.node.changes(Interest::Group(GROUP)), Viewpoint::Observer);
    for (epoch, number) in (1..).zip([1, 2, 3, 1]) {
        let seen = elected(&world.node, number).await;
        let changed = RoleChange::LeaderChanged { epoch: Epoch(epoch), leader: Some(NodeId(number)) };
        let told = async {
            loop {
                if let Told::Role(event) = events.next().await
                    && let RoleChange::LeaderChanged { leader: Some(_), .. } = event.change
                {
                    return event.change;
                }
            }
        };
        assert_eq!(tokio::time::timeout(crate::kit::RECOVERY, told).await.unwrap(), changed);
        // And the state is the newest, not the one that was told again.
        let mut changes = world.node.changes(Interest::Group(GROUP));
        let state = until(&mut changes, "the state", |change| match change {
            Change::Group(_, state) => Some(state),
            _ => None,
        })
        .await;
        assert_eq!(state.record.as_ref().unwrap().mod_revision, seen.mod_revision);
    }
}

#[tokio::test]
async fn a_lost_lease_and_lost_renewals_end_the_session() {
    let world = world().await;
    let first = live(&world.node).await;
    world.faults.lose_lease();
    assert_eq!(offline(&world.node).await, SessionState::Offline(SessionLoss::LeaseGone(first)));
    let second = live(&world.node).await;
    assert_ne!(second, first);
    world.faults.lose_renewals(true);
    let asked = Moment::now();
    assert_eq!(offline(&world.node).await, SessionState::Offline(SessionLoss::Expired(second)));
    assert!(Moment::now().since(asked) < TTL + Duration::from_millis(500));
    world.faults.lose_renewals(false);
    live(&world.node).await;
}

/// The runtime has one thread: while that stands still, so does the node, and it then hears of its key before its timer.
#[tokio::test]
async fn a_process_that_stood_still_past_its_ttl_says_that_its_session_expired() {
    let world = world().await;
    let lease = live(&world.node).await;
    std::thread::sleep(TTL + Duration::from_millis(100));
    world.memory.delete("/faults/sessions/1");
    assert_eq!(offline(&world.node).await, SessionState::Offline(SessionLoss::Expired(lease)));
}

#[tokio::test]
async fn a_coordinator_out_of_reach_is_found_again() {
    let world = world().await;
    create(&world.node).await;
    world.faults.unreachable(true);
    let error = world.node.read_group(GROUP).await.unwrap_err();
    assert!(matches!(error, CoordinationError::Unavailable { .. }), "{error}");
    offline(&world.node).await;
    world.faults.unreachable(false);
    live(&world.node).await;
    let seen = elected(&world.node, 1).await;
    let mut changes = world.node.changes(Interest::Group(GROUP));
    shown(&mut changes, &seen).await;
}

#[tokio::test]
async fn a_restored_history_freezes_until_it_is_accepted() {
    for same_id in [true, false] {
        let world = world().await;
        create(&world.node).await;
        let backup = world.memory.backup();
        let last = elected(&world.node, 1).await;
        world.memory.restore(Some(backup), same_id);
        let found = broken(&world.node).await;
        assert_eq!(found.known_cluster == found.seen_cluster, same_id);
        assert!(matches!(world.node.history(), History::Broken(_)));
        offline(&world.node).await;
        let read = world.node.read_group(GROUP).await.unwrap();
        assert!(read.mod_revision < last.mod_revision);
        world.node.accept(found.seen_cluster).unwrap();
        live(&world.node).await;
        elected(&world.node, 2).await;
    }
}

#[tokio::test]
async fn a_swap_that_another_cluster_answers_is_unknown_and_freezes() {
    let world = world().await;
    let first = create(&world.node).await;
    let record = first.record.as_ref().unwrap();
    let expected = Expected::Present { mod_revision: first.mod_revision, nonce: record.nonce };
    let next = record.elect(NodeId(1), Epoch(1), BootId(1), LeaseId(1), new_nonce().unwrap());
    world.faults.next_swap(SwapFault::Foreign);
    // It is in force there, so "refused" would be wrong; and who answered is not whom we know, so "applied" would be.
    assert_eq!(world.node.swap_group(GROUP, expected, next.clone()).await, Ok(SwapOutcome::Unknown));
    let found = broken(&world.node).await;
    assert_ne!(found.known_cluster, found.seen_cluster);
    // The lease lives, and the watch and its answers are those of the known cluster: nothing else ends the session.
    let lost = offline(&world.node).await;
    assert!(
        matches!(lost, SessionState::Offline(SessionLoss::NotBegun(CoordinationError::Broken(_)))),
        "{lost:?}"
    );
    let again = world.node.swap_group(GROUP, expected, next).await;
    assert_eq!(again, Err(CoordinationError::NoSession));
    let observer =
        Coordination::start(Config::new("faults"), world.node.known(), world.memory.clone()).unwrap();
    observer.ready().await.unwrap();
}

#[tokio::test]
async fn what_is_frozen_is_told_no_change() {
    let world = world().await;
    create(&world.node).await;
    let mut changes = world.node.changes(Interest::All);
    let backup = world.memory.backup();
    let before = elected(&world.node, 1).await;
    shown(&mut changes, &before).await;
    world.memory.restore(Some(backup), true);
    let found = broken(&world.node).await;
    // Meanwhile etcd gets as far as it was known to be, and beyond: the same revisions say something else now.
    let other = Coordination::start(Config::new("faults"), None, world.memory.clone()).unwrap();
    let last = elected(&(Arc::new(other) as Node), 2).await;
    assert_eq!(last.mod_revision, before.mod_revision, "the fault happened");
    (0..5).for_each(|_| world.memory.put("/faults/notes/1", b"x"));
    while let Some(change) = changes.try_next() {
        if let Change::Group(_, state) = change {
            let record = state.record.as_ref().unwrap().record.clone().unwrap();
            assert_ne!(record.leader, Some(NodeId(2)), "told while frozen");
        }
    }
    world.node.accept(found.seen_cluster).unwrap();
    until(&mut changes, "the record of the accepted history", |change| match change {
        Change::Group(_, state) => (state.record.as_ref().unwrap().record == last.record).then_some(()),
        _ => None,
    })
    .await;
}

#[tokio::test]
async fn a_closing_that_nobody_waits_for_leaves_nothing_running() {
    let world = world().await;
    let lease = live(&world.node).await;
    drop(world.node.close());
    assert_eq!(world.node.session().live(), Some(lease), "it was not asked for yet");
    drop(world.node);
    let observer = Coordination::start(Config::new("faults"), None, world.memory.clone()).unwrap();
    let observer: Node = Arc::new(observer);
    until(&mut observer.changes(Interest::All), "the end of its session", |change| match change {
        Change::Nodes(nodes) => nodes.is_empty().then_some(()),
        _ => None,
    })
    .await;
}

#[tokio::test]
async fn a_deadline_counts_from_sending_the_renewal_not_from_its_answer() {
    let world = world().await;
    let take = Duration::from_millis(400);
    let began = world.node.session();
    world.faults.delay_renewals(take);
    let mut changes = world.node.changes(Interest::All);
    for _ in 0..2 {
        until(&mut changes, "a renewal", |change| match change {
            Change::Session(session @ SessionState::Live { deadline, .. }) if session != began => {
                let sent = deadline.after(take);
                (sent > Moment::now()).then(|| assert!(sent <= Moment::now().after(TTL), "{deadline:?}"))
            }
            _ => None,
        })
        .await;
    }
}
